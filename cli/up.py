"""`gateway up`: the whole gateway on one machine, as one tree of processes."""

import asyncio
import base64
import contextlib
import itertools
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from api.accounts import create_first_project
from cli.data_directory import (
    GeneratedMasterKey,
    load_audit_key,
    load_encryption_key,
    load_master_key,
    locked,
    remember_public_key,
)
from cli.fork_server import ForkServer, gateway_command
from cli.greeting import displayed_host, print_greeting, step
from cli.migration import migrate_apart
from cli.processes import RUNNING_FILE, Running, fail, listen, read_settings, stop_on_signals, write_running
from cli.readiness import NotReadyError, wait_until_ready
from cli.supervisor import Child, ChildSpec, Output, Server, supervise
from domain.credentials import DEFAULT_CREDENTIAL
from infra.audit_keys import encode_key
from infra.embedded_nats import EmbeddedNats, EmbeddedNatsError
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres, EmbeddedPostgresError
from infra.line_writer import LineWriter
from infra.logging import configure_logging
from infra.private_files import UnsafePathError
from infra.schema_state import is_migrated
from infra.settings import (
    ANCHOR_FILE,
    METRICS_SOCKET_SUFFIX,
    SETTINGS,
    VARIABLE_NAMES,
    LogLevel,
    Settings,
    SettingsError,
    require_master_key,
    require_other_providers,
    set_directly,
)
from infra.telemetry.settings import OTEL_PREFIX
from migrations.roles import PROCESSES, Process

DRAIN_S = 25.0
"""For the processes. PostgreSQL and NATS stop in the rest of the 30 s that stopping may take."""
MAX_SOCKETS_PARENT_CHARS = 60
"""Systems keep the paths of sockets to about 100 characters."""
_SERVERS = frozenset({"GATEWAY_DATABASE_URL", "GATEWAY_NATS_URL"})
_COLLECTOR = frozenset(
    setting.variable.name
    for setting in SETTINGS
    if setting.variable.secret and setting.variable.name.startswith(OTEL_PREFIX)
)
_SECRETS_OF: dict[str, frozenset[str]] = {
    "api": _SERVERS | _COLLECTOR | {"GATEWAY_ENCRYPTION_KEY", "GATEWAY_MASTER_KEY", "GATEWAY_METRICS_TOKEN"},
    "worker": _SERVERS
    | _COLLECTOR
    | {
        "GATEWAY_ENCRYPTION_KEY",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GATEWAY_OPENAI_API_KEYS",
        "GATEWAY_ANTHROPIC_API_KEYS",
    },
    "migrate": frozenset({"GATEWAY_DATABASE_URL", "GATEWAY_MIGRATION_DATABASE_URL"}),
    "projector": _SERVERS | {"GATEWAY_AUDIT_KEY", "GATEWAY_AUDIT_WEBHOOK", "GATEWAY_AUDIT_OBJECT_STORE"},
}
"""The variables with secrets that each process needs. It gets no others:
whoever talks to strangers cannot sign the log."""
_OF_SDKS = ("OPENAI_", "ANTHROPIC_")
"""Workers read variables of these names, which are those of the vendors' SDKs. They may hold secrets as well."""

log = structlog.get_logger(__name__)


def up(fork_server: ForkServer, **flags: object) -> None:
    """Start all processes, keep them running, stop them in order."""
    settings = read_settings(sends_telemetry=True, **flags)
    configure_logging(settings.log_format, process="up", secrets=settings.secret_texts, level=settings.log_level)
    try:
        require_master_key(settings)
        require_other_providers(settings)
    except SettingsError as error:
        fail(str(error))
    with locked(settings.data_dir) as data_dir:
        listener = listen(settings.host, settings.port)
        settings = msgspec.structs.replace(
            settings,
            data_dir=data_dir,
            port=listener.getsockname()[1],
            encryption_key=settings.encryption_key or load_encryption_key(data_dir),
            audit_key=load_audit_key(settings, data_dir),
            audit_anchor_file=settings.audit_anchor_file or data_dir / ANCHOR_FILE,
        )
        remember_public_key(settings)
        generated_master_key = load_master_key(data_dir) if settings.master_key is None else None
        if generated_master_key is not None:
            settings = msgspec.structs.replace(settings, master_key=generated_master_key.text)
        with contextlib.ExitStack() as servers_running, listener:
            writer = LineWriter()
            servers_running.callback(writer.close)
            output = Output(writer)
            settings, servers, database_urls = _start_servers(settings, servers_running, output)
            if fork_server.process is not None:
                servers.append(Server("fork-server", lambda: fork_server.process, fork_server.launch, output))
            servers_running.callback((settings.data_dir / RUNNING_FILE).unlink, missing_ok=True)
            sockets = Path(servers_running.enter_context(_socket_directory()))
            children = _children(settings, listener, database_urls, fork_server, sockets, output)
            asyncio.run(_run(settings, children, servers, generated_master_key, fork_server, output))


