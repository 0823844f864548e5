"""What is assumed of an attempt whose worker died: what is known of it, and never more than its hold."""

from datetime import date
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from domain.extras import NO_EXTRAS
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.tokens import TokenUsage
from infra.admission import Claim
from infra.jobs import Job, StreamFormat
from tests.support.jobs import make_job
from tests.support.ledger import attempt, completed
from workers.lost_attempts import FEWEST, Habit, habit_of, usual_cost
from workers.progress import StreamedAttempt, is_reported

PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**6, output=10**6))
"""One nano-dollar a token."""
HOLD = NanoUsd(1_100)
CLAIM = Claim(attempt=1, hold_nano_usd=HOLD, budget_day=date(2026, 11, 26))


def job(**fields: Any) -> Job:
    known = {"price": PRICE, "stream": StreamFormat(surface="native"), "input_bound": 100, "output_bound": 1_000}
    return make_job(**known | fields)


def reader(received: int = 0) -> Any:
    """Return what was read of a stream of which so many bytes of text have come."""
    return SimpleNamespace(usage=None, input_usage=None, extras=NO_EXTRAS, received_output_bytes=received)


def test_a_report_covers_what_has_come_and_is_due_again_only_when_that_has_grown() -> None:
    read = reader(100)
    attempt = StreamedAttempt(job(), CLAIM, read, began_s=0.0)
    first = attempt.due(1.0)
    assert first is not None
    assert 100 + 100 < first.assumed_nano_usd < HOLD
    assert attempt.due(2.0) is None
    reports = 1
    for received in range(100, 1_001):
        read.received_output_bytes = received
        report = attempt.due(3.0)
        if report is not None:
            reports += 1
            first = report
        assert first.assumed_nano_usd >= min(HOLD, 100 + received), "nothing that has come is left out"
    assert reports <= 6
    assert first.assumed_nano_usd == HOLD


def test_a_stream_of_which_nothing_came_is_assumed_to_have_been_written_for_as_long_as_it_ran() -> None:
    attempt = StreamedAttempt(job(output_bound=100_000), CLAIM, reader(), began_s=10.0)
    early = attempt.due(10.0)
    assert early is not None
    assert attempt.due(10.1) is None
    later = attempt.due(11.0)
    assert later is not None
    assert 100 < early.assumed_nano_usd <= later.assumed_nano_usd <= HOLD


@pytest.mark.parametrize(
    "fields", [{"stream": None}, {"price": None}, {"may_think_unseen": True}, {"context_window": 1_000}]
)
def test_what_may_cost_more_than_it_shows_is_not_reported(fields: dict[str, Any]) -> None:
    assert is_reported(job())
    assert not is_reported(job(**fields))


def test_a_habit_needs_enough_answers_and_is_their_longest_and_densest() -> None:
    made = attempt("prj", "key")
    answers = [
        replace(completed(made), usage=TokenUsage(input=10 + number, output=number), request_bytes=40)
        for number in range(FEWEST)
    ]
    assert habit_of(answers[1:]) is None
    assert habit_of(answers) == Habit(longest_output=FEWEST - 1, densest_input=Fraction(10 + FEWEST - 1, 40))


def test_the_usual_cost_stays_within_the_bounds_and_is_unknown_for_what_is_more_than_tokens() -> None:
    habit = Habit(longest_output=50, densest_input=Fraction(1, 4))
    assert usual_cost(job(), habit, request_bytes=200) == 50 + 50
    assert usual_cost(job(), habit, request_bytes=10_000) == 100 + 50, "no more than the prompt's bound"
    assert usual_cost(job(output_bound=20), habit, request_bytes=200) == 50 + 20
    assert usual_cost(job(choices=3), habit, request_bytes=200) == 50 + 150
    for unknown in ({"price": None}, {"context_window": 1_000}, {"writes_audio": True}):
        assert usual_cost(job(**unknown), habit, request_bytes=200) is None
