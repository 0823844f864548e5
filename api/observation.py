"""What can be watched of an API process's requests. Who watches changes nothing: it gets facts, and decides none.

`NOT_OBSERVED` is in place if nobody does; `api/telemetry.py` makes spans and figures.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol, Self

from litestar.types import Scope

from infra.admission import AdmissionDecision
from infra.jobs import Job, Lane


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


class _NotWatched:
    """Watches nothing, whatever it is told."""

    log_fields: Mapping[str, str] = MappingProxyType({})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tell(self, *_: Any, **__: Any) -> None:
        """Take nothing of it."""

    answering = decided = accepting = tell

    def watch(self, *_: Any, **__: Any) -> Self:
        """Watch nothing of the block."""
        return self

    request = admitting = publishing = running = watch

    def traced(self, job: Job) -> Job:
        """Return the job as it is."""
        return job

    async def close(self) -> None:
        """Nothing was seen."""


NOT_OBSERVED: RequestObserver = _NotWatched()
