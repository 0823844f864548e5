"""What the figures say of the database: lag, holds, how full budgets are; and that each event is counted once."""

import asyncio
from datetime import UTC, datetime

from domain.budget import day_of
from infra.event_log import EventLog
from projections.figures import LEVELS_PERCENT, full_budgets, holds
from projections.freshness import lags
from projections.registry import FOLDED
from projections.runner import Runner
from tests.support.ledger import RealLedger, ask, attempt, completed, cost

BUDGET, HOLD = 1_000, 100


async def spend(ledger: RealLedger, project_id: str, key_id: str, amount: int) -> None:
    made = attempt(project_id, key_id)
    await ledger.append(made, 0, completed(made), cost(made, amount, hold=amount, day=day_of(datetime.now(UTC))))


async def test_budgets_are_counted_by_how_much_of_them_is_spent(ledger: RealLedger) -> None:
    project_id = await ledger.new_project()
    for spent in (100, 500, 850, 1_000):
        await spend(ledger, project_id, await ledger.new_key(project_id, daily_budget_nano_usd=BUDGET), spent)
    await spend(ledger, project_id, await ledger.new_key(project_id, daily_budget_nano_usd=0), 0)
    await spend(ledger, project_id, await ledger.new_key(project_id), 10 * BUDGET)
    await ledger.fold()
    found = await full_budgets(ledger.pool, datetime.now(UTC))
    assert found.reached == dict(zip(LEVELS_PERCENT, (3, 2, 1), strict=True))
    assert found.fullest == 1


async def test_without_budgets_none_is_full(ledger: RealLedger) -> None:
    found = await full_budgets(ledger.pool, datetime.now(UTC))
    assert (set(found.reached.values()), found.fullest) == ({0}, 0)


async def test_holds_and_lag_are_those_of_this_moment_and_end(ledger: RealLedger) -> None:
    project_id = await ledger.new_project()
    key_id = await ledger.new_key(project_id)
    await ledger.fold()
    assert {(lag.events, lag.seconds) for lag in (await lags(ledger.pool)).values()} == {(0, 0.0)}
    made = attempt(project_id, key_id)
    assert (await ledger.admission.admit(ask(made, hold=HOLD))).outcome == "admitted"
    await ledger.append(made, 0, completed(made), cost(made, 10, hold=HOLD, day=day_of(datetime.now(UTC))))
    held = await holds(ledger.pool)
    assert (held.attempts, held.held_nano_usd) == (1, HOLD)
    assert held.oldest_s > 0
    behind = await lags(ledger.pool)
    assert {lag.events for lag in behind.values()} == {2}
    assert all(lag.seconds > 0 for lag in behind.values())
    await ledger.fold()
    assert ((await holds(ledger.pool)).attempts, (await holds(ledger.pool)).oldest_s) == (0, 0)


async def test_each_event_is_counted_once_over_projectors_and_projections_that_begin_anew(ledger: RealLedger) -> None:
    counted: list[int] = []
    log = EventLog(ledger.pool, ledger.log._appender)
    runners = [
        Runner(ledger.pool, log, FOLDED, on_fold=lambda events, _: counted.extend(one.position for one in events))
        for _ in range(2)
    ]
    project_id = await ledger.new_project()
    key_id = await ledger.new_key(project_id)
    for number in range(6):
        await asyncio.gather(*(spend(ledger, project_id, key_id, 1) for _ in range(3)))
        await runners[number % 2].catch_up()
    head = await log.head()
    assert counted == list(range(1, head + 1))
    await ledger.owner.execute("UPDATE projection_checkpoints SET position = 0 WHERE projection = 'alerts'")
    await runners[0].catch_up()
    assert counted == list(range(1, head + 1))
