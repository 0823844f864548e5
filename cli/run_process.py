"""Runs one process of the gateway."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import structlog
import uvloop

from cli.processes import FAILED, fail, read_settings, stop_on_signals
from infra.broker import BrokerErrors
from infra.collection import collect_rarely
from infra.database import DATABASE_AWAY
from infra.logging import configure_logging
from infra.settings import Settings, SettingsError, require_servers

log = structlog.get_logger(__name__)


def run_process(settings: Settings, name: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a process of the gateway under uvloop until SIGTERM or SIGINT."""
    configure_logging(settings.log_format, process=name, secrets=settings.secret_texts, level=settings.log_level)

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await main(stop)

    collect_rarely()
    try:
        uvloop.run(run())
    except (*DATABASE_AWAY, *BrokerErrors, asyncpg.PostgresError) as error:
        log.error("process_failed", error=type(error).__name__, message=str(error))  # noqa: TRY400 - a server's state
        sys.exit(FAILED)


def settings_for_process(*, audit_key_serves: bool = False, sends_telemetry: bool = False, **flags: object) -> Settings:
    """Read the settings of `gateway api`, `worker` or `projector`, which need the addresses of their servers."""
    settings = read_settings(sends_telemetry=sends_telemetry, **flags)
    try:
        require_servers(settings, audit_key_serves=audit_key_serves)
    except SettingsError as error:
        fail(str(error))
    return settings
