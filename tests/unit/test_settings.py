"""Settings are read once. A wrong one stops the start with one line that names it."""

import base64
from pathlib import Path

import pytest

from deploy.certificates import Authority
from infra.settings import (
    SETTINGS,
    SettingsError,
    environment,
    is_loopback,
    load_settings,
    require_master_key,
    require_other_providers,
    require_servers,
    set_directly,
)

KEY = base64.b64encode(bytes(32)).decode()


def test_everything_has_a_default() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 3007, Path(".gateway"))
    assert (settings.database_url, settings.nats_urls, settings.encryption_key) == (None, (), None)
    assert (settings.request_timeout_s, settings.max_body_bytes) == (600, 33_554_432)


def test_a_default_is_written_as_its_variable_is_read() -> None:
    settings = load_settings({})
    written = {setting.field: setting.read(setting.default) for setting in SETTINGS if setting.default}
    assert "telemetry_disabled" in written
    assert written == {field: getattr(settings, field) for field in written}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("GATEWAY_PORT", "http", "a port"),
        ("GATEWAY_WORKERS", "0", "1 to 64"),
        ("GATEWAY_REQUEST_TIMEOUT_S", "-1", "seconds"),
        ("GATEWAY_LOG_FORMAT", "xml", "console or json"),
        ("GATEWAY_DATABASE_URL", "mysql://x", "postgresql://"),
        ("GATEWAY_DATABASE_URL", "postgresql://", "postgresql://"),
        ("GATEWAY_NATS_URL", "nats://h,http://h", "nats://"),
        ("GATEWAY_NATS_REPLICAS", "null", "1 to 5"),
        ("GATEWAY_METRICS_PORT", "0", "1 to 65535"),
        ("GATEWAY_METRICS_PORT", "x", "1 to 65535"),
        ("GATEWAY_KEYLESS_PROJECTS", "true", "yes or no"),
        ("GATEWAY_NATS_CREDS", "/nonexistent", "a file with one of them"),
        ("GATEWAY_NATS_CREDS", __file__, "a file with one of them"),
        ("GATEWAY_ENCRYPTION_KEY", "short", "32 bytes in base64"),
        ("GATEWAY_AUDIT_KEY", "short", "32 bytes in base64"),
        ("GATEWAY_AUDIT_PUBLIC_KEYS", f"{KEY},short", "32 bytes in base64"),
        ("GATEWAY_AUDIT_INTERVAL_S", "0", "1 to 3600"),
        ("GATEWAY_AUDIT_WEBHOOK", "http://sink.example.com/", "https"),
        ("GATEWAY_AUDIT_WEBHOOK", "http://localhost.example.com/", "https"),
        ("GATEWAY_AUDIT_OBJECT_STORE", "https://s3.example.com/bucket", "KEY_ID:SECRET"),
        ("GATEWAY_AUDIT_OBJECT_STORE", "http://id:secret@s3.example.com/bucket", "https"),
        ("GATEWAY_UPSTREAM_MODELS", "a=b,c", "name=provider's name"),
        ("OPENAI_BASE_URL", "ftp://x", "http(s)"),
    ],
)
def test_wrong_value_error_names_allowed_values(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({name: value})
    message = str(refused.value)
    assert message.startswith(f"{name} is ")
    assert allowed in message
    assert "\n" not in message


def test_the_audit_settings_are_read() -> None:
    settings = load_settings(
        {
            "GATEWAY_AUDIT_KEY": KEY,
            "GATEWAY_AUDIT_PUBLIC_KEYS": f"{KEY}, {KEY}",
            "GATEWAY_AUDIT_ANCHOR_FILE": "anchors/heads",
            "GATEWAY_AUDIT_WEBHOOK": "http://127.0.0.1:9/heads",
        }
    )
    assert (settings.audit_key, settings.audit_public_keys) == (bytes(32), (bytes(32), bytes(32)))
    assert (settings.audit_anchor_file, settings.audit_webhook) == (Path("anchors/heads"), "http://127.0.0.1:9/heads")


def test_a_secret_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"GATEWAY_MASTER_KEY": "canary"})
    assert "canary" not in str(refused.value)
    settings = load_settings({"OPENAI_API_KEY": "sk-canary", "GATEWAY_ENCRYPTION_KEY": KEY})
    assert "canary" not in repr(settings)
    assert KEY not in repr(settings)


def test_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean GATEWAY_WORKERS"):
        load_settings({"GATEWAY_WORKER": "2"})


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("tls://gateway:canary@queue:4222\n")
    (tmp_path / "empty").write_text("\n")
    files = {
        "GATEWAY_NATS_URL_FILE": str(tmp_path / "url"),
        "GATEWAY_METRICS_TOKEN_FILE": str(tmp_path / "empty"),
        "GATEWAY_METRICS_TOKEN": "",
    }
    settings = load_settings(files)
    assert settings.nats_urls == ("tls://gateway:canary@queue:4222",)
    assert settings.metrics_token is None


def test_a_secret_that_is_set_twice_or_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary-canary-canary")
    files = {"GATEWAY_MASTER_KEY_FILE": str(secret)}
    with pytest.raises(SettingsError, match="GATEWAY_MASTER_KEY_FILE are both set"):
        load_settings(files | {"GATEWAY_MASTER_KEY": "m" * 16})
    with pytest.raises(SettingsError, match=r"GATEWAY_MASTER_KEY_FILE is .*No such file") as refused:
        load_settings({"GATEWAY_MASTER_KEY_FILE": str(tmp_path / "missing")})
    assert "canary" not in str(refused.value)
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text"):
        load_settings(files)


