"""Frames from a worker to the API process whose caller waits, over core NATS. Both ends.

The API answers only once it has the commit frame, which is sent after the append. The body goes out before the append
where the log does not keep it, so that a worker's death in between loses nothing; an answer that is kept for the cache
goes out behind the append, in one flush with its commit. Core NATS keeps no frame: a worker keeps those that it has
sent for a while (`infra/sent_frames.py`), and sends them again to an API process that lacks some. An ending that was
lost is read from the log (`api/reply_recovery.py`). What is streamed comes in numbered parts, ready for the caller;
they are collected by `infra/incoming.py`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Literal, Protocol

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NoRespondersError

from domain.errors import Overloaded
from domain.job_result import Failure, Receipt
from infra.broker import Broker, BrokerErrors
from infra.byte_budget import BytesInHand
from infra.jobs import Job
from infra.reply_subjects import (
    CALLER,
    FOLLOWER,
    NO,
    YES,
    cancel_subject,
    done_subject,
    reply_subject,
    resend_subject,
    waiting_subject,
)
from infra.resends import Resends
from infra.sent_frames import SentFrames

FRAME_BYTES = 512 * 1024
FRAMES_IN_WINDOW = 4
"""Of a body, before the API has to say that they have arrived. The server closes the connection of a client for which
64 MiB wait (`max_pending`), and what others wait for is lost with it.
"""
WINDOW_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 0.5
"""For a question between processes whose answer is at hand."""
MAX_BODY_BYTES = 256 * 1024 * 1024
PENDING_BYTES_LIMIT = 1024 * 1024 * 1024
PENDING_FRAMES_LIMIT = 1_000_000

FrameKind = Literal["body", "part", "commit", "failed", "begun?"]


class Frame(Struct, frozen=True, array_like=True):
    """One message. Body and part frames carry a piece of the answer, commit and failed JSON: a receipt, or a failure.

    `begun?` asks the API whether the caller has been given any part, and is answered with `YES` or `NO`; after a `NO`
    it takes no more of the attempts so far.
    """

    kind: FrameKind
    attempt: int
    payload: bytes = b""
    digest: bytes = b""
    """Of a commit: SHA-256 of the whole body."""
    number: int = 0
    """Of a body or part frame: 1, 2, 3 …; of a stream's commit: how many parts there were, 0 if it is not known."""


class Resend(Struct, frozen=True, array_like=True):
    """A request to the worker that answered: send the frames of this attempt again, from this number on."""

    attempt: int
    number: int


class Completed(Struct, frozen=True, kw_only=True):
    """An answer as the log knows it."""

    attempt: int
    digest: bytes
    receipt: Receipt
    size_bytes: int | None = None
    """None: the worker's commit frame does not say."""


class Committed(Struct, frozen=True):
    """The answer is in the log, and this is it. `body` None: its frames were lost, the log may have it."""

    attempt: int
    body: bytes | None
    receipt: Receipt


class Failed(Struct, frozen=True):
    """There is no answer, and this is why."""

    failure: Failure


log = structlog.get_logger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode
_decode_resend = msgspec.msgpack.Decoder(Resend).decode
_encode_json = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_failure = msgspec.json.Decoder(Failure).decode


def receipt_in(commit: Frame) -> Receipt:
    """The receipt that a commit frame carries."""
    return _decode_receipt(commit.payload)


def failure_in(failed: Frame) -> Failure:
    """The failure that a frame tells of."""
    return _decode_failure(failed.payload)


