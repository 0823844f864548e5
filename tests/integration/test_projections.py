"""Projections: the same tables whenever and however often the log is folded, and equal to the log's own sums."""

import asyncio
import time
from typing import Any

import pytest

from domain.events import EVENT_TYPES, AttemptLost, CostIncurred, CostReconciled
from infra.database import open_pool
from infra.event_log import EventLog
from projections import rebuild as rebuilding
from projections.projection import Projection
from projections.rebuild import TableChangedError, rebuild
from projections.registry import EVERY, FOLDED, INLINE
from projections.runner import POLL_INTERVAL_S, LostLeadershipError, Runner, is_led, run_as_leader
from tests.support.history import Past
from tests.support.ledger import RealLedger
from tests.support.waiting import eventually

Rows = dict[str, list[Any]]


async def rows_of(ledger: RealLedger, projection: Projection) -> Rows:
    """Return every row of a projection's tables as text, sorted."""
    return {
        table: sorted(row["text"] for row in await ledger.pool.fetch(f"SELECT t::text AS text FROM {table} t"))
        for table in projection.tables
    }


async def remember(ledger: RealLedger, seed: int, requests: int) -> None:
    """Append a generated history. Inline projections are folded in the append, as the accounts do."""
    for commit in Past(seed, requests).commits:
        await ledger.log.append(commit)
    async with ledger.pool.acquire() as connection:
        for projection in INLINE:
            await projection.fold(connection, await ledger.log.read_after(0, limit=100_000))


async def test_a_past_has_every_kind_of_event() -> None:
    kinds = {type(event).__name__ for commit in Past(1, 400).commits for event in commit.events}
    assert kinds == set(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(EVERY))
async def test_a_rebuilt_projection_equals_the_live_one_row_for_row(ledger: RealLedger, name: str) -> None:
    await remember(ledger, 2, 300)
    await ledger.fold()
    live = await rows_of(ledger, EVERY[name])
    assert all(live.values())
    await rebuild(ledger.owner, ledger.log, EVERY[name])
    assert await rows_of(ledger, EVERY[name]) == live


async def test_a_fold_in_small_batches_equals_a_rebuild_in_large_ones(ledger: RealLedger) -> None:
    await remember(ledger, 10, 150)
    await Runner(ledger.pool, ledger.log, FOLDED, batch_events=7).catch_up()
    for projection in FOLDED:
        live = await rows_of(ledger, projection)
        await rebuild(ledger.owner, ledger.log, projection)
        assert await rows_of(ledger, projection) == live, projection.name


async def test_a_rebuilt_table_leaves_as_much_room_as_before(ledger: RealLedger) -> None:
    options = "SELECT reloptions FROM pg_class WHERE relname = 'usage_rollups'"
    before = await ledger.pool.fetchval(options)
    await rebuild(ledger.owner, ledger.log, EVERY["rollups"])
    assert await ledger.pool.fetchval(options) == before
    assert "fillfactor=50" in before


async def test_a_rebuilt_table_has_its_indexes(ledger: RealLedger) -> None:
    async def indexes() -> list[str]:
        rows = await ledger.pool.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'requests'")
        return sorted(row["indexdef"].partition(" ON ")[2] for row in rows)

    before = await indexes()
    await rebuild(ledger.owner, ledger.log, EVERY["requests"])
    assert await indexes() == before
    assert len(before) > 1


