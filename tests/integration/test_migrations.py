"""Migrations of a database that is in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.database import migrate
from tests.support.ledger import RealLedger
from tests.support.services import OWNER, ROLES, as_role
from tests.support.waiting import eventually_so

BEFORE_0024 = (
    "DROP INDEX events_by_type, usage_rollups_by_key",
    "DROP TABLE audit_runs, usage_refusals, usage_totals, usage_total_durations, usage_months",
    "DELETE FROM projection_checkpoints WHERE projection IN ('refusals', 'totals')",
    "UPDATE alembic_version SET version_num = '0022'",
)
BUILDING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%'"
IS_WHOLE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('events_by_type')"
PATIENCE_S = 60


@asynccontextmanager
async def migrating(ledger: RealLedger, url: str, processes: int) -> AsyncIterator[list[asyncio.Task[list[str]]]]:
    """Migrate from 0022 on while an append is under way, up to the moment when the index of events is being built."""
    for statement in BEFORE_0024:
        await ledger.owner.execute(statement)
    async with ledger.owner.acquire() as appending, appending.transaction():
        await appending.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        migrations = [
            asyncio.create_task(asyncio.to_thread(migrate, as_role(url, OWNER), ROLES)) for _ in range(processes)
        ]
        await eventually_so(lambda: ledger.owner.fetch(BUILDING), within_s=PATIENCE_S)
        yield migrations


async def test_events_are_appended_while_the_log_gets_an_index_and_others_wait_to_migrate(
    ledger: RealLedger, database_url: str
) -> None:
    async with migrating(ledger, database_url, 2) as migrations, asyncio.timeout(PATIENCE_S):
        await ledger.new_project()
    assert await asyncio.gather(*migrations) == [[], []]
    assert await ledger.owner.fetchval(IS_WHOLE)
    await ledger.fold()


async def test_an_index_whose_building_was_cut_off_is_built_anew(ledger: RealLedger, database_url: str) -> None:
    async with migrating(ledger, database_url, 1) as (migration,):
        await ledger.owner.execute(f"SELECT pg_cancel_backend(pid) FROM ({BUILDING}) AS building")
        with pytest.raises(Exception, match="canceling statement"):
            await migration
    assert await ledger.owner.fetchval(IS_WHOLE) is False
    assert await asyncio.to_thread(migrate, as_role(database_url, OWNER), ROLES) == []
    assert await ledger.owner.fetchval(IS_WHOLE)