class ReplySender:
    """The worker's end."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self._sent: SentFrames | None = None

    async def listen(self) -> None:
        """Keep what is sent from now on, and send it again to an API process that lacks some of it."""
        self._sent = SentFrames()
        await self._client.subscribe(resend_subject("*"), cb=self._send_again)

    def close(self) -> None:
        """Keep nothing any more."""
        if self._sent is not None:
            self._sent.clear()

    async def send_body(self, reply_to: str, attempt: int, body: bytes) -> None:
        """Send a body, in parts of `FRAME_BYTES`; a long one no faster than the API takes it."""
        for number, start in enumerate(range(0, len(body), FRAME_BYTES), start=1):
            await self._send(reply_to, Frame("body", attempt, body[start : start + FRAME_BYTES], number=number))
            if number % FRAMES_IN_WINDOW == 0:
                with suppress(*BrokerErrors):  # sent anyhow: a frame that is lost is asked for again
                    await self._client.request(reply_to, _encode(Frame("begun?", 0)), timeout=WINDOW_TIMEOUT_S)

    async def send_part(self, reply_to: str, attempt: int, number: int, part: bytes) -> int:
        """Send a piece of a stream, in frames numbered from `number`; returns the last one's number."""
        for start in range(0, len(part), FRAME_BYTES):
            await self._send(reply_to, Frame("part", attempt, part[start : start + FRAME_BYTES], number=number))
            number += 1
        return number - 1

    async def send_commit(
        self, reply_to: str, attempt: int, digest: bytes, receipt: Receipt, *, parts: int = 0
    ) -> None:
        """Say that the answer whose body has this digest, or that came in so many parts, stands in the log."""
        await self._send(reply_to, Frame("commit", attempt, _encode_json(receipt), digest, parts))

    async def send_failed(self, reply_to: str, failure: Failure) -> None:
        """Say that there will be no answer."""
        await self._send(reply_to, Frame("failed", 0, _encode_json(failure)))

    async def _send(self, reply_to: str, frame: Frame) -> None:
        encoded = _encode(frame)
        if self._sent is None:
            await self._client.publish(reply_to, encoded)
            return
        self._sent.keep(reply_to.rpartition(".")[2], encoded)
        with suppress(*BrokerErrors):  # what is kept is sent again: an answer that was paid for is not given up for it
            await self._client.publish(reply_to, encoded)

    async def _send_again(self, message: Msg) -> None:
        """Send what is kept of the frames that are asked for; another worker may have them."""
        assert self._sent is not None, "it listens"
        wanted = _decode_resend(message.data)
        for encoded in self._sent.of(message.subject.rpartition(".")[2]):
            frame = _decode(encoded)
            is_piece = frame.kind in ("body", "part")
            if frame.attempt == wanted.attempt and (not is_piece or frame.number >= wanted.number):
                await self._client.publish(message.reply, encoded)

    async def has_begun(self, reply_to: str) -> bool:
        """Whether the caller may have been given a part of the answer; True where no API process says otherwise."""
        try:
            answer = await self._client.request(reply_to, _encode(Frame("begun?", 0)), timeout=ASK_TIMEOUT_S)
        except BrokerErrors:
            return True
        return bool(answer.data != NO)

    async def is_awaited(self, request_id: str) -> bool:
        """Whether somebody waits who asked the same as this request's caller."""
        try:
            await self._client.request(waiting_subject(request_id), b"", timeout=ASK_TIMEOUT_S)
        except NoRespondersError:
            return False
        except BrokerErrors:  # nobody can tell: the answer is not thrown away
            return True
        return True

    async def send_done(self, request_id: str) -> None:
        """Tell those who asked the same that the request has ended, one way or the other."""
        await self._client.publish(done_subject(request_id), b"")


class Collector(Protocol):
    """Takes the frames of one request, in order."""

    @property
    def progress(self) -> tuple[int, int]:
        """Changes with every frame that is of use."""
        ...

    def take(self, frame: Frame) -> None:
        """Take the next."""

    def begin_again(self) -> bool:
        """Forget what came, for another attempt; False where the caller was given some of it."""
        ...

    def fail(self, error: Overloaded) -> None:
        """Give up: there is no room for what came."""

    def end_by_log(self, end: Completed | Failure) -> None:
        """Take the end that the log has, if its frames have not come."""


class _Waiter:
    """Collects the frames of one request whose answer is given in one piece."""

    def __init__(self, resends: Resends, in_hand: BytesInHand | None) -> None:
        self._in_hand = in_hand
        self.ended: asyncio.Future[Committed | Failed] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, dict[int, bytes]] = {}
        self._bytes = 0
        self._resends = resends
        self._completed: Completed | None = None
        """It is known before all of the body is here."""

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
                parts = self._parts.setdefault(frame.attempt, {})
                if frame.number not in parts and self._bytes + len(frame.payload) <= MAX_BODY_BYTES:
                    if self._in_hand is not None:
                        self._in_hand.take(len(frame.payload))
                    parts[frame.number] = frame.payload
                    self._bytes += len(frame.payload)
                    if self._completed is not None and self._completed.size_bytes == self._bytes:
                        self._complete(self._completed)
            case "commit":
                self._complete(Completed(attempt=frame.attempt, digest=frame.digest, receipt=receipt_in(frame)))
            case "failed":
                self._end(Failed(failure_in(frame)))
            case "part" | "begun?":
                raise AssertionError("only a stream has parts")

    def fail(self, error: Overloaded) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
        self._resends.end()

    def end_by_log(self, end: Completed | Failure) -> None:
        if self.ended.done():
            return
        if isinstance(end, Failure):
            self._end(Failed(end))
        else:
            self._complete(end)

    def _complete(self, completed: Completed, *, is_last_look: bool = False) -> None:
        """End with the body, if it is whole; else with none, once it is clear that none will come."""
        attempt, receipt = completed.attempt, completed.receipt
        parts = [part for _, part in sorted(self._parts.get(attempt, {}).items())]
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        if hashlib.sha256(body).digest() == completed.digest:
            self._end(Committed(attempt, body, receipt))
        elif receipt.is_kept or is_last_look:  # a blob is as good as its frames
            self._end(Committed(attempt, None, receipt))
        else:
            self._completed = completed
            last_look = partial(self._complete, completed, is_last_look=True)
            self._resends.begin(lambda: (attempt, 1), give_up=last_look)

    def _end(self, end: Committed | Failed) -> None:
        if not self.ended.done():
            self.ended.set_result(end)
        self._resends.end()


