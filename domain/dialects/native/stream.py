"""The native API's streams: canonical chunks as they are, each in an event."""

from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from domain.canonical.stream import ChatChunk, ChunkChoice
from domain.dialects.codec import StreamSummary
from domain.dialects.sse import DONE_EVENT, sse
from domain.json_numbers import encode
from domain.tokens import AnswerUsage, answer_usage


class LastChunk(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The last chunk of a stream: usage, cost and latency of the whole response."""

    id: str
    model: str
    choices: list[ChunkChoice]
    usage: AnswerUsage
    cost: Decimal | None
    cached: bool
    latency_ms: int
    cost_is_lower_bound: bool = False
    """Something was used that has no known price."""


class _Failure(Struct, kw_only=True, rename="camel"):
    code: str
    message: str
    request_id: str
    details: dict[str, Any] | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


class NativeWriter:
    """One stream to one client."""

    def __init__(self) -> None:
        self._id = ""
        self._model = ""

    def write(self, chunk: ChatChunk) -> bytes:
        """The event of a chunk."""
        self._id, self._model = chunk.id, chunk.model
        return b"data: " + _encode(chunk) + b"\n\n"

    def end(self, summary: StreamSummary) -> bytes:
        """The last events: usage and cost, and `[DONE]`."""
        last = LastChunk(
            id=self._id,
            model=self._model,
            choices=[],
            usage=answer_usage(summary.usage),
            cost=summary.cost_usd,
            cached=summary.is_cached,
            latency_ms=summary.latency_ms,
            cost_is_lower_bound=summary.is_lower_bound,
        )
        return sse(encode(last)) + DONE_EVENT


def error_event(code: str, message: str, request_id: str, details: dict[str, Any] | None = None) -> bytes:
    """A failure inside a stream: the same object that would have been the whole answer."""
    failure = _Failure(code=code, message=message, request_id=request_id, details=details or UNSET)
    return sse(encode({"success": False, "error": failure}))
