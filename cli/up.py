"""`gateway up`: the whole gateway on one machine, as one tree of processes."""

import asyncio
import base64
import contextlib
import fcntl
import os
import secrets
import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import click
import msgspec
import structlog
from msgspec import Struct

from api.accounts import DEFAULT_INSTALLATION_DAILY_BUDGET, create_first_project
from cli.processes import RUNNING_FILE, Running, fail, listen, read_settings, stop_on_signals, write_running
from cli.supervisor import Child, ChildSpec, Server, say, supervise
from domain.money import to_usd
from infra.broker import Broker, BrokerErrors
from infra.database import migrate
from infra.embedded_nats import EmbeddedNats, EmbeddedNatsError
from infra.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from infra.environment_variables import is_token
from infra.jobs import JobQueue
from infra.logging import configure_logging
from infra.settings import ENCRYPTION_KEY_BYTES, Settings, SettingsError, require_master_key, require_other_providers

MASTER_KEY_FILE = "master.key"
MASTER_KEY_PREFIX = "gw_master_"
MASTER_KEY_BYTES = 32
DRAIN_S = 25.0
"""For the processes; the servers below them get the rest of the contract's 30 s."""
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.1
_API_ONLY = ("GATEWAY_MASTER_KEY", "GATEWAY_METRICS_TOKEN")
"""Secrets that no other process needs."""

log = structlog.get_logger(__name__)


class OwnMasterKey(Struct, frozen=True, kw_only=True):
    """The master key that `gateway up` has made for itself."""

    text: str
    path: Path
    is_new: bool
    """This start has made it."""

    def __repr__(self) -> str:
        """Shows no key."""
        return f"OwnMasterKey(path={self.path!r})"


def up(**flags: object) -> None:
    """Start everything, keep it running, stop it in order."""
    settings = read_settings(**flags)
    configure_logging(settings.log_format, process="up")
    try:
        require_master_key(settings)
        require_other_providers(settings)
    except SettingsError as error:
        fail(str(error))
    with _exclusively(settings.data_dir):
        listener = listen(settings.host, settings.port)
        settings = msgspec.structs.replace(
            settings,
            port=listener.getsockname()[1],
            encryption_key=settings.encryption_key or _own_encryption_key(settings.data_dir),
        )
        own_master_key = _own_master_key(settings.data_dir) if settings.master_key is None else None
        if own_master_key is not None:
            settings = msgspec.structs.replace(settings, master_key=own_master_key.text)
        with contextlib.ExitStack() as servers_running, listener:
            settings, servers = _start_servers(settings, servers_running)
            servers_running.callback((settings.data_dir / RUNNING_FILE).unlink, missing_ok=True)
            asyncio.run(_run(settings, listener, servers, own_master_key))


def _start_servers(settings: Settings, running: contextlib.ExitStack) -> tuple[Settings, list[Server]]:
    """Start the servers that the environment does not name; `running` stops them."""
    servers: list[Server] = []
    try:
        if not settings.nats_urls:
            nats = EmbeddedNats(settings.data_dir / "nats")
            running.callback(nats.stop)
            settings = msgspec.structs.replace(settings, nats_urls=(nats.start(),))
            servers.append(Server("nats", lambda: nats.process, nats.launch))
        if settings.database_url is None:
            postgres = EmbeddedPostgres(settings.data_dir / "postgresql")
            running.callback(postgres.stop)
            settings = msgspec.structs.replace(settings, database_url=postgres.start())
            servers.append(Server("postgresql", lambda: postgres.process, postgres.launch))
    except (EmbeddedNatsError, EmbeddedPostgresError) as error:
        fail(str(error))
    return settings, servers


async def _run(
    settings: Settings, listener: socket.socket, servers: list[Server], own_master_key: OwnMasterKey | None
) -> None:
    assert settings.database_url is not None, "started, or named by the environment"
    assert settings.encryption_key is not None, "read, or made"
    assert settings.master_key is not None, "read, or made"
    stop = asyncio.Event()
    stop_on_signals(stop)
    say("up", "migrating the database")
    await asyncio.to_thread(migrate, settings.database_url)
    first_key = await create_first_project(settings)
    address = f"http://{_shown_host(settings.host)}:{settings.port}"
    key = base64.b64encode(settings.encryption_key).decode()
    write_running(
        settings.data_dir,
        Running(
            pid=os.getpid(),
            database_url=settings.database_url,
            nats_urls=settings.nats_urls,
            encryption_key=key,
            address=address,
        ),
    )
    shared_environment = dict(os.environ) | {
        "GATEWAY_DATABASE_URL": settings.database_url,
        "GATEWAY_NATS_URL": ",".join(settings.nats_urls),
        "GATEWAY_ENCRYPTION_KEY": key,
        "GATEWAY_HOST": settings.host,
        "GATEWAY_PORT": str(settings.port),
        "GATEWAY_DATA_DIR": str(settings.data_dir),
        "GATEWAY_LOG_FORMAT": settings.log_format,
    }
    environment = shared_environment | dict.fromkeys(_API_ONLY, "")  # empty: not from .env either
    api_environment = shared_environment | {
        "GATEWAY_MASTER_KEY": settings.master_key,
        "GATEWAY_KEYLESS_PROJECTS": "yes" if settings.keyless_projects else "no",
    }
    fd = listener.fileno()
    apis = [
        _child(f"api-{number}", ("api", "--fd", str(fd)), api_environment, (fd,))
        for number in range(1, settings.api_processes + 1)
    ]
    workers = [_child(f"worker-{number}", ("worker",), environment) for number in range(1, settings.workers + 1)]
    projector = _child("projector", ("projector",), environment)

    async def when_started() -> None:
        await _wait_until_ready(address, settings)
        _greet(settings, address, first_key, own_master_key)

    await supervise([apis, workers, [projector]], servers, stop, drain_s=DRAIN_S, when_started=when_started)
    say("up", "stopped")


