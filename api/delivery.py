"""Sends a response: its headers, and a stream with the errors in it, in the events of the surface.

The headers of a key's limits have the names and values of OpenAI (a duration is `12ms` or `6m0s`) or of
Anthropic (the time at which the limit is fully available again, RFC 3339).
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import structlog
from litestar import Response
from litestar.types import Receive, Scope, Send

from api.client_disconnect import interrupted_by_disconnect
from api.inference_response import InferenceResponse, StreamedResponse
from api.joined_response import BODY_FOLLOWS
from domain.errors import ClientDisconnected, GatewayError, ProviderError
from domain.limits import LimitStatus
from domain.money import to_usd
from domain.names import header_text

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
OK = 200
PIECE_BYTES = 32 * 1024
REPLAYED = {"idempotent-replayed": "true"}
"""The header of an answer, or of an error, that an earlier request with the same idempotency key got."""
MAX_CACHED_NAMES = 256
"""Encoded header names that are kept: our answers have fewer."""
_IS_JSON = (b"content-type", JSON.encode())
_IS_STREAM = (b"content-type", b"%b; charset=utf-8" % EVENT_STREAM.encode())
_NANO_PER_MS = 1_000_000

log = structlog.get_logger(__name__)


class SurfaceStream(Protocol):
    """The stream of one response on a surface."""

    def replay(self, response: InferenceResponse) -> Iterable[bytes]:
        """A cached response as a stream, to its end."""
        ...

    def error(self, error: GatewayError, sent: bytes) -> bytes:
        """The event of an error that ends the stream; `sent` is the last part before it."""
        ...


class _Answer(Response[bytes]):
    """An answer, made without Litestar's constructor, which asks abstract classes what its arguments are: 16 calls."""

    of_type = JSON

    def __init__(self, content: bytes, headers: dict[str, str]) -> None:
        self.content = content
        self.headers = headers
        self.media_type = self.of_type
        self.status_code = self.background = None
        self.cookies = []
        self.encoding = "utf-8"
        self.response_type_encoders = {}


class JsonAnswer(_Answer):
    """An answer in one piece."""


class EventStream(_Answer):
    """The Server-Sent Events of a response."""

    of_type = EVENT_STREAM

    def __init__(
        self, response: InferenceResponse | StreamedResponse, surface: SurfaceStream, headers: dict[str, str]
    ) -> None:
        super().__init__(b"", {"cache-control": "no-cache", **headers})
        self._response = response
        self._surface = surface

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """The application that sends the response: Litestar's own would make each header anew."""
        return _Sending(self._response, self._surface, self.headers)


class _Sending:
    """Sends the parts as they come, until the end or until the client disconnects."""

    def __init__(
        self, response: InferenceResponse | StreamedResponse, surface: SurfaceStream, headers: Mapping[str, Any]
    ) -> None:
        self._parts = (
            _live(response, surface) if isinstance(response, StreamedResponse) else _each(_pieces(response, surface))
        )
        self._headers = headers
        self._response = response
        self._is_sent = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        response = self._response
        if not isinstance(response, StreamedResponse):
            await self._send(receive, send)
            return
        try:
            await self._send(receive, send)
        finally:
            if not self._is_sent and response.facts.error_code is None:
                response.facts.error_code = ClientDisconnected.code
            response.close()

    async def _send(self, receive: Receive, send: Send) -> None:
        """Send the head, whose first part is there, and the parts, until the client disconnects."""
        head: Any = {"type": "http.response.start", "status": OK, "headers": [*_encoded(self._headers), _IS_STREAM]}
        await send(head | {BODY_FOLLOWS: True})
        async with interrupted_by_disconnect(receive) as disconnect:
            with disconnect:
                await self._stream(send)

    async def _stream(self, send: Send) -> None:
        """Send each part. The last goes together with the end of the body, if that is there."""
        response, last = self._response, b""
        async for part in self._parts:
            if last:
                await send({"type": "http.response.body", "body": last, "more_body": True})
                last = b""
            if isinstance(response, StreamedResponse) and response.is_at_end():
                last = part
            else:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": last, "more_body": False})
        self._is_sent = True


