"""What can be watched of an API process's requests. Watchers are given facts; they change and decide nothing.

`NOT_OBSERVED` is in place if nobody does; `api/telemetry.py` makes spans and figures.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol

from litestar.types import Scope

from infra.admission import AdmissionDecision
from infra.jobs import Job, Lane
from infra.not_watched import NotWatched


class RequestWatch(Protocol):
    """Watches one HTTP request, to the last byte of its answer."""

    @property
    def log_fields(self) -> Mapping[str, str]:
        """The `trace_id` and `span_id` that its access line has; empty if it is in no trace."""
        ...

    def answering(self, status: int) -> None:
        """The answer begins, with this status."""
        ...


class AdmissionWatch(Protocol):
    """Watches one decision about a request."""

    def decided(self, decision: AdmissionDecision) -> None:
        """The decision is made."""
        ...


class PublishingWatch(Protocol):
    """Watches how a job gets into the queue."""

    def traced(self, job: Job) -> Job:
        """Return the job with what its worker is to continue the trace from."""
        ...


class RequestObserver(Protocol):
    """Watches the requests of one API process. What is watched in a request's task belongs to that request."""

    def request(self, scope: Scope) -> AbstractContextManager[RequestWatch]:
        """The block answers an HTTP request, whose facts are in the scope."""
        ...

    def admitting(self) -> AbstractContextManager[AdmissionWatch]:
        """The block has a request decided about."""
        ...

    def publishing(self, lane: Lane) -> AbstractContextManager[PublishingWatch]:
        """The block hands a job to the queue."""
        ...

    def accepting(self) -> str | None:
        """Return what the run of an asynchronous job, accepted now, is to be linked to; None: to nothing."""
        ...

    def running(self, job_id: str, accepted_in: str | None) -> AbstractContextManager[Any]:
        """The block makes a request of an asynchronous job. `accepted_in`: what `accepting` returned."""
        ...

    async def close(self) -> None:
        """Let go of what was seen."""
        ...


class _NotWatched(NotWatched):
    """See `NotWatched`."""

    log_fields: Mapping[str, str] = MappingProxyType({})

    answering = decided = accepting = NotWatched.tell
    request = admitting = publishing = running = NotWatched.watch

    def traced(self, job: Job) -> Job:
        """Return the job as it is."""
        return job


NOT_OBSERVED: RequestObserver = _NotWatched()
