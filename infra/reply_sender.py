"""Sends a worker's answers to the API process whose caller waits, over core NATS. `infra/replies.py` receives them.

The API answers its caller only once it has the commit frame, which is sent after the append. If the log does not keep
the body, the body goes out before the append, so that a worker's death in between loses nothing. A body that is kept
for the cache goes out after the append, in one flush with its commit. Core NATS keeps no frame, so a worker keeps what
it has sent for a while and sends it again to an API process that lacks some of it. There is no confirmation: a frame is
kept until it is old, or until newer ones need its room.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Literal

import msgspec
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from domain.job_result import JobFailure, Receipt
from infra.broker import Broker, BrokerErrors
from infra.jobs import Job
from infra.reply_frames import FRAME_BYTES, Frame, decode_frame, decode_resend, encode_frame
from infra.reply_subjects import NO, done_subject, resend_subject

FRAMES_IN_WINDOW = 4
"""Of a body, before the API has to confirm that they have arrived. The server closes the connection of a client for
which 64 MiB wait (`max_pending`), and with it loses what other callers wait for.
"""
WINDOW_TIMEOUT_S = 5.0
BEGUN_TIMEOUT_S = 0.5
ROOM_TIMEOUT_S = 5.0
"""Before an API process is asked for room again: the question or its answer may have been lost."""
WAITS_TIMEOUT_S = 0.5
GONE_LOOKS = 3
GONE_PAUSE_S = 0.5
"""Before an API process that does not listen is looked for again: with `GONE_LOOKS` longer than it takes to connect to
another server.
"""
LOST_PAUSE_S = 0.25
"""Before the next question over a connection that has just failed."""
KEPT_FOR_S = 30.0
"""Several times as long as an API process takes to notice that it lacks a frame."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""In one process; the oldest batch of frames goes first."""
BATCHES = 8
"""The frames of an eighth of that time or that room are dropped together, so that nothing is noted of each."""
FRAME_OVERHEAD_BYTES = 256
"""The approximate memory of a frame beside its bytes."""

Room = Literal["room", "not yet", "nobody"]
"""What an API process replies to `room?`; `not yet`: it has not replied."""

_encode_json = msgspec.json.Encoder().encode


class _Batch:
    """Frames that were sent in succession."""

    __slots__ = ("began_at_s", "frames", "size_bytes")

    def __init__(self, began_at_s: float) -> None:
        self.began_at_s = began_at_s
        self.frames: dict[str, list[bytes]] = {}
        """By request, in the order of sending."""
        self.size_bytes = 0


