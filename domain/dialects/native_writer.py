"""Writes the canonical stream as the native API's Server-Sent Events: the chunks as they are."""

from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from domain.canonical.chat import AnswerUsage
from domain.canonical.stream import ChatChunk, ChunkChoice
from domain.dialects.openai_writer import END
from domain.dialects.sse import sse


class LastChunk(Struct, kw_only=True, rename="camel"):
    """What is known once the answer is whole."""

    id: str
    model: str
    choices: list[ChunkChoice]
    usage: AnswerUsage
    cost: Decimal | None
    cached: bool
    latency_ms: int


class _Failure(Struct, kw_only=True, rename="camel"):
    code: str
    message: str
    request_id: str
    details: dict[str, Any] | UnsetType = UNSET


_encode = msgspec.json.Encoder(decimal_format="number").encode


class NativeWriter:
    """One stream to one client."""

    def __init__(self) -> None:
        self._id = ""
        self._model = ""

    def write(self, chunk: ChatChunk) -> bytes:
        """The event of a chunk."""
        self._id, self._model = chunk.id, chunk.model
        return b"data: " + _encode(chunk) + b"\n\n"

    def end(self, usage: AnswerUsage, cost_usd: Decimal | None, *, cached: bool, latency_ms: int) -> bytes:
        """The last events: usage and cost, and `[DONE]`."""
        last = LastChunk(
            id=self._id,
            model=self._model,
            choices=[],
            usage=usage,
            cost=cost_usd,
            cached=cached,
            latency_ms=latency_ms,
        )
        return sse(_encode(last)) + END


def error(code: str, message: str, request_id: str, details: dict[str, Any] | None = None) -> bytes:
    """A failure inside a stream: the same object that would have been the whole answer."""
    failure = _Failure(code=code, message=message, request_id=request_id, details=details or UNSET)
    return sse(_encode({"success": False, "error": failure}))
