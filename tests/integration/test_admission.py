"""Admission on PostgreSQL: exact limits over several processes, one leader for identical requests, one claim each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from domain.events import RequestServedFromCache, request_stream
from domain.limits import NANO_PER_S
from domain.money import NanoUsd
from domain.request_decider import decide_completed, decide_reconciled, lost_attempts
from domain.tokens import TokenUsage
from infra.admission import Admission, Attempt, BudgetExhausted, Claims
from infra.database import HeldConnection, OutcomeUnknown
from infra.event_log import Commit
from infra.log_selection import Selection
from infra.log_verification import verify
from tests.support.ledger import RealLedger, ask, attempt, completed, cost, lost

KEY = b"k" * 32


def today() -> date:
    """Return the UTC day of this moment, because a run may pass midnight."""
    return datetime.now(UTC).date()


@pytest.fixture
async def processes(database_url: str, ledger: RealLedger) -> AsyncIterator[list[Admission]]:
    """Return the admission of four API processes."""
    opened = [Admission(HeldConnection(database_url, name="tests"), ledger.pool) for _ in range(4)]
    yield opened
    for one in opened:
        await one.close()


@pytest.fixture
async def project(ledger: RealLedger) -> str:
    return await ledger.new_project()


async def outcomes(processes: list[Admission], asks: list[object]) -> Counter[str]:
    decisions = await asyncio.gather(
        *(processes[n % len(processes)].admit(one) for n, one in enumerate(asks))  # type: ignore[arg-type]
    )
    return Counter(decision.outcome for decision in decisions)


async def test_of_a_burst_exactly_the_rate_limit_passes(
    ledger: RealLedger, processes: list[Admission], project: str
) -> None:
    key = await ledger.new_key(project, rate_limit=60)
    asks = [ask(attempt(project, key)) for _ in range(200)]
    found = await outcomes(processes, list(asks))
    assert found == {"admitted": 60, "rate_limit": 140}


async def test_a_limit_refills_with_time_and_has_a_retry_after(
    ledger: RealLedger, database_url: str, project: str
) -> None:
    key = await ledger.new_key(project, rate_limit=6)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    admission = Admission(HeldConnection(database_url, name="tests"), ledger.pool, now=lambda: now)
    admitted = [await admission.admit(ask(attempt(project, key))) for _ in range(6)]
    assert [one.limit_status.requests.remaining for one in admitted if one.limit_status.requests] == [5, 4, 3, 2, 1, 0]
    refused = await admission.admit(ask(attempt(project, key)))
    assert (refused.outcome, refused.retry_after_ns) == ("rate_limit", 10 * NANO_PER_S)
    now += timedelta(seconds=10)
    assert (await admission.admit(ask(attempt(project, key)))).outcome == "admitted"
    assert (await admission.admit(ask(attempt(project, key)))).outcome == "rate_limit"
    await admission.close()


async def test_hits_count_toward_the_rate_limit_and_hold_nothing(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, rate_limit=3, daily_budget_nano_usd=10)
    made = [attempt(project, key) for _ in range(4)]
    given = [giving(one) for one in made]
    asks = [ask(one, hold=1_000, served=served) for one, served in zip(made, given, strict=True)]
    asks.insert(1, ask(attempt(project, key), hold=10))
    decisions = await asyncio.gather(*map(ledger.admission.admit, asks))
    assert [one.outcome for one in decisions] == ["hit", "admitted", "hit", "rate_limit", "rate_limit"]
    assert [one.hold_nano_usd for one in decisions] == [0, 10, 0, 0, 0]
    assert await ledger.held(key) == 10
    logged = await ledger.log.read_selected(Selection(type="RequestServedFromCache"), after=0, limit=10)
    assert [(one.stream, one.event) for one in logged] == [(one.stream, one.events[0]) for one in given[:2]]
    assert (await verify(ledger.pool)).first_bad is None


async def test_listener_gets_appended_positions(database_url: str, ledger: RealLedger, project: str) -> None:
    positions: list[int] = []

    async def tell(position: int) -> None:
        positions.append(position)

    admission = Admission(HeldConnection(database_url, name="tests"), ledger.pool, on_append=tell)
    key = await ledger.new_key(project)
    first, fresh, second = (attempt(project, key) for _ in range(3))
    for request in (ask(first, served=giving(first)), ask(fresh), ask(second, served=giving(second))):
        await admission.admit(request)
    await admission.close()
    head = await ledger.log.head()
    assert positions == [head - 1, head]


def giving(made: Attempt) -> Commit:
    """Return the commit of a response from memory."""
    served = RequestServedFromCache(
        request_id=made.identity.request_id,
        key_id=made.identity.key_id,
        operation=made.identity.operation,
        model=made.identity.model,
        provider=made.identity.provider,
        origin_request_id="req_origin",
        usage=TokenUsage(input=3),
        saved_nano_usd=NanoUsd(5),
        latency_ms=1,
    )
    return Commit(
        stream=request_stream(made.identity.request_id),
        expected_version=0,
        project_id=made.identity.project_id,
        at=made.admitted_at,
        events=(served,),
    )


async def test_budgets_are_never_passed_together(ledger: RealLedger, processes: list[Admission], project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    found = await outcomes(processes, [ask(attempt(project, key), hold=7) for _ in range(400)])
    assert found == {"admitted": 1_000 // 7, "budget_held": 400 - 1_000 // 7}
    assert await ledger.held(key) == 7 * (1_000 // 7)


async def test_a_projects_budget_is_shared_by_its_keys(
    ledger: RealLedger, processes: list[Admission], project: str
) -> None:
    await ledger.accounts.change_project(project, settings={"monthly_budget_nano_usd": 50}, provider_keys={})
    keys = [await ledger.new_key(project) for _ in range(5)]
    found = await outcomes(processes, [ask(attempt(project, keys[n % 5]), hold=1) for n in range(100)])
    assert found == {"admitted": 50, "budget_held": 50}


async def test_spent_budget_refuses_and_held_budget_waits(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    first = attempt(project, key)
    await ledger.admission.admit(ask(first, hold=60))
    waiting = await ledger.admission.admit(ask(attempt(project, key), hold=50))
    assert (waiting.outcome, waiting.window and waiting.window.held_nano_usd) == ("budget_held", 60)
    await ledger.append(first, 0, completed(first), cost(first, 55, hold=60, day=today()))
    await ledger.fold()
    refused = await ledger.admission.admit(ask(attempt(project, key), hold=50))
    assert (refused.outcome, refused.window and refused.window.taken_nano_usd) == ("budget_spent", 55)
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=45))).outcome == "admitted"


async def test_the_last_in_line_is_not_admitted_before_the_others(ledger: RealLedger, project: str) -> None:
    """It is only told to wait where something can be waited for, and served from the cache or refused as ever."""
    budgeted = await ledger.new_key(project, daily_budget_nano_usd=100, token_limit=10)
    queued = await ledger.admission.admit(ask(attempt(project, budgeted), hold=10, is_last_in_line=True, token_bound=7))
    assert queued.outcome == "queued"
    assert (await ledger.admission.admit(ask(attempt(project, budgeted), hold=10, token_bound=7))).outcome == "admitted"
    spent = await ledger.admission.admit(ask(attempt(project, budgeted), hold=101, is_last_in_line=True))
    assert spent.outcome == "budget_spent"
    unlimited = await ledger.new_key(project)
    free = await ledger.admission.admit(ask(attempt(project, unlimited), hold=10, is_last_in_line=True))
    assert free.outcome == "admitted"


async def test_cap_is_lowered_only_after_the_wait(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    await ledger.admission.admit(ask(attempt(project, key), hold=40))
    patient = ask(attempt(project, key, cache_key=KEY), hold=90, min_hold_nano_usd=20)
    assert (await ledger.admission.admit(patient)).outcome == "budget_held"
    final = ask(attempt(project, key, cache_key=KEY), hold=90, min_hold_nano_usd=20, accept_lower_hold=True)
    lowered = await ledger.admission.admit(final)
    assert (lowered.outcome, lowered.hold_nano_usd) == ("admitted", 60)
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight WHERE cache_key IS NOT NULL") == 0
    second = await ledger.new_key(project, daily_budget_nano_usd=100)
    idle = await ledger.admission.admit(ask(attempt(project, second), hold=110, min_hold_nano_usd=20))
    assert (idle.outcome, idle.hold_nano_usd) == ("admitted", 100)


async def test_a_budget_of_zero_blocks_even_free_requests(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, monthly_budget_nano_usd=0)
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=0))).outcome == "budget_spent"


async def test_unpriced_model_is_refused_only_with_a_budget(ledger: RealLedger, project: str) -> None:
    free, limited = await ledger.new_key(project), await ledger.new_key(project, daily_budget_nano_usd=10**12)
    assert (await ledger.admission.admit(ask(attempt(project, free), hold=None))).outcome == "admitted"
    assert (await ledger.admission.admit(ask(attempt(project, limited), hold=None))).outcome == "unpriced"


async def test_no_more_requests_are_in_flight_than_may_be(
    ledger: RealLedger, processes: list[Admission], project: str
) -> None:
    key = await ledger.new_key(project, concurrency_limit=3)
    found = await outcomes(processes, [ask(attempt(project, key)) for _ in range(20)])
    assert found == {"admitted": 3, "concurrency": 17}


async def test_equal_requests_have_one_leader_over_processes(
    ledger: RealLedger, processes: list[Admission], project: str
) -> None:
    key = await ledger.new_key(project)
    asks = [ask(attempt(project, key, cache_key=KEY), hold=5) for _ in range(100)]
    decisions = await asyncio.gather(*(processes[n % 4].admit(one) for n, one in enumerate(asks)))
    leaders = [
        one.attempt.identity.request_id for one, d in zip(asks, decisions, strict=True) if d.outcome == "admitted"
    ]
    assert len(leaders) == 1
    assert {d.origin for d in decisions if d.outcome == "coalesced"} <= set(leaders)
    assert await ledger.held(key) == 5


async def test_projects_share_no_leader(ledger: RealLedger, project: str) -> None:
    other = await ledger.new_project()
    mine, theirs = await ledger.new_key(project), await ledger.new_key(other)
    first = await ledger.admission.admit(ask(attempt(project, mine, cache_key=KEY)))
    second = await ledger.admission.admit(ask(attempt(other, theirs, cache_key=KEY)))
    assert (first.outcome, second.outcome) == ("admitted", "admitted")


async def test_a_cached_answer_is_found_while_it_is_new_enough(ledger: RealLedger, project: str) -> None:
    key, now = await ledger.new_key(project), datetime.now(UTC)
    await ledger.pool.execute(
        "INSERT INTO cache_entries (project_id, cache_key, request_id, blob_id, created_at, expires_at) "
        "VALUES ($1, $2, 'req_origin', 'blob', $3, $4)",
        project,
        KEY,
        now - timedelta(minutes=5),
        now + timedelta(minutes=5),
    )

    async def outcome(min_created_at: datetime | None, at: datetime) -> tuple[str, str | None]:
        wanted = attempt(project, key, cache_key=KEY, now=at)
        decision = await ledger.admission.admit(ask(wanted, min_created_at=min_created_at))
        await ledger.admission.drop([wanted.identity.request_id])
        return decision.outcome, decision.origin

    assert await outcome(now - timedelta(minutes=6), now) == ("hit", "req_origin")
    assert await outcome(now - timedelta(minutes=4), now) == ("admitted", None)
    assert await outcome(now - timedelta(minutes=6), now + timedelta(minutes=6)) == ("admitted", None)
    assert await outcome(None, now) == ("admitted", None)


async def test_an_attempt_is_claimed_once(database_url: str, ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project)
    wanted = attempt(project, key)
    await ledger.admission.admit(ask(wanted, hold=3))
    other = Claims(HeldConnection(database_url, name="tests"), ledger.pool, worker="other")
    claims = await asyncio.gather(
        ledger.claims.claim(wanted.identity.request_id, 1),
        other.claim(wanted.identity.request_id, 2),
        other.claim(wanted.identity.request_id, 3),
    )
    await other.close()
    won = [one for one in claims if one is not None]
    assert [(claim.attempt, claim.hold_nano_usd) for claim in won] == [(1, 3)]
    assert not await ledger.admission.drop([wanted.identity.request_id])


async def _claimed(ledger: RealLedger, wanted: Attempt, hold: int) -> None:
    assert (await ledger.admission.admit(ask(wanted, hold=hold))).outcome == "admitted"
    assert await ledger.claims.claim(wanted.identity.request_id, 1) is not None


async def test_retry_takes_the_lead_with_its_own_hold(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    wanted = attempt(project, key, cache_key=KEY)
    await _claimed(ledger, wanted, 40)
    assert await ledger.claims.admit_next(wanted, 2, 2, 40, today()) is not None  # type: ignore[arg-type]
    assert await ledger.held(key) == 80
    follower = await ledger.admission.admit(ask(attempt(project, key, cache_key=KEY), hold=40))
    assert (follower.outcome, follower.origin) == ("coalesced", wanted.identity.request_id)
    assert await ledger.claims.admit_next(wanted, 2, 3, 40, today()) is None  # type: ignore[arg-type]
    assert await ledger.claims.admit_next(wanted, 3, 1, 40, today()) is None  # type: ignore[arg-type]
    with pytest.raises(BudgetExhausted):
        await ledger.claims.admit_next(wanted, 3, 3, 40, today())  # type: ignore[arg-type]


class Dying(HeldConnection):
    """A connection that dies once, after its statement has been committed."""

    is_dead = False

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        rows = await super().fetch(query, *arguments)
        if not self.is_dead:
            self.is_dead = True
            raise OutcomeUnknown("the database went away")
        return rows


async def test_unanswered_admission_is_taken_back(database_url: str, ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    admission = Admission(Dying(database_url, name="tests"), ledger.pool)
    with pytest.raises(OutcomeUnknown):
        await admission.admit(ask(attempt(project, key), hold=90))
    assert await ledger.held(key) == 90
    assert (await admission.admit(ask(attempt(project, key), hold=90))).outcome == "admitted"
    assert await ledger.held(key) == 90
    await admission.close()


async def test_tokens_are_settled_with_the_true_number(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, token_limit=1_000)
    first = attempt(project, key)
    decision = await ledger.admission.admit(ask(first, token_bound=900))
    assert decision.limit_status.tokens is not None
    assert decision.limit_status.tokens.remaining <= 100
    assert (await ledger.admission.admit(ask(attempt(project, key), token_bound=200))).outcome == "token_limit"
    await ledger.append(first, 0, completed(first), cost(first, 0, hold=0, day=today(), tokens=100))
    await ledger.fold()
    assert (await ledger.admission.admit(ask(attempt(project, key), token_bound=850))).outcome == "admitted"
    assert (await ledger.admission.admit(ask(attempt(project, key), token_bound=1_001))).outcome == "token_limit"


async def test_late_cost_replaces_the_assumed_one(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    first, second = attempt(project, key), attempt(project, key)
    await ledger.admission.admit(ask(first, hold=100))
    await ledger.admission.admit(ask(second, hold=30))
    await ledger.append(first, 0, lost(first, hold=100, day=today()))
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((0, 100), 30)
    late = decide_completed(await ledger.history(first), completed(first), cost(first, 40, hold=100, day=today()))
    await ledger.append(first, 1, *late)
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((40, 0), 30)


async def test_reconciling_replaces_the_assumed_cost(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    first = attempt(project, key)
    await ledger.admission.admit(ask(first, hold=100))
    await ledger.append(first, 0, lost(first, hold=100, day=today()))
    history = await ledger.history(first)
    await ledger.append(
        first, 1, *decide_reconciled(history, lost_attempts(history)[0], NanoUsd(25), source="operator")
    )
    await ledger.fold()
    assert await ledger.balance(key) == (25, 0)
    settled = await ledger.history(first)
    assert lost_attempts(settled) == []
    assert decide_completed(settled, completed(first), cost(first, 40, hold=100, day=today())) == ()