def _start_servers(
    settings: Settings, running: contextlib.ExitStack, output: Output
) -> tuple[Settings, list[Server], dict[Process, str]]:
    """Start PostgreSQL and NATS, unless the environment has their addresses. `running` stops them.

    The last of the three is the database's address as the role of each kind of process.
    """
    servers: list[Server] = []
    database_urls = dict.fromkeys(PROCESSES, settings.database_url or "")
    try:
        if not settings.nats_urls:
            nats = EmbeddedNats(settings.data_dir / "nats")
            running.callback(nats.stop)
            with step("starting NATS"):
                settings = msgspec.structs.replace(settings, nats_urls=(nats.start(),))
            servers.append(Server("nats", lambda: nats.process, nats.launch, output))
        if settings.database_url is None:
            postgres = EmbeddedPostgres(settings.data_dir / "postgresql")
            running.callback(postgres.stop)
            with step("starting PostgreSQL"):
                postgres.start()
            database_urls = {process: postgres.url_as(role) for process, role in ROLES.items()}
            settings = msgspec.structs.replace(
                settings,
                database_url=database_urls["api"],
                migration_database_url=postgres.url_as(OWNER),
                database_roles=ROLES,
            )
            servers.append(Server("postgresql", lambda: postgres.process, postgres.launch, output))
    except (EmbeddedNatsError, EmbeddedPostgresError, UnsafePathError) as error:
        fail(str(error))
    return settings, servers, database_urls


async def _run(
    settings: Settings,
    children: list[list[Child]],
    servers: list[Server],
    generated_master_key: GeneratedMasterKey | None,
    fork_server: ForkServer,
    output: Output,
) -> None:
    assert settings.database_url is not None, "started, or set by the environment"
    assert settings.owner_url is not None, "started, or set by the environment"
    assert settings.encryption_key is not None, "set, or generated"
    stop = asyncio.Event()
    stop_on_signals(stop)
    if not await is_migrated(settings.owner_url, settings.database_roles, settings.role):
        with step("migrating the database"):
            is_migrated_now = await migrate_apart(gateway_command("migrate"), _environment_of_migration(settings), stop)
        if not is_migrated_now:
            output.say("up", "stopped")
            return
    first_key = await create_first_project(settings)
    address = f"http://{displayed_host(settings.host)}:{settings.port}"
    write_running(
        settings.data_dir,
        Running(
            pid=os.getpid(),
            database_url=settings.database_url,
            owner_url=settings.migration_database_url,
            database_roles=settings.database_roles,
            nats_urls=settings.nats_urls,
            encryption_key=base64.b64encode(settings.encryption_key).decode(),
            address=address,
        ),
    )

    async def when_started() -> None:
        try:
            with step("starting the API, the workers and the projector"):
                _, workers, projectors = ([child.spec.env for child in group] for group in children)
                await wait_until_ready(
                    displayed_host(settings.host),
                    settings.port,
                    workers=workers,
                    projectors=projectors,
                    metrics_host=settings.metrics_host,
                )
        except NotReadyError as error:
            print_greeting(settings, address, first_key, generated_master_key, problem=str(error))
        else:
            print_greeting(settings, address, first_key, generated_master_key)

    await supervise(children, servers, stop, drain_s=DRAIN_S, when_started=when_started, fork_server=fork_server)
    output.say("up", "stopped")