def _child(name: str, command: tuple[str, ...], environment: dict[str, str], fds: tuple[int, ...] = ()) -> Child:
    script = Path(sysconfig.get_path("scripts")) / "gateway"
    return Child(ChildSpec(name=name, argv=(sys.executable, str(script), *command), env=environment, pass_fds=fds))


async def _wait_until_ready(address: str, settings: Settings) -> None:
    """Ask until the gateway says that it can serve, and a worker waits for jobs."""
    broker = Broker()
    await broker.connect(settings.nats_urls, name="gateway up", credentials=settings.nats_credentials)
    queue = JobQueue(broker)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for _ in range(int(READY_TIMEOUT_S / READY_POLL_S)):
            with contextlib.suppress(aiohttp.ClientError, *BrokerErrors):
                async with session.get(f"{address}/health/ready") as answer:
                    if answer.status == 200 and await queue.has_workers():
                        break
            await asyncio.sleep(READY_POLL_S)
        else:
            say("up", f"not ready after {READY_TIMEOUT_S:.0f} s: the lines above say why; still trying")
    await broker.close()


def _greet(settings: Settings, address: str, first_key: str | None, own_master_key: OwnMasterKey | None) -> None:
    """Say where it runs and what to try, on standard output; a new API key is shown here and never again."""
    keys = ", ".join(sorted(settings.provider_keys)) or "none (set OPENAI_API_KEY or ANTHROPIC_API_KEY)"
    lines = ["", f"The gateway runs at {address}  (OpenAPI: {address}/schema)", f"Provider keys: {keys}"]
    if own_master_key is not None:
        lines += [f"Master key: {own_master_key.path}"]
    if settings.keyless_projects:
        budget = f"${to_usd(DEFAULT_INSTALLATION_DAILY_BUDGET):f}"
        lines += [f"A project created without the master key may spend {budget} a day under this gateway's keys"]
    if own_master_key is not None and own_master_key.is_new:
        lines += ["", "The master key, for prices and installation providers:", ""]
        lines += [f"  {own_master_key.text}"]
    if first_key is not None:
        lines += ["", "Your first API key, shown this once:", "", f"  {first_key}"]
    body = '{"model": "echo", "messages": [{"role": "user", "content": "Hello!"}]}'
    lines += [
        "",
        "Try it:",
        "",
        f"  curl {address}/api/v1/completions/chat \\",
        f"    -H 'Authorization: Bearer {first_key or 'YOUR_API_KEY'}' \\",
        f"    -H 'Content-Type: application/json' -d '{body}'",
        "",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _exclusively(data_dir: Path) -> Iterator[None]:
    """Own the directory while the block runs, or one line and exit code 2."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        fail(f"cannot write to {data_dir}: {error.strerror} (choose another directory with --data-dir)")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"another `gateway up` runs on {data_dir} (choose another directory with --data-dir)")
        yield


def _own_encryption_key(data_dir: Path) -> bytes:
    """The key in the directory, made at the first start, readable by its owner only."""
    path = data_dir / "encryption.key"
    if not path.exists():
        _write_secret(path, base64.b64encode(os.urandom(ENCRYPTION_KEY_BYTES)))
    key = base64.b64decode(path.read_bytes().strip())
    if len(key) != ENCRYPTION_KEY_BYTES:
        fail(
            f"{path} does not hold {ENCRYPTION_KEY_BYTES} bytes in base64: restore it, what is sealed under it needs it"
        )
    return key


def _own_master_key(data_dir: Path) -> OwnMasterKey:
    """The master key in the directory, made at the first start, readable by its owner only."""
    path = data_dir / MASTER_KEY_FILE
    is_new = not path.exists()
    if is_new:
        _write_secret(path, f"{MASTER_KEY_PREFIX}{secrets.token_urlsafe(MASTER_KEY_BYTES)}".encode())
    text = path.read_text(encoding="latin-1").strip()
    if not (text.isascii() and is_token(text)):
        fail(f"{path} holds no master key: restore it, or remove it to have another one made")
    return OwnMasterKey(text=text, path=path, is_new=is_new)


def _write_secret(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text + b"\n")
