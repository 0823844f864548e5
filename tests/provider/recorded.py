"""Recordings of the last requests and of the responses to them, byte for byte."""

import base64
from collections import deque
from typing import Any

from aiohttp import web

MAX_RECORDED = 256
MAX_RECORDED_BYTES = 64 * 1024 * 1024
"""The limit for all bodies together. The oldest recordings are dropped first."""


class Recording:
    """A request as it was received, and the part of its response that has been sent."""

    def __init__(self, number: int, request: web.Request, body: bytes) -> None:
        self.number = number
        """The request's number, from 1, in the order of arrival."""
        self.method = request.method
        self.path = request.path_qs
        self.headers = [[name, value] for name, value in request.headers.items()]
        self.body = body
        self.status: int | None = None
        self.answer_headers: list[list[str]] = []
        self.answer = bytearray()
        self.is_whole = False
        """True once the last byte of the response has been sent."""

    @property
    def size_bytes(self) -> int:
        """Return the size of both bodies."""
        return len(self.body) + len(self.answer)

    def head(self, answer: web.StreamResponse) -> None:
        """Record the head of the response."""
        self.status = answer.status
        self.answer_headers = [[name, value] for name, value in answer.headers.items()]

    def whole(self, answer: web.Response) -> web.Response:
        """Record a response in one piece, and return it."""
        self.head(answer)
        self.answer += bytes(answer.body)  # type: ignore[arg-type] # none of ours is a payload of another kind
        self.is_whole = True
        return answer


class Recordings:
    """The last recordings, limited in number and in bytes."""

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
        """Return the last requests, oldest first."""
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
        """Return the responses to the last requests, in the order of the requests, without the framing of chunks."""
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
