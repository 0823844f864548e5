"""Who still waits for a job's answer: its caller, or followers that sent the same request."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from domain.errors import ClientDisconnected
from infra.cancellations import CancellationListener, Cancellations
from infra.jobs import Job
from infra.replies import ReplySender

Result = TypeVar("Result")


class WaitingCallers:
    """Watches over the callers of one worker's jobs."""

    def __init__(self, *, replies: ReplySender, cancellations: CancellationListener) -> None:
        self._replies = replies
        self._cancellations = cancellations

    def cancellations(self, job: Job) -> AbstractContextManager[Cancellations]:
        """Listen for cancellations of the job. To be called before the claim: a caller that disconnects from a claimed
        job publishes only once.
        """
        return self._cancellations.of(job.identity.request_id)

    async def are_gone(self, job: Job, cancellations: Cancellations) -> bool:
        """Say if the caller has disconnected and no follower waits."""
        cancellations.news.clear()  # a cancellation during the request below is looked at next
        if not cancellations.caller_is_gone:
            return False
        return job.cache_key is None or not await self._replies.is_awaited(job.identity.request_id)

    async def unless_gone(self, job: Job, cancellations: Cancellations, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work`, and cancel it once nothing waits for the answer.

        Raises:
            ClientDisconnected: it was cancelled.

        """
        working = asyncio.create_task(work)
        leaving = asyncio.create_task(self._until_gone(job, cancellations))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            leaving.result()
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)
        raise client_disconnected()

    async def _until_gone(self, job: Job, cancellations: Cancellations) -> None:
        while not await self.are_gone(job, cancellations):
            await cancellations.news.wait()


def client_disconnected() -> ClientDisconnected:
    """The error of a request whose caller did not wait for its end."""
    return ClientDisconnected("the caller left before the answer was complete")
