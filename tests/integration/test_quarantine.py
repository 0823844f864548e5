"""An event that cannot be folded quarantines only its own project, whose events are folded once the cause is fixed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.errors import Unavailable
from domain.events import EVENT_TYPES, Event
from domain.money import NanoUsd, to_usd
from infra.admission import Attempt
from infra.database import Connection, open_pool
from infra.event_log import EventLog
from projections.freshness import lags, wait_until_folded
from projections.quarantine import quarantined_projects
from projections.rebuild import rebuild
from projections.registry import EVERY
from projections.reports.scope import last_days
from projections.reports.usage import usage_stats
from projections.runner import LEADER_LOCK, Runner, is_led, run_as_leader
from projections.scope import Scope
from projections.sweeper import sweep
from tests.support.ledger import RealLedger, ask, attempt, completed, cost
from tests.support.waiting import eventually_so

HUGE = 9_000_000_000_000_000_000
"""The sum of two of these exceeds bigint, so it cannot be folded."""


class Account:
    """A project with one key that sends requests."""

    def __init__(self, ledger: RealLedger, project: str, key: str) -> None:
        self.ledger = ledger
        self.project = project
        self.key = key

    @classmethod
    async def open(cls, ledger: RealLedger, **settings: Any) -> "Account":
        project = await ledger.new_project()
        return cls(ledger, project, await ledger.new_key(project, **settings))

    async def answered(self, amount: int, *, hold: int = 10, cache_key: bytes | None = None) -> Attempt:
        """Admit and complete a request with a cost in nano-dollars."""
        made = attempt(self.project, self.key, cache_key=cache_key)
        assert (await self.ledger.admission.admit(ask(made, hold=hold))).outcome == "admitted"
        assert await self.ledger.claims.claim(made.identity.request_id, 1)
        today = datetime.now(UTC).date()
        await self.ledger.append(made, 0, completed(made), cost(made, amount, hold=hold, day=today))
        return made

    async def spent(self) -> int:
        return (await self.ledger.balance(self.key))[0]


@pytest.fixture
async def hostile(ledger: RealLedger) -> Account:
    return await Account.open(ledger)


@pytest.fixture
async def bystander(ledger: RealLedger) -> Account:
    return await Account.open(ledger, daily_budget_nano_usd=NanoUsd(150))


async def poison(hostile: Account, bystander: Account) -> None:
    """Append responses of both projects. The hostile project's third cost cannot be added to its second."""
    await bystander.answered(1)
    await hostile.answered(5)
    await hostile.answered(HUGE)
    await bystander.answered(2)
    await hostile.answered(HUGE)
    await bystander.answered(4)
    await hostile.answered(7)


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_the_fold_of_others_goes_on(
    in_one_batch: bool, ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    if not in_one_batch:
        await ledger.fold()
    for _ in range(3):
        await bystander.answered(10)
        await ledger.fold()
    assert await bystander.spent() == 37
    assert await ledger.held(bystander.key) == 0
    assert (
        await ledger.admission.admit(ask(attempt(bystander.project, bystander.key), hold=110))
    ).outcome == "admitted"
    assert {(lag.events, lag.seconds) for lag in (await lags(ledger.pool)).values()} == {(0, 0.0)}
    await wait_until_folded(ledger.pool, "usage", "budgets", "requests", project_id=bystander.project)


async def test_the_sums_of_all_projects_have_room_for_more_than_one_project_may_sum_up(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    for account in (hostile, await Account.open(ledger), await Account.open(ledger)):
        await account.answered(HUGE)
    await bystander.answered(3)
    await ledger.fold()
    await bystander.answered(4)
    await ledger.fold()
    assert await quarantined_projects(ledger.pool) == []
    every = await usage_stats(ledger.pool, Scope(project_id=None, key_id=None), last_days(1, datetime.now(UTC).date()))
    assert every.totals.cost == to_usd(NanoUsd(3 * HUGE + 7))


async def test_project_is_quarantined_from_its_first_bad_event(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    await ledger.fold()
    (quarantined,) = await quarantined_projects(ledger.pool)
    assert quarantined.project_id == hostile.project
    assert "out of" in quarantined.error
    assert await hostile.spent() == 5 + HUGE
    assert await ledger.held(hostile.key) == 20  # the holds of the two that are left out
    with pytest.raises(Unavailable, match="cannot be folded"):
        await wait_until_folded(ledger.pool, "usage", project_id=hostile.project)


async def test_another_process_goes_on_where_the_first_one_stopped(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    await ledger.fold()
    await hostile.answered(3)
    await bystander.answered(3)
    await Runner(ledger.pool, ledger.log, ledger.runner._projections).catch_up()
    assert (await bystander.spent(), await hostile.spent()) == (10, 5 + HUGE)


async def test_quarantined_events_are_folded_at_release(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    await ledger.fold()
    with pytest.raises(Exception, match="out of"):
        await ledger.runner.release(hostile.project)
    assert len(await quarantined_projects(ledger.pool)) == 1
    await ledger.pool.execute(
        "UPDATE budget_balances SET spent_nano_usd = 5, overage_nano_usd = 0 WHERE project_id = $1", hostile.project
    )
    await ledger.pool.execute("UPDATE usage_daily SET cost_nano_usd = 5 WHERE project_id = $1", hostile.project)
    assert await ledger.runner.release(hostile.project) == 3
    assert await ledger.runner.release(hostile.project) is None
    assert await quarantined_projects(ledger.pool) == []
    assert (await hostile.spent(), await ledger.held(hostile.key)) == (5 + HUGE + 7, 0)
    await hostile.answered(1)
    await ledger.fold()
    assert await hostile.spent() == 5 + HUGE + 8
    await wait_until_folded(ledger.pool, "usage", project_id=hostile.project)


async def test_a_release_while_the_projector_folds_loses_nothing(
    database_url: str, ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await hostile.answered(5)
    await ledger.fold()
    pool = await open_pool(database_url, name="projector", size=2)
    runner = Runner(pool, EventLog(pool, ledger.log._appender), ledger.runner._projections)
    stop = asyncio.Event()
    leading = asyncio.create_task(runner.lead(stop))
    for _ in range(5):
        await ledger.pool.execute(
            "INSERT INTO quarantined_projects (project_id, position, folded, error) VALUES ($1, $2, '{}', 'by hand')",
            hostile.project,
            await ledger.log.head() + 1,
        )
        for number in range(20):
            await hostile.answered(1)
            await bystander.answered(1, hold=1)
            if number == 10:
                assert await ledger.runner.release(hostile.project) is not None
    stop.set()
    await leading
    await ledger.fold()
    assert (await hostile.spent(), await bystander.spent()) == (105, 100)
    assert (await ledger.held(hostile.key), await ledger.held(bystander.key)) == (0, 0)
    await pool.close()


class LateProjection:
    """A projection that starts late, and cannot fold one project's events until it is mended."""

    name = "picky"
    tables: tuple[str, ...] = ()
    reads: frozenset[type[Event]] = frozenset(EVENT_TYPES.values())

    def __init__(self, project: str) -> None:
        self._project: str | None = project
        self.folded: list[int] = []

    def mend(self) -> None:
        self._project = None

    async def fold(self, connection: Connection, events: Any, suffix: str = "") -> None:
        await connection.execute(f"SELECT '{suffix}'")
        assert all(event.project_id != self._project for event in events)
        self.folded += [event.position for event in events]


async def test_a_release_folds_each_event_once_into_each_projection(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    for amount in (1, 2):
        await hostile.answered(amount)
        await bystander.answered(amount)
    await ledger.fold()
    picky = LateProjection(hostile.project)
    runner = Runner(ledger.pool, ledger.log, [*ledger.runner._projections, picky])
    await runner.catch_up()
    assert [one.project_id for one in await quarantined_projects(ledger.pool)] == [hostile.project]
    await hostile.answered(4)
    await bystander.answered(4)
    await runner.catch_up()
    assert (await hostile.spent(), await bystander.spent()) == (3, 7)
    picky.mend()
    assert await runner.release(hostile.project) is not None
    await runner.catch_up()
    assert (await hostile.spent(), await bystander.spent()) == (7, 7)
    assert sorted(set(picky.folded)) == list(range(1, await ledger.log.head() + 1))
    assert await quarantined_projects(ledger.pool) == []


async def test_a_lead_that_fails_in_any_way_is_tried_again(database_url: str, ledger: RealLedger) -> None:
    class FailingRunner(Runner):
        leads = 0

        async def lead(self, stop: asyncio.Event, vouch: Callable[[], Awaitable[None]] | None = None) -> None:
            self.leads += 1
            if vouch is not None:
                await vouch()
            if self.leads == 1:
                raise Unavailable("the database is away")
            stop.set()

    stop = asyncio.Event()
    stubborn = FailingRunner(ledger.pool, ledger.log, ledger.runner._projections)
    await asyncio.wait_for(run_as_leader(stubborn, database_url, stop), 30)
    assert stubborn.leads == 2


async def test_an_event_that_cannot_be_read_sets_its_project_aside(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await hostile.answered(1)
    made = await hostile.answered(1)
    await bystander.answered(1)
    async with ledger.owner.acquire() as connection, connection.transaction():
        await connection.execute("ALTER TABLE events DISABLE TRIGGER USER")  # it refuses changes
        await connection.execute(
            "UPDATE events SET data = '{}' WHERE stream = $1 AND type = 'CostIncurred'",
            f"request-{made.identity.request_id}",
        )
    await ledger.fold()
    (quarantined,) = await quarantined_projects(ledger.pool)
    assert (quarantined.project_id, await bystander.spent()) == (hostile.project, 1)


async def test_rebuild_skips_quarantined_events(ledger: RealLedger, hostile: Account, bystander: Account) -> None:
    await poison(hostile, bystander)
    await ledger.fold()
    before = await ledger.pool.fetch("SELECT * FROM budget_balances ORDER BY scope, scope_id, period")
    await rebuild(ledger.owner, ledger.log, EVERY["budgets"])
    assert await ledger.pool.fetch("SELECT * FROM budget_balances ORDER BY scope, scope_id, period") == before


@pytest.mark.parametrize("in_its_batch", [True, False])
async def test_no_request_follows_a_leader_in_quarantine(
    in_its_batch: bool, ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    if not in_its_batch:
        await ledger.fold()
    key = b"k" * 32
    await hostile.answered(1, cache_key=key)
    await ledger.fold()
    again = attempt(hostile.project, hostile.key, cache_key=key)
    assert (await ledger.admission.admit(ask(again, hold=10, min_created_at=datetime.now(UTC)))).outcome == "admitted"


class DatabaseError(Exception):
    """An error that the data did not cause."""


class FailingProjection:
    """A projection that always fails with the same error."""

    name = "failing"
    tables: tuple[str, ...] = ()
    reads: frozenset[type[Event]] = frozenset(EVENT_TYPES.values())

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def fold(self, connection: Connection, events: Any, suffix: str = "") -> None:
        if events:
            await connection.execute(f"SELECT '{suffix}'")
            raise self._error


async def test_errors_not_caused_by_data_quarantine_no_project(ledger: RealLedger, bystander: Account) -> None:
    await bystander.answered(1)
    with pytest.raises(DatabaseError):
        await Runner(ledger.pool, ledger.log, [FailingProjection(DatabaseError())]).catch_up()
    assert await quarantined_projects(ledger.pool) == []


async def test_sweeper_continues_beside_a_quarantined_project(
    ledger: RealLedger, hostile: Account, bystander: Account
) -> None:
    await poison(hostile, bystander)
    await ledger.fold()
    past = datetime.now(UTC).replace(year=2020)
    left: list[Attempt] = []
    for account in (hostile, bystander):
        made = attempt(account.project, account.key, deadline=past)
        await ledger.admission.admit(ask(made, hold=1))
        assert await ledger.claims.claim(made.identity.request_id, 1)
        left.append(made)

    async def tell(_subject: str, _failure: object) -> None:
        return None

    async def is_gone(_worker: str) -> bool:
        return True

    assert await sweep(ledger.pool, ledger.log, datetime.now(UTC), tell, is_gone=is_gone) == 1
    assert [type(event).__name__ for event in await ledger.history(left[1])] == ["AttemptLost", "RequestFailed"]
    assert await ledger.history(left[0]) == []


async def has_no_leader(ledger: RealLedger) -> bool:
    return not await is_led(ledger.pool)


async def test_the_lead_is_seen(database_url: str, ledger: RealLedger) -> None:
    assert not await is_led(ledger.pool)
    stop = asyncio.Event()
    leading = asyncio.create_task(run_as_leader(ledger.runner, database_url, stop))
    await eventually_so(lambda: is_led(ledger.pool))
    stop.set()
    await leading
    await eventually_so(lambda: has_no_leader(ledger))
    await ledger.pool.fetchval("SELECT pg_advisory_lock($1)", LEADER_LOCK + 1)
    assert not await is_led(ledger.pool)
