"""What came in and what went out, byte for byte: the last requests, and what was sent for each."""

import base64
from collections import deque
from typing import Any

from aiohttp import web

MAX_RECORDED = 256
MAX_RECORDED_BYTES = 64 * 1024 * 1024
"""Of all bodies together; the oldest are forgotten first."""


class Recording:
    """A request as it came, and its answer as far as it has been sent."""

    def __init__(self, number: int, request: web.Request, body: bytes) -> None:
        self.number = number
        """Counts requests from 1, in the order of their arrival."""
        self.method = request.method
        self.path = request.path_qs
        self.headers = [[name, value] for name, value in request.headers.items()]
        self.body = body
        self.status: int | None = None
        self.answer_headers: list[list[str]] = []
        self.answer = bytearray()
        self.is_whole = False
        """Whether the answer's last byte has been sent."""

    @property
    def size_bytes(self) -> int:
        """What is kept for it."""
        return len(self.body) + len(self.answer)

    def head(self, answer: web.StreamResponse) -> None:
        """Remember the head of the answer."""
        self.status = answer.status
        self.answer_headers = [[name, value] for name, value in answer.headers.items()]

    def whole(self, answer: web.Response) -> web.Response:
        """Remember an answer that goes out in one piece."""
        self.head(answer)
        self.answer += bytes(answer.body)  # type: ignore[arg-type] # none of ours is a payload of another kind
        self.is_whole = True
        return answer


class Recordings:
    """The last of them, within bounds."""

    def __init__(self) -> None:
        self._kept: deque[Recording] = deque(maxlen=MAX_RECORDED)
        self._count = 0

    def begin(self, request: web.Request, body: bytes) -> Recording:
        """Record a request."""
        self._count += 1
        recording = Recording(self._count, request, body)
        self._kept.append(recording)
        while len(self._kept) > 1 and sum(kept.size_bytes for kept in self._kept) > MAX_RECORDED_BYTES:
            self._kept.popleft()
        return recording

    def requests(self, last: int) -> list[dict[str, Any]]:
        """The last requests, oldest first."""
        return [
            {
                "number": one.number,
                "method": one.method,
                "path": one.path,
                "headers": one.headers,
                "body": base64.b64encode(one.body).decode(),
            }
            for one in list(self._kept)[-last:]
        ]

    def answers(self, last: int) -> list[dict[str, Any]]:
        """What was sent for the last requests, in the order of these; without the framing of chunks."""
        return [
            {
                "number": one.number,
                "status": one.status,
                "headers": one.answer_headers,
                "body": base64.b64encode(one.answer).decode(),
                "whole": one.is_whole,
            }
            for one in list(self._kept)[-last:]
        ]