def test_only_secrets_have_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_PORT_FILE is not a setting"):
        load_settings({"GATEWAY_PORT_FILE": str(tmp_path)})


def test_a_child_gets_a_secret_directly_or_not_at_all() -> None:
    child = set_directly({"GATEWAY_MASTER_KEY": "", "GATEWAY_HOST": "localhost"})
    assert child == {"GATEWAY_MASTER_KEY": "", "GATEWAY_MASTER_KEY_FILE": "", "GATEWAY_HOST": "localhost"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"GATEWAY_NATS_URL": "tls://a,nats://b"}, "nats and tls URLs"),
        ({"GATEWAY_NATS_URL": "nats://a", "GATEWAY_NATS_CA": "ca.pem"}, "is not tls://"),
        ({"GATEWAY_NATS_URL": "tls://a", "GATEWAY_NATS_CERT": "ca.pem"}, "go together"),
        ({"GATEWAY_NATS_URL": "tls://a", "GATEWAY_NATS_KEY": "a.key"}, "go together"),
        ({"GATEWAY_NATS_URL": "tls://a", "GATEWAY_NATS_CERT": "ca.pem", "GATEWAY_NATS_KEY": "a.key"}, "private key of"),
        ({"GATEWAY_NATS_CA": "a.key"}, "certificates in PEM"),
    ],
)
def test_half_of_tls_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_bytes(Authority("one").pem)
    (tmp_path / "a.key").write_text("no certificate")
    with pytest.raises(SettingsError, match=expected):
        load_settings(values)


def test_flags_win_over_the_environment_and_it_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_PORT=1\nGATEWAY_HOST=localhost\nGATEWAY_WORKERS=3\n")
    read = environment({"GATEWAY_PORT": "2", "GATEWAY_WORKERS": "4"}, tmp_path)
    settings = load_settings(read, flags={"workers": "5", "host": None})
    assert (settings.port, settings.host, settings.workers) == (2, "localhost", 5)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("evil.com", False)],
)
def test_knows_which_addresses_reach_this_machine_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_open_address_needs_a_master_key() -> None:
    with pytest.raises(SettingsError, match="GATEWAY_MASTER_KEY"):
        require_master_key(load_settings({"GATEWAY_HOST": "0.0.0.0"}))
    require_master_key(load_settings({"GATEWAY_HOST": "0.0.0.0", "GATEWAY_MASTER_KEY": "m" * 16}))
    require_master_key(load_settings({}))


def test_a_single_process_needs_the_servers_it_shares() -> None:
    urls = {"GATEWAY_DATABASE_URL": "postgresql://h/d", "GATEWAY_NATS_URL": "nats://h:4222"}
    with pytest.raises(SettingsError, match="GATEWAY_ENCRYPTION_KEY"):
        require_servers(load_settings(urls))
    require_servers(load_settings(urls | {"GATEWAY_ENCRYPTION_KEY": KEY}))


def test_the_largest_body_fits_into_the_part_of_one_project() -> None:
    with pytest.raises(SettingsError, match="at least twice GATEWAY_MAX_BODY_BYTES, which is 2000000"):
        load_settings({"GATEWAY_MAX_BYTES_IN_HAND": "3999999", "GATEWAY_MAX_BODY_BYTES": "2000000"})
    settings = load_settings({"GATEWAY_MAX_BYTES_IN_HAND": "4000000", "GATEWAY_MAX_BODY_BYTES": "2000000"})
    assert settings.max_bytes_in_hand == 4_000_000


@pytest.mark.parametrize(
    ("environ", "keyless"),
    [
        ({}, True),
        ({"GATEWAY_MASTER_KEY": "m" * 16}, False),
        ({"GATEWAY_KEYLESS_PROJECTS": "no"}, False),
        ({"GATEWAY_MASTER_KEY": "m" * 16, "GATEWAY_KEYLESS_PROJECTS": "yes"}, True),
    ],
)
def test_keyless_projects_need_a_generated_master_key(environ: dict[str, str], keyless: bool) -> None:
    assert load_settings(environ).keyless_projects is keyless


@pytest.mark.parametrize("url", ["http://localhost:3007/v1", "http://127.0.0.1:3007", "http://[::1]:3007"])
def test_a_gateway_is_not_its_own_provider(url: str) -> None:
    with pytest.raises(SettingsError, match=r"OPENAI_BASE_URL is .* this gateway itself"):
        require_other_providers(load_settings({"OPENAI_BASE_URL": url}))
    require_other_providers(load_settings({"OPENAI_BASE_URL": url, "GATEWAY_PORT": "3008"}))


def test_an_api_process_knows_providers_whose_keys_are_elsewhere() -> None:
    settings = load_settings({"GATEWAY_INSTALLATION_PROVIDERS": "openai, anthropic", "OPENAI_API_KEY": "sk-here"})
    assert settings.provider_keys == {"openai": "sk-here", "anthropic": ""}
    with pytest.raises(SettingsError, match="GATEWAY_INSTALLATION_PROVIDERS is 'mistral'"):
        load_settings({"GATEWAY_INSTALLATION_PROVIDERS": "mistral"})


def test_the_projector_needs_a_key_to_sign_with_and_no_other() -> None:
    urls = {"GATEWAY_DATABASE_URL": "postgresql://a/b", "GATEWAY_NATS_URL": "nats://a"}
    require_servers(load_settings(urls | {"GATEWAY_AUDIT_KEY": KEY}), audit_key_serves=True)
    with pytest.raises(SettingsError, match="GATEWAY_ENCRYPTION_KEY"):
        require_servers(load_settings(urls), audit_key_serves=True)
