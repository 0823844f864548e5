"""Frames from a worker to the API process whose caller waits, over core NATS. Both ends.

The API answers only once it has the commit frame, which is sent after the append. The body goes out before the append
where the log does not keep it, so that a worker's death in between loses nothing; an answer that is kept for the cache
goes out behind the append, in one flush with its commit. Frames are hints: a lost one is made good by reading the log,
a late one finds nobody and is dropped.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from domain.answer import Failure, Receipt
from infra.broker import Broker

FRAME_BYTES = 512 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
PENDING_BYTES_LIMIT = 1024 * 1024 * 1024
PENDING_FRAMES_LIMIT = 1_000_000

Kind = Literal["body", "commit", "failed"]


class Frame(Struct, frozen=True, array_like=True):
    """One message. A body frame carries a part of the answer, the others JSON: a receipt, or a failure."""

    kind: Kind
    attempt: int
    payload: bytes
    digest: bytes = b""
    """Of a commit: SHA-256 of the whole body."""


class Committed(Struct, frozen=True):
    """The answer is in the log, and this is it. `body` None: its frames were lost, the log may have it."""

    attempt: int
    body: bytes | None
    receipt: Receipt


class Failed(Struct, frozen=True):
    """There is no answer, and this is why."""

    failure: Failure


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode
_encode_json = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_failure = msgspec.json.Decoder(Failure).decode


def reply_subject(api_id: str, request_id: str) -> str:
    """Where the frames of a request go."""
    return f"reply.{api_id}.{request_id}"


def done_subject(request_id: str) -> str:
    """Where it is said that a request which others wait for has ended."""
    return f"done.{request_id}"


class ReplySender:
    """The worker's end."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client

    async def send_body(self, reply_to: str, attempt: int, body: bytes) -> None:
        """Send a body, in parts of `FRAME_BYTES`."""
        for start in range(0, len(body), FRAME_BYTES):
            await self._client.publish(reply_to, _encode(Frame("body", attempt, body[start : start + FRAME_BYTES])))

    async def send_commit(self, reply_to: str, attempt: int, digest: bytes, receipt: Receipt) -> None:
        """Say that the answer whose body has this digest stands in the log."""
        await self._client.publish(reply_to, _encode(Frame("commit", attempt, _encode_json(receipt), digest)))

    async def send_failed(self, reply_to: str, failure: Failure) -> None:
        """Say that there will be no answer."""
        await self._client.publish(reply_to, _encode(Frame("failed", 0, _encode_json(failure))))

    async def send_done(self, request_id: str) -> None:
        """Tell those who asked the same that the request has ended, one way or the other."""
        await self._client.publish(done_subject(request_id), b"")


class _Waiter:
    """Collects the frames of one request."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Committed | Failed] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, list[bytes]] = {}
        self._bytes = 0

    def take(self, frame: Frame) -> None:
        if self.ended.done():
            return
        match frame.kind:
            case "body":
                self._bytes += len(frame.payload)
                if self._bytes <= MAX_BODY_BYTES:
                    self._parts.setdefault(frame.attempt, []).append(frame.payload)
            case "commit":
                parts = self._parts.get(frame.attempt, [])
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                whole = hashlib.sha256(body).digest() == frame.digest
                receipt = _decode_receipt(frame.payload)
                self.ended.set_result(Committed(frame.attempt, body if whole else None, receipt))
            case "failed":
                self.ended.set_result(Failed(_decode_failure(frame.payload)))


class ReplyInbox:
    """The API's end: one subscription for every request of the process."""

    def __init__(self, broker: Broker, api_id: str) -> None:
        self._client = broker.client
        self._api_id = api_id
        self._waiters: dict[str, _Waiter] = {}
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
    def expect(self, request_id: str) -> Iterator[asyncio.Future[Committed | Failed]]:
        """Collect the request's frames until the block ends; the future has how it ended."""
        waiter = self._waiters[request_id] = _Waiter()
        try:
            yield waiter.ended
        finally:
            del self._waiters[request_id]

    @asynccontextmanager
    async def follow(self, request_id: str) -> AsyncIterator[asyncio.Event]:
        """Listen, until the block ends, for the end of a request that any process may have admitted."""
        ended = asyncio.Event()

        async def take(_message: Msg) -> None:
            ended.set()

        subscription = await self._client.subscribe(done_subject(request_id), cb=take)
        try:
            yield ended
        finally:
            await subscription.unsubscribe()

    async def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def _take(self, message: Msg) -> None:
        waiter = self._waiters.get(message.subject.rpartition(".")[2])
        if waiter is not None:
            waiter.take(_decode(message.data))
