"""Receives the answers of workers in an API process, over core NATS. `infra/reply_sender.py` sends them.

A request ends once its commit frame has come, which a worker sends after the append. Core NATS keeps no frame: the API
requests missing frames again (`Resends`), and reads an ending that was lost from the log
(`api/reply_recovery.py`). A stream comes in numbered parts, which `infra/incoming.py` collects.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NoRespondersError

from domain.errors import Overloaded
from domain.job_result import JobFailure, Receipt
from infra.broker import Broker, BrokerErrors
from infra.byte_budget import BytesInHand
from infra.jobs import Job
from infra.reply_frames import Frame, Resend, decode_failure, decode_frame, decode_receipt, encode_frame
from infra.reply_subjects import (
    CALLER,
    FOLLOWER,
    NO,
    YES,
    cancel_subject,
    done_subject,
    followers_subject,
    resend_subject,
)

MAX_BODY_BYTES = 256 * 1024 * 1024
AWAITED_TIMEOUT_S = 0.5
RESEND_INTERVAL_S = 1.0
MAX_RESENDS = 6
"""The most requests for missing frames: together they last longer than a dead connection goes unnoticed."""

RequestResend = Callable[[int, int], None]
"""Requests the frames of an attempt again, from a number on."""


class Completed(Struct, frozen=True, kw_only=True):
    """An answer that is in the log."""

    attempt: int
    digest: bytes
    receipt: Receipt
    size_bytes: int | None = None
    """None: a commit frame does not have it."""


class Committed(Struct, frozen=True):
    """The answer, which is in the log. `body` None: its frames were lost; the log may have it."""

    attempt: int
    body: bytes | None
    receipt: Receipt


class Failed(Struct, frozen=True):
    """There is no answer, and why."""

    failure: JobFailure


Given = TypeVar("Given")

log = structlog.get_logger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class Collector(Protocol):
    """Takes the frames of one request, in order."""

    @property
    def progress(self) -> tuple[int, int]:
        """Changes with every frame that brings something."""
        ...

    def take(self, frame: Frame) -> None:
        """Take the next frame."""

    def begin_again(self) -> bool:
        """Drop what came, for another attempt. False if the caller was given some of it."""
        ...

    def fail(self, error: Overloaded) -> None:
        """End with an error: there is no room for what came."""

    def when_room(self, sent: Frame, tell: Callable[[], None]) -> None:
        """Call `tell` once the caller has taken most of what was sent, up to the part that `sent` numbers."""

    def end_by_log(self, end: Completed | JobFailure) -> None:
        """Take the end that the log has, unless its frames have come."""


class Resends:
    """Requests missing frames a few times, then gives up."""

    def __init__(self, request_resend: RequestResend, *, interval_s: float = RESEND_INTERVAL_S) -> None:
        self._request_resend = request_resend
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._requests = 0

    @property
    def are_under_way(self) -> bool:
        """True if frames were requested and are still missing."""
        return self._timer is not None

    def begin(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        """Request the `missing` frames of an attempt, from a number on, unless that is under way already."""
        if self._timer is None:
            self._requests = 0
            self._request(missing, give_up)

    def end(self) -> None:
        """Stop: nothing is missing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _request(self, missing: Callable[[], tuple[int, int]], give_up: Callable[[], None]) -> None:
        if self._requests == MAX_RESENDS:
            self._timer = None
            give_up()
            return
        self._requests += 1
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._request, missing, give_up)
        self._request_resend(*missing())


