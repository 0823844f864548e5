"""A log line has no secret of the process's settings, whatever a library's exception says."""

import base64
import subprocess
import sys
from urllib.parse import unquote

import pytest

from infra.logging import SecretsHidden
from infra.settings import SETTINGS, load_settings

KEY = "VGVzdFRlc3RUZXN0VGVzdFRlc3RUZXN0VGVzdFRlc3Q="
PROGRAM = """
import logging, sys, structlog
from infra.logging import configure_logging
configure_logging(sys.argv[1], process="test", secrets=["sk-log-canary"])
def fail(hidden):
    raise ValueError("refused: sk-log-canary")
for log in (structlog.get_logger("a"), logging.getLogger("b")):
    log.warning("said sk-log-canary")
    try:
        fail("local" + "-variable")
    except ValueError:
        log.exception("failed")
"""


LEVELS = """
import sys, structlog
from infra.logging import configure_logging
configure_logging("json", process="test", level=sys.argv[1])
log = structlog.get_logger("a")
log.info("is ready")
log.warning("is amiss")
"""


@pytest.mark.parametrize(("level", "lines"), [("info", 2), ("warning", 1)])
def test_lines_are_written_from_a_level_on(level: str, lines: int) -> None:
    run = subprocess.run([sys.executable, "-c", LEVELS, level], capture_output=True, text=True, check=True)
    assert (len(run.stderr.splitlines()), "is amiss" in run.stderr) == (lines, True)


def test_settings_know_their_secrets() -> None:
    settings = load_settings(
        {
            "GATEWAY_DATABASE_URL": "postgresql://gateway:database-pass-1@db/gateway",
            "GATEWAY_NATS_URL": "nats://nats-token-12@a,nats://user:nats-pass-1@b",
            "GATEWAY_MASTER_KEY": "the-master-key-of-mine",
            "GATEWAY_METRICS_TOKEN": "the-metrics-token-of-mine",
            "GATEWAY_ENCRYPTION_KEY": KEY,
            "OPENAI_API_KEY": "sk-openai-1",
            "ANTHROPIC_API_KEY": "placeholder",
            "OPENAI_BASE_URL": "https://someone:proxy-pass-1@proxy.example/v1",
        }
    )
    assert set(settings.secret_texts) == {
        "database-pass-1",
        "nats-token-12",
        "nats-pass-1",
        "the-master-key-of-mine",
        "the-metrics-token-of-mine",
        KEY,
        "sk-openai-1",
        "proxy-pass-1",
    }


SECRET_VALUES = {
    "GATEWAY_DATABASE_URL": "postgresql://gateway:canary-%3A1@db/gateway",
    "GATEWAY_MIGRATION_DATABASE_URL": "postgresql://owner@db/gateway?password=canary-owner",
    "GATEWAY_NATS_URL": "nats://canary-token@a,nats://user:canary-pass@b",
    "GATEWAY_MASTER_KEY": "canary-of-the-master",
    "GATEWAY_METRICS_TOKEN": "canary-of-the-metrics",
    "GATEWAY_ENCRYPTION_KEY": base64.b64encode(b"canary-of-the-encryption-key-123").decode(),
    "GATEWAY_AUDIT_KEY": base64.b64encode(b"canary-of-the-audit-key-12345678").decode(),
    "GATEWAY_AUDIT_WEBHOOK": "https://hooks.example/services/canary",
    "GATEWAY_AUDIT_OBJECT_STORE": "https://id:canary-of-the-store@store.example/bucket/folder?region=x",
    "OPENAI_API_KEY": "canary-of-openai",
    "ANTHROPIC_API_KEY": "canary-of-anthropic",
    "GATEWAY_OPENAI_API_KEYS": "eu=canary-of-openai-in-europe",
    "GATEWAY_ANTHROPIC_API_KEYS": "eu:2=canary-of-anthropic-in-europe",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20canary-of-the-collector",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-token=canary-of-the-traces,x-scope=canary-scope-of-the-traces",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-token=canary-of-the-metrics-2",
}
"""A value for each variable that is secret."""


def test_every_secret_setting_is_taken_out_of_lines() -> None:
    assert SECRET_VALUES.keys() == {setting.variable.name for setting in SETTINGS if setting.variable.secret}
    hide = SecretsHidden(load_settings(SECRET_VALUES).secret_texts)
    for name, value in SECRET_VALUES.items():
        line = hide(None, "", f"failed: {value} and {unquote(value)}")
        assert "canary" not in line, name
        assert value not in line, name


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_secret_with_a_quote_is_hidden_as_the_line_writes_it(log_format: str) -> None:
    program = PROGRAM.replace("sk-log-canary", r"sk-log-\"canary")
    done = subprocess.run([sys.executable, "-c", program, log_format], capture_output=True, text=True, check=True)
    assert done.stderr.count("said …") == 2


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_line_and_no_trace_has_a_secret_or_a_variable(log_format: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, check=True)
    assert done.stderr.count("said …") == 2
    assert done.stderr.count("refused: …") == 2
    assert "canary" not in done.stderr.replace('raise ValueError("refused: sk-log-canary")', "")
    assert "local-variable" not in done.stderr
