"""Writes lines to standard error in a thread of its own: whoever has a line never waits for who reads it.

A terminal that is stopped (Ctrl-S), a pager that is left alone or a log driver that hangs takes nothing for hours.
Lines wait for it up to a bound; beyond that they are not taken, and their owner counts them.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

MAX_WAITING_BYTES = 1024 * 1024
PIECE_BYTES = 4_096
"""A pipe takes so much whole (POSIX: PIPE_BUF, on Linux): what others write to it does not get between."""
CLOSE_TIMEOUT_S = 1.0
STANDARD_ERROR = 2


class LineWriter:
    """The lines of one owner, in order."""

    def __init__(self, fd: int = STANDARD_ERROR, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        """Write to this file descriptor: not to `sys.stderr`, which cannot be closed while somebody waits in it."""
        self._fd = fd
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> bool:
        """Have whole lines written. False: there is no room for them, or it is closed."""
        data = text.encode(errors="backslashreplace")
        with self._changed:
            if self._is_closing or self._waiting_bytes + len(data) > self._max_waiting_bytes:
                return False
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="writing lines")
                self._thread.start()
            self._changed.notify()
        return True

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Wait until all is written, for at most `timeout_s`. The rest is lost."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._is_closing:
                        return
                    self._changed.wait()
                data = self._waiting[0]
            with suppress(OSError):  # standard error is gone, or closed
                for piece in _pieces(data):
                    self._write_whole(piece)
            with self._changed:
                self._waiting.popleft()
                self._waiting_bytes -= len(data)

    def _write_whole(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            left = left[os.write(self._fd, left) :]


def _pieces(data: bytes) -> Iterator[bytes]:
    """Lines together, as many as a pipe takes whole."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + PIECE_BYTES) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
