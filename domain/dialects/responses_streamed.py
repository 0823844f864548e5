"""Reads a stream of OpenAI's Responses API. https://platform.openai.com/docs/api-reference/responses-streaming

It is never translated: only providers of OpenAI's kind serve it.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk
from domain.dialects.provider_response import UnreadableResponse, part_of
from domain.dialects.sse import SseEvent
from domain.dialects.streamed import DONE, decoded, decoded_if_known, failure, utf8_bytes
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenCount, TokenUsage

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that carry the final response."""

_CALLS = frozenset({"function_call", "custom_tool_call"})
"""Output that waits for the caller to run something."""

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _InputDetails(Struct, frozen=True):
    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None


class _OutputDetails(Struct, frozen=True):
    reasoning_tokens: TokenCount | None = None


class ResponsesUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the Responses API counts them."""

    input_tokens: TokenCount
    output_tokens: TokenCount = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


def usage_from_wire(usage: ResponsesUsage) -> TokenUsage:
    """The input tokens include those read from the cache and those written to it."""
    details = usage.input_tokens_details or _InputDetails()
    rest, cached = part_of(usage.input_tokens, details.cached_tokens)
    rest, written = part_of(rest, details.cache_write_tokens)
    spent = usage.output_tokens_details or _OutputDetails()
    return TokenUsage(
        input=rest,
        cache_read=cached,
        cache_write=written,
        output=usage.output_tokens,
        reasoning=min(spent.reasoning_tokens or 0, usage.output_tokens),
    )


class _Item(Struct, frozen=True, gc=False):
    type: str = ""
    name: str | None = None


class _Reason(Struct, frozen=True, gc=False):
    reason: str | None = None


class Response(Struct, frozen=True, gc=False):
    """As much of a response as tells what it counts and why it ended: an answer in one piece, or a stream's last."""

    id: str = ""
    model: str = ""
    usage: ResponsesUsage | None = None
    error: Any = None
    incomplete_details: _Reason | None = None
    output: list[_Item] | None = None


class _Event(Struct, frozen=True, gc=False):
    type: str = ""
    delta: str | dict[str, Any] | None = None
    item: _Item | None = None
    response: Raw | UnsetType = UNSET
    error: Any = None
    code: Any = None
    message: Any = None


_KNOWN = ENDS | {"response.created", "response.in_progress", "response.output_text.delta", "error"}
_decode = msgspec.json.Decoder(_Event).decode
decode_response = msgspec.json.Decoder(Response).decode


class ResponsesReader:
    """A `StreamReader` of responses. It gives no canonical chunks."""

    def __init__(self, *, keep: bool = False) -> None:
        self.usage: TokenUsage | None = None
        self.input_usage: TokenUsage | None = None
        self.answered_by = ""
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self._keep = keep
        self._final: bytes | None = None

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data or event.data == DONE:
            return []
        read = decoded_if_known(_decode, event.data, _KNOWN)
        if read is None:
            return []
        if isinstance(read.delta, str):
            self.received_output_bytes += utf8_bytes(read.delta)
        elif read.response is not UNSET:
            self._account(read.type, bytes(read.response))
        elif read.error is not None or read.type == "error":
            raise failure(read.error or {"message": read.message, "code": read.code})
        elif not read.type:
            raise UnreadableResponse("an event of the stream has no type")
        elif read.item is not None and read.type == "response.output_item.added":
            self.received_output_bytes += utf8_bytes(read.item.name)
        return []

    def assembled(self) -> bytes:
        """See `StreamReader.assembled`: the `response` of the last event, as it came."""
        assert self._keep
        if self._final is None:
            raise UnreadableResponse("the stream had no final response")
        return self._final

    def _account(self, kind: str, body: bytes) -> None:
        if kind not in ENDS and self.response_id:
            return
        response = decoded(decode_response, body)
        self.response_id, self.answered_by = sanitize_identifier(response.id), sanitize_identifier(response.model)
        if kind not in ENDS:
            return
        self.is_ended = self.is_tail = True
        if response.usage is not None:
            self.usage = usage_from_wire(response.usage)
        if kind == "response.failed":
            raise failure(response.error or {})
        self.finish_reason = finish_reason(response)
        if self._keep:
            self._final = body


def finish_reason(response: Response) -> FinishReason:
    """Why a response that did not fail ended."""
    if response.incomplete_details is not None:
        return _INCOMPLETE.get(response.incomplete_details.reason or "", "stop")
    return "tool_calls" if any(item.type in _CALLS for item in response.output or ()) else "stop"
