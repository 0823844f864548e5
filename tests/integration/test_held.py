"""What an account holds is counted with its attempts in flight, whatever statement changes these."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from infra.admission import Admission
from infra.database import migrate
from infra.embedded_postgres import OWNER, ROLES
from projections.held import watch_held
from tests.integration.test_admission import processes, project, today
from tests.support.ledger import RealLedger, ask, attempt, completed, cost, failed
from tests.support.services import as_role

__all__ = ["processes", "project"]  # fixtures

HELD_REVISION = Path(__file__).parents[2] / "migrations" / "sql" / "0015_held.sql"
OPEN = 20_000
DIFFERENCES = "SELECT * FROM held_differences()"


async def opened(ledger: RealLedger, project: str, key: str, attempts: int, day: date | None = None) -> None:
    """Add attempts in flight past admission, each with a hold of 2."""
    await ledger.owner.execute(
        "INSERT INTO inflight (request_id, attempt, project_id, key_id, operation, model, provider, upstream_model, "
        "hold_nano_usd, token_bound, budget_day, reply_to, admitted_at, deadline) "
        "SELECT 'req_' || i, 1, $1, $2, 'chat', 'm', 'p', 'u', 2, 0, $3, 'reply', now(), now() "
        "FROM generate_series(1, $4) AS i",
        project,
        key,
        day or today(),
        attempts,
    )


async def requests_of(ledger: RealLedger, key: str) -> int:
    query = "SELECT coalesce(sum(requests), 0)::bigint FROM held_amounts WHERE scope = 'key' AND scope_id = $1"
    return int(await ledger.pool.fetchval(query, key))


async def test_a_decision_reads_none_of_the_attempts_in_flight(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=2 * OPEN + 5)
    await opened(ledger, project, key, OPEN)
    async with ledger.owner.acquire() as connection, connection.transaction():
        usage = await connection.fetchrow(
            "SELECT day_held, month_held, requests_in_flight FROM account_usage('{key}', ARRAY[$1], '{true}', $2)",
            key,
            today(),
        )
        read = await connection.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'inflight'"
        )
    assert (tuple(usage), read) == ((2 * OPEN, 2 * OPEN, OPEN), 0)
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=6))).outcome == "budget_held"
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=5))).outcome == "admitted"


async def test_a_request_with_two_attempts_holds_twice_and_counts_once(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100, concurrency_limit=2)
    made = attempt(project, key)
    await ledger.admission.admit(ask(made, hold=30))
    await ledger.claims.claim(made.identity.request_id, 1)
    assert await ledger.claims.admit_next(made, 2, 1, 30, today())  # type: ignore[arg-type]
    assert (await ledger.held(key), await requests_of(ledger, key)) == (60, 1)
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=1))).outcome == "admitted"
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=1))).outcome == "concurrency"
    await ledger.append(made, 0, failed(made, hold=30, day=today()))
    await ledger.fold()
    assert (await ledger.held(key), await requests_of(ledger, key)) == (31, 2)
    ended = (completed(made, 2), cost(made, 3, hold=30, day=today(), number=2))
    await ledger.append(made, 1, *ended)
    await ledger.fold()
    assert (await ledger.held(key), await requests_of(ledger, key)) == (1, 1)
    assert await ledger.pool.fetch(DIFFERENCES) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM inflight WHERE request_id LIKE '%7'",
        "UPDATE inflight SET hold_nano_usd = hold_nano_usd * 3 WHERE request_id LIKE '%7'",
        "UPDATE inflight SET budget_day = budget_day + 1, is_newest = false WHERE request_id LIKE '%7'",
        "UPDATE inflight SET key_id = 'another', project_id = 'another'",
        "UPDATE inflight SET delivery = 1",
        "TRUNCATE inflight",
        "DELETE FROM inflight",
    ],
)
async def test_no_statement_changes_attempts_without_what_they_hold(
    ledger: RealLedger, project: str, statement: str
) -> None:
    key = await ledger.new_key(project)
    await opened(ledger, project, key, 100)
    await ledger.owner.execute(statement)
    assert await ledger.pool.fetch(DIFFERENCES) == []


async def test_held_is_the_sum_while_processes_admit_drop_and_settle_at_once(
    ledger: RealLedger, processes: list[Admission], project: str
) -> None:
    """Every look in between is one snapshot: it sees an attempt and what it holds, or neither."""
    keys = [await ledger.new_key(project, daily_budget_nano_usd=10**9) for _ in range(3)]
    ended = asyncio.Event()

    async def admit_and_end(number: int) -> None:
        made = attempt(project, keys[number % 3])
        await processes[number % 4].admit(ask(made, hold=5))
        if number % 3 == 0:
            assert await processes[number % 4].drop([made.identity.request_id])
        else:
            await ledger.claims.claim(made.identity.request_id, 1)
            await ledger.append(made, 0, completed(made), cost(made, 2, hold=5, day=today()))

    async def look() -> int:
        looks = 0
        while not ended.is_set():
            await ledger.fold()
            assert await ledger.pool.fetch(DIFFERENCES) == []
            looks += 1
        return looks

    looking = asyncio.create_task(look())
    await asyncio.gather(*(admit_and_end(number) for number in range(300)))
    ended.set()
    assert await looking > 0
    await ledger.fold()
    assert [await ledger.held(key) for key in keys] == [0, 0, 0]
    assert await ledger.pool.fetch(DIFFERENCES) == []


async def test_past_days_leave_no_counters_unless_something_is_held(ledger: RealLedger, project: str) -> None:
    key, other = await ledger.new_key(project), await ledger.new_key(project)
    past = today() - timedelta(days=3)
    await opened(ledger, project, key, 10, past)
    await ledger.owner.execute("DELETE FROM inflight WHERE request_id <> 'req_1'")
    await ledger.owner.execute("UPDATE inflight SET key_id = $1", other)
    assert await watch_held(ledger.pool, datetime.now(UTC)) == 0
    left = await ledger.pool.fetch("SELECT DISTINCT scope, scope_id FROM held_amounts ORDER BY 1")
    assert [tuple(row) for row in left] == [("key", other), ("project", project)]
    await ledger.owner.execute("DELETE FROM inflight")
    assert await watch_held(ledger.pool, datetime.now(UTC)) == 0
    assert await ledger.pool.fetchval("SELECT count(*) FROM held_amounts") == 0


async def test_what_somebody_wrote_past_the_counters_is_told_and_mended_by_a_migration(
    ledger: RealLedger, project: str, database_url: str
) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    await ledger.admission.admit(ask(attempt(project, key), hold=5))
    await ledger.owner.execute("UPDATE held_amounts SET held_nano_usd = held_nano_usd - 2 WHERE scope = 'key'")
    assert await watch_held(ledger.pool, datetime.now(UTC)) == 1
    await asyncio.to_thread(migrate, as_role(database_url, OWNER), ROLES)
    assert (await watch_held(ledger.pool, datetime.now(UTC)), await ledger.held(key)) == (0, 5)


async def test_attempts_in_flight_at_the_upgrade_are_counted(
    ledger: RealLedger, project: str, database_url: str
) -> None:
    """The revision's own statements, on the tables of the release before."""
    key = await ledger.new_key(project)
    await opened(ledger, project, key, 10)
    await ledger.owner.execute("UPDATE inflight SET attempt = 2, request_id = 'req_1' WHERE request_id = 'req_2'")
    before = (
        "DROP TABLE held_amounts; DROP TRIGGER attempts_are_held ON inflight; "
        "DROP TRIGGER attempts_are_released ON inflight; DROP TRIGGER attempts_are_changed ON inflight; "
        "DROP TRIGGER attempts_are_removed ON inflight; DROP FUNCTION count_held; DROP FUNCTION move_held; "
        "DROP FUNCTION forget_held; ALTER TABLE inflight DROP COLUMN is_newest; "
        "CREATE INDEX inflight_by_key ON inflight (key_id); CREATE INDEX inflight_by_project ON inflight (project_id)"
    )
    await ledger.owner.execute(before)
    await ledger.owner.execute(HELD_REVISION.read_text(encoding="utf-8"))
    assert await ledger.owner.fetch(DIFFERENCES) == []
    await asyncio.to_thread(migrate, as_role(database_url, OWNER), ROLES)
    assert (await ledger.held(key), await requests_of(ledger, key)) == (20, 9)
