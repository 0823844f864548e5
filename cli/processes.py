"""Reads the settings of a command, listens on an address, and finds the servers of a running `gateway up`."""

import asyncio
import base64
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import psutil
import structlog
import uvloop
from msgspec import Struct

from cli.terminal import show
from domain.models import use_operators_models
from infra.private_files import write_private
from infra.settings import Settings, SettingsError, environment, load_settings
from infra.telemetry.settings import OTEL_PREFIX
from migrations.roles import Process

RUNNING_FILE = "running.json"
USAGE_ERROR = 2
FAILED = 1
"""A server that a process needs did not answer in time when it started."""


log = structlog.get_logger(__name__)


class Running(Struct, frozen=True, kw_only=True):
    """The file with which other commands find a running `gateway up`."""

    pid: int
    database_url: str
    """As the role of the API processes."""
    owner_url: str | None = None
    """As the role that owns the tables."""
    database_roles: dict[Process, str] = {}
    """Of each kind of process, if they are not that of `database_url`: `gateway migrate` grants them what they need."""
    nats_urls: tuple[str, ...]
    encryption_key: str
    """Base64. Only the owner of the file can read it."""
    address: str


def fail(message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    show(f"gateway: {message}", err=True)
    sys.exit(USAGE_ERROR)


def read_settings(*, sends_telemetry: bool = False, **flags: object) -> Settings:
    """Read the settings of this process. Print one line and exit with code 2 if one is wrong.

    What is wrong for telemetry is only told, unless this process, or one that it starts, sends some.
    """
    environ = environment(os.environ, Path.cwd())
    # OpenTelemetry's SDK reads the variables of the process itself: those of `.env` are put there
    os.environ.update({name: value for name, value in environ.items() if name.startswith(OTEL_PREFIX)})
    try:
        settings = load_settings(
            environ,
            flags=flags,
            on_terminal=sys.stderr.isatty(),
            sends_telemetry=sends_telemetry,
            on_ignored=lambda what: show(f"gateway: warning: {what}; it is ignored: nothing is sent", err=True),
        )
    except SettingsError as error:
        fail(str(error))
    if settings.models_file is not None:
        try:
            use_operators_models(settings.models_file.read_bytes())
        except (ValueError, OSError) as error:
            fail(f"GATEWAY_MODELS_FILE is {str(settings.models_file)!r}: {error}")
    return settings


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def settings_for_administration(data_dir: Path | None) -> Settings:
    """Read the settings of a command: the servers of the environment, or else of a running `gateway up`."""
    settings = read_settings(data_dir=data_dir)
    if settings.database_url is not None:
        return settings
    running = find_running(settings.data_dir)
    if running is None:
        fail(
            f"no gateway runs on {settings.data_dir}, and GATEWAY_DATABASE_URL is not set: "
            "start one with `gateway up`, or give its data directory with --data-dir"
        )
    return msgspec.structs.replace(
        settings,
        database_url=running.database_url,
        migration_database_url=running.owner_url,
        database_roles=running.database_roles,
        nats_urls=running.nats_urls,
        encryption_key=base64.b64decode(running.encryption_key),
    )


def find_running(data_dir: Path) -> Running | None:
    """The running `gateway up` of a data directory; None if there is none."""
    try:
        running = msgspec.json.decode((data_dir / RUNNING_FILE).read_bytes(), type=Running)
    except FileNotFoundError:
        return None
    return running if psutil.pid_exists(running.pid) else None


def write_running(data_dir: Path, running: Running) -> None:
    """Write the addresses of the servers to a file that only its owner can read."""
    write_private(data_dir / RUNNING_FILE, msgspec.json.encode(running))


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address. Print one line and exit with code 2 if that fails."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2_048)
    except OSError as error:
        fail(f"cannot serve {host}:{port}: {os.strerror(error.errno or 0)} (choose another port with --port)")
    listener.setblocking(False)
    return listener


def run_async(work: Awaitable[Any]) -> Any:
    """Run the coroutine of a command."""

    async def run() -> Any:
        return await work

    return uvloop.run(run())
