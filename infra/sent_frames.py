"""Keeps the frames that a worker has sent for a while, in case one does not arrive. Sends nothing itself.

There is no confirmation: a frame is kept until it is old, or until newer ones need its room.
"""

import asyncio
import time
from collections import deque

KEPT_FOR_S = 30.0
"""Several times as long as an API process takes to notice that it lacks a frame."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""In one process; the oldest frames go first."""
EXPIRY_TICK_S = 1.0
FRAME_OVERHEAD_BYTES = 256
"""What a frame takes in memory beside its bytes, about."""


class SentFrames:
    """The frames of one process, oldest first."""

    def __init__(self, *, max_bytes: int = MAX_KEPT_BYTES, kept_for_s: float = KEPT_FOR_S) -> None:
        self._max_bytes = max_bytes
        self._kept_for_s = kept_for_s
        self._order: deque[tuple[float, str, int]] = deque()
        """When each was sent, of which request, and what it takes."""
        self._frames: dict[str, deque[bytes]] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, request_id: str, frame: bytes) -> None:
        """Keep a frame."""
        size_bytes = len(frame) + FRAME_OVERHEAD_BYTES
        self._order.append((time.monotonic(), request_id, size_bytes))
        frames = self._frames.get(request_id)
        if frames is None:
            frames = self._frames[request_id] = deque()
        frames.append(frame)
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            self._drop_oldest()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._kept_for_s, self._expire)

    def of(self, request_id: str) -> list[bytes]:
        """Return the frames of a request that are still kept, in the order of sending."""
        return list(self._frames.get(request_id, ()))

    def clear(self) -> None:
        """Drop all frames."""
        if self._timer is not None:
            self._timer.cancel()
        self._order.clear()
        self._frames.clear()
        self._bytes = 0

    def _expire(self) -> None:
        expired_at = time.monotonic() - self._kept_for_s
        while self._order and self._order[0][0] <= expired_at:
            self._drop_oldest()
        self._timer = None
        if self._order:
            due_s = max(0.0, self._order[0][0] - expired_at)
            self._timer = asyncio.get_running_loop().call_later(due_s + EXPIRY_TICK_S, self._expire)

    def _drop_oldest(self) -> None:
        _, request_id, size_bytes = self._order.popleft()
        frames = self._frames[request_id]
        frames.popleft()
        if not frames:
            del self._frames[request_id]
        self._bytes -= size_bytes