class SentFrames:
    """The frames that one process has sent, in case one does not arrive."""

    def __init__(self, *, max_bytes: int = MAX_KEPT_BYTES, kept_for_s: float = KEPT_FOR_S) -> None:
        self._max_bytes = max_bytes
        self._batch_bytes = max_bytes // BATCHES
        self._batch_s = kept_for_s / BATCHES
        self._kept_for_s = kept_for_s + self._batch_s
        """From the first frame of a batch, so that its last one is kept for long enough."""
        self._batches: deque[_Batch] = deque()
        """The oldest first."""
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, request_id: str, frame: bytes) -> None:
        """Keep a frame."""
        size_bytes = len(frame) + FRAME_OVERHEAD_BYTES
        batch = self._batch_for(size_bytes)
        frames = batch.frames.get(request_id)
        if frames is None:
            batch.frames[request_id] = [frame]
        else:
            frames.append(frame)
        batch.size_bytes += size_bytes
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            self._drop_oldest()

    def of(self, request_id: str) -> list[bytes]:
        """Return the frames of a request that are still kept, in the order of sending."""
        return [frame for batch in self._batches for frame in batch.frames.get(request_id, ())]

    def clear(self) -> None:
        """Drop all frames."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._batches.clear()
        self._bytes = 0

    def _batch_for(self, size_bytes: int) -> _Batch:
        """The batch that a frame sent now goes into."""
        now_s = time.monotonic()
        if self._batches:
            newest = self._batches[-1]
            if now_s - newest.began_at_s < self._batch_s and newest.size_bytes + size_bytes <= self._batch_bytes:
                return newest
        self._batches.append(_Batch(now_s))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._kept_for_s, self._expire)
        return self._batches[-1]

    def _expire(self) -> None:
        expired_at_s = time.monotonic() - self._kept_for_s
        while self._batches and self._batches[0].began_at_s <= expired_at_s:
            self._drop_oldest()
        self._timer = None
        if self._batches:
            due_s = self._batches[0].began_at_s - expired_at_s
            self._timer = asyncio.get_running_loop().call_later(due_s, self._expire)

    def _drop_oldest(self) -> None:
        self._bytes -= self._batches.popleft().size_bytes


class ReplySender:
    """Sends the frames of one process."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self._sent: SentFrames | None = None

    async def listen(self) -> None:
        """Keep what is sent from now on, and send it again to an API process that lacks some of it."""
        self._sent = SentFrames()
        await self._client.subscribe(resend_subject("*"), cb=self._send_again)

    def close(self) -> None:
        """Drop the frames that were kept."""
        if self._sent is not None:
            self._sent.clear()

    async def send_body(self, reply_to: str, attempt: int, body: bytes) -> None:
        """Send a body, in frames of `FRAME_BYTES`; a long one no faster than the API takes it."""
        for number, start in enumerate(range(0, len(body), FRAME_BYTES), start=1):
            await self._send(reply_to, Frame("body", attempt, body[start : start + FRAME_BYTES], number=number))
            if number % FRAMES_IN_WINDOW == 0:
                with suppress(*BrokerErrors):  # a frame that was lost will be requested again
                    await self._client.request(reply_to, encode_frame(Frame("begun?", 0)), timeout=WINDOW_TIMEOUT_S)

    async def send_part(self, reply_to: str, attempt: int, number: int, part: bytes, *, target: int = 0) -> int:
        """Send a piece of a stream, in frames numbered from `number`; returns the last one's number.

        `target`: the number of the target that answers, in the request's plan.
        """
        for start in range(0, len(part), FRAME_BYTES):
            piece = part[start : start + FRAME_BYTES]
            await self._send(reply_to, Frame("part", attempt, piece, number=number, target=target))
            number += 1
        return number - 1

    async def send_commit(
        self, reply_to: str, attempt: int, digest: bytes, receipt: Receipt, *, parts: int = 0
    ) -> None:
        """Confirm that the answer is in the log: the one whose body has this digest, or that had so many parts."""
        await self._send(reply_to, Frame("commit", attempt, _encode_json(receipt), digest, parts))

    async def send_failed(self, reply_to: str, failure: JobFailure) -> None:
        """Report that there will be no answer."""
        await self._send(reply_to, Frame("failed", 0, _encode_json(failure)))

    async def notify_followers(self, job: Job) -> None:
        """Tell the requests that wait for this one's answer that it has ended, one way or the other."""
        if job.has_followers:
            await self._client.publish(done_subject(job.identity.request_id), b"")

    async def has_begun(self, reply_to: str) -> bool:
        """Return True if the caller may have been given a part of the answer; also if no API process replies."""
        try:
            reply = await self._client.request(reply_to, encode_frame(Frame("begun?", 0)), timeout=BEGUN_TIMEOUT_S)
        except BrokerErrors:
            return True
        return bool(reply.data != NO)

    async def is_awaited(self, reply_to: str) -> bool:
        """Return True if the request's caller still waits for the answer, or if it cannot be found out.

        An API process that has lost its connection is given time to connect again before it counts as gone.
        """
        for look in range(GONE_LOOKS):
            try:
                reply = await self._client.request(reply_to, encode_frame(Frame("waits?", 0)), timeout=WAITS_TIMEOUT_S)
            except NoRespondersError:
                if look < GONE_LOOKS - 1:
                    await asyncio.sleep(GONE_PAUSE_S)
                continue
            except BrokerErrors:
                return True
            return bool(reply.data != NO)
        return False

    async def listens(self, reply_to: str) -> bool:
        """Return False if no API process listens to a reply subject at this moment; True if it cannot be found out."""
        try:
            await self._client.request(reply_to, encode_frame(Frame("waits?", 0)), timeout=WAITS_TIMEOUT_S)
        except NoRespondersError:
            return False
        except BrokerErrors:
            return True
        return True

    async def wait_for_room(self, reply_to: str, attempt: int, parts: int) -> Room:
        """Ask once if the API may be sent more of a stream, of which it was sent so many parts, and wait a while.

        Without an API process that could keep anything there is room.
        """
        question = encode_frame(Frame("room?", attempt, number=parts))
        try:
            reply = await self._client.request(reply_to, question, timeout=ROOM_TIMEOUT_S)
        except NoRespondersError:
            return "room"
        except TimeoutError:
            return "not yet"
        except BrokerErrors:
            await asyncio.sleep(LOST_PAUSE_S)
            return "not yet"
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # `wait_for` before Python 3.12 loses a cancellation to a reply
            raise asyncio.CancelledError
        return "room" if reply.data != NO else "nobody"

    async def _send(self, reply_to: str, frame: Frame) -> None:
        encoded = encode_frame(frame)
        if self._sent is None:
            await self._client.publish(reply_to, encoded)
            return
        self._sent.keep(reply_to.rpartition(".")[2], encoded)
        try:  # noqa: SIM105 - `suppress` costs three calls for each frame
            await self._client.publish(reply_to, encoded)
        except BrokerErrors:  # the frame is kept and can be sent again: the answer was paid for
            pass

    async def _send_again(self, message: Msg) -> None:
        """Send the requested frames that are still here; another worker may have the others."""
        assert self._sent is not None, "it listens"
        wanted = decode_resend(message.data)
        for encoded in self._sent.of(message.subject.rpartition(".")[2]):
            frame = decode_frame(encoded)
            is_piece = frame.kind in ("body", "part")
            if frame.attempt == wanted.attempt and (not is_piece or frame.number >= wanted.number):
                await self._client.publish(message.reply, encoded)