def _children(
    settings: Settings,
    listener: socket.socket,
    database_urls: dict[Process, str],
    fork_server: ForkServer,
    sockets: Path,
    output: Output,
) -> list[list[Child]]:
    """Make the API processes, the workers and the projector, in the order in which they stop.

    `sockets` is the directory for those of their figures.
    """
    assert settings.encryption_key is not None, "set, or generated"
    assert settings.master_key is not None, "set, or generated"
    assert settings.audit_key is not None, "set, or generated"
    environ = dict(os.environ) | set_directly(
        {
            "GATEWAY_NATS_URL": ",".join(settings.nats_urls),
            "GATEWAY_ENCRYPTION_KEY": base64.b64encode(settings.encryption_key).decode(),
            "GATEWAY_MASTER_KEY": settings.master_key,
            "GATEWAY_KEYLESS_PROJECTS": "yes" if settings.keyless_projects else "no",
            "GATEWAY_INSTALLATION_PROVIDERS": ",".join(
                provider if name == DEFAULT_CREDENTIAL else f"{provider}/{name}"
                for provider, names in settings.installation_credentials.items()
                for name in names
            ),
            "GATEWAY_AUDIT_KEY": encode_key(settings.audit_key),
            "GATEWAY_AUDIT_ANCHOR_FILE": str(settings.audit_anchor_file),
            "GATEWAY_HOST": settings.host,
            "GATEWAY_PORT": str(settings.port),
            "GATEWAY_DATA_DIR": str(settings.data_dir),
            "GATEWAY_LOG_FORMAT": settings.log_format,
            "GATEWAY_LOG_LEVEL": settings.log_level or _level_for_reader(settings),
        }
    )
    environments = {
        process: environment_of(process, environ | set_directly({"GATEWAY_DATABASE_URL": database_urls[process]}))
        for process in PROCESSES
    }
    fd = listener.fileno()
    place = _probe_places(settings, sockets)

    def child(kind: Process, name: str, *options: str, fds: tuple[int, ...] = ()) -> Child:
        environment = environments[kind] | place(name)
        return Child(
            ChildSpec(name=name, argv=gateway_command(kind, *options), env=environment, pass_fds=fds),
            output,
            fork_server,
        )

    return [
        [child("api", f"api-{n}", "--fd", str(fd), fds=(fd,)) for n in range(1, settings.api_processes + 1)],
        [child("worker", f"worker-{n}") for n in range(1, settings.workers + 1)],
        [child("projector", "projector")],
    ]


def _environment_of_migration(settings: Settings) -> dict[str, str]:
    roles = settings.database_roles.items()
    told = {
        "GATEWAY_DATABASE_URL": settings.database_url or "",
        "GATEWAY_MIGRATION_DATABASE_URL": settings.migration_database_url or "",
        "GATEWAY_DATABASE_ROLES": ",".join(f"{process}={role}" for process, role in roles),
    }
    return environment_of("migrate", os.environ | set_directly(told))


def _level_for_reader(settings: Settings) -> LogLevel:
    """Return the level of the processes' lines: who reads them on a terminal needs to know only what is amiss."""
    return "warning" if settings.log_format == "console" and sys.stderr.isatty() else "info"


def environment_of(process: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of the gateway, without the secrets that it does not need."""
    needed = _SECRETS_OF[process]
    secrets_of_others = {
        setting.variable.name for setting in SETTINGS if setting.variable.secret and setting.variable.name not in needed
    }
    settings_and_more = {
        name: value
        for name, value in environ.items()
        if process == "worker" or name in VARIABLE_NAMES or not name.startswith(_OF_SDKS)
    }
    # empty: the process must not read .env for them
    return settings_and_more | set_directly(dict.fromkeys(secrets_of_others, ""))


def _probe_places(settings: Settings, sockets: Path) -> Callable[[str], dict[str, str]]:
    """Return what gives each process a place for its figures, by its name: the next port, if there are ports, and the
    token for it; else a socket, whose figures are on the API's page.
    """
    if settings.metrics_port is None:
        return lambda name: {
            "GATEWAY_METRICS_PORT": "",
            "GATEWAY_METRICS_SOCKET": f"{sockets / name}{METRICS_SOCKET_SUFFIX}",
        }
    ports = itertools.count(settings.metrics_port)
    token = set_directly({"GATEWAY_METRICS_TOKEN": settings.metrics_token or ""})
    return lambda _: {"GATEWAY_METRICS_PORT": str(next(ports)), "GATEWAY_METRICS_SOCKET": ""} | token


def _socket_directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory that only this user can enter, with a path that is short enough for a socket."""
    usual = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(
        prefix="gateway-",
        dir=usual if len(usual) <= MAX_SOCKETS_PARENT_CHARS else "/tmp",  # noqa: S108 - a directory of its own in it
        ignore_cleanup_errors=True,
    )
