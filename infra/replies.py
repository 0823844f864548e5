"""Frames from a worker to the API process whose caller waits, over core NATS. Both ends.

The API answers only once it has the commit frame, which is sent after the append. The body goes out before the append
where the log does not keep it, so that a worker's death in between loses nothing; an answer that is kept for the cache
goes out behind the append, in one flush with its commit. Frames are hints: a lost one is made good by reading the log,
a late one finds nobody and is dropped. What is streamed comes in numbered parts instead, ready for the caller; they are
collected by `infra/incoming.py`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal, Protocol

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NoRespondersError

from domain.answer import Failure, Receipt
from domain.errors import Overloaded
from infra.broker import Broker, BrokerErrors
from infra.byte_budget import BytesInHand

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

Kind = Literal["body", "part", "commit", "failed", "begun?"]


class Frame(Struct, frozen=True, array_like=True):
    """One message. Body and part frames carry a piece of the answer, commit and failed JSON: a receipt, or a failure.

    `begun?` asks the API whether the caller has been given any part, and is answered with `YES` or `NO`; after a `NO`
    it takes no more of the attempts so far.
    """

    kind: Kind
    attempt: int
    payload: bytes = b""
    digest: bytes = b""
    """Of a commit: SHA-256 of the whole body."""
    number: int = 0
    """Of a part: 1, 2, 3 …; of a stream's commit: how many parts there were."""


class Committed(Struct, frozen=True):
    """The answer is in the log, and this is it. `body` None: its frames were lost, the log may have it."""

    attempt: int
    body: bytes | None
    receipt: Receipt


class Failed(Struct, frozen=True):
    """There is no answer, and this is why."""

    failure: Failure


YES, NO = b"yes", b"no"
CALLER, FOLLOWER = b"caller", b"follower"
"""Who has left a stream."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode
_encode_json = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_failure = msgspec.json.Decoder(Failure).decode


def receipt_in(commit: Frame) -> Receipt:
    """The receipt that a commit frame carries."""
    return _decode_receipt(commit.payload)


def failure_in(failed: Frame) -> Failure:
    """The failure that a frame tells of."""
    return _decode_failure(failed.payload)


def reply_subject(api_id: str, request_id: str) -> str:
    """Where the frames of a request go."""
    return f"reply.{api_id}.{request_id}"


def done_subject(request_id: str) -> str:
    """Where it is said that a request which others wait for has ended."""
    return f"done.{request_id}"


def cancel_subject(request_id: str) -> str:
    """Where it is said that somebody who waited for a stream has left."""
    return f"cancel.{request_id}"


def waiting_subject(request_id: str) -> str:
    """Where those listen who wait for a request that is not theirs: whoever asks here learns whether there are any."""
    return f"waiting.{request_id}"


class ReplySender:
    """The worker's end."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client

    async def send_body(self, reply_to: str, attempt: int, body: bytes) -> None:
        """Send a body, in parts of `FRAME_BYTES`; a long one no faster than the API takes it."""
        for start in range(0, len(body), FRAME_BYTES):
            await self._client.publish(reply_to, _encode(Frame("body", attempt, body[start : start + FRAME_BYTES])))
            if (start // FRAME_BYTES + 1) % FRAMES_IN_WINDOW == 0:
                with suppress(*BrokerErrors):  # sent anyhow: the log may have kept it, where a frame is lost
                    await self._client.request(reply_to, _encode(Frame("begun?", 0)), timeout=WINDOW_TIMEOUT_S)

    async def send_part(self, reply_to: str, attempt: int, number: int, part: bytes) -> int:
        """Send a piece of a stream, in frames numbered from `number`; returns the last one's number."""
        for start in range(0, len(part), FRAME_BYTES):
            frame = Frame("part", attempt, part[start : start + FRAME_BYTES], number=number)
            await self._client.publish(reply_to, _encode(frame))
            number += 1
        return number - 1

    async def send_commit(
        self, reply_to: str, attempt: int, digest: bytes, receipt: Receipt, *, parts: int = 0
    ) -> None:
        """Say that the answer whose body has this digest, or that came in so many parts, stands in the log."""
        frame = Frame("commit", attempt, _encode_json(receipt), digest, parts)
        await self._client.publish(reply_to, _encode(frame))

    async def send_failed(self, reply_to: str, failure: Failure) -> None:
        """Say that there will be no answer."""
        await self._client.publish(reply_to, _encode(Frame("failed", 0, _encode_json(failure))))

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

    def take(self, frame: Frame) -> None:
        """Take the next."""

    def begin_again(self) -> bool:
        """Forget what came, for another attempt; False where the caller was given some of it."""
        ...

    def fail(self, error: Overloaded) -> None:
        """Give up: there is no room for what came."""


class _Waiter:
    """Collects the frames of one request whose answer is given in one piece."""

    def __init__(self, in_hand: BytesInHand | None) -> None:
        self._in_hand = in_hand
        self.ended: asyncio.Future[Committed | Failed] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, list[bytes]] = {}
        self._bytes = 0

    def begin_again(self) -> bool:
        return True

    def take(self, frame: Frame) -> None:
        if self.ended.done():
            return
        match frame.kind:
            case "body":
                self._bytes += len(frame.payload)
                if self._bytes <= MAX_BODY_BYTES:
                    if self._in_hand is not None:
                        self._in_hand.take(len(frame.payload))
                    self._parts.setdefault(frame.attempt, []).append(frame.payload)
            case "commit":
                parts = self._parts.get(frame.attempt, [])
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                whole = hashlib.sha256(body).digest() == frame.digest
                receipt = receipt_in(frame)
                self.ended.set_result(Committed(frame.attempt, body if whole else None, receipt))
            case "failed":
                self.ended.set_result(Failed(failure_in(frame)))
            case "part" | "begun?":
                raise AssertionError("only a stream has parts")

    def fail(self, error: Overloaded) -> None:
        self.ended.set_exception(error)


class ReplyInbox:
    """The API's end: one subscription for every request of the process."""

    def __init__(self, broker: Broker, api_id: str) -> None:
        self._client = broker.client
        self._api_id = api_id
        self._waiters: dict[str, Collector] = {}
        self._leaving: set[asyncio.Task[None]] = set()
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
        waiter = _Waiter(in_hand)
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

    def leave(self, request_id: str, *, as_follower: bool = False) -> None:
        """Say, without waiting for it to be said, that the caller of a stream has left, or one who waited with it."""
        payload = FOLLOWER if as_follower else CALLER
        task = asyncio.get_running_loop().create_task(self._client.publish(cancel_subject(request_id), payload))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

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
                self.leave(request_id, as_follower=True)

    async def close(self) -> None:
        """Stop listening."""
        await asyncio.gather(*self._leaving)
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def _take(self, message: Msg) -> None:
        waiter = self._waiters.get(message.subject.rpartition(".")[2])
        if message.reply:
            await message.respond(NO if waiter is not None and waiter.begin_again() else YES)
        elif waiter is not None:
            try:
                waiter.take(_decode(message.data))
            except Overloaded as error:
                waiter.fail(error)