class ReplyInbox:
    """The API's end: one subscription for every request of the process."""

    def __init__(self, broker: Broker, api_id: str) -> None:
        self._client = broker.client
        self._api_id = api_id
        self._waiters: dict[str, Collector] = {}
        self._jobs: dict[str, Job] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Start to listen."""
        self._subscription = await self._client.subscribe(
            reply_subject(self._api_id, "*"),
            cb=self._take,
            pending_msgs_limit=PENDING_FRAMES_LIMIT,
            pending_bytes_limit=PENDING_BYTES_LIMIT,
        )

    def subject(self, request_id: str) -> str:
        """The `reply_to` of a request of this process."""
        return reply_subject(self._api_id, request_id)

    @contextmanager
    def expect(
        self, request_id: str, in_hand: BytesInHand | None = None
    ) -> Iterator[asyncio.Future[Committed | Failed]]:
        """Collect the request's frames until the block ends; the future has how it ended.

        Counts what comes in `in_hand`, if it is given: the future raises Overloaded if there is no room for it.
        """
        waiter = _Waiter(self.resends(request_id), in_hand)
        with self.collect(request_id, waiter):
            yield waiter.ended

    @contextmanager
    def collect(self, request_id: str, collector: Collector) -> Iterator[None]:
        """Hand the request's frames to a collector until the block ends."""
        self._waiters[request_id] = collector
        try:
            yield
        finally:
            del self._waiters[request_id]
            self._jobs.pop(request_id, None)

    def keep_job(self, job: Job) -> None:
        """Keep a job for as long as its request is waited for: it may have to be dispatched again."""
        self._jobs[job.identity.request_id] = job

    def job(self, request_id: str) -> Job | None:
        """The job of a request that is waited for."""
        return self._jobs.get(request_id)

    def collectors(self) -> list[tuple[str, Collector]]:
        """The requests that are waited for at this moment."""
        return list(self._waiters.items())

    def end_by_log(self, request_id: str, end: Completed | Failure) -> None:
        """Give a request the end that the log has, if it is still waited for."""
        if (waiter := self._waiters.get(request_id)) is not None:
            waiter.end_by_log(end)

    def resends(self, request_id: str) -> Resends:
        """Asks the workers for a request's frames."""
        return Resends(partial(self._ask_again, request_id))

    def _ask_again(self, request_id: str, attempt: int, number: int) -> None:
        log.info("frames_lost", request_id=request_id, attempt=attempt, number=number)
        self._publish(resend_subject(request_id), _encode(Resend(attempt, number)), reply=self.subject(request_id))

    def publish_cancel(self, request_id: str, *, as_follower: bool = False) -> None:
        """Say, without waiting for it to be said, that the caller of a stream has left, or one who waited with it."""
        self._publish(cancel_subject(request_id), FOLLOWER if as_follower else CALLER)

    def _publish(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Publish without waiting; what is lost with the connection is asked for again, or costs a little more."""

        async def publish() -> None:
            with suppress(*BrokerErrors):
                await self._client.publish(subject, payload, reply=reply)

        task = asyncio.get_running_loop().create_task(publish())
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    @asynccontextmanager
    async def follow(self, request_id: str) -> AsyncIterator[asyncio.Event]:
        """Listen, until the block ends, for the end of a request that any process may have admitted.

        Until then it is awaited: it goes on when its own caller leaves.
        """
        ended = asyncio.Event()

        async def take(_message: Msg) -> None:
            ended.set()

        async def say_so(message: Msg) -> None:
            await message.respond(YES)

        done = await self._client.subscribe(done_subject(request_id), cb=take)
        waiting = await self._client.subscribe(waiting_subject(request_id), cb=say_so)
        try:
            yield ended
        finally:
            await done.unsubscribe()
            await waiting.unsubscribe()
            if not ended.is_set():
                self.publish_cancel(request_id, as_follower=True)

    async def close(self) -> None:
        """Stop listening."""
        await asyncio.gather(*self._publishing)
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def _take(self, message: Msg) -> None:
        waiter = self._waiters.get(message.subject.rpartition(".")[2])
        if message.reply:
            await message.respond(NO if waiter is not None and waiter.begin_again() else YES)
        elif waiter is not None and message.data:  # empty: NATS says that no worker listens to a resend
            try:
                waiter.take(_decode(message.data))
            except Overloaded as error:
                waiter.fail(error)
