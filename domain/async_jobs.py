"""The decider of an asynchronous job: from the events of its stream to those that may be appended. Pure.

The stream's version keeps a decision true until it is appended. So of two runners that have the same job, one alone
starts it, and a job ends once: what comes later is dropped.
"""

from collections.abc import Sequence

from msgspec import Struct

from domain.errors import (
    BodyTooLarge,
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    Overloaded,
    ProviderCredentials,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
    UnknownModel,
    UnsupportedEncoding,
)
from domain.events import Event, JobCancelled, JobFailed, JobStarted, JobSucceeded, RequestAccepted

JobEnd = JobSucceeded | JobFailed | JobCancelled

MAX_RUNS = 5
"""The most requests that are given to workers for one job."""
FIRST_RETRY_S = 10.0
RETRY_FACTOR = 3.0
"""Between two runs after a provider's failure: 10, 30, 90, 270 seconds, or as long as the provider asks."""
MAX_RETRY_S = 1_800.0
MAX_PUT_OFF_S = 300.0
"""Before a provider that did nothing is asked again: 10, 30, 90, 270, 300 seconds, or as long as it asks."""
MIN_DELAY_S = 1.0
MAX_DELAY_S = 60.0
"""Before a job that a limit, or something that is away, holds up is looked at again."""

_FINAL = frozenset(
    kind.code
    for kind in (
        Unauthorized,
        Forbidden,
        NotFound,
        InvalidRequest,
        UnknownModel,
        BodyTooLarge,
        UnsupportedEncoding,
        BudgetExceeded,
        ProviderRejected,
        ProviderCredentials,
        ResultLost,
    )
)
"""Codes of failures that another run would meet again."""
_HELD_UP = frozenset(kind.code for kind in (RateLimited, Overloaded, Unavailable))
"""Codes of what passes: the job is not at fault, and no run is counted."""


class JobHistory(Struct, frozen=True):
    """A job's stream."""

    accepted: RequestAccepted
    runs: tuple[JobStarted, ...]
    end: JobEnd | None
    version: int
    """The number of its events."""

    @property
    def counted_runs(self) -> int:
        """The runs that count: not those that a provider put off, doing nothing."""
        return self.runs[-1].run if self.runs else 0

    @classmethod
    def of(cls, events: Sequence[Event]) -> "JobHistory | None":
        """Read a stream; None if it is empty."""
        if not events:
            return None
        accepted = events[0]
        assert isinstance(accepted, RequestAccepted), "the first event of a job"
        return cls(
            accepted=accepted,
            runs=tuple(event for event in events if isinstance(event, JobStarted)),
            end=next((event for event in events if isinstance(event, JobEnd)), None),
            version=len(events),
        )


def decide_started(job: JobHistory, request_id: str, seen_runs: int, *, was_put_off: bool = False) -> tuple[Event, ...]:
    """Return the event of a run; empty if the job has ended, or another runner has started it since it was read.

    `was_put_off`: the provider did nothing in the run before, whose number this one has.
    """
    if job.end is not None or len(job.runs) != seen_runs:
        return ()
    accepted = job.accepted
    run = max(1, job.counted_runs + (not was_put_off))
    return (JobStarted(job_id=accepted.job_id, key_id=accepted.key_id, request_id=request_id, run=run),)


def decide_ended(job: JobHistory, end: JobEnd) -> tuple[Event, ...]:
    """Return the end of a job; empty if it has ended."""
    return () if job.end is not None else (end,)


def is_put_off(code: str, status: int | None) -> bool:
    """Return True for a failure of a provider that did nothing: it limits us, or it was not called or not reached.

    `status`: the provider's HTTP status; None: there was no response.
    """
    return code == ProviderRateLimited.code or (code == ProviderUnavailable.code and status is None)


def put_off_s(error: ProviderError, starts: int = 1) -> float:
    """Return how long a job waits for a provider that put it off, having been started so many times."""
    backoff_s = FIRST_RETRY_S * RETRY_FACTOR ** min(MAX_RUNS, max(0, starts - 1))
    return min(MAX_PUT_OFF_S, max(backoff_s, error.retry_after_s or 0.0))


def retry_after_s(error: GatewayError, runs: int, *, starts: int | None = None) -> float | None:
    """Return how long a job waits after a failure, having run so many times; None: the failure is its end.

    `starts`: of its runs with those that do not count; None: all count. A budget that only the holds of others fill
    says when to come back. One that is spent does not.
    """
    asked_s = error.retry_after_s
    if _never_fits(error):
        return None
    if error.code in _HELD_UP or (error.code == BudgetExceeded.code and asked_s is not None):
        return min(MAX_DELAY_S, max(MIN_DELAY_S, asked_s or 0.0))
    if isinstance(error, ProviderError) and is_put_off(error.code, error.status):
        return put_off_s(error, runs if starts is None else starts)
    if error.code in _FINAL or runs >= MAX_RUNS:
        return None
    backoff_s = FIRST_RETRY_S * RETRY_FACTOR ** max(0, runs - 1)
    return min(MAX_RETRY_S, max(backoff_s, asked_s or 0.0))


def _never_fits(error: GatewayError) -> bool:
    """Return True for a refusal by a limit that a whole minute's worth would not lift."""
    figures = error.details or {}
    return isinstance(error, RateLimited) and figures.get("asked", 0) > figures.get("limit", 0)
