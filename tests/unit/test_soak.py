"""What a soak takes for wrong: the one of `bench/soak.py` has to be able to fail."""

from bench.soak import LONG_S, SAMPLE_S, Plan, Sample, growth_of, wrong_in
from bench.soak_load import SoakLoad
from tests.support.load import BROKE_OFF, CUT_OFF, Asked

MOST_UNDER_WAY = 10


def samples(grows_mb_per_s: float = 0.0, rows: int = 0) -> list[Sample]:
    return [
        Sample(at_s=at_s, memory_mb={"api": 100 + grows_mb_per_s * at_s}, in_flight_rows=rows)
        for at_s in (number * SAMPLE_S for number in range(int(LONG_S / SAMPLE_S) + 1))
    ]


def asked(outcome: str, began_s: float, ended_s: float) -> Asked:
    return Asked(prompt="p", outcome=outcome, error="", began_s=began_s, ended_s=ended_s)


def test_memory_that_grows_steadily_is_wrong_and_memory_that_stays_is_not() -> None:
    assert wrong_in(samples(), MOST_UNDER_WAY) == []
    assert [name for name, *_ in wrong_in(samples(0.1), MOST_UNDER_WAY)] == ["api"]


def test_what_is_needed_to_become_warm_is_no_growth() -> None:
    warming = [
        Sample(at_s=one.at_s, memory_mb={"api": 100 + min(40.0, one.at_s)}, in_flight_rows=0) for one in samples()
    ]
    assert abs(growth_of(warming, "api")) < 0.01


def test_rows_that_never_fall_to_what_is_under_way_are_wrong() -> None:
    assert wrong_in(samples(rows=MOST_UNDER_WAY), MOST_UNDER_WAY) == []
    assert wrong_in(samples(rows=MOST_UNDER_WAY + 1), MOST_UNDER_WAY) != []


def test_only_a_stream_that_was_under_way_as_a_worker_was_killed_may_break_off() -> None:
    load = SoakLoad([])
    load.not_answered = [asked(BROKE_OFF, 1, 3), asked(BROKE_OFF, 3, 4), asked(CUT_OFF, 1, 3), asked("503", 1, 3)]
    assert load.failed([2.0]) == load.not_answered[1:]


def test_the_default_plan_kills_a_worker_every_minute_and_the_projector_every_five() -> None:
    kills = Plan(seconds=1_800, per_second=None).kills()
    assert [at_s for at_s, command in kills if command == "worker"] == [60.0 * n for n in range(1, 30)]
    assert [at_s for at_s, command in kills if command == "projector"] == [300.0 * n for n in range(1, 6)]
