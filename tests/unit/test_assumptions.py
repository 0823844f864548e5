"""What is assumed of an attempt whose worker died: what is known of it, and never more than its hold."""

from datetime import date
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from domain.events import KeptResponse, RequestCompleted
from domain.extras import NO_EXTRAS
from domain.habits import FEWEST, usual_most
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.tokens import TokenUsage
from infra.admission import Claim, ClaimedAttempt, SeenStream
from infra.jobs import Job, StreamFormat
from tests.support.jobs import make_job
from tests.support.ledger import attempt, completed
from workers.estimated_usage import UNDER_WAY_TOKENS
from workers.lost_attempts import Habit, assumed_of, habit_of, usual_cost
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
    return SimpleNamespace(
        usage=None, input_usage=None, extras=NO_EXTRAS, received_output_bytes=received, response_id=""
    )


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


def test_a_report_tells_what_has_come_and_up_to_where_it_holds() -> None:
    read = reader(100)
    read.input_usage = TokenUsage(input=7)
    told = StreamedAttempt(job(), CLAIM, read, began_s=0.0).due(1.0)
    assert told is not None
    assert (told.seen.received_bytes, told.seen.output_tokens, told.seen.input_usage) == (100, 0, TokenUsage(input=7))
    assert told.seen.covered_bytes > 100


def kept() -> KeptResponse:
    return KeptResponse(response_id="", operation="responses", kind="openai", credential="second", price=PRICE)


def test_the_id_of_a_response_is_reported_once_it_is_known_if_the_provider_keeps_the_response() -> None:
    unseen, read = job(may_think_unseen=True), reader()
    attempt = StreamedAttempt(unseen, CLAIM, read, began_s=0.0, kept=kept(), credential="second")
    assert attempt.due(1.0) is None, "what it may cost is not known, nor is its id"
    read.response_id = "resp_1"
    told = attempt.due(2.0)
    assert told is not None
    assert (told.assumed_nano_usd, told.seen.response_id, told.seen.credential) == (None, "resp_1", "second")
    assert told.seen.kept == replace(kept(), response_id="resp_1")
    assert attempt.due(3.0) is None
    assert StreamedAttempt(unseen, CLAIM, read, began_s=0.0).due(2.0) is None


@pytest.mark.parametrize(
    "fields", [{"stream": None}, {"price": None}, {"may_think_unseen": True}, {"context_window": 1_000}]
)
def test_what_may_cost_more_than_it_shows_is_not_reported(fields: dict[str, Any]) -> None:
    assert is_reported(job())
    assert not is_reported(job(**fields))


def answered(prompt: int, written: int, *, request_bytes: int = 40, output_bytes: int = 0) -> RequestCompleted:
    """Return an answer of so many tokens."""
    usage = TokenUsage(input=prompt, output=written)
    made = completed(attempt("prj", "key"))
    return replace(made, usage=usage, request_bytes=request_bytes, output_bytes=output_bytes)


def test_the_most_that_was_counted_lately_is_assumed_if_enough_was_counted() -> None:
    assert usual_most([1] * (FEWEST - 1)) is None
    assert usual_most([1] * FEWEST) == 1
    assert usual_most(range(40, 161)) == 160
    assert usual_most([Fraction(1, 4)] * FEWEST + [Fraction(9)]) == 9


def test_a_habit_needs_enough_answers_and_of_streams_enough_streams() -> None:
    whole = [answered(10, 50) for _ in range(FEWEST)]
    assert habit_of(whole[1:]) is None
    assert habit_of(whole) == Habit(output_tokens=50, input_density=Fraction(1, 4), output_density=None)
    streamed = [answered(10, 50, output_bytes=200) for _ in range(FEWEST)]
    learned = habit_of([*whole, *streamed])
    assert learned is not None
    assert learned.output_density == Fraction(1, 4)


HABIT = Habit(output_tokens=50, input_density=Fraction(1, 4), output_density=Fraction(1, 5))


