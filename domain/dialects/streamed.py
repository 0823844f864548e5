"""What every reader of a provider's stream knows, whatever the wire.

A reader is fed event by event and answers what it takes to account for the stream. Where a client speaks another
dialect it also gives the canonical chunks; where somebody keeps the answer it also assembles it. Both cost time and are
off unless asked for.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk
from domain.dialects.provider_response import UnreadableResponse
from domain.dialects.sse import SseEvent
from domain.sanitize import sanitize_identifier, sanitize_message
from domain.tokens import TokenUsage

DONE = b"[DONE]"
"""The data of the last event of OpenAI's streams."""

T = TypeVar("T")


class StreamFailed(Exception):
    """The provider said, inside its stream, that it failed.

    `kind` is the vendor's own word for what happened (`overloaded_error`, `server_error`, `rate_limit_exceeded` …).
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


class StreamReader(Protocol):
    """Reads one stream of a provider."""

    usage: TokenUsage | None
    """None until the wire has said it: before the end it may still grow."""
    input_usage: TokenUsage | None
    """What went in, where the wire says it early (Anthropic's `message_start`); `output` is 0."""
    answered_by: str
    """The model that the provider says it used; empty until it does."""
    response_id: str
    finish_reason: FinishReason | None
    is_ended: bool
    """The vendor's proper end was seen: a stream that stops before it was cut."""
    is_tail: bool
    """The event last taken is to be held back, with all that follow, until the gateway's log has committed: nothing but
    the end seems to follow. False again where more did (another choice of a provider that counts in every chunk): what
    was held back is to go on then.
    """
    received_output_bytes: int
    """UTF-8 bytes of text, tool calls and thinking so far: no fewer than the tokens that were shown."""

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """Read the next event; the canonical chunks that it amounts to, where they were asked for.

        Raises:
            StreamFailed: the vendor says that it failed. What is known is kept.
            UnreadableResponse: this is no event of this wire.

        """
        ...

    def assembled(self) -> bytes:
        """The vendor's answer without streaming, as JSON. Only of a reader that was made to keep it, at the end.

        Raises:
            UnreadableResponse: the pieces are no whole answer.

        """
        ...


def decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    """What a typed decoder reads.

    Raises:
        UnreadableResponse: it cannot.

    """
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableResponse(str(error)) from error


class _Typed(Struct, frozen=True):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode


def compact(body: bytes) -> bytes:
    """The same JSON on one line, its numbers and strings as they were written: what fits into an event.

    Raises:
        UnreadableResponse: it is no JSON.

    """
    return decoded(_on_one_line, body)


def _on_one_line(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=-1)


def decoded_if_known(decode: Callable[[bytes], T], data: bytes, known: frozenset[str]) -> T | None:
    """What a typed decoder reads; None for an event of a type to come, which may have any shape.

    Raises:
        UnreadableResponse: it cannot, though the type is known.

    """
    try:
        return decoded(decode, data)
    except UnreadableResponse:
        if decoded(_decode_type, data).type in known:
            raise
        return None


def failure(error: Any) -> StreamFailed:
    """A vendor's error object. Some providers send only a sentence, or a number for a code."""
    if not isinstance(error, dict):
        return StreamFailed(sanitize_message(str(error)), "error")
    kind = error.get("code") or error.get("type") or "error"
    message = error.get("message") or "the provider failed inside its stream"
    return StreamFailed(sanitize_message(str(message)), sanitize_identifier(str(kind)))


def utf8_bytes(text: str | None) -> int:
    """How long a text is in UTF-8; absent text has none."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())
