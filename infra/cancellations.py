"""Ends a worker's work on a job once nothing waits for its answer: neither its caller nor a follower.

A follower is a caller that sent the same request and waits for the same answer. A call whose caller sent an idempotency
key is made to its end: the caller may come back for the answer. The other end is the API's: see
`ReplyInbox.publish_cancel` and `ReplyInbox.follow` in `infra/replies.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from msgspec import Struct, field
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from domain.errors import ClientDisconnected
from infra.broker import Broker, BrokerErrors
from infra.interruption import Interruption
from infra.jobs import Job
from infra.reply_subjects import CALLER, cancel_subject, followers_subject

FOLLOWERS_TIMEOUT_S = 0.5

Result = TypeVar("Result")


class Cancellation(Struct, eq=False):
    """The cancellations published for one job."""

    broker: Broker
    job: Job
    listened: "dict[str, list[Cancellation]]" = field(default_factory=dict)
    """Those that are told, by request: this one as long as its block runs."""
    caller_is_gone: bool = False
    published: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each cancellation; `has_no_waiters` clears it."""
    on_published: Callable[[], None] | None = None
    """Called at each cancellation."""

    def __enter__(self) -> Self:
        self.listened.setdefault(self.job.identity.request_id, []).append(self)
        return self

    def __exit__(self, *_: object) -> None:
        request_id = self.job.identity.request_id
        self.listened[request_id].remove(self)
        if not self.listened[request_id]:
            del self.listened[request_id]

    def note(self, *, is_caller: bool) -> None:
        """Take one cancellation: of the job's caller, or of a follower."""
        self.caller_is_gone = self.caller_is_gone or is_caller
        self.published.set()
        if self.on_published is not None:
            self.on_published()

    async def has_no_waiters(self) -> bool:
        """Return True if the caller has disconnected and there is no follower."""
        self.published.clear()  # a cancellation during the request below is looked at next
        if not self.caller_is_gone or self.job.outlives_its_caller:
            return False
        return not await self.has_followers()

    async def or_cancelled(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work`, and cancel it once nothing waits for its result. Starts a task only if a cancellation comes.

        Raises:
            ClientDisconnected: it was cancelled.

        """
        leaving: list[asyncio.Task[None]] = []
        interruption = Interruption()

        def look() -> None:
            if not leaving:
                leaving.append(asyncio.create_task(self._until_no_waiters()))
                leaving[0].add_done_callback(lambda _: interruption.come())

        self.on_published = look
        if self.caller_is_gone:
            look()
        try:
            with interruption:
                result = await work
        except Exception:
            if not interruption.has_come:
                raise
        else:
            if not interruption.has_come:
                return result
        finally:
            self.on_published = None
            for task in leaving:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        leaving[0].result()
        raise client_disconnected()

    async def _until_no_waiters(self) -> None:
        while not await self.has_no_waiters():
            await self.published.wait()

    async def has_followers(self) -> bool:
        """Return True if an API process has a follower of the job, or if it cannot be found out."""
        if not self.job.has_followers:
            return False
        subject = followers_subject(self.job.identity.request_id)
        try:
            await self.broker.client.request(subject, b"", timeout=FOLLOWERS_TIMEOUT_S)
        except NoRespondersError:
            return False
        except BrokerErrors:  # the answer is not thrown away on a guess
            return True
        return True


class CancellationListener:
    """Receives the cancellations for one worker, over one subscription."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._cancellations: dict[str, list[Cancellation]] = {}
        """By request; two if a job has been delivered here again."""

    async def listen(self) -> None:
        """Start to listen."""

        async def take(message: Msg) -> None:
            self.note(message.subject.rpartition(".")[2], is_caller=message.data == CALLER)

        await self._broker.client.subscribe(cancel_subject("*"), cb=take)

    def watch(self, job: Job) -> "Cancellation":
        """Subscribe to the job's cancellations until the block ends. Call it before claiming: a caller that disconnects
        after the claim publishes only once.
        """
        return Cancellation(self._broker, job, self._cancellations)

    def note(self, request_id: str, *, is_caller: bool) -> None:
        """Take a cancellation: the request's caller or, if not `is_caller`, a follower has disconnected."""
        for cancellation in self._cancellations.get(request_id, ()):
            cancellation.note(is_caller=is_caller)


def nobody_waits() -> ClientDisconnected:
    """Make the error of a request whose API process is gone, and with it its caller."""
    return ClientDisconnected("the process that the caller was connected to has ended, and nobody else waits")


def client_disconnected() -> ClientDisconnected:
    """Make the error of a request whose caller did not wait for its end."""
    return ClientDisconnected("the caller left before the answer was complete")
