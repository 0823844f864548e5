"""The arithmetic of `make bench-overshoot`: shares, repeats, budgets, and the requests that are sent."""

import json
from decimal import Decimal

import pytest

from bench.load import Answered
from bench.overshoot import ANSWERS, FIRST, SCENARIOS, Outcome, Scenario, repeats, share, total
from tests.provider.bill import Usage


def a_charge(prompt: str, nano_usd: str = "100") -> dict[str, str]:
    return {"prompt": prompt, "nano_usd": nano_usd}


def an_outcome(**changed: Decimal) -> Outcome:
    amounts = {"in_burst": Decimal(960), "billed": Decimal(1_000), "shown": Decimal(1_250)} | changed
    return Outcome(
        limit=1_000,
        in_burst=amounts["in_burst"],
        billed=amounts["billed"],
        shown=amounts["shown"],
        assumed=amounts.get("assumed", Decimal(0)),
        held=amounts.get("held", Decimal(0)),
        repeated=2,
        answered=[
            Answered(status=200, seconds=1.0),
            Answered(status=0, seconds=9.0),
            Answered(status=200, seconds=1.0),
        ],
    )


def test_a_share_of_nothing_is_told_as_none() -> None:
    assert share(1, 0) == "–"
    assert share(Decimal(963), 1_000) == "96.3 %"


def test_a_call_is_repeated_if_its_prompt_was_charged_before() -> None:
    assert repeats([a_charge("a"), a_charge("b"), a_charge("a"), a_charge("a")]) == 2
    assert repeats([]) == 0


def test_a_bill_is_added_up_exactly() -> None:
    assert total([a_charge("a", "0.1"), a_charge("b", "0.2")]) == Decimal("0.3")


def test_an_outcome_is_told_as_shares_of_the_limit_and_of_the_bill() -> None:
    assert an_outcome().cells() == ["96.0 %", "**100.0 %**", "**125.0 %**", "2", "1 × no answer, 2 × 200"]


def test_what_is_assumed_and_what_is_still_held_is_told() -> None:
    cells = an_outcome(assumed=Decimal(200), held=Decimal(50)).cells()
    assert cells[2] == "**125.0 %** (20.0 % assumed, 5.0 % more is held)"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_budget_is_worth_so_many_answers_at_the_providers_prices(scenario: Scenario) -> None:
    answer = Usage(tokens_in=25, tokens_out=scenario.tokens_out).nano_usd("gpt-4o-mini")
    assert scenario.limit_nano_usd() == ANSWERS * answer


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_every_caller_has_a_prompt_of_its_own(scenario: Scenario) -> None:
    bodies = {scenario.body(number, wave) for number in range(20) for wave in range(2)}
    assert len(bodies) == 40
    assert all(json.loads(body)["stream"] == (scenario.leave_after is not None) for body in bodies)


def test_the_first_request_takes_less_than_a_tenth_of_a_percent_of_any_budget() -> None:
    assert b"[[tokens=1/1]]" in FIRST
    cost = Usage(tokens_in=1, tokens_out=1).nano_usd("gpt-4o-mini")
    assert all(cost * 1_000 < scenario.limit_nano_usd() for scenario in SCENARIOS)
