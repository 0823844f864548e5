"""Migrations of a database that is in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from infra.database import MIGRATION_LOCK, _alembic_url, migrate
from migrations.revision import build_index
from tests.support.ledger import RealLedger
from tests.support.services import OWNER, ROLES, as_role
from tests.support.waiting import eventually_so

BUILDING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%'"
IS_WHOLE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('events_by_type')"
PATIENCE_S = 60


def build(url: str) -> None:
    """Build the index of events as a migration does, which has the lock."""
    engine = create_engine(_alembic_url(as_role(url, OWNER)), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.commit()
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with Operations.context(context), context.begin_transaction(_per_migration=True):
            build_index("events_by_type", "events (type, position)")


@asynccontextmanager
async def building(ledger: RealLedger, url: str) -> AsyncIterator[asyncio.Task[None]]:
    """Build it while an append is under way, which it waits for."""
    await ledger.owner.execute("DROP INDEX events_by_type")

    async def has_begun() -> bool:  # it is in the catalogue, and waits; cancelled before, it would leave nothing
        return await ledger.owner.fetchval(IS_WHOLE) is False

    async with ledger.owner.acquire() as appending, appending.transaction():
        await appending.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        built = asyncio.create_task(asyncio.to_thread(build, url))
        await eventually_so(has_begun, within_s=PATIENCE_S)
        yield built


async def test_events_are_appended_while_the_log_gets_an_index_and_others_wait_to_migrate(
    ledger: RealLedger, database_url: str
) -> None:
    async with building(ledger, database_url) as built, asyncio.timeout(PATIENCE_S):
        waiting = asyncio.create_task(asyncio.to_thread(migrate, as_role(database_url, OWNER), ROLES))
        await ledger.new_project()
    await built
    assert await waiting == []
    assert await ledger.owner.fetchval(IS_WHOLE)


async def test_an_index_whose_building_was_cut_off_is_built_anew(ledger: RealLedger, database_url: str) -> None:
    async with building(ledger, database_url) as built:
        await ledger.owner.execute(f"SELECT pg_cancel_backend(pid) FROM ({BUILDING}) AS building")
        with pytest.raises(Exception, match="canceling statement"):
            await built
    assert await ledger.owner.fetchval(IS_WHOLE) is False
    await asyncio.to_thread(build, database_url)
    assert await ledger.owner.fetchval(IS_WHOLE)
