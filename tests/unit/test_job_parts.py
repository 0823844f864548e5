"""Jobs that were accepted a moment ago count toward their project's limit before the read model has them."""

from typing import Any

from api.async_jobs.parts import UNFOLDED_S, JobParts


def parts(times: list[float]) -> JobParts:
    nothing: Any = None
    return JobParts(blobs=nothing, cancelled=nothing, now_s=lambda: times.pop(0))


def test_jobs_of_late_count_for_their_own_project() -> None:
    counted = parts([0.0, 1.0, 2.0])
    assert counted.count("p", 1_000) == 1_000
    assert counted.count("p", 1) == 1_001
    assert counted.count("q", 1) == 1


def test_they_count_no_longer_once_the_read_model_has_them() -> None:
    counted = parts([0.0, UNFOLDED_S + 1])
    counted.count("p", 1_000)
    assert counted.count("p", 1) == 1


def test_what_was_not_accepted_after_all_does_not_count() -> None:
    counted = parts([0.0, 1.0, 2.0])
    counted.count("p", 1_000)
    counted.count("p", 7)
    counted.discount("p", 1_000)
    assert counted.count("p", 1) == 8