class _Waiter:
    """Collects the frames of one request whose answer is given in one piece."""

    def __init__(self, make_resends: Callable[[], Resends], in_hand: BytesInHand | None) -> None:
        self._in_hand = in_hand
        self.ended: asyncio.Future[Committed | Failed] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, dict[int, bytes]] = {}
        self._bytes = 0
        self._make_resends = make_resends
        self._resends: Resends | None = None
        """Made when frames are missing, which they hardly ever are."""
        self._completed: Completed | None = None
        """Set if the commit came before all of the body."""

    @property
    def progress(self) -> tuple[int, int]:
        return len(self._parts), self._bytes

    def begin_again(self) -> bool:
        return True

    def take(self, frame: Frame) -> None:
        if self.ended.done():
            return
        match frame.kind:
            case "body":
                parts, size_bytes = self._parts.setdefault(frame.attempt, {}), len(frame.payload)
                if frame.number not in parts and self._bytes + size_bytes <= MAX_BODY_BYTES:
                    if self._in_hand is not None:
                        self._in_hand.take(size_bytes)
                    parts[frame.number] = frame.payload
                    self._bytes += size_bytes
                    if self._completed is not None and self._completed.size_bytes == self._bytes:
                        self._complete(self._completed)
            case "commit":
                self._complete(
                    Completed(attempt=frame.attempt, digest=frame.digest, receipt=decode_receipt(frame.payload))
                )
            case "failed":
                self._end(Failed(decode_failure(frame.payload)))
            case "part" | "begun?" | "room?" | "waits?":
                raise AssertionError("only a stream has parts")

    def when_room(self, sent: Frame, tell: Callable[[], None]) -> None:
        raise AssertionError(f"only a stream has parts: {sent.number}, {tell}")

    def fail(self, error: Overloaded) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
        if self._resends is not None:
            self._resends.end()

    def end_by_log(self, end: Completed | JobFailure) -> None:
        if self.ended.done():
            return
        if isinstance(end, JobFailure):
            self._end(Failed(end))
        else:
            self._complete(end)

    def _complete(self, completed: Completed, *, is_last_look: bool = False) -> None:
        """End with the body if it is complete; without it once its frames will not come any more."""
        attempt, receipt = completed.attempt, completed.receipt
        parts = self._parts.get(attempt, {})
        body = b"".join([parts[number] for number in sorted(parts)])
        if hashlib.sha256(body).digest() == completed.digest:
            self._end(Committed(attempt, body, receipt))
        elif receipt.is_kept or is_last_look:  # a blob is as good as its frames
            self._end(Committed(attempt, None, receipt))
        else:
            self._completed = completed
            last_look = partial(self._complete, completed, is_last_look=True)
            self._resends = self._resends or self._make_resends()
            self._resends.begin(lambda: (attempt, 1), give_up=last_look)

    def _end(self, end: Committed | Failed) -> None:
        if not self.ended.done():
            self.ended.set_result(end)
        if self._resends is not None:
            self._resends.end()


class _Collecting(Generic[Given]):
    """Hands the frames of a request to a collector for as long as its block lasts, to which it gives `given`."""

    def __init__(self, inbox: "ReplyInbox", request_id: str, collector: Collector, given: Given) -> None:
        self._inbox = inbox
        self._request_id = request_id
        self._collector = collector
        self._given = given

    def __enter__(self) -> Given:
        self._inbox.waiters[self._request_id] = self._collector
        return self._given

    def __exit__(self, *_: object) -> None:
        del self._inbox.waiters[self._request_id]
        self._inbox.jobs.pop(self._request_id, None)


