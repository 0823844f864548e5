"""Jobs use what a process has left: fewer run as soon as its event loop turns late, and one at least."""

import pytest

from api.async_jobs.runner import LATE_S, SlotLimit
from api.async_jobs.running import pause_s
from domain.limits import LimitStatus, Meter


def test_slots_are_won_slowly_and_never_exceed_the_setting() -> None:
    limit = SlotLimit(8)
    before = limit.slots
    limit.turned(0.0)
    assert limit.slots <= before + 1
    for _ in range(1_000):
        limit.turned(0.0)
    assert limit.slots == 8


def test_late_turn_halves_them_and_one_is_left() -> None:
    limit = SlotLimit(8)
    for _ in range(1_000):
        limit.turned(0.0)
    limit.turned(LATE_S * 2)
    assert limit.slots == 4
    for _ in range(10):
        limit.turned(LATE_S * 2)
    assert limit.slots == 1


def test_jobs_leave_half_of_a_keys_rate_to_its_other_calls() -> None:
    def status(remaining: int) -> LimitStatus:
        return LimitStatus(requests=Meter(limit=600, remaining=remaining, reset_ns=0))

    assert pause_s(LimitStatus()) == 0
    assert pause_s(status(400)) <= 0
    assert pause_s(status(294)) == pytest.approx(0.6), "six requests of 600 a minute"


def test_the_tighter_of_two_limits_counts() -> None:
    requests, tokens = Meter(limit=600, remaining=600, reset_ns=0), Meter(limit=1_000, remaining=0, reset_ns=0)
    assert pause_s(LimitStatus(requests=requests, tokens=tokens)) == pytest.approx(30)
