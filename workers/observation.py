"""What can be watched of a worker's jobs. Watchers are given facts; they change and decide nothing.

`NOT_OBSERVED` is in place if nobody does; `workers/telemetry.py` makes spans and figures.
"""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from domain.errors import GatewayError
from domain.events import CostIncurred, RequestCompleted
from infra.jobs import Job
from infra.not_watched import NotWatched


class AttemptWatch(Protocol):
    """Watches one attempt. If its block ends with a provider's error, the attempt has failed with that."""

    def calling(self) -> None:
        """The provider is about to be called. An attempt that ends before this is not counted as a call."""
        ...

    def first_part(self) -> None:
        """The first part of the provider's stream has come."""
        ...

    def came(self, content: bytes = b"") -> None:
        """The answer is here, or its stream has ended: the provider's part is over. `content`: of a whole answer."""
        ...

    def answered(self, completed: RequestCompleted, cost: CostIncurred) -> None:
        """The answer is written to the log, or is about to be, with what it costs."""
        ...

    def failed(self, error: GatewayError, cost: CostIncurred | None = None) -> None:
        """The attempt ended so; `cost` is that of a stream that was cut."""
        ...


class JobWatch(Protocol):
    """Watches one delivery of a job."""

    def claiming(self) -> AbstractContextManager[Any]:
        """The block claims an attempt, or finds out what else is to be done."""
        ...

    def appending(self) -> AbstractContextManager[Any]:
        """The block appends to the request's stream."""
        ...

    def attempting(
        self, job: Job, *, attempt: int, target: int, address: str | None, sent: bytes
    ) -> AbstractContextManager[AttemptWatch]:
        """The block makes an attempt at a job's target. `address`: of a provider that is not at its vendor's; `sent`:
        what it is sent.
        """
        ...


class JobObserver(Protocol):
    """Watches the jobs of one worker."""

    def working(self, job: Job, *, delivery: int) -> AbstractContextManager[JobWatch]:
        """The block does what is left to do of a job."""
        ...

    async def close(self) -> None:
        """Let go of what was seen."""
        ...


class _NotWatched(NotWatched):
    """See `NotWatched`."""

    calling = first_part = came = answered = failed = NotWatched.tell
    claiming = appending = attempting = working = NotWatched.watch


NOT_WATCHED_JOB: JobWatch = _NotWatched()
NOT_WATCHED_ATTEMPT: AttemptWatch = _NotWatched()
NOT_OBSERVED: JobObserver = _NotWatched()
