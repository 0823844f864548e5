"""A log line has no secret of the process's settings, whatever a library's exception says."""

import subprocess
import sys

import pytest

from infra.settings import load_settings

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


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_line_and_no_trace_has_a_secret_or_a_variable(log_format: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, check=True)
    assert done.stderr.count("said …") == 2
    assert done.stderr.count("refused: …") == 2
    assert "canary" not in done.stderr.replace('raise ValueError("refused: sk-log-canary")', "")
    assert "local-variable" not in done.stderr
