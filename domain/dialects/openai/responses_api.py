"""OpenAI's Responses API: the usage of responses and streams, and the gateway's errors inside a stream.

https://platform.openai.com/docs/api-reference/responses-streaming. This is for what is passed through to a provider
that serves it; `responses/` has the translation for all others.
"""

from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk
from domain.dialects.codec import FAILED, ProviderResponse, passed_through
from domain.dialects.decode import decode_known_event, decode_provider_json, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai.responses.echo import Echo
from domain.dialects.openai.responses.output import response_object
from domain.dialects.openai.usage import ResponsesUsage, parse_responses_usage
from domain.dialects.sse import DONE, SseEvent, SseParser, sse
from domain.estimate import utf8_length
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that carry the final response."""
MAX_ITEM_IDS = 256
"""Of one response: the log keeps no more."""
_CALLS = frozenset({"function_call", "custom_tool_call"})
"""Output that waits for the caller to run something."""
_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _Item(Struct, frozen=True, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None


class _Reason(Struct, frozen=True, gc=False):
    reason: str | None = None


class Response(Struct, frozen=True, gc=False):
    """As much of a response as its costs and its record depend on: of one in one piece, or at the end of a stream."""

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


class _Numbered(Struct, frozen=True):
    sequence_number: int = -1


_KNOWN = ENDS | {"response.created", "response.in_progress", "response.output_text.delta", "error"}
_decode = msgspec.json.Decoder(_Event).decode
decode_response = msgspec.json.Decoder(Response).decode
_decode_number = msgspec.json.Decoder(_Numbered).decode


class ResponsesReader:
    """A `StreamReader` of responses. It gives no canonical chunks."""

    def __init__(self) -> None:
        self.usage: TokenUsage | None = None
        self.input_usage: TokenUsage | None = None
        self.answered_by = ""
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self.item_ids: tuple[str, ...] = ()

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data or event.data == DONE:
            return []
        read = decode_known_event(_decode, event.data, _KNOWN)
        if read is None:
            return []
        if isinstance(read.delta, str):
            self.received_output_bytes += utf8_length(read.delta)
        elif read.response is not UNSET:
            self._account(read.type, bytes(read.response))
        elif read.error is not None or read.type == "error":
            raise stream_failure(read.error or {"message": read.message, "code": read.code})
        elif not read.type:
            raise UnreadableResponse("an event of the stream has no type")
        elif read.item is not None and read.type == "response.output_item.added":
            self.received_output_bytes += utf8_length(read.item.name)
        return []

    def _account(self, kind: str, body: bytes) -> None:
        if kind not in ENDS and self.response_id:
            return
        response = decode_provider_json(decode_response, body)
        self.response_id, self.answered_by = sanitize_identifier(response.id), sanitize_identifier(response.model)
        if kind not in ENDS:
            return
        self.is_ended = self.is_tail = True
        self.item_ids = item_ids(response)
        if response.usage is not None:
            self.usage = parse_responses_usage(response.usage)
        if kind == "response.failed":
            raise stream_failure(response.error or {})
        self.finish_reason = finish_reason(response)


def finish_reason(response: Response) -> FinishReason:
    """Why a response that did not fail ended."""
    if response.incomplete_details is not None:
        return _INCOMPLETE.get(response.incomplete_details.reason or "", "stop")
    return "tool_calls" if any(item.type in _CALLS for item in response.output or ()) else "stop"


def item_ids(response: Response) -> tuple[str, ...]:
    """The ids of the output's items, by which later requests may name them."""
    ids = (sanitize_identifier(item.id) for item in response.output or () if item.id)
    return tuple(islice(ids, MAX_ITEM_IDS))


def next_sequence_number(sent: bytes) -> int:
    """The number that follows the last event's in these bytes of a stream; 0 if none can be read."""
    events = [event for event in SseParser().feed(sent) if event.data]
    try:
        return _decode_number(events[-1].data).sequence_number + 1 if events else 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def error_events(message: str, code: str, request_id: str, sequence_number: int) -> bytes:
    """Write how a stream fails: an `error` event, by which SDKs raise, and a `response.failed`, by which agents do.

    `sequence_number` is one more than that of the event before them.
    """
    error = {
        "type": "error",
        "sequence_number": sequence_number,
        "code": code,
        "message": message,
        "param": None,
    }
    response = response_object(request_id, "", Echo(), created_s=0) | {
        "status": "failed",
        "error": {"code": code, "message": message},
    }
    failed = {"type": "response.failed", "sequence_number": sequence_number + 1, "response": response}
    return sse(msgspec.json.encode(error), "error") + sse(msgspec.json.encode(failed), "response.failed")


def meter_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through response.

    Raises:
        UnreadableResponse: it is no response.

    """
    response = decode_provider_json(decode_response, body)
    if response.usage is None and response.output is None:
        raise UnreadableResponse("it is no response")
    return passed_through(
        body,
        usage=parse_responses_usage(response.usage) if response.usage is not None else None,
        model=response.model,
        response_id=response.id,
        finish_reason=finish_reason(response) if response.error is None else FAILED,
        received_output_bytes=0 if response.usage is not None else len(body),
        is_empty=not response.output,
        item_ids=item_ids(response),
    )
