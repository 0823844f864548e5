"""Jobs that were accepted a moment ago count toward their project's limit once: before the read model has them."""

from typing import Any

from api.async_jobs.parts import JobParts


def parts() -> JobParts:
    nothing: Any = None
    return JobParts(blobs=nothing, cancelled=nothing)


def test_jobs_that_are_being_accepted_count_for_their_own_project() -> None:
    counted = parts()
    counted.accepting("p", 1_000)
    counted.accepting("p", 1)
    counted.accepting("q", 1)
    assert (counted.unfolded("p", 0), counted.unfolded("q", 0)) == (1_001, 1)


def test_they_count_until_the_read_model_has_the_log_up_to_them() -> None:
    counted = parts()
    counted.accepting("p", 1_000).position = 1_007
    counted.accepting("p", 5).position = 1_012
    assert counted.unfolded("p", 1_006) == 1_005
    assert counted.unfolded("p", 1_007) == 5
    assert counted.unfolded("p", 1_012) == 0


def test_what_was_not_accepted_after_all_does_not_count() -> None:
    counted = parts()
    refused = counted.accepting("p", 1_000)
    counted.accepting("p", 1_000)
    counted.not_accepted("p", refused)
    assert counted.unfolded("p", 10) == 1_000
