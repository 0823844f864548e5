"""The connections of the commands that read or administer: PostgreSQL, the log and, if the command needs it, NATS."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import click
import uvloop
from msgspec import Struct

from api.accounts import Accounts
from api.credential_admin import CredentialAdmin
from api.pricing import PriceAdmin
from api.provider_health import ProviderHealth
from api.provider_settings import ProviderSettings
from api.route_admin import RouteAdmin
from cli.processes import fail, settings_for_administration
from domain.dialects.registry import DIALECTS
from domain.errors import GatewayError
from domain.events import INSTALLATION
from infra.broker import Broker, BrokerErrors
from infra.circuit_news import CircuitNews
from infra.collection import collect_rarely
from infra.database import HeldConnection, Pool, open_pool
from infra.event_log import EventLog
from infra.notifications import Notifications
from infra.settings import Settings
from infra.vault import Vault
from projections import keys

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data directory of the running `gateway up`. [env: GATEWAY_DATA_DIR; default: .gateway]",
)


class AdminSession(Struct, kw_only=True):
    """The settings and open connections of one command."""

    settings: Settings
    pool: Pool
    log: EventLog

    async def owner(self, project: str | None) -> str:
        """The id of the given project, or `INSTALLATION` if None is given. Exits with code 2 if there is none."""
        return await self.project_id(project) if project is not None else INSTALLATION

    async def project_id(self, given: str | None) -> str:
        """The id of the given project, or of the only project if None is given. Exits with code 2 if there is none."""
        project_ids = [project.project_id for project in await keys.projects(self.pool)]
        if given is None:
            if len(project_ids) != 1:
                shown = project_ids[:5] + ["…"] * (len(project_ids) > 5)
                fail(f"there are {len(project_ids)} projects: choose one with --project ({', '.join(shown)})")
            return project_ids[0]
        if given not in project_ids:
            fail(f"there is no project {given!r}: `gateway project list` shows the projects")
        return given

    @asynccontextmanager
    async def accounts(self) -> AsyncIterator[Accounts]:
        """Creates and changes projects and keys. Every running process is notified of a change."""
        if self.settings.encryption_key is None:
            fail("GATEWAY_ENCRYPTION_KEY is not set: it is needed to create keys")
        async with self.notifications() as notifications:
            yield Accounts(self.pool, self.log, Vault(self.settings.encryption_key), notifications.keys_changed)

    @asynccontextmanager
    async def provider_settings(self) -> AsyncIterator[ProviderSettings]:
        """Adds and removes providers. Every running process is notified of a change."""
        if self.settings.encryption_key is None:
            fail("GATEWAY_ENCRYPTION_KEY is not set: it is needed to store the key of a provider")
        vault, allow_loopback = Vault(self.settings.encryption_key), self.settings.allow_loopback_urls
        async with self.notifications() as notifications:
            yield ProviderSettings(
                self.pool, self.log, vault, notifications.keys_changed, allow_loopback=allow_loopback
            )

    @asynccontextmanager
    async def credential_admin(self) -> AsyncIterator[CredentialAdmin]:
        """Adds and removes credentials. Every running process is notified of a change."""
        if self.settings.encryption_key is None:
            fail("GATEWAY_ENCRYPTION_KEY is not set: it is needed to store the key of a provider")
        async with self.notifications() as notifications:
            yield CredentialAdmin(self.pool, self.log, Vault(self.settings.encryption_key), notifications.keys_changed)

    @asynccontextmanager
    async def route_admin(self) -> AsyncIterator[RouteAdmin]:
        """Sets and removes routes. Every running process is notified of a change."""
        async with self.notifications() as notifications:
            yield RouteAdmin(
                self.pool,
                self.log,
                notifications.keys_changed,
                upstream_models=self.settings.upstream_models,
                kinds=DIALECTS.kinds,
                installation_credentials=self.settings.installation_credentials,
            )

    @asynccontextmanager
    async def price_admin(self) -> AsyncIterator[PriceAdmin]:
        """Sets prices. Every running process is notified of a change."""
        async with self.notifications() as notifications:
            yield PriceAdmin(self.log, notifications.prices_changed)

    @asynccontextmanager
    async def provider_health(self) -> AsyncIterator[ProviderHealth]:
        """Asks the running workers how the providers answer."""
        async with self._broker() as broker:
            yield ProviderHealth(CircuitNews(broker))

    @asynccontextmanager
    async def notifications(self) -> AsyncIterator[Notifications]:
        """Notifies every running process."""
        async with self._broker() as broker:
            yield Notifications(broker)

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Broker]:
        broker = Broker()
        try:
            await broker.connect(self.settings.nats_urls, name="gateway command", access=self.settings.nats_access)
        except BrokerErrors as error:
            fail(f"cannot connect to NATS: {error}")
        try:
            yield broker
        finally:
            await broker.close()


def run_in_session(
    data_dir: Path | None, command: Callable[[AdminSession], Awaitable[Any]], *, as_owner: bool = False
) -> Any:
    """Run a command against the servers of the environment, or of a running `gateway up`.

    `as_owner`: as the role that owns the tables, since the command rewrites read models. If the command is refused,
    print one line and exit with code 2.
    """
    settings = settings_for_administration(data_dir)
    url = settings.owner_url if as_owner else settings.database_url
    assert url is not None, "settings_for_administration has it"

    async def run() -> Any:
        try:
            pool = await open_pool(url, name="gateway command", size=4)
        except OSError as error:
            fail(f"cannot connect to PostgreSQL: {error}")
        log = EventLog(pool, HeldConnection(url, name="gateway command"))
        try:
            return await command(AdminSession(settings=settings, pool=pool, log=log))
        except GatewayError as error:
            fail(error.message)
        except asyncpg.InsufficientPrivilegeError as error:
            fail(f"the database refuses it: {error}: set GATEWAY_MIGRATION_DATABASE_URL to the owner of the tables")
        finally:
            await log.close()
            await pool.close()

    collect_rarely()
    return uvloop.run(run())
