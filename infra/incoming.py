"""A stream on its way into an API process: its parts in order, what waits joined into one, then how it ended.

A stream has begun once its caller was given a part: from then on no other attempt may take over.
"""

import asyncio
from collections import deque

from domain.errors import Overloaded
from infra.byte_budget import BytesInHand, CountedParts
from infra.replies import Committed, Failed, Frame, failure_in, receipt_in

MAX_JOINED_BYTES = 256 * 1024
"""Of what waits for a caller who is slower than the provider: a longer piece would only be copied more often."""

Ending = Committed | Failed


class PartsLost(Exception):
    """A part of a stream did not arrive, or comes from another attempt than those that did."""


class Expired(Exception):
    """The stream did not end in time."""


class IncomingStream:
    """Collects the frames of one streamed answer."""

    def __init__(self, *, in_hand: BytesInHand | None = None) -> None:
        """Collect, and count what waits in `in_hand`, if it is given."""
        self._parts: deque[bytes] = CountedParts(in_hand) if in_hand is not None else deque()
        self._attempt = 0
        self._forgotten = 0
        """The last attempt of which nothing more is taken."""
        self._taken = 0
        self._ending: Ending | PartsLost | Expired | Overloaded | None = None
        self._has_begun = False
        self._changed = asyncio.Event()

    def begin_again(self) -> bool:
        """Forget what came, for another attempt; False where the caller was given some of it."""
        if self._has_begun:
            return False
        self._parts.clear()
        self._forgotten = self._attempt
        return True

    def take(self, frame: Frame) -> None:
        """Take a frame; what comes behind the end is late, and dropped."""
        if self._ending is not None or (frame.kind == "part" and frame.attempt <= self._forgotten):
            return
        match frame.kind:
            case "part":
                self._take_part(frame)
            case "commit":
                if (frame.attempt, frame.number) == (self._attempt, self._taken):
                    self._ending = Committed(frame.attempt, None, receipt_in(frame))
                else:
                    self._ending = PartsLost()
            case "failed":
                self._ending = Failed(failure_in(frame))
            case "body" | "begun?":
                raise AssertionError("a stream has no body in one piece")
        self._changed.set()

    def fail(self, error: Overloaded) -> None:
        """End the stream, unless it has ended: there is no room for what came."""
        if self._ending is None:
            self._ending = error
            self._changed.set()

    def expire(self) -> None:
        """End the stream, unless it has ended: its time is over."""
        if self._ending is None:
            self._ending = Expired()
            self._changed.set()

    @property
    def has_ended(self) -> bool:
        """Whether the worker has said how it ended; else it may still be at it."""
        return isinstance(self._ending, Committed | Failed)

    async def next(self) -> bytes | Ending:
        """What has come since the last call, waiting for something to come; the ending once there is nothing else.

        Raises:
            PartsLost: the stream has a hole.
            Expired: its time is over.
            Overloaded: more came than this process can hold for a caller that does not take it.

        """
        while not self._parts and self._ending is None:
            self._changed.clear()
            await self._changed.wait()
        if self._parts:
            self._has_begun = True
            return self._joined()
        if isinstance(self._ending, PartsLost | Expired | Overloaded):
            raise self._ending
        assert self._ending is not None, "nothing else ends the loop"
        return self._ending

    def _joined(self) -> bytes:
        """What waits, as far as it goes into one piece."""
        part = self._parts.popleft()
        if not self._parts:
            return part
        parts, size = [part], len(part)
        while self._parts and size + len(self._parts[0]) <= MAX_JOINED_BYTES:
            part = self._parts.popleft()
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _take_part(self, frame: Frame) -> None:
        if frame.attempt != self._attempt and not self._has_begun:
            self._attempt, self._taken = frame.attempt, 0
            self._parts.clear()
        if (frame.attempt, frame.number) != (self._attempt, self._taken + 1):
            self._ending = PartsLost()
            return
        self._taken += 1
        self._parts.append(frame.payload)
