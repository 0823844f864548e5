"""Collects a stream in an API process: its parts in order, those that wait joined into one, then how it ended.

A stream has begun once its caller was given a part: from then on no other attempt may take over. Parts that did not
arrive are requested again; the parts behind them wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from domain.errors import Overloaded
from domain.job_result import JobFailure
from infra.byte_budget import BytesInHand, CountedParts
from infra.replies import Committed, Completed, Failed, Resends
from infra.reply_frames import Frame, decode_failure, decode_receipt

MAX_JOINED_BYTES = 32 * 1024
"""Of the parts that wait for a caller that is slower than the provider: what is on its way to a socket is in memory."""
ROOM_BYTES = 16 * 1024
"""A worker may send more of a stream once no more than this waits for its caller."""
MAX_AHEAD_BYTES = 8 * 1024 * 1024
"""Of the parts that came behind a missing one."""

Ending = Committed | Failed


class PartsLost(Exception):
    """A part of a stream did not arrive, or comes from another attempt than those that did."""


class Expired(Exception):
    """The stream did not end in time."""


class IncomingStream:
    """Collects the frames of one streamed answer."""

    def __init__(self, resends: Resends | None = None, *, in_hand: BytesInHand | None = None) -> None:
        """Count what waits in `in_hand`. Without `resends` a stream with a hole ends at the hole."""
        self._resends = resends
        self._in_hand = in_hand
        self._parts: deque[bytes] = CountedParts(in_hand) if in_hand is not None else deque()
        self._waiting_bytes = 0
        """Of the parts that wait for the caller, those behind a hole included."""
        self._tell_room: Callable[[], None] | None = None
        """The worker waits to be told of room."""
        self._attempt = 0
        self._target = 0
        self._forgotten = 0
        """The last attempt whose frames are dropped."""
        self._taken = 0
        self._ahead: dict[int, bytes] = {}
        """Parts that came behind a hole, by number."""
        self._ahead_bytes = 0
        self._commit: Frame | None = None
        """It came before parts that it counts."""
        self._ending: Ending | PartsLost | Expired | Overloaded | None = None
        self._has_begun = False
        self._waiting: asyncio.Future[None] | None = None
        """The future of `next`, if it waits. An `asyncio.Event` would take seven calls more for each wait."""

    @property
    def progress(self) -> tuple[int, int]:
        """The attempt, and the number of its parts that have come."""
        return self._attempt, self._taken

    @property
    def origin(self) -> tuple[int, int]:
        """The attempt that the parts come from, and the number of its target in the request's plan."""
        return self._attempt, self._target

    def begin_again(self) -> bool:
        """Drop what came, for another attempt. False if the caller was given some of it."""
        if self._has_begun:
            return False
        self._forgotten, self._taken = self._attempt, 0
        self._drop_parts()
        return True

    def take(self, frame: Frame) -> None:
        """Take a frame. Drop it if the stream has ended."""
        if self._ending is not None or (frame.kind == "part" and frame.attempt <= self._forgotten):
            return
        match frame.kind:
            case "part":
                self._take_part(frame)
            case "commit":
                self._take_commit(frame)
            case "failed":
                self._end(Failed(decode_failure(frame.payload)))
            case "body" | "begun?" | "room?" | "waits?":
                raise AssertionError("a stream has no body in one piece")
        self._wake()

    def when_room(self, sent: Frame, tell: Callable[[], None]) -> None:
        """See `Collector`. A part that has not come by now was lost: the question came behind it."""
        if self._ending is not None or sent.attempt != self._attempt:
            tell()  # nothing more of it is kept
            return
        self._tell_room = tell
        if sent.number > self._taken:
            self._open_hole()
            self._wake()
        self._tell_of_room()

    def fail(self, error: Overloaded) -> None:
        """End the stream, unless it has ended, because there is no room for what came."""
        if self._ending is None:
            self._end(error)
            self._wake()

    def end_by_log(self, end: Completed | JobFailure) -> None:
        """Take the end that the log has. The log does not have the number of parts: it is requested from the worker."""
        if self._ending is not None:
            return
        if isinstance(end, JobFailure):
            self._end(Failed(end))
        elif self._follows(end.attempt):
            self._open_hole()
        self._wake()

    def expire(self) -> None:
        """End the stream, unless it has ended, because its deadline has passed."""
        if self._ending is None:
            self._end(Expired())
            self._wake()

    @property
    def has_ended(self) -> bool:
        """True if the worker has sent how it ended; if not, it may still be working."""
        return isinstance(self._ending, Committed | Failed)

    @property
    def is_at_end(self) -> bool:
        """True if `next` gives how the stream has ended, and need not wait for it."""
        return self._ending is not None and not self._parts

    async def next(self) -> bytes | Ending:
        """Wait for parts and return them joined; return the ending once there are no more. One caller at a time waits.

        Raises:
            PartsLost: the stream has a hole.
            Expired: its deadline has passed.
            Overloaded: more came than this process can hold for a caller that does not read it.

        """
        while not self._parts and self._ending is None:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            self._waiting = None
        if self._parts:
            self._has_begun = True
            return self._joined()
        if isinstance(self._ending, PartsLost | Expired | Overloaded):
            raise self._ending
        assert self._ending is not None, "nothing else ends the loop"
        return self._ending

    def _wake(self) -> None:
        """Have `next` look again, if it waits and was not cancelled."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _joined(self) -> bytes:
        """Join the parts that wait, up to `MAX_JOINED_BYTES`."""
        part = self._parts.popleft()
        parts, size = [part], len(part)
        while self._parts and size + len(self._parts[0]) <= MAX_JOINED_BYTES:
            part = self._parts.popleft()
            parts.append(part)
            size += len(part)
        self._waiting_bytes -= size
        if self._tell_room is not None:
            self._tell_of_room()
        return part if len(parts) == 1 else b"".join(parts)

    def _tell_of_room(self) -> None:
        """Tell the worker, if it waits for that, that it may send more."""
        if self._tell_room is not None and (self._ending is not None or self._waiting_bytes <= ROOM_BYTES):
            tell, self._tell_room = self._tell_room, None
            tell()

    def _take_part(self, frame: Frame) -> None:
        if not self._follows(frame.attempt) or frame.number <= self._taken:
            return  # another attempt ends the stream; a part that has come is sent again with those that have not
        self._target = frame.target
        if frame.number > self._taken + 1:
            if frame.number not in self._ahead:
                self._ahead_bytes += len(frame.payload)
                self._waiting_bytes += len(frame.payload)
                self._ahead[frame.number] = frame.payload
            self._open_hole()
            return
        self._taken += 1
        self._parts.append(frame.payload)
        self._waiting_bytes += len(frame.payload)
        if self._resends is not None and self._resends.are_under_way:
            self._fill_hole()

    def _take_commit(self, frame: Frame) -> None:
        if not self._follows(frame.attempt):
            return
        if frame.number == self._taken and frame.number:
            self._end(Committed(frame.attempt, None, decode_receipt(frame.payload)))
        elif frame.number < self._taken and frame.number:
            self._end(PartsLost())
        else:  # a worker that repeats the end of another's attempt does not know the number
            self._commit = frame if frame.number else self._commit
            self._open_hole()

    def _follows(self, attempt: int) -> bool:
        """Follow this attempt. If the caller was given parts of another one, end the stream and return False."""
        if attempt != self._attempt:
            if self._has_begun:
                self._end(PartsLost())
                return False
            self._drop_parts()
            self._attempt, self._taken = attempt, 0
        return True

    def _open_hole(self) -> None:
        """Request what is missing, and wait for it a while."""
        if self._resends is None or self._ahead_bytes > MAX_AHEAD_BYTES:
            self._end(PartsLost())
        else:
            self._resends.begin(lambda: (self._attempt, self._taken + 1), self._give_up)

    def _fill_hole(self) -> None:
        """Take the parts behind the hole that follow on without another gap."""
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
            self._end(Committed(commit.attempt, None, decode_receipt(commit.payload)))

    def _drop_parts(self) -> None:
        self._close_hole()
        self._parts.clear()
        self._waiting_bytes = 0

    def _close_hole(self) -> None:
        self._waiting_bytes -= self._ahead_bytes
        self._ahead.clear()
        self._ahead_bytes = 0
        self._commit = None
        if self._resends is not None:
            self._resends.end()

    def _give_up(self) -> None:
        if self._ending is None:
            self._end(PartsLost())
            self._wake()

    def _end(self, ending: Ending | PartsLost | Expired | Overloaded) -> None:
        self._close_hole()
        self._ending = ending
        self._tell_of_room()
