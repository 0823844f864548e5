"""The request decider: an attempt has one cost, a request has one end, and a true cost replaces an assumed one."""

from datetime import date
from typing import Any

from msgspec.structs import replace

from domain.events import AttemptFailed, AttemptLost, CostIncurred, Event, RequestCompleted, RequestFailed
from domain.money import NanoUsd
from domain.request_decider import (
    decide_completed,
    decide_failed,
    decide_partial,
    decide_reconciled,
    ending,
    is_resolved,
    last_attempt,
)
from domain.tokens import TokenUsage

SUBJECT: dict[str, Any] = {
    "request_id": "req_1",
    "key_id": "key_1",
    "operation": "chat",
    "model": "m",
    "provider": "openai",
}
DAY = date(2026, 11, 23)


def completed(attempt: int = 1) -> RequestCompleted:
    return RequestCompleted(
        **SUBJECT,
        attempt=attempt,
        upstream_model="m",
        answered_by="m",
        response_id="r",
        usage=TokenUsage(input=1),
        latency_ms=1,
        request_bytes=1,
        answer_bytes=1,
        answer_digest="00",
    )


def cost(attempt: int = 1, replaces: int = 0) -> CostIncurred:
    return CostIncurred(
        **SUBJECT,
        attempt=attempt,
        upstream_model="m",
        cost_nano_usd=NanoUsd(7),
        price=None,
        breakdown=None,
        hold_nano_usd=NanoUsd(10),
        budget_day=DAY,
        replaces_assumed_nano_usd=NanoUsd(replaces),
    )


def lost(attempt: int = 1) -> AttemptLost:
    return AttemptLost(
        **SUBJECT,
        attempt=attempt,
        upstream_model="m",
        reason="worker_lost",
        assumed_nano_usd=NanoUsd(10),
        budget_day=DAY,
    )


def failed_attempt(attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(
        **SUBJECT, attempt=attempt, upstream_model="m", code="X", message="x", hold_nano_usd=NanoUsd(10), budget_day=DAY
    )


def late(event: CostIncurred) -> CostIncurred:
    """Return a cost of a request that had ended before."""
    return replace(event, is_late=True)


FAILED = RequestFailed(**SUBJECT, code="X", message="x", latency_ms=1)


def test_a_first_answer_ends_the_request_and_costs() -> None:
    assert decide_completed([], completed(), cost()) == (completed(), cost())


def test_an_attempt_has_one_cost() -> None:
    assert decide_completed([completed(), cost()], completed(), cost()) == ()


def test_a_late_true_cost_replaces_the_assumed_one_and_ends_nothing() -> None:
    assert decide_completed([lost()], completed(), cost()) == (cost(replaces=10),)
    assert decide_partial([lost()], cost(), FAILED) == (cost(replaces=10),)
    assert decide_completed([lost(), FAILED], completed(), cost()) == (late(cost(replaces=10)),)


def test_a_second_attempts_cost_does_not_touch_the_firsts_assumption() -> None:
    assert decide_completed([lost(1)], completed(2), cost(2)) == (completed(2), cost(2))


def test_a_request_ends_once() -> None:
    history: list[Event] = [lost(1), completed(2), cost(2)]
    assert decide_completed(history, completed(1), cost(1)) == (late(cost(1, replaces=10)),)
    assert decide_failed(history, None, FAILED) == ()
    assert ending(history) == completed(2)


def test_an_attempt_is_lost_once_and_never_after_its_cost() -> None:
    assert decide_failed([lost()], lost(), FAILED) == (FAILED,)
    assert decide_failed([completed(), cost()], lost(), FAILED) == ()


def test_attempts_are_counted_from_ended_ones() -> None:
    assert (last_attempt([]), last_attempt([failed_attempt(1), lost(2)])) == (0, 2)
    assert is_resolved([failed_attempt(1)], 1)
    assert not is_resolved([failed_attempt(1)], 2)


def test_a_late_answer_without_a_cost_takes_the_assumption_away_once() -> None:
    under_way = replace(cost(replaces=10), cost_nano_usd=None)
    (settled,) = decide_reconciled([lost(), under_way], under_way, NanoUsd(7), source="provider")
    assert (settled.cost_nano_usd, settled.replaces_assumed_nano_usd) == (7, 0)
