"""How an answer leaves: its headers, and a stream with the errors in it. The surface says whose events they are."""

from collections.abc import AsyncIterator, Iterable
from contextlib import closing, nullcontext
from typing import Any, Protocol

import structlog
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from api.inference import InferenceResponse, StreamedResponse
from domain.errors import GatewayError
from domain.money import to_usd

EVENT_STREAM = "text/event-stream"

log = structlog.get_logger(__name__)


class SurfaceStream(Protocol):
    """How a surface streams one answer."""

    def replay(self, answer: InferenceResponse) -> Iterable[bytes]:
        """An answer that is known already, as a stream, to its end."""
        ...

    def error(self, error: GatewayError, sent: bytes) -> bytes:
        """What the caller is told where the stream breaks off; `sent` is the last that it was given."""
        ...


class EventStream(Response[bytes]):
    """Server-Sent Events of an answer."""

    def __init__(
        self, answer: InferenceResponse | StreamedResponse, surface: SurfaceStream, headers: dict[str, str]
    ) -> None:
        super().__init__(b"", media_type=EVENT_STREAM, headers={"cache-control": "no-cache", **headers})
        self._answer = answer
        self._surface = surface

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """The response as Litestar sends it."""
        return _Sending(self._answer, self._surface, {name: str(value) for name, value in self.headers.items()})


class _Sending(ASGIStreamingResponse):
    """Sends what comes, until the end or until the caller has left."""

    def __init__(
        self, answer: InferenceResponse | StreamedResponse, surface: SurfaceStream, headers: dict[str, str]
    ) -> None:
        parts = _live(answer, surface) if isinstance(answer, StreamedResponse) else _each(surface.replay(answer))
        super().__init__(iterator=parts, media_type=EVENT_STREAM, headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._answer) if isinstance(self._answer, StreamedResponse) else nullcontext():
            await super().__call__(scope, receive, send)


def answer_headers(answer: InferenceResponse) -> dict[str, str]:
    """What is said of an answer that comes in one piece."""
    headers = _headers(answer.cache, answer.receipt.provider, answer.receipt.upstream_model, answer.lowered_cap)
    cost_nano_usd = answer.cost_nano_usd
    if cost_nano_usd is not None:
        headers["x-gateway-cost-usd"] = f"{to_usd(cost_nano_usd):f}"
    else:
        name = f"{answer.receipt.provider}/{answer.receipt.upstream_model}"
        headers["x-gateway-warning"] = f"{name} has no known price: its cost is unknown"
    return headers


def stream_headers(answer: InferenceResponse | StreamedResponse) -> dict[str, str]:
    """What is said of a streamed answer before its cost is known."""
    if isinstance(answer, InferenceResponse):
        return _headers(answer.cache, answer.receipt.provider, answer.receipt.upstream_model, answer.lowered_cap)
    return _headers(answer.cache, answer.route.provider, answer.route.upstream_model, answer.lowered_cap)


def _headers(cache: str, provider: str, model: str, lowered_cap: int | None) -> dict[str, str]:
    headers = {"x-gateway-cache": cache, "x-gateway-provider": provider, "x-gateway-model": model}
    if lowered_cap is not None:
        headers["x-gateway-max-tokens"] = str(lowered_cap)
    return headers


async def _live(answer: StreamedResponse, surface: SurfaceStream) -> AsyncIterator[bytes]:
    part = b""
    try:
        async for part in answer:
            yield part
    except GatewayError as error:
        log.warning("stream_broke_off", request_id=answer.request_id, code=error.code)
        yield error.in_stream or surface.error(error, part)


async def _each(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