async def send_whole(response: Response[bytes], send: Send) -> None:
    """Send a response of JSON, with the headers that Litestar would send it with. It has no cookies."""
    content = response.content
    headers = _encoded(response.headers)
    headers += (_IS_JSON, (b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": response.status_code or OK, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _encoded(headers: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(_encoded_name(name), str(value).encode("latin-1")) for name, value in headers.items()]


@lru_cache(maxsize=MAX_CACHED_NAMES)
def _encoded_name(header: str) -> bytes:
    return header.lower().encode()


def answer_headers(response: InferenceResponse) -> dict[str, str]:
    """Return the headers of a response that is not streamed."""
    headers = stream_headers(response)
    cost_nano_usd = response.cost_nano_usd
    if cost_nano_usd is not None:
        headers["x-gateway-cost-usd"] = f"{to_usd(cost_nano_usd):f}"
    else:
        name = f"{response.receipt.provider}/{response.receipt.upstream_model}"
        headers["x-gateway-warning"] = f"{header_text(name)} has no known price: its cost is unknown"
    if response.cost_is_lower_bound:
        headers["x-gateway-cost-is-lower-bound"] = "true"
    return headers


def stream_headers(response: InferenceResponse | StreamedResponse) -> dict[str, str]:
    """Return the headers of a stream, which begin before its cost is known."""
    origin = response.receipt if isinstance(response, InferenceResponse) else response.target
    headers = {
        "x-gateway-cache": response.cache,
        "x-gateway-provider": header_text(origin.provider),
        "x-gateway-model": header_text(origin.upstream_model),
    }
    if response.attempts is not None:
        headers["x-gateway-attempts"] = str(response.attempts)
    if response.lowered_cap is not None:
        headers["x-gateway-max-tokens"] = str(response.lowered_cap)
    if response.lowered_tool_calls is not None:
        headers["x-gateway-max-tool-calls"] = str(response.lowered_tool_calls)
    if isinstance(response, InferenceResponse) and response.replay is not None:
        headers |= REPLAYED
    if response.dropped:
        headers["x-gateway-dropped"] = ", ".join(map(header_text, response.dropped))
    return headers


def failure_headers(error: GatewayError) -> dict[str, str]:
    """Return the headers of a failure that attempts have come to: their number, and the target of the last one."""
    if error.attempts is None or not isinstance(error, ProviderError):
        return {}
    headers = {"x-gateway-attempts": str(error.attempts), "x-gateway-provider": header_text(error.provider)}
    if error.upstream_model is not None:
        headers["x-gateway-model"] = header_text(error.upstream_model)
    return headers


def limit_headers(limit_status: LimitStatus) -> dict[str, str]:
    """Return the headers of the limits that the key has, with the names that OpenAI's clients read."""
    headers: dict[str, str] = {}
    for name, meter in (("requests", limit_status.requests), ("tokens", limit_status.tokens)):
        if meter is not None:
            headers |= {
                f"x-ratelimit-limit-{name}": str(meter.limit),
                f"x-ratelimit-remaining-{name}": str(max(0, meter.remaining)),
                f"x-ratelimit-reset-{name}": duration(meter.reset_ns),
            }
    if limit_status.budget_left_nano_usd is not None:
        headers["x-gateway-budget-remaining-usd"] = f"{to_usd(limit_status.budget_left_nano_usd):f}"
    return headers


def anthropic_limit_headers(limit_status: LimitStatus, now: datetime) -> dict[str, str]:
    """Return the headers of the limits that the key has, with Anthropic's names. Anthropic has none for a budget."""
    headers: dict[str, str] = {}
    for name, meter in (("requests", limit_status.requests), ("tokens", limit_status.tokens)):
        if meter is not None:
            reset = now + timedelta(microseconds=-(-meter.reset_ns // 1000))
            headers |= {
                f"anthropic-ratelimit-{name}-limit": str(meter.limit),
                f"anthropic-ratelimit-{name}-remaining": str(max(0, meter.remaining)),
                f"anthropic-ratelimit-{name}-reset": reset.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
    if limit_status.budget_left_nano_usd is not None:
        headers["x-gateway-budget-remaining-usd"] = f"{to_usd(limit_status.budget_left_nano_usd):f}"
    return headers


def duration(nanoseconds: int) -> str:
    """Write a duration as Go does, in whole milliseconds rounded up: `0s`, `12ms`, `1.5s`, `6m0s`."""
    milliseconds = -(-nanoseconds // _NANO_PER_MS)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60 * 1000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds


async def _live(response: StreamedResponse, surface: SurfaceStream) -> AsyncIterator[bytes]:
    part = b""
    try:
        async for part in response:
            yield part
    except GatewayError as error:
        response.facts.error_code = error.code
        log.warning("stream_broke_off", request_id=response.request_id, code=error.code)
        yield error.in_stream or surface.error(error, part)


def _pieces(response: InferenceResponse, surface: SurfaceStream) -> Iterable[bytes]:
    """The stream of a response that is there: made from its body, or the events that an earlier request was sent."""
    if response.replay is None or response.replay.is_cached:
        return surface.replay(response)
    body = response.body
    return (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))


async def _each(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
