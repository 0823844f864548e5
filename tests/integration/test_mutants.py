"""Each rule about money is removed from the SQL functions in turn, and the test that guards it fails."""

import asyncpg
import pytest

from infra.admission import Admission
from tests.integration import test_admission as promises
from tests.integration import test_installation_budget as installation
from tests.integration.test_admission import processes, project, today
from tests.support.ledger import RealLedger, ask, attempt, lost

__all__ = ["processes", "project"]  # fixtures

MUTANTS = {
    "holds nothing": (
        "insert_admitted",
        "p_decisions.cache_keys, p_decisions.holds, p_token_bounds",
        "p_decisions.cache_keys, p_keys::bigint[], p_token_bounds",
        "overspend",
    ),
    "forgets what it has just held": (
        "decide",
        "batch_holds[v_key] := batch_holds[v_key] + holds[i];",
        "",
        "overspend",
    ),
    "forgets what is assumed": (
        "account_usage",
        "d.spent_nano_usd::numeric + d.assumed_nano_usd",
        "d.spent_nano_usd",
        "assumed",
    ),
    "shares a lowered answer": ("decide", "cache_keys[i] := NULL;", "", "lowered"),
    "admits what costs nothing to a budget of zero": ("load_accounts", "bigint := -1;", "bigint := NULL;", "zero"),
    "claims what is claimed": ("claim", "AND f.delivery IS NULL", "", "claim"),
    "makes the next attempt without room": ("admit_next", "p_hold > v_free", "false", "next"),
    "releases every attempt of a request": ("settle", "AND f.attempt = e.a", "", "release"),
    "does not count what begins": ("count_held", "ELSE 1 END", "ELSE 0 END", "overspend"),
    "does not count what ends": ("count_held", "THEN -1", "THEN 0", "release"),
    "reads nothing of what is held": (
        "account_usage",
        "WHERE a.needed AND h.scope",
        "WHERE false AND h.scope",
        "overspend",
    ),
    "does not settle tokens": ("settle", "s.more * emission", "0 * emission", "tokens"),
    "forgets the installation's window": (
        "decide",
        "WHEN p_uses_installation[i]",
        "WHEN false",
        "installation",
    ),
    "makes the next attempt without the installation's room": (
        "admit_next",
        "THEN l.installation_daily END",
        "THEN NULL::bigint END",
        "installation",
    ),
    "lets one more pass": (
        "check_keys",
        "- v_interval_ns * v_limits[v_key];",
        "- v_interval_ns * (v_limits[v_key] + 1);",
        "rate",
    ),
}


async def check(promise: str, ledger: RealLedger, processes: list[Admission], project: str, url: str) -> None:
    """Run the test that guards a rule."""
    match promise:
        case "overspend":
            await promises.test_budgets_are_never_passed_together(ledger, processes, project)
        case "assumed":
            await assumed_cost_is_taken(ledger, project)
        case "lowered":
            await promises.test_cap_is_lowered_only_after_the_wait(ledger, project)
        case "zero":
            await promises.test_a_budget_of_zero_blocks_even_free_requests(ledger, project)
        case "claim":
            await promises.test_an_attempt_is_claimed_once(url, ledger, project)
        case "next":
            await promises.test_retry_takes_the_lead_with_its_own_hold(ledger, project)
        case "release":
            await an_outcome_releases_its_own_attempt_only(ledger, project)
        case "tokens":
            await promises.test_tokens_are_settled_with_the_true_number(ledger, project)
        case "installation":
            await installation.test_a_budget_for_the_installations_credentials_holds_for_them_alone(ledger)
        case "rate":
            await promises.test_of_a_burst_exactly_the_rate_limit_passes(ledger, processes, project)


async def assumed_cost_is_taken(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project, daily_budget_nano_usd=100)
    first = attempt(project, key)
    await ledger.admission.admit(ask(first, hold=60))
    await ledger.append(first, 0, lost(first, hold=60, day=today()))
    await ledger.fold()
    assert (await ledger.admission.admit(ask(attempt(project, key), hold=50))).outcome == "budget_spent"


async def an_outcome_releases_its_own_attempt_only(ledger: RealLedger, project: str) -> None:
    key = await ledger.new_key(project)
    first = attempt(project, key)
    await ledger.admission.admit(ask(first, hold=40))
    assert await ledger.claims.claim(first.identity.request_id, 1)
    assert await ledger.claims.admit_next(first, 2, 2, 40, today())  # type: ignore[arg-type]
    await ledger.append(first, 0, lost(first, hold=40, day=today()))
    await ledger.fold()
    assert await ledger.held(key) == 40


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
async def test_a_missing_rule_is_noticed(
    mutant: str | None, ledger: RealLedger, processes: list[Admission], project: str, database_url: str
) -> None:
    if mutant is None:
        for promise in sorted({promise for *_, promise in MUTANTS.values()}):
            await check(promise, ledger, processes, await ledger.new_project(), database_url)
        return
    function, rule, instead, promise = MUTANTS[mutant]
    await replace_in(ledger.owner, function, rule, instead)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check(promise, ledger, processes, project, database_url)


async def replace_in(pool: asyncpg.Pool, function: str, rule: str, instead: str) -> None:
    """Replace a rule in a SQL function of this test's database."""
    source = await pool.fetchval("SELECT pg_get_functiondef($1::regproc)", function)
    assert rule in source, f"{function} has no such rule: {rule}"
    await pool.execute(source.replace(rule, instead))
