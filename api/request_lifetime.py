"""Gives every request an id, its bytes in hand, its figures and its access line, from its head to the last byte of its
response.

Bytes are counted when a route reads a body (`api/requests.py`), which it does only after it has looked at the key.
They are released here, when the answer has been sent. A large answer is sent piece by piece, so a client that takes it
slowly keeps its request in hand, and no more than a piece waits inside the protocol.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseBodyEvent, Message, Receive, Scope, Send

from api.connections import MAX_UNREAD_BYTES
from api.metrics import Metrics, route_of
from api.observation import NOT_OBSERVED, RequestObserver
from api.request_facts import FACTS_SCOPE, RequestFacts
from domain.errors import GatewayError
from domain.money import to_usd
from infra.access_log import PROCESS, AccessLine, AccessLog, Limited
from infra.byte_budget import BytesInHand
from infra.event_log import EventLog
from infra.ids import new_id

REQUEST_ID_SCOPE = "gateway.request_id"
BYTES_SCOPE = "gateway.bytes_in_hand"
PIECE_BYTES = MAX_UNREAD_BYTES
"""Of an answer. The next is sent when there is room: what waits is counted until the last one has been sent."""
_WATCHERS = frozenset(("health", "metrics", "dashboard"))
"""Routes that are called all the time by those who watch: they have a line if they fail."""
_LEAST_FAILURE = 400
_LIMITED = 429
_SERVER_FAILURE = 500


class RequestLifetime:
    """Gives every request an id and every response its headers; at the end releases its bytes, counts and notes it."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        log: EventLog,
        access_log: AccessLog,
        observer: RequestObserver = NOT_OBSERVED,
    ) -> None:
        self._observer = observer
        self._app = app
        self._metrics = metrics
        self._log = log
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the id and the facts in the scope."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500
        request_id, facts = new_id("req"), RequestFacts()
        scope[REQUEST_ID_SCOPE] = request_id  # type: ignore[literal-required]  # ours, beside ASGI's
        scope[FACTS_SCOPE] = facts  # type: ignore[literal-required]  # as the id
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                watch.answering(status)
                message["headers"] = [*message["headers"], header, *self._log_position(scope)]
            elif message["type"] == "http.response.body":
                if facts.first_byte_s is None:
                    facts.first_byte_s = time.perf_counter() - started_s
                if len(message["body"]) > PIECE_BYTES:
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
            has_viewer = scope.get("user") is not None
            route, took_s = route_of(scope["path"], has_viewer=has_viewer), time.perf_counter() - started_s
            self._metrics.observe(route, str(status), took_s, facts)
            if _has_line(self._access_log, route, status, facts):
                line = _line(request_id, route, status, took_s, facts, watch.log_fields)
                self._access_log.note(line, _limited(status, is_known=in_hand is not None or has_viewer))

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


async def note_failure(error: Exception, scope: Scope) -> None:
    """Note the error that a request ends with. Litestar's `after_exception`."""
    facts = scope.get(FACTS_SCOPE)
    if isinstance(error, GatewayError) and isinstance(facts, RequestFacts):
        facts.failed(error)


def _has_line(access_log: AccessLog, route: str, status: int, facts: RequestFacts) -> bool:
    if access_log.lines == "all":  # a page that asked a model, as the playground does, is a call as any other
        return status >= _LEAST_FAILURE or route not in _WATCHERS or facts.operation is not None
    return access_log.lines == "failures" and status >= _LEAST_FAILURE


def _limited(status: int, *, is_known: bool) -> Limited | None:
    """The kind of a request that its caller can repeat without end and for nothing."""
    if not is_known:  # bytes are counted once a key is known
        return "no_key"
    return "rate_limited" if status == _LIMITED else None


def _line(
    request_id: str, route: str, status: int, took_s: float, facts: RequestFacts, trace: Mapping[str, str]
) -> AccessLine:
    return AccessLine(
        timestamp=datetime.now(UTC),
        process=PROCESS,
        level="info" if status < _SERVER_FAILURE else "warning",
        request_id=request_id,
        route=route,
        status=status,
        outcome=facts.error_code,
        key_id=facts.key_id,
        operation=facts.operation,
        provider=facts.provider,
        model=facts.model,
        stream=facts.is_stream or None,
        cache=facts.cache,
        attempts=facts.attempts,
        prompt_tokens=facts.prompt_tokens,
        completion_tokens=facts.completion_tokens,
        cost_usd=to_usd(facts.cost_nano_usd) if facts.cost_nano_usd is not None else None,
        latency_ms=round(took_s * 1000),
        first_byte_ms=round(facts.first_byte_s * 1000) if facts.is_stream and facts.first_byte_s is not None else None,
        trace_id=trace["trace_id"] if trace else None,
        span_id=trace["span_id"] if trace else None,
    )
