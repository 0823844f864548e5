"""The process's settings: environment variables and flags, read once, wrong ones refused by name.

A table of variables; the rest of the product sees `Settings` only. No secret shows in a message or a repr.
"""

import difflib
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from msgspec import Struct

from infra.settings_table import VARIABLES, Variable

LogFormat = Literal["console", "json"]

LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


class SettingsError(Exception):
    """A setting is missing or wrong. The message is one line: the name, the value, what is allowed."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that a process is told from outside."""

    host: str
    port: int
    data_dir: Path
    api_processes: int
    workers: int
    worker_slots: int
    database_url: str | None
    """None: `gateway up` starts a PostgreSQL of its own."""
    nats_urls: tuple[str, ...]
    """Empty: `gateway up` starts a NATS of its own."""
    nats_replicas: int | None
    """None: three if the cluster has three servers, else one."""
    nats_credentials: Path | None
    master_key: str | None
    keyless_projects: bool
    """Whether this machine itself may create projects without the master key."""
    metrics_token: str | None
    """None: metrics and health details are open to this machine itself alone."""
    encryption_key: bytes | None
    provider_keys: dict[str, str]
    """The installation's own keys, by provider, for projects that bring none."""
    provider_base_urls: dict[str, str]
    upstream_models: dict[str, str]
    """The provider's name for a model, by the name that callers use, before the built-in table."""
    request_timeout_s: float
    max_body_bytes: int
    max_bytes_in_hand: int
    """Of requests and answers that an API process works on at a time."""
    max_connections_per_address: int
    cache_memory_bytes: int
    allow_loopback_urls: bool
    """Whether addresses that callers give may be this machine's own."""
    log_format: LogFormat

    def __repr__(self) -> str:
        """Shows where things are, no secret and no address with a password."""
        return f"Settings(host={self.host!r}, port={self.port}, data_dir={str(self.data_dir)!r})"


VARIABLE_NAMES = frozenset(variable.name for variable in VARIABLES)
_TEST_PREFIX = "GATEWAY_TEST_"


def environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The environment, with `.env` of the directory behind it: what is really set wins."""
    from_file = {name: value for name, value in dotenv_values(directory / ".env").items() if value is not None}
    return from_file | dict(environ)


def load_settings(
    environ: Mapping[str, str], *, flags: Mapping[str, object] | None = None, on_terminal: bool = False
) -> Settings:
    """Read the settings; a flag that is not None wins over its variable.

    Raises:
        SettingsError: a value is wrong, or a GATEWAY_ variable does not exist.

    """
    for name in sorted(environ):
        if name.startswith("GATEWAY_") and name not in VARIABLE_NAMES and not name.startswith(_TEST_PREFIX):
            near = difflib.get_close_matches(name, VARIABLE_NAMES, n=1)
            raise SettingsError(f"{name} is no setting" + (f": did you mean {near[0]}?" if near else ""))
    values = {one.field: _value(one, environ, (flags or {}).get(one.field)) for one in VARIABLES}
    keyless = values["keyless_projects"]
    provider_keys = {"openai": values.pop("openai_api_key"), "anthropic": values.pop("anthropic_api_key")}
    base_urls = {"openai": values.pop("openai_base_url"), "anthropic": values.pop("anthropic_base_url")}
    _check_bytes_in_hand(values)
    return Settings(
        **values
        | {
            "nats_urls": values["nats_urls"] or (),
            "upstream_models": values["upstream_models"] or {},
            "keyless_projects": values["master_key"] is None if keyless is None else keyless,
            "log_format": values["log_format"] or ("console" if on_terminal else "json"),
            "provider_keys": {name: key for name, key in provider_keys.items() if key},
            "provider_base_urls": {name: url for name, url in base_urls.items() if url},
        }
    )


def _check_bytes_in_hand(values: Mapping[str, Any]) -> None:
    """Refuse a budget that the largest body does not fit into: one caller gets at most half of it."""
    in_hand, body = values["max_bytes_in_hand"], values["max_body_bytes"]
    if in_hand < 2 * body:
        raise SettingsError(
            f"GATEWAY_MAX_BYTES_IN_HAND is {in_hand}: it must be at least twice GATEWAY_MAX_BODY_BYTES, which is {body}"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name reaches this machine only."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_master_key(settings: Settings) -> None:
    """Refuse to serve other machines without a master key that the operator has chosen.

    Raises:
        SettingsError: the host is no loopback address and there is no master key.

    """
    if settings.master_key is None and not is_loopback(settings.host):
        raise SettingsError(
            f"GATEWAY_MASTER_KEY is not set, and host {settings.host!r} is open to other machines: set it to at least "
            "16 printable characters, or serve 127.0.0.1"
        )


def require_other_providers(settings: Settings) -> None:
    """Refuse a provider that is the gateway itself: each request to it would become another one, without end.

    Raises:
        SettingsError: the address of a built-in provider is the one that is served.

    """
    for provider, url in settings.provider_base_urls.items():
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        is_here = is_loopback(host) or host == settings.host
        if port == settings.port and is_here:
            raise SettingsError(
                f"{provider.upper()}_BASE_URL is {url!r}, which is this gateway itself: it names the provider that the "
                "gateway calls, so unset it here, or serve another port"
            )


def require_servers(settings: Settings) -> None:
    """Refuse to run a single process without the servers and the key that it shares with the others.

    Raises:
        SettingsError: names the first that is missing.

    """
    for name, value in (
        ("GATEWAY_DATABASE_URL", settings.database_url),
        ("GATEWAY_NATS_URL", settings.nats_urls),
        ("GATEWAY_ENCRYPTION_KEY", settings.encryption_key),
    ):
        if not value:
            raise SettingsError(f"{name} is not set: a single process needs it (`gateway up` brings its own)")


def _value(variable: Variable, environ: Mapping[str, str], flag: object) -> Any:
    text = str(flag) if flag is not None else environ.get(variable.name) or variable.default
    if text is None:
        return None
    try:
        return variable.read(text)
    except ValueError:
        shown = f"{len(text)} characters" if variable.secret else repr(text)
        raise SettingsError(f"{variable.name} is {shown}: allowed is {variable.allowed}") from None
