"""Each process of `gateway up` has the secrets that it needs, and no others."""

import stat

import psutil
import pytest

from cli.up import environment_of
from tests.support.gateway import Client, Gateway
from tests.support.process_memory import has_in_memory

ENVIRON = {
    "PATH": "/bin",
    "SSL_CERT_FILE": "/certificates",
    "GATEWAY_DATABASE_URL": "postgresql://canary@db/gateway",
    "GATEWAY_ENCRYPTION_KEY": "encryption-canary",
    "GATEWAY_MASTER_KEY": "master-canary",
    "GATEWAY_METRICS_TOKEN": "metrics-canary",
    "GATEWAY_MASTER_KEY_FILE": "/run/secrets/master-file-canary",
    "GATEWAY_AUDIT_KEY": "audit-canary",
    "GATEWAY_LOG_FORMAT": "json",
    "OPENAI_API_KEY": "openai-canary",
    "OPENAI_BASE_URL": "https://openai.example",
    "OPENAI_CUSTOM_HEADERS": "x-token: openai-header-canary",
    "ANTHROPIC_API_KEY": "anthropic-canary",
    "ANTHROPIC_AUTH_TOKEN": "anthropic-token-canary",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-token=collector-canary",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-token=traces-canary",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-token=metrics-canary",
}
COLLECTOR = {name for name in ENVIRON if name.startswith("OTEL_")}
NEEDED = {
    "api": {
        *COLLECTOR,
        "GATEWAY_DATABASE_URL",
        "GATEWAY_ENCRYPTION_KEY",
        "GATEWAY_MASTER_KEY",
        "GATEWAY_MASTER_KEY_FILE",
        "GATEWAY_METRICS_TOKEN",
    },
    "worker": {
        *COLLECTOR,
        "GATEWAY_DATABASE_URL",
        "GATEWAY_ENCRYPTION_KEY",
        "OPENAI_API_KEY",
        "OPENAI_CUSTOM_HEADERS",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
    },
    "projector": {"GATEWAY_DATABASE_URL", "GATEWAY_AUDIT_KEY"},
}


@pytest.mark.parametrize("process", NEEDED)
def test_a_process_gets_the_secrets_that_it_needs(process: str) -> None:
    environ = environment_of(process, ENVIRON)
    assert {name for name, value in environ.items() if "canary" in value} == NEEDED[process]
    kept = ("PATH", "SSL_CERT_FILE", "GATEWAY_LOG_FORMAT", "OPENAI_BASE_URL")
    assert {name: environ[name] for name in kept} == {name: ENVIRON[name] for name in kept}


def test_only_workers_have_the_providers_keys(gateway: Gateway) -> None:
    """Not in an environment, and nowhere in the memory, of which each process inherits that of the fork server."""
    of = {name: gateway.processes(name) for name in ("fork-server", *NEEDED)}
    (fork_server,) = of["fork-server"]
    assert all(has_in_memory(worker, "sk-test-openai-canary") for worker in of["worker"])
    assert not any(has_in_memory(one, "sk-test-openai-canary") for one in [fork_server, *of["api"], *of["projector"]])
    assert all(has_in_memory(api, gateway.master_key) for api in of["api"])
    assert not any(has_in_memory(one, gateway.master_key) for one in [fork_server, *of["worker"], *of["projector"]])
    encryption_key = (gateway.data_dir / "encryption.key").read_text().strip()
    assert not any(has_in_memory(one, encryption_key) for one in [fork_server, *of["projector"]])


def test_the_servers_have_no_secret_at_all(gateway: Gateway) -> None:
    servers = [process for process in gateway.tree() if process.name() in ("postgres", "nats-server")]
    assert {process.name() for process in servers} == {"postgres", "nats-server"}
    assert all("canary" not in said(process) and gateway.master_key not in said(process) for process in servers)


async def test_the_api_lists_what_the_workers_have_keys_for(client: Client) -> None:
    _, answer, _ = await client.call("GET", "/models")
    assert {"openai", "anthropic", "echo"} <= {model["provider"] for model in answer["data"]}


def test_the_data_directory_is_closed_to_others(gateway: Gateway) -> None:
    for name in ("nats", "postgresql/data", "postgresql/socket"):
        assert stat.S_IMODE((gateway.data_dir / name).stat().st_mode) == 0o700
    for name in ("lock", "encryption.key", "master.key", "running.json", "nats/nats.conf", "nats/nats.log"):
        assert stat.S_IMODE((gateway.data_dir / name).stat().st_mode) == 0o600


def test_a_directory_that_others_can_write_to_is_refused_in_one_line(gateway: Gateway) -> None:
    shared = gateway.data_dir.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    gateway_there = Gateway(gateway.process, shared, shared)
    done = gateway_there.run("up", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "can be written by other users" in done.stderr
    assert list(shared.iterdir()) == []


def said(process: psutil.Process) -> str:
    """Return the command line and the environment of a process."""
    return str(process.cmdline()) + str(process.environ())
