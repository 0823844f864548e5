"""An asynchronous job starts once for each run, ends once, and waits as long as its failure says."""

from datetime import UTC, datetime

import pytest

from domain.async_jobs import (
    FIRST_RETRY_S,
    MAX_DELAY_S,
    MAX_PUT_OFF_S,
    MAX_RUNS,
    JobHistory,
    decide_ended,
    decide_started,
    retry_after_s,
)
from domain.errors import (
    BudgetExceeded,
    CircuitOpen,
    GatewayError,
    InvalidRequest,
    Overloaded,
    ProviderCredentials,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
)
from domain.events import Event, JobCancelled, JobFailed, JobStarted, JobSucceeded, RequestAccepted

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ACCEPTED = RequestAccepted(
    job_id="j", key_id="k", operation="chat", model="echo", request_blob_id="b", request_bytes=2, deadline=NOW
)
STARTED = JobStarted(job_id="j", key_id="k", request_id="r1", run=1)
SUCCEEDED = JobSucceeded(
    job_id="j", key_id="k", request_id="r1", result_blob_id="b", result_bytes=2, result_expires_at=NOW
)
CANCELLED = JobCancelled(job_id="j", key_id="k", by_key_id="k")
FAILED = JobFailed(job_id="j", key_id="k", code="C", message="m", status=400)


def job(*events: Event) -> JobHistory:
    history = JobHistory.of([ACCEPTED, *events])
    assert history is not None
    return history


def test_stream_without_events_is_no_job() -> None:
    assert JobHistory.of([]) is None


def test_job_that_is_accepted_starts_its_first_run() -> None:
    assert decide_started(job(), "r1", 0) == (STARTED,)


def test_runs_are_numbered() -> None:
    (second,) = decide_started(job(STARTED), "r2", 1)
    assert isinstance(second, JobStarted)
    assert second.run == 2


def test_runner_that_read_the_job_before_another_started_it_starts_nothing() -> None:
    assert decide_started(job(STARTED), "r2", 0) == ()


@pytest.mark.parametrize("end", [SUCCEEDED, CANCELLED, FAILED])
def test_job_that_has_ended_starts_and_ends_no_more(end: Event) -> None:
    assert decide_started(job(STARTED, end), "r2", 1) == ()
    assert decide_ended(job(STARTED, end), SUCCEEDED) == ()


def test_job_that_has_not_ended_ends() -> None:
    assert decide_ended(job(STARTED), SUCCEEDED) == (SUCCEEDED,)
    assert decide_ended(job(), CANCELLED) == (CANCELLED,)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("bad"),
        Unauthorized("revoked"),
        BudgetExceeded("spent"),
        ProviderRejected("no", provider="p", status=400),
        ProviderCredentials("no", provider="p"),
        ResultLost("gone"),
        RateLimited("never", details={"limit": 10, "asked": 11}, retry_after_s=60),
    ],
)
def test_failure_that_comes_again_is_the_jobs_end(error: GatewayError) -> None:
    assert retry_after_s(error, 1) is None


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("later", retry_after_s=7),
        Overloaded("full", retry_after_s=7),
        Unavailable("away", retry_after_s=7),
        BudgetExceeded("held", retry_after_s=7),
    ],
)
def test_what_passes_is_waited_for_and_is_no_run(error: GatewayError) -> None:
    assert retry_after_s(error, MAX_RUNS + 1) == 7


def test_no_limit_is_waited_for_longer_than_a_minute_at_once() -> None:
    assert retry_after_s(RateLimited("later", retry_after_s=3_600), 0) == MAX_DELAY_S


def test_run_that_the_provider_put_off_counts_no_further() -> None:
    (second,) = decide_started(job(STARTED), "r2", 1, was_put_off=True)
    assert isinstance(second, JobStarted)
    assert second.run == 1
    history = job(STARTED, second)
    assert (history.counted_runs, len(history.runs)) == (1, 2)


@pytest.mark.parametrize(
    "error",
    [
        ProviderRateLimited("limited", provider="p", status=429),
        ProviderUnavailable("not reached", provider="p"),
        CircuitOpen("not called", provider="p"),
    ],
)
def test_provider_that_did_nothing_is_waited_for_until_the_deadline(error: GatewayError) -> None:
    waits = [retry_after_s(error, MAX_RUNS, starts=starts) for starts in (1, 2, 3, 4, 5, 500)]
    assert waits == [10, 30, 90, 270, MAX_PUT_OFF_S, MAX_PUT_OFF_S]


def test_provider_that_is_away_is_asked_again_after_longer_each_time() -> None:
    away = ProviderUnavailable("away", provider="p", status=500)
    waits = [retry_after_s(away, runs) for runs in range(1, MAX_RUNS)]
    assert waits == [FIRST_RETRY_S, 3 * FIRST_RETRY_S, 9 * FIRST_RETRY_S, 27 * FIRST_RETRY_S]
    assert retry_after_s(away, MAX_RUNS) is None


def test_provider_says_how_long_its_limit_lasts() -> None:
    assert retry_after_s(ProviderRateLimited("limited", provider="p", retry_after_s=200), 1) == 200
    assert retry_after_s(ProviderRateLimited("limited", provider="p", retry_after_s=5_000), 1) == MAX_PUT_OFF_S
