"""A stream on its way into an API process: its parts in order, what waits joined into one, then how it ended.

A stream has begun once its caller was given a part: from then on no other attempt may take over. Parts that did not
arrive are asked for again; what came behind them waits.
"""

import asyncio
from collections import deque

from domain.errors import Overloaded
from domain.job_result import Failure
from infra.byte_budget import BytesInHand, CountedParts
from infra.replies import (
    Committed,
    Completed,
    Failed,
    Frame,
    failure_in,
    receipt_in,
)
from infra.resends import Resends

MAX_JOINED_BYTES = 256 * 1024
"""Of what waits for a caller who is slower than the provider: a longer piece would only be copied more often."""
MAX_AHEAD_BYTES = 8 * 1024 * 1024
"""Of what has come behind a part that has not."""

Ending = Committed | Failed


class PartsLost(Exception):
    """A part of a stream did not arrive, or comes from another attempt than those that did."""


class Expired(Exception):
    """The stream did not end in time."""


class IncomingStream:
    """Collects the frames of one streamed answer."""

    def __init__(self, resends: Resends | None = None, *, in_hand: BytesInHand | None = None) -> None:
        """Collect, and count what waits in `in_hand`. Without `resends` a stream with a hole ends at the hole."""
        self._resends = resends
        self._in_hand = in_hand
        self._parts: deque[bytes] = CountedParts(in_hand) if in_hand is not None else deque()
        self._attempt = 0
        self._forgotten = 0
        """The last attempt of which nothing more is taken."""
        self._taken = 0
        self._ahead: dict[int, bytes] = {}
        """Parts that came behind a hole, by number."""
        self._ahead_bytes = 0
        self._commit: Frame | None = None
        """It came before parts that it counts."""
        self._ending: Ending | PartsLost | Expired | Overloaded | None = None
        self._has_begun = False
        self._changed = asyncio.Event()

    @property
    def progress(self) -> tuple[int, int]:
        """The attempt, and how many of its parts have come."""
        return self._attempt, self._taken

    def begin_again(self) -> bool:
        """Forget what came, for another attempt; False where the caller was given some of it."""
        if self._has_begun:
            return False
        self._forgotten, self._taken = self._attempt, 0
        self._parts.clear()
        self._close_hole()
        return True

    def take(self, frame: Frame) -> None:
        """Take a frame; what comes behind the end is late, and dropped."""
        if self._ending is not None or (frame.kind == "part" and frame.attempt <= self._forgotten):
            return
        match frame.kind:
            case "part":
                self._take_part(frame)
            case "commit":
                self._take_commit(frame)
            case "failed":
                self._end(Failed(failure_in(frame)))
            case "body" | "begun?":
                raise AssertionError("a stream has no body in one piece")
        self._changed.set()

    def fail(self, error: Overloaded) -> None:
        """End the stream, unless it has ended: there is no room for what came."""
        if self._ending is None:
            self._end(error)
            self._changed.set()

    def end_by_log(self, end: Completed | Failure) -> None:
        """Take the end that the log has. It does not say how many parts there were: a worker does, or nobody."""
        if self._ending is not None:
            return
        if isinstance(end, Failure):
            self._end(Failed(end))
        elif self._follows(end.attempt):
            self._open_hole()
        self._changed.set()

    def expire(self) -> None:
        """End the stream, unless it has ended: its time is over."""
        if self._ending is None:
            self._end(Expired())
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
        if not self._follows(frame.attempt) or frame.number <= self._taken:
            return  # another attempt ends the stream; a part that has come is sent again with those that have not
        if frame.number > self._taken + 1:
            if frame.number not in self._ahead:
                self._ahead_bytes += len(frame.payload)
                self._ahead[frame.number] = frame.payload
            self._open_hole()
            return
        self._taken += 1
        self._parts.append(frame.payload)
        if self._resends is not None and self._resends.are_under_way:
            self._fill_hole()

    def _take_commit(self, frame: Frame) -> None:
        if not self._follows(frame.attempt):
            return
        if frame.number == self._taken and frame.number:
            self._end(Committed(frame.attempt, None, receipt_in(frame)))
        elif frame.number < self._taken and frame.number:
            self._end(PartsLost())
        else:  # a worker that repeats the end of another's attempt does not know the number
            self._commit = frame if frame.number else self._commit
            self._open_hole()

    def _follows(self, attempt: int) -> bool:
        """Take from this attempt; False if the caller was given parts of another one, which ends the stream."""
        if attempt != self._attempt:
            if self._has_begun:
                self._end(PartsLost())
                return False
            self._close_hole()
            self._attempt, self._taken = attempt, 0
            self._parts.clear()
        return True

    def _open_hole(self) -> None:
        """Have what is missing sent again, and wait for it a while."""
        if self._resends is None or self._ahead_bytes > MAX_AHEAD_BYTES:
            self._end(PartsLost())
        else:
            self._resends.begin(lambda: (self._attempt, self._taken + 1), self._give_up)

    def _fill_hole(self) -> None:
        """Take what came behind the hole, as far as it goes on from here."""
        while (part := self._ahead.pop(self._taken + 1, None)) is not None:
            self._ahead_bytes -= len(part)
            self._taken += 1
            self._parts.append(part)
        if self._ahead:
            return
        commit = self._commit
        if commit is None:
            self._close_hole()
        elif commit.number == self._taken:
            self._end(Committed(commit.attempt, None, receipt_in(commit)))

    def _close_hole(self) -> None:
        self._ahead.clear()
        self._ahead_bytes = 0
        self._commit = None
        if self._resends is not None:
            self._resends.end()

    def _give_up(self) -> None:
        if self._ending is None:
            self._end(PartsLost())
            self._changed.set()

    def _end(self, ending: Ending | PartsLost | Expired | Overloaded) -> None:
        self._close_hole()
        self._ending = ending