def test_the_usual_cost_stays_within_the_bounds_and_is_unknown_for_what_is_more_than_tokens() -> None:
    assert usual_cost(job(), HABIT, None, request_bytes=200) == 50 + 50
    assert usual_cost(job(), HABIT, None, request_bytes=10_000) == 100 + 50, "no more than the prompt's bound"
    assert usual_cost(job(output_bound=20), HABIT, None, request_bytes=200) == 50 + 20
    assert usual_cost(job(choices=3), HABIT, None, request_bytes=200) == 50 + 150
    assert usual_cost(job(), None, None, request_bytes=200) is None
    for unknown in ({"price": None}, {"context_window": 1_000}, {"writes_audio": True}):
        assert usual_cost(job(**unknown), HABIT, None, request_bytes=200) is None


def lost(assumed: int | None = None, **seen: Any) -> ClaimedAttempt:
    """Return an attempt whose worker is lost, which had reported so much."""
    return ClaimedAttempt(
        attempt=1,
        hold_nano_usd=HOLD,
        budget_day=CLAIM.budget_day,
        delivery=1,
        worker="wrk_1",
        provider="echo",
        upstream_model="echo",
        assumed_nano_usd=NanoUsd(assumed) if assumed is not None else None,
        seen=SeenStream(**seen) if seen else None,
    )


def test_of_a_stream_so_much_is_assumed_as_had_come_though_answers_are_usually_shorter() -> None:
    long = lost(1_000, received_bytes=1_900, covered_bytes=2_100)
    assert assumed_of(job(), long, HABIT, 200, is_gone=True) == 50 + 420
    short = lost(300, received_bytes=10, covered_bytes=190)
    assert assumed_of(job(), short, HABIT, 200, is_gone=True) == 50 + 38, "and no more, though they are usually longer"


def test_what_the_provider_has_counted_of_a_stream_is_the_least_that_is_assumed() -> None:
    counted = lost(1_000, received_bytes=10, covered_bytes=190, output_tokens=90, input_usage=TokenUsage(input=77))
    assert assumed_of(job(), counted, HABIT, 200, is_gone=True) == 77 + 90


def test_of_a_stream_that_had_shown_nothing_the_prompt_is_assumed_and_what_was_under_way() -> None:
    nothing = lost(900, covered_bytes=0, received_bytes=0, output_tokens=0)
    begun = replace(nothing, seen=SeenStream())
    assert assumed_of(job(), begun, HABIT, 200, is_gone=True) == 50 + UNDER_WAY_TOKENS


def test_no_more_is_assumed_than_was_reported_or_is_held() -> None:
    reported = lost(60, received_bytes=1_900, covered_bytes=2_100)
    assert assumed_of(job(), reported, HABIT, 200, is_gone=True) == 60
    assert assumed_of(job(), reported, None, 200, is_gone=True) == 60
    assert assumed_of(job(), lost(), None, 200, is_gone=True) == HOLD
    dear = replace(HABIT, output_tokens=10_000)
    assert assumed_of(job(output_bound=10_000), lost(), dear, 200, is_gone=True) == HOLD


def test_of_a_worker_that_stands_still_the_whole_answer_is_assumed_and_never_less_than_had_come() -> None:
    assert assumed_of(job(), lost(60, received_bytes=5, covered_bytes=260), HABIT, 200, is_gone=False) == 50 + 52
    assert assumed_of(job(), lost(60, received_bytes=990, covered_bytes=1_000), HABIT, 200, is_gone=False) == 50 + 200
    assert assumed_of(job(), lost(60, received_bytes=5, covered_bytes=260), None, 200, is_gone=False) == HOLD


def test_without_streams_to_compare_with_a_byte_of_a_stream_counts_as_a_token() -> None:
    unknown = replace(HABIT, output_density=None)
    assert assumed_of(job(), lost(400, received_bytes=5, covered_bytes=260), unknown, 200, is_gone=True) == 400
