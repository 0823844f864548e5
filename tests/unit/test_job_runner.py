"""Jobs use what a process has left: fewer are started as soon as its event loop turns late, and some always."""

import pytest

from api.async_jobs.runner import (
    BURST_S,
    FIRST_PER_S,
    LATE_BESIDE_CALLERS_S,
    LATE_S,
    LEAST_PER_S,
    MOST_PER_S,
    TICK_S,
    StartRate,
)
from api.async_jobs.running import pause_s
from domain.limits import LimitStatus, Meter


def started(rate: StartRate, ticks: int, late_s: float, *, beside_callers: bool = False) -> int:
    """Start what is due at each tick. Return how many jobs that were."""
    count = 0
    for _ in range(ticks):
        rate.turned(TICK_S + late_s, late_s, beside_callers=beside_callers)
        due = rate.due(beside_callers=beside_callers)
        rate.started(due)
        count += due
    return count


def test_rate_is_won_slowly_and_has_a_bound() -> None:
    rate = StartRate()
    first_s = started(rate, 20, 0.0)
    assert FIRST_PER_S <= first_s <= 2 * FIRST_PER_S
    started(rate, 10_000, 0.0)
    assert started(rate, 20, 0.0) == pytest.approx(MOST_PER_S, abs=2)


def test_beside_callers_it_is_won_more_slowly() -> None:
    alone, beside_callers = StartRate(), StartRate()
    assert started(beside_callers, 200, 0.0, beside_callers=True) < started(alone, 200, 0.0) / 2


def test_late_turns_lower_it_at_once_and_jobs_go_on() -> None:
    rate = StartRate()
    started(rate, 10_000, 0.0)
    started(rate, 10, LATE_S * 2)
    in_ten_s = started(rate, round(10 / (TICK_S + LATE_S * 2)), LATE_S * 2)
    assert in_ten_s == pytest.approx(10 * LEAST_PER_S, abs=2)


def test_what_was_not_started_is_made_up_for_only_a_moment() -> None:
    rate = StartRate()
    for _ in range(10_000):
        rate.turned(TICK_S, 0.0, beside_callers=False)
    assert rate.due(beside_callers=False) == MOST_PER_S * BURST_S
    assert rate.due(beside_callers=True) == MOST_PER_S * TICK_S, "callers who have just come are not met by a burst"


def test_beside_callers_jobs_give_way_sooner_and_start_one_by_one() -> None:
    late_s = (LATE_S + LATE_BESIDE_CALLERS_S) / 2
    rate = StartRate()
    started(rate, 10_000, late_s)
    assert rate.due(beside_callers=False) == 0
    started(rate, 10, late_s, beside_callers=True)
    assert started(rate, 20, late_s, beside_callers=True) <= LEAST_PER_S * 20 * (TICK_S + late_s) + 1
    for _ in range(10_000):
        rate.turned(TICK_S, 0.0, beside_callers=True)
    assert rate.due(beside_callers=False) == MOST_PER_S * TICK_S, "what was missed is not made up for"


def test_jobs_leave_half_of_a_keys_rate_to_its_other_calls() -> None:
    def status(remaining: int) -> LimitStatus:
        return LimitStatus(requests=Meter(limit=600, remaining=remaining, reset_ns=0))

    assert pause_s(LimitStatus()) == 0
    assert pause_s(status(400)) <= 0
    assert pause_s(status(294)) == pytest.approx(0.6), "six requests of 600 a minute"


def test_the_tighter_of_two_limits_counts() -> None:
    requests, tokens = Meter(limit=600, remaining=600, reset_ns=0), Meter(limit=1_000, remaining=0, reset_ns=0)
    assert pause_s(LimitStatus(requests=requests, tokens=tokens)) == pytest.approx(30)
