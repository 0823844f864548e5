"""What the reading and administering commands work with: a pool, the log and, where it is there, the broker."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import uvloop
from msgspec import Struct

from api.accounts import Accounts
from api.pricing import PriceAdmin
from api.provider_settings import ProviderSettings
from cli.processes import fail, settings_for_administration
from domain.errors import GatewayError
from infra.broker import Broker, BrokerErrors
from infra.database import HeldConnection, Pool, open_pool
from infra.event_log import EventLog
from infra.notifications import Notifications
from infra.settings import Settings
from infra.vault import Vault
from projections import keys

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Of the running `gateway up` (GATEWAY_DATA_DIR, .gateway)."
)


class AdminSession(Struct, kw_only=True):
    """The servers that a command talks to."""

    settings: Settings
    pool: Pool
    log: EventLog

    async def project_id(self, given: str | None) -> str:
        """The project that is meant: the given one, or the only one there is."""
        known = [project.project_id for project in await keys.projects(self.pool)]
        if given is None:
            if len(known) != 1:
                fail(f"there are {len(known)} projects: name one with --project ({', '.join(known[:5])} …)")
            return known[0]
        if given not in known:
            fail(f"--project {given!r}: there is no such project")
        return given

    @asynccontextmanager
    async def accounts(self) -> AsyncIterator[Accounts]:
        """The accounts, with the news of a change going to every process that runs."""
        if self.settings.encryption_key is None:
            fail("GATEWAY_ENCRYPTION_KEY is not set: keys cannot be made without it")
        async with self._hints() as notifications:
            yield Accounts(self.pool, self.log, Vault(self.settings.encryption_key), notifications.keys_changed)

    @asynccontextmanager
    async def provider_settings(self) -> AsyncIterator[ProviderSettings]:
        """Providers by configuration, with the news of a change going to every process that runs."""
        if self.settings.encryption_key is None:
            fail("GATEWAY_ENCRYPTION_KEY is not set: keys cannot be kept without it")
        vault, allow_loopback = Vault(self.settings.encryption_key), self.settings.allow_loopback_urls
        async with self._hints() as notifications:
            yield ProviderSettings(
                self.pool, self.log, vault, notifications.keys_changed, allow_loopback=allow_loopback
            )

    @asynccontextmanager
    async def price_admin(self) -> AsyncIterator[PriceAdmin]:
        """The setting of prices, with the news of it going to every process that runs."""
        async with self._hints() as notifications:
            yield PriceAdmin(self.log, notifications.prices_changed)

    @asynccontextmanager
    async def _hints(self) -> AsyncIterator[Notifications]:
        broker = Broker()
        try:
            await broker.connect(
                self.settings.nats_urls, name="gateway command", credentials=self.settings.nats_credentials
            )
        except BrokerErrors as error:
            fail(f"NATS cannot be reached: {error}")
        try:
            yield Notifications(broker)
        finally:
            await broker.close()


def run_in_session(data_dir: Path | None, work: Callable[[AdminSession], Awaitable[Any]]) -> Any:
    """Run a command against the environment's servers, or a running `up`'s; a refusal is one line and exit code 2."""
    settings = settings_for_administration(data_dir)
    assert settings.database_url is not None, "found above"
    url = settings.database_url

    async def run() -> Any:
        try:
            pool = await open_pool(url, name="gateway command", size=4)
        except OSError as error:
            fail(f"PostgreSQL cannot be reached: {error}")
        log = EventLog(pool, HeldConnection(url, name="gateway command"))
        try:
            return await work(AdminSession(settings=settings, pool=pool, log=log))
        except GatewayError as error:
            fail(error.message)
        finally:
            await log.close()
            await pool.close()

    return uvloop.run(run())
