"""Another delivery goes on at the target that the one before it had come to, wherever that died."""

from datetime import date
from typing import Any

from msgspec.structs import replace

from domain.events import AttemptFailed, AttemptLost, Event
from domain.failover import TargetFate
from domain.money import NanoUsd
from domain.routes import DEFAULT_CAUSES
from infra.admission import ClaimedAttempt
from infra.jobs import Job, JobFailover, decode_job, encode_job
from tests.support.jobs import make_job
from workers.resume import next_target, target_of
from workers.target_fates import target_fates

DAY = date(2026, 3, 1)
MODELS = ("gpt-4o", "claude-3-haiku", "echo")


def planned(attempts: int = 2) -> Job:
    first, *further = (make_job(model=model, upstream_model=model, provider=f"of-{model}") for model in MODELS)
    return replace(
        first,
        failover=JobFailover(
            further=tuple(replace(job, body=None) for job in further), fail_over_on=DEFAULT_CAUSES, attempts=attempts
        ),
    )


def fields(number: int, target: int) -> dict[str, Any]:
    identity = planned().at(target).identity
    return identity.attempt_fields(number) | {"budget_day": DAY, "target": target}


def failed(number: int, target: int, next_target: int | None = None) -> AttemptFailed:
    return AttemptFailed(
        **fields(number, target), code="X", message="m", hold_nano_usd=NanoUsd(5), next_target=next_target
    )


def lost(number: int, target: int) -> AttemptLost:
    return AttemptLost(**fields(number, target), reason="worker_lost", assumed_nano_usd=NanoUsd(5))


def claim(number: int, target: int) -> ClaimedAttempt:
    identity = planned().at(target).identity
    return ClaimedAttempt(
        attempt=number,
        hold_nano_usd=NanoUsd(5),
        budget_day=DAY,
        delivery=1,
        worker="w",
        provider=identity.provider,
        upstream_model=identity.upstream_model,
    )


def test_a_job_keeps_its_plan_on_its_way_through_the_queue() -> None:
    job = decode_job(encode_job(planned()))
    assert [job.at(number).identity.model for number in range(job.targets)] == list(MODELS)
    assert {job.at(number).body for number in range(job.targets)} == {b"{}"}, "equal bodies travel once"


def test_a_worker_that_dies_before_it_has_admitted_the_next_target_is_followed_at_that_one() -> None:
    assert next_target(planned(), [failed(1, 0, next_target=1)]) == (1, True)


def test_a_worker_that_dies_during_a_pause_is_followed_at_the_same_target() -> None:
    assert next_target(planned(), [failed(1, 0)]) == (0, False)


def test_a_lost_attempt_is_repeated_at_its_target_as_often_as_any() -> None:
    history: list[Event] = [failed(1, 0, next_target=1), lost(2, 1)]
    assert next_target(planned(), history) == (1, True)
    assert next_target(planned(), [*history, lost(3, 1)]) == (2, True)


def test_the_last_target_is_tried_on_while_attempts_are_left() -> None:
    assert next_target(planned(attempts=1), [lost(1, 2)]) == (2, True)


def test_an_attempt_in_flight_is_one_at_the_target_that_its_row_names() -> None:
    job = planned()
    assert target_of(job, [], claim(1, 0)) == 0
    assert target_of(job, [failed(1, 0, next_target=1)], claim(2, 1)) == 1
    assert target_of(job, [failed(1, 0, next_target=1)], claim(2, 2)) == 2, "one was passed over"


def test_a_request_with_one_target_has_no_plan_to_show() -> None:
    assert target_fates(make_job(), [], ()) == ()


def test_the_fate_of_each_target_is_told() -> None:
    job = planned()
    assert job.failover is not None
    dropped = TargetFate(model="x", outcome="dropped", reason="unknown_model")
    job = replace(job, failover=replace(job.failover, dropped=(dropped,)))
    fates = target_fates(job, [failed(1, 0, next_target=1)], ((1, "budget"),), answered=2)
    assert [(fate.outcome, fate.reason) for fate in fates] == [
        ("failed", "X"),
        ("skipped", "budget"),
        ("answered", None),
        ("dropped", "unknown_model"),
    ]
    assert [fate.outcome for fate in target_fates(job, [], (), failed=(0, "X"))][:3] == [
        "failed",
        "not_tried",
        "not_tried",
    ]
