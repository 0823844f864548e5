"""Gives every request an id, its bytes in hand and its metrics, from its head to the last byte of its response.

Bytes are counted when a route reads a body (`api/requests.py`), which it does only after it has looked at the key.
They are released here, when the answer has been sent. A large answer is sent piece by piece, so a client that takes it
slowly keeps its request in hand, and no more than a piece waits inside the protocol.
"""

import time
from collections.abc import Iterator

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseBodyEvent, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.observation import RequestObserver
from infra.byte_budget import BytesInHand
from infra.event_log import EventLog
from infra.ids import new_id

REQUEST_ID_SCOPE = "gateway.request_id"
BYTES_SCOPE = "gateway.bytes_in_hand"
PIECE_BYTES = 256 * 1024
"""Of an answer."""


class RequestLifetime:
    """Gives every request an id and every response its headers; at the end releases its bytes and counts it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: EventLog, observer: RequestObserver) -> None:
        self._observer = observer
        self._app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the id in the scope."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), "500"
        request_id = new_id("req")
        scope[REQUEST_ID_SCOPE] = request_id  # type: ignore[literal-required]  # ours, beside ASGI's
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                watch.answering(message["status"])
                message["headers"] = [*message["headers"], header, *self._log_position(scope)]
            elif message["type"] == "http.response.body" and len(message["body"]) > PIECE_BYTES:
                for piece in _pieces(message):
                    await send(piece)
                return
            await send(message)

        try:
            with self._observer.request(scope) as watch:
                await self._app(scope, receive, send_with_id)
        finally:
            in_hand = scope.get(BYTES_SCOPE)
            if isinstance(in_hand, BytesInHand):
                in_hand.close()
            self._metrics.observe(scope["path"], status, time.perf_counter() - started_s)

    def _log_position(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the header with the newest head of the log. Whoever has shown no key learns nothing of it."""
        written = self._log.newest_position
        has_key = BYTES_SCOPE in scope  # bytes are counted once a key is known
        return [(b"x-gateway-log-position", written.encode())] if written is not None and has_key else []


def _pieces(message: HTTPResponseBodyEvent) -> Iterator[HTTPResponseBodyEvent]:
    body, more_body = message["body"], message["more_body"]
    for start in range(0, len(body), PIECE_BYTES):
        is_last = start + PIECE_BYTES >= len(body)
        piece = body[start : start + PIECE_BYTES]
        yield {"type": "http.response.body", "body": piece, "more_body": more_body or not is_last}