class ReplyInbox:
    """Receives the frames of all requests of one API process, over one subscription."""

    def __init__(self, broker: Broker, api_id: str) -> None:
        self._broker = broker
        self._client = broker.client
        self._api_id = api_id
        self.waiters: dict[str, Collector] = {}
        """The collectors of the requests that are waited for."""
        self.jobs: dict[str, Job] = {}
        """The jobs of those that have been published."""
        self._publishing: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Subscribe."""
        self._subscription = await self._broker.subscribe(self.subject("*"), self._take)

    def subject(self, request_id: str) -> str:
        """The `reply_to` of a request of this process."""
        return f"reply.{self._api_id}.{request_id}"

    def expect(
        self, request_id: str, in_hand: BytesInHand | None = None
    ) -> "_Collecting[asyncio.Future[Committed | Failed]]":
        """Collect the request's frames until the block ends; the future has how it ended.

        Counts what comes in `in_hand`, if it is given: the future raises Overloaded if there is no room for it.
        """
        waiter = _Waiter(partial(self.resends, request_id), in_hand)
        return _Collecting(self, request_id, waiter, waiter.ended)

    def collect(self, request_id: str, collector: Collector) -> "_Collecting[None]":
        """Hand the request's frames to a collector until the block ends."""
        return _Collecting(self, request_id, collector, None)

    def keep_job(self, job: Job) -> None:
        """Keep a job while its request is waited for: it may have to be dispatched again."""
        self.jobs[job.identity.request_id] = job

    def job(self, request_id: str) -> Job | None:
        """Return the job of a request that is waited for."""
        return self.jobs.get(request_id)

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the requests that are waited for at this moment."""
        return list(self.waiters.items())

    def end_by_log(self, request_id: str, end: Completed | JobFailure) -> None:
        """Give a request the end that the log has, if it is still waited for."""
        if (waiter := self.waiters.get(request_id)) is not None:
            waiter.end_by_log(end)

    def resends(self, request_id: str) -> Resends:
        """Make what requests a request's missing frames from the workers."""
        return Resends(partial(self._request_resend, request_id))

    def _request_resend(self, request_id: str, attempt: int, number: int) -> None:
        log.info("frames_lost", request_id=request_id, attempt=attempt, number=number)
        self._publish(resend_subject(request_id), _encode(Resend(attempt, number)), reply=self.subject(request_id))

    def publish_cancel(self, request_id: str, *, as_follower: bool = False) -> None:
        """Publish, without waiting, that a request's caller has disconnected, or a follower.

        The other end is `infra/cancellations.py`.
        """
        self._publish(cancel_subject(request_id), FOLLOWER if as_follower else CALLER)

    def _publish(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Publish without waiting. What is lost with the connection is requested again, or costs a little more."""

        async def publish() -> None:
            with suppress(*BrokerErrors):
                await self._client.publish(subject, payload, reply=reply)

        task = asyncio.get_running_loop().create_task(publish())
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    @asynccontextmanager
    async def follow(self, request_id: str) -> AsyncIterator[asyncio.Event]:
        """Follow a request that any process may have admitted: the event is set when it ends.

        Until the block ends the request has a follower, so it goes on if its own caller disconnects.
        """
        ended = asyncio.Event()

        async def take(_message: Msg) -> None:
            ended.set()

        async def confirm(message: Msg) -> None:
            await message.respond(YES)

        done = await self._client.subscribe(done_subject(request_id), cb=take)
        waiting = await self._client.subscribe(followers_subject(request_id), cb=confirm)
        try:
            yield ended
        finally:
            await done.unsubscribe()
            await waiting.unsubscribe()
            if not ended.is_set():
                self.publish_cancel(request_id, as_follower=True)

    async def is_awaited(self, reply_to: str) -> bool:
        """Return True if the API process of `reply_to` looks after its request, or if it cannot be found out."""
        question = encode_frame(Frame("waits?", 0))
        try:
            reply = await self._client.request(reply_to, question, timeout=AWAITED_TIMEOUT_S)
        except NoRespondersError:
            return False
        except BrokerErrors:  # it may only be slow: its request is not taken from it on a guess
            return True
        return bool(reply.data != NO)

    async def close(self) -> None:
        """Unsubscribe."""
        await asyncio.gather(*self._publishing)
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    def _take(self, subject: str, reply: str, data: bytes) -> None:
        waiter = self.waiters.get(subject.rpartition(".")[2])
        if reply:
            self._answer(decode_frame(data), reply, waiter)
        elif waiter is not None and data:  # empty: NATS says that no worker listens to a resend
            try:
                waiter.take(decode_frame(data))
            except Overloaded as error:
                waiter.fail(error)

    def _answer(self, question: Frame, reply: str, waiter: Collector | None) -> None:
        """Answer a worker's question."""
        if question.kind == "waits?":
            self._publish(reply, YES if waiter is not None else NO)
        elif question.kind != "room?":
            self._publish(reply, NO if waiter is not None and waiter.begin_again() else YES)
        elif waiter is None:
            self._publish(reply, NO)
        else:
            waiter.when_room(question, partial(self._publish, reply, YES))
