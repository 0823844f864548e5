"""What is held, in use and refused: the reports say what admission and the log say, and show nobody another's."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.budget import day_of
from domain.events import RequestRejected
from domain.money import NanoUsd, to_usd
from projections.refusals import Refusals
from projections.reports.holds import holds
from projections.reports.limits import Use, limits_in_use
from projections.reports.refusals import refusal_report
from projections.reports.scope import Window
from projections.scope import Scope
from tests.integration.test_projections import remember, rows_of
from tests.support.history import DAYS, FIRST_DAY
from tests.support.ledger import RealLedger, ask, attempt

WINDOW = Window(first=FIRST_DAY.date(), last=(FIRST_DAY + timedelta(days=DAYS)).date())
REVISION = Path(__file__).parents[2] / "migrations" / "sql" / "0025_refusals.sql"


async def refused_in_log(ledger: RealLedger) -> list[tuple[str, str, datetime, RequestRejected]]:
    return [
        (stored.project_id, stored.event.key_id, stored.at, stored.event)
        for stored in await ledger.log.read_after(0, limit=100_000)
        if isinstance(stored.event, RequestRejected)
    ]


async def test_refusals_are_counted_as_the_log_has_them(ledger: RealLedger) -> None:
    await remember(ledger, 31, 400)
    await ledger.fold()
    refused = await refused_in_log(ledger)
    project, key, _, _ = refused[-1]
    for scope in (Scope(), Scope(project_id=project), Scope(project_id=project, key_id=key)):
        seen = [one for one in refused if scope.project_id in (None, one[0]) and scope.key_id in (None, one[1])]
        report = await refusal_report(ledger.pool, scope, WINDOW, most=1_000)
        assert report.requests == len(seen) > 0
        by_day = Counter((day_of(at), event.window) for _, _, at, event in seen)
        assert {(day.day, day.window): day.requests for day in report.days} == by_day
        assert sum(line.requests for line in report.last) == len(seen)
        newest = seen[-1][3]
        assert (report.last[0].last_request_id, report.last[0].asked) == (
            newest.request_id,
            to_usd(newest.asked_nano_usd),
        )


async def test_an_upgrade_counts_the_refusals_that_the_log_already_has(ledger: RealLedger) -> None:
    await remember(ledger, 32, 300)
    await ledger.fold()
    folded = await rows_of(ledger, Refusals())
    assert folded["usage_refusals"]
    await ledger.owner.execute("DROP TABLE usage_refusals")
    await ledger.owner.execute("DELETE FROM projection_checkpoints WHERE projection = 'refusals'")
    await ledger.owner.execute(REVISION.read_text(encoding="utf-8"))
    rows = await ledger.owner.fetch("SELECT t::text AS text FROM usage_refusals t")
    assert sorted(row["text"] for row in rows) == folded["usage_refusals"]
    positions = dict(await ledger.owner.fetch("SELECT projection, position FROM projection_checkpoints"))
    assert positions["refusals"] == positions["usage"]


async def test_an_upgrade_leaves_the_refusals_of_a_quarantine_to_its_end(ledger: RealLedger) -> None:
    await remember(ledger, 34, 300)
    await ledger.fold()
    positions = [
        (stored.project_id, stored.position)
        for stored in await ledger.log.read_after(0, limit=100_000)
        if isinstance(stored.event, RequestRejected)
    ]
    project, first_left_out = positions[len(positions) // 2]
    await ledger.owner.execute("INSERT INTO quarantined_projects VALUES ($1, $2, '{}', '')", project, first_left_out)
    await ledger.owner.execute("DROP TABLE usage_refusals")
    await ledger.owner.execute("DELETE FROM projection_checkpoints WHERE projection = 'refusals'")
    await ledger.owner.execute(REVISION.read_text(encoding="utf-8"))
    kept = [position for of, position in positions if of != project or position < first_left_out]
    assert 0 < len(kept) < len(positions)
    assert await ledger.owner.fetchval("SELECT sum(requests)::int FROM usage_refusals") == len(kept)


async def test_what_is_held_is_shown_to_its_own(ledger: RealLedger) -> None:
    mine, other = await ledger.new_project(), await ledger.new_project()
    first, second = await ledger.new_key(mine), await ledger.new_key(mine)
    foreign = await ledger.new_key(other)
    made = {key: attempt(project, key) for project, key in ((mine, first), (mine, second), (other, foreign))}
    for key, amount in ((first, 30), (second, 20), (foreign, 7)):
        assert (await ledger.admission.admit(ask(made[key], hold=amount))).outcome == "admitted"
    assert await ledger.claims.claim(made[second].identity.request_id, 1) is not None
    now = datetime.now(UTC)
    of_project = await holds(ledger.pool, Scope(project_id=mine), now)
    assert (of_project.attempts, of_project.held) == (2, to_usd(NanoUsd(50)))
    assert [(one.key_id, one.held, one.is_claimed) for one in of_project.holds] == [
        (first, to_usd(NanoUsd(30)), False),
        (second, to_usd(NanoUsd(20)), True),
    ]
    of_key = await holds(ledger.pool, Scope(project_id=mine, key_id=second), now)
    assert [one.request_id for one in of_key.holds] == [made[second].identity.request_id]
    assert (await holds(ledger.pool, Scope(), now, most=1)).attempts == 3


async def test_a_key_at_its_rate_comes_before_those_with_more_in_flight(ledger: RealLedger) -> None:
    project = await ledger.new_project()
    limited, busy = await ledger.new_key(project, rate_limit=1), await ledger.new_key(project, concurrency_limit=100)
    for key in (limited, busy, busy, busy):
        assert (await ledger.admission.admit(ask(attempt(project, key)))).outcome == "admitted"
    (found,) = await limits_in_use(ledger.pool, Scope(project_id=project), datetime.now(UTC), read=1)
    assert found.key_id == limited


async def test_a_limit_is_in_use_as_admission_counts_it(ledger: RealLedger) -> None:
    project = await ledger.new_project()
    key = await ledger.new_key(project, rate_limit=6, token_limit=1_000, concurrency_limit=4)
    idle = await ledger.new_key(project, rate_limit=6)
    for _ in range(3):
        decision = await ledger.admission.admit(ask(attempt(project, key), token_bound=200))
        assert decision.outcome == "admitted"
    status = decision.limit_status
    assert status.requests is not None
    (found,) = await limits_in_use(ledger.pool, Scope(project_id=project), datetime.now(UTC))
    assert found.key_id == key != idle
    assert found.requests_per_minute == Use(limit=6, used=6 - status.requests.remaining)
    assert found.in_flight == Use(limit=4, used=3)
    assert found.tokens_per_minute is not None
    assert 0 < found.tokens_per_minute.used <= 600
    assert found.fullest() == pytest.approx(0.75)
    later = datetime.now(UTC) + timedelta(minutes=1)
    (drained,) = await limits_in_use(ledger.pool, Scope(project_id=project, key_id=key), later)
    assert (drained.requests_per_minute, drained.requests_in_flight) == (Use(limit=6, used=0), 3)
