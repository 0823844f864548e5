"""Sends the parts of one streamed attempt to the API, no faster than its caller takes them; counts and hashes them.

A caller that does not read fills a window, then nothing more of its stream is read from the provider (TCP). The API
ends a connection that stays unread (`api/http_protocol.py`). If others wait for the same answer, it is not held up for
them: the slow caller's stream ends, and the answer is read to its end.
"""

import hashlib
import time

from domain.errors import Overloaded, Unavailable
from domain.idempotency import MAX_REPLAYED_BYTES
from domain.job_result import failure_of
from infra.byte_budget import BytesInHand
from infra.cancellations import Cancellation, client_disconnected
from infra.jobs import Job
from infra.reply_sender import ReplySender
from workers.attempt_recorder import RecordedBody
from workers.estimated_usage import UnseenTime

WINDOW_BYTES = 128 * 1024
"""Sent without a word from the API. An ordinary stream is shorter, and asks nothing."""
PIECE_BYTES = 32 * 1024
"""The most that is sent at once, so that no more than this comes on top of a window."""
MAX_HELD_UP_S = 10.0
"""In all: how long a caller that reads slowly may hold up others that wait for the same answer."""
MAX_KEPT_BYTES = 128 * 1024 * 1024
"""Of streams that one worker keeps for retries, sealed copies not counted. One project alone gets half of it."""


class OutgoingStream:
    """The parts of one attempt on their way."""

    def __init__(
        self,
        replies: ReplySender,
        job: Job,
        attempt: int,
        cancellation: Cancellation,
        *,
        kept_bytes: BytesInHand,
        timeout_s: float,
        target: int = 0,
    ) -> None:
        """Send for at most `timeout_s`. `target`: the number of the job's target in the request's plan.

        `kept_bytes`: counts what is kept for retries. Without room for it nothing is kept: a retry is told so.
        """
        self._replies = replies
        self._job = job
        self._attempt = attempt
        self._target = target
        self._cancellation = cancellation
        self._hash = hashlib.sha256()
        self._kept_bytes = kept_bytes
        self._kept: bytearray | None = bytearray() if job.identity.idempotency is not None else None
        self._unconfirmed_bytes = 0
        self._held_up_s = 0.0
        self._is_read = True
        """False: the caller is sent nothing more."""
        self._ends_at_s = time.monotonic() + timeout_s
        self.size_bytes = 0
        self.parts = 0
        self.unseen = UnseenTime(time.monotonic())
        self.first_output_at_s: float | None = None
        """When, on the monotonic clock, the first of the output came. None: nothing of it has."""

    async def send(self, part: bytes) -> None:
        """Send the next part, unless it is empty, once there is room for it.

        Raises:
            ClientDisconnected: the caller has not read what it was sent before, and the time is over.

        """
        if not part:
            return
        self._hash.update(part)
        self.size_bytes += len(part)
        self._keep(part)
        if len(part) <= PIECE_BYTES:
            await self._send(part)
            return
        for start in range(0, len(part), PIECE_BYTES):
            await self._send(part[start : start + PIECE_BYTES])

    def digest(self) -> bytes:
        """Return the SHA-256 of everything sent so far."""
        return self._hash.digest()

    def whole(self, end: bytes) -> bytes | None:
        """Return everything sent so far, and the end, which is to be sent; None if it is not kept, or not whole.

        Keeps nothing more. What is returned counts as kept until the stream is closed.
        """
        self._keep(end)
        if self._kept is None:
            return None
        whole, self._kept = bytes(self._kept), None
        return whole

    def close(self) -> None:
        """Keep nothing more, and count what was kept as released."""
        self._kept = None
        self._kept_bytes.close()

    def recorded(self, kept: bytes | None) -> RecordedBody:
        """Return the body that the cache keeps, or else the size and digest of the parts sent so far."""
        if kept is not None:
            return RecordedBody.of(kept, is_kept=True)
        return RecordedBody(size=self.size_bytes, digest=self._hash.digest(), kept=None)

    def _keep(self, part: bytes) -> None:
        """Keep a part for retries if there is room for all of the stream so far; else keep nothing of it."""
        if self._kept is None:
            return
        try:
            self._kept_bytes.take(len(part))
        except Overloaded:
            self.close()
            return
        self._kept += part
        if len(self._kept) > MAX_REPLAYED_BYTES:
            self.close()

    async def _send(self, piece: bytes) -> None:
        if self._unconfirmed_bytes >= WINDOW_BYTES:
            await self._wait_for_room()
        if self._is_read:
            self.parts = await self._replies.send_part(
                self._job.reply_to, self._attempt, self.parts + 1, piece, target=self._target
            )
            self._unconfirmed_bytes += len(piece)

    async def _wait_for_room(self) -> None:
        """Wait until the caller has taken most of what it was sent, or is sent nothing more."""
        while True:
            began_s = time.monotonic()
            match await self._replies.wait_for_room(self._job.reply_to, self._attempt, self.parts):
                case "room":
                    self._unconfirmed_bytes = 0
                    return
                case "nobody":
                    self._unconfirmed_bytes = 0
                    self._is_read = False
                    self._cancellation.note(is_caller=True)  # its own message may have been lost
                    return
                case "not yet":
                    now_s = time.monotonic()
                    self._held_up_s += now_s - began_s
                    if now_s >= self._ends_at_s:
                        raise client_disconnected()
                    if self._held_up_s >= MAX_HELD_UP_S and await self._cancellation.has_followers():
                        await self._end_for_the_caller()
                        return

    async def _end_for_the_caller(self) -> None:
        """End the stream of a caller that holds up others."""
        self._unconfirmed_bytes = 0
        self._is_read = False
        slow = Unavailable("the stream was read too slowly, and others wait for the same answer: ask again")
        await self._replies.send_failed(self._job.reply_to, failure_of(slow, self._job.identity.provider))