async def test_a_table_that_a_migration_changes_meanwhile_is_not_replaced(
    ledger: RealLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(ledger, 6, 60)
    before = await rows_of(ledger, EVERY["requests"])
    locked = rebuilding._lock

    async def migrated_and_locked(*arguments: Any) -> int:
        await ledger.owner.execute("CREATE INDEX requests_by_test ON requests (latency_ms)")
        return await locked(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(rebuilding, "_lock", migrated_and_locked)
        with pytest.raises(TableChangedError):
            await rebuild(ledger.owner, ledger.log, EVERY["requests"])
    assert await rows_of(ledger, EVERY["requests"]) == before
    await rebuild(ledger.owner, ledger.log, EVERY["requests"])
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'requests' AND indexdef LIKE '%(latency_ms)%'"
    assert await ledger.pool.fetchval(indexes) == 1


async def test_rebuild_repairs_a_table(ledger: RealLedger) -> None:
    await remember(ledger, 3, 50)
    await ledger.fold()
    right = await rows_of(ledger, EVERY["budgets"])
    await ledger.pool.execute("UPDATE budget_balances SET spent_nano_usd = spent_nano_usd + 1")
    assert await rows_of(ledger, EVERY["budgets"]) != right
    await rebuild(ledger.owner, ledger.log, EVERY["budgets"])
    assert await rows_of(ledger, EVERY["budgets"]) == right


async def test_fold_does_not_depend_on_batches(ledger: RealLedger) -> None:
    await remember(ledger, 4, 200)
    await ledger.fold()
    at_once = {projection.name: await rows_of(ledger, projection) for projection in FOLDED}
    for projection in FOLDED:
        for table in projection.tables:
            await ledger.owner.execute(f"TRUNCATE {table}")
        async with ledger.pool.acquire() as connection:
            for event in await ledger.log.read_after(0, limit=100_000):
                await projection.fold(connection, [event])
    assert {projection.name: await rows_of(ledger, projection) for projection in FOLDED} == at_once


async def test_a_runner_that_is_behind_another_writes_nothing(ledger: RealLedger) -> None:
    await remember(ledger, 5, 20)
    late = Runner(ledger.pool, ledger.log, FOLDED)
    positions = await late._positions()
    await ledger.fold()
    folded = await rows_of(ledger, EVERY["usage"])
    with pytest.raises(LostLeadershipError):
        await late.fold_next(positions)
    assert await rows_of(ledger, EVERY["usage"]) == folded


async def test_folding_again_changes_nothing(ledger: RealLedger) -> None:
    await remember(ledger, 6, 50)
    await ledger.fold()
    before = {projection.name: await rows_of(ledger, projection) for projection in FOLDED}
    await Runner(ledger.pool, ledger.log, FOLDED).catch_up()
    assert {projection.name: await rows_of(ledger, projection) for projection in FOLDED} == before


async def test_a_rebuild_while_the_log_grows_misses_nothing(database_url: str, ledger: RealLedger) -> None:
    await remember(ledger, 7, 300)
    pool = await open_pool(database_url, name="projector", size=2)
    runner = Runner(pool, EventLog(pool, ledger.log._appender), FOLDED)
    stop = asyncio.Event()
    leading = asyncio.create_task(runner.lead(stop))

    async def grow() -> None:
        for commit in Past(8, 200).commits:
            await ledger.log.append(commit)

    growing = asyncio.create_task(grow())
    while not growing.done():
        await rebuild(ledger.owner, ledger.log, EVERY["usage"])
    await growing
    stop.set()
    await leading
    await ledger.fold()
    live = await rows_of(ledger, EVERY["usage"])
    await rebuild(ledger.owner, ledger.log, EVERY["usage"])
    assert await rows_of(ledger, EVERY["usage"]) == live
    await pool.close()


async def test_the_figures_are_the_sums_of_the_log(ledger: RealLedger) -> None:
    await remember(ledger, 9, 300)
    await ledger.fold()
    spent = assumed = 0
    for stored in await ledger.log.read_after(0, limit=100_000):
        match stored.event:
            case CostIncurred() | CostReconciled() as cost:
                spent += cost.cost_nano_usd or 0
                assumed -= cost.replaces_assumed_nano_usd
            case AttemptLost() as lost:
                assumed += lost.assumed_nano_usd
            case _:
                continue
    assert spent > 0
    assert assumed > 0
    for query in (
        "SELECT sum(cost_nano_usd) AS s, sum(assumed_nano_usd) AS a FROM usage_daily",
        "SELECT sum(cost_nano_usd) AS s, sum(assumed_nano_usd) AS a FROM requests",
        *(
            "SELECT sum(spent_nano_usd) AS s, sum(assumed_nano_usd) AS a FROM budget_balances "
            f"WHERE scope = '{scope}' AND period = '{period}'"
            for scope in ("key", "project")
            for period in ("day", "month")
        ),
    ):
        row = await ledger.pool.fetchrow(query)
        assert (row["s"], row["a"]) == (spent, assumed), query


async def test_a_leader_that_hangs_loses_the_lead_to_the_next(database_url: str, ledger: RealLedger) -> None:
    class Hanging(Runner):
        """A runner that stands still in its first batch."""

        async def fold_next(self, positions: dict[str, int]) -> int:
            reached.set()
            await asyncio.sleep(3_600)
            return await super().fold_next(positions)

    stop, reached = asyncio.Event(), asyncio.Event()
    hanging = Hanging(ledger.pool, ledger.log, FOLDED)
    first = asyncio.create_task(run_as_leader(hanging, database_url, stop, lead_timeout_s=1))
    await reached.wait()
    follower = Runner(ledger.pool, ledger.log, FOLDED)
    second = asyncio.create_task(run_as_leader(follower, database_url, stop, lead_timeout_s=1))
    await eventually(lambda: follower.turned_at_s is not None, within_s=20)
    first.cancel()
    stop.set()
    await asyncio.gather(first, second, return_exceptions=True)


class Looks(Runner):
    """Notes when it looks at the log, in which it finds nothing."""

    def __init__(self, ledger: RealLedger) -> None:
        super().__init__(ledger.pool, ledger.log, FOLDED)
        self.at_s: list[float] = []

    async def fold_next(self, _positions: dict[str, int]) -> int:
        self.at_s.append(time.monotonic())
        return 0


async def test_a_leader_that_was_told_of_nothing_new_looks_again_soon(ledger: RealLedger) -> None:
    stop = asyncio.Event()
    runner = Looks(ledger)
    leading = asyncio.create_task(runner.lead(stop))
    await eventually(lambda: runner.at_s)
    runner.appended()
    await eventually(lambda: len(runner.at_s) >= 3)
    assert runner.at_s[2] - runner.at_s[1] < POLL_INTERVAL_S
    stop.set()
    await leading


async def test_a_leader_with_nothing_to_do_keeps_the_lead(database_url: str, ledger: RealLedger) -> None:
    stop = asyncio.Event()
    runner = Runner(ledger.pool, ledger.log, FOLDED)
    leading = asyncio.create_task(run_as_leader(runner, database_url, stop, lead_timeout_s=1))
    await eventually(lambda: runner.turned_at_s is not None)
    started = time.monotonic()
    while time.monotonic() - started < 3:
        assert runner.turned_at_s is not None
        assert await is_led(ledger.pool)
        await asyncio.sleep(0.05)
    stop.set()
    await leading
