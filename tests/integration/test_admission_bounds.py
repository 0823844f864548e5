"""Admission with hostile accounts: sums and rates stay within bigint, and a changed key is noticed."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from domain.estimate import MAX_HOLD
from domain.events import KeySettings
from domain.tokens import MAX_TOKENS
from infra.admission import Attempt
from infra.database import HeldConnection
from infra.embedded_postgres import OWNER
from tests.integration.test_admission import giving
from tests.support.ledger import RealLedger, ask, attempt, cost, lost
from tests.support.services import as_role

HUGE = 8_000_000_000_000_000_000
"""Fits into bigint, but twice this does not."""


@pytest.fixture
async def project(ledger: RealLedger) -> str:
    return await ledger.new_project()


def today() -> date:
    return datetime.now(UTC).date()


async def settled(ledger: RealLedger, made: Attempt, tokens: int) -> None:
    await ledger.append(made, 0, cost(made, 0, hold=0, day=today(), tokens=tokens))
    await ledger.fold()


async def test_tokens_that_never_fit_are_refused_beside_those_that_do(ledger: RealLedger, project: str) -> None:
    hostile = await ledger.new_key(project, token_limit=1)
    bystander = await ledger.new_key(project, token_limit=100)
    refused, admitted = await asyncio.gather(
        ledger.admission.admit(ask(attempt(project, hostile), token_bound=MAX_TOKENS * 1_000)),
        ledger.admission.admit(ask(attempt(project, bystander), token_bound=10)),
    )
    assert (refused.outcome, admitted.outcome) == ("token_limit", "admitted")
    assert refused.retry_after_ns is not None
    assert 0 < refused.retry_after_ns <= 2 * 60 * 10**9


@pytest.mark.parametrize("used", [0, MAX_TOKENS * 9])
async def test_lowered_token_limit_settles_calls_in_flight(used: int, ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, token_limit=1_000_000_000)
    made = attempt(project, key)
    assert (await ledger.admission.admit(ask(made, token_bound=155_000_000))).outcome == "admitted"
    await ledger.change_key(project, key, token_limit=1)
    await settled(ledger, made, used)
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight") == 0
    decision = await ledger.admission.admit(ask(attempt(project, key), token_bound=1))
    assert decision.outcome == ("token_limit" if used else "admitted")
    if used:
        assert decision.retry_after_ns is not None
        assert decision.retry_after_ns <= (24 * 60 + 2) * 60 * 10**9


async def test_a_debt_of_tokens_does_not_grow_beyond_a_day(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, token_limit=1_000_000_000)
    made = [attempt(project, key) for _ in range(3)]
    for one in made:
        assert (await ledger.admission.admit(ask(one, token_bound=1))).outcome == "admitted"
    await ledger.change_key(project, key, token_limit=1)
    for one in made:
        await settled(ledger, one, MAX_TOKENS)
    decision = await ledger.admission.admit(ask(attempt(project, key), token_bound=1))
    assert decision.retry_after_ns is not None
    assert decision.retry_after_ns <= (24 * 60 + 2) * 60 * 10**9


async def test_sums_beyond_bigint_refuse_and_leave_others_alone(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    bystander = await ledger.new_key(other := await ledger.new_project(), daily_budget_nano_usd=1_000)
    await ledger.owner.execute(
        "INSERT INTO budget_balances (scope, scope_id, period, starts_on, project_id, spent_nano_usd, "
        "assumed_nano_usd, overage_nano_usd) "
        "SELECT s, i, 'day', $3, $4, $5, $5, 0 "
        "FROM unnest(ARRAY['key', 'project'], ARRAY[$1, $2]) AS n (s, i)",
        key,
        project,
        today(),
        project,
        HUGE,
    )
    refused, admitted = await asyncio.gather(
        ledger.admission.admit(ask(attempt(project, key), hold=1)),
        ledger.admission.admit(ask(attempt(other, bystander), hold=1)),
    )
    assert (refused.outcome, admitted.outcome) == ("budget_spent", "admitted")


async def test_the_largest_holds_of_a_whole_batch_add_up(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, concurrency_limit=1_000)
    asks = [ask(attempt(project, key), hold=MAX_HOLD) for _ in range(256)]
    assert {one.outcome for one in await asyncio.gather(*map(ledger.admission.admit, asks))} == {"admitted"}
    limited = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    assert (await ledger.admission.admit(ask(attempt(project, limited), hold=1))).outcome == "admitted"
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=MAX_HOLD))).outcome == "admitted"


async def test_rate_limited_hit_is_refused_alone_in_its_batch(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, rate_limit=1)
    outcomes = []
    for _ in range(2):
        made = attempt(project, key)
        outcomes.append((await ledger.admission.admit(ask(made, served=giving(made)))).outcome)
    assert outcomes == ["hit", "rate_limit"]


async def test_revoked_key_is_stale_at_admission(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project)
    await ledger.accounts.revoke_key(await ledger.accounts.key(project, key))
    made = attempt(project, key)
    asks = (ask(attempt(project, key)), ask(made, served=giving(made)))
    assert [(await ledger.admission.admit(one)).outcome for one in asks] == ["stale", "stale"]
    assert await ledger.pool.fetchval("SELECT count(*) FROM inflight") == 0
    assert await ledger.history(made) == []


async def test_a_key_that_has_expired_is_stale(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await ledger.admission.admit(ask(attempt(project, key)))).outcome == "stale"


async def test_a_request_planned_with_earlier_settings_is_stale(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, rate_limit=1)
    planned, renewed = ask(attempt(project, key), key_version=1), ask(attempt(project, key), key_version=2)
    await ledger.change_key(project, key, rate_limit=1, models=["echo"])
    assert [(await ledger.admission.admit(one)).outcome for one in (planned, renewed)] == ["stale", "admitted"]


async def test_a_keys_version_is_that_of_its_stream(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project)
    await ledger.change_key(project, key, rate_limit=5)
    record = await ledger.accounts.key(project, key)
    await ledger.accounts.change_key(record, KeySettings(name="again"))
    assert await ledger.pool.fetchval("SELECT version FROM api_keys WHERE key_id = $1", key) == 3


async def test_a_lost_attempt_counts_its_largest_hold(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project)
    made = attempt(project, key)
    await ledger.admission.admit(ask(made, hold=MAX_HOLD))
    await ledger.append(made, 0, lost(made, hold=MAX_HOLD, day=today()))
    await ledger.fold()
    assert await ledger.balance(key) == (0, MAX_HOLD)


async def test_usage_is_read_by_account_though_the_plan_was_made_while_the_tables_were_empty(database_url: str) -> None:
    connection = HeldConnection(as_role(database_url, OWNER), name="tests")
    try:
        rows = await connection.fetch(
            "EXPLAIN SELECT * FROM account_usage(ARRAY['key'], ARRAY['key_1'], ARRAY[true], current_date)"
        )
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "budget_balances_pkey" in plan
    assert "budget_balances_by_start" not in plan
    assert "Seq Scan" not in plan
