"""OpenAI's Responses API: the usage of responses and streams, and the gateway's errors inside a stream.

https://platform.openai.com/docs/api-reference/responses-streaming. This is for what is passed through to a provider
that serves it; `responses/` has the translation for all others.
"""

from collections import Counter
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk
from domain.dialects.codec import FAILED, ProviderResponse, passed_through
from domain.dialects.decode import decode_known_event, decode_provider_json, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai.response import identifier
from domain.dialects.openai.responses.echo import Echo
from domain.dialects.openai.responses.output import response_object
from domain.dialects.openai.usage import parse_responses_usage, unpriced_parts
from domain.dialects.sse import DONE, SseEvent, SseParser, sse
from domain.estimate import utf8_length
from domain.extras import NO_EXTRAS, Extras, OtherUsage, count_of, served_terms, stated_cost
from domain.sanitize import sanitize_identifier
from domain.tokens import MAX_TOKENS, TokenUsage

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that carry the final response."""
MAX_ITEM_IDS = 256
"""Of one response: the log keeps no more."""
CALLS = frozenset({"function_call", "custom_tool_call"})
"""Output that waits for the caller to run something."""
_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


_WRITING = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    }
)
"""The events with which a model writes its answer."""
_FEES = {"web_search_call": "web_search", "file_search_call": "file_search"}
_SHELL_CALL = "shell_call"
_CONTAINER_CALLS = frozenset({"code_interpreter_call", _SHELL_CALL})
_IMAGE_CALL = "image_generation_call"
_HOSTED_CALLS = _FEES.keys() | _CONTAINER_CALLS | {_IMAGE_CALL}
_UNDER_WAY = frozenset({"queued", "in_progress"})
"""The states of a response in the background: what it costs will be known when it is done."""


class _Item(Struct, frozen=True, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    action: Any = None
    """Of a web search: only `search` is charged for."""
    container_id: Any = None
    environment: Any = None
    """Of a shell: the container that it ran in, or the caller's own."""


class _Reason(Struct, frozen=True, gc=False):
    reason: str | None = None


class Response(Struct, frozen=True, gc=False):
    """As much of a response as its costs and its record depend on: of one in one piece, or at the end of a stream."""

    id: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None
    incomplete_details: _Reason | None = None
    output: list[_Item] | None = None
    status: str | None = None
    service_tier: Any = None
    tool_usage: Any = None


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
        self.extras = NO_EXTRAS
        self.answered_by = ""
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self.writing_run: int | None = None
        self._runs = 0
        self._done: list[_Item] = []
        """The calls of hosted tools so far."""
        self.item_ids: tuple[str, ...] = ()

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data or event.data == DONE:
            return []
        read = decode_known_event(_decode, event.data, _KNOWN)
        if read is None:
            return []
        if read.type not in _WRITING:
            self.writing_run = None
        elif self.writing_run is None:
            self._runs += 1
            self.writing_run = self._runs
        if isinstance(read.delta, str):
            self.received_output_bytes += utf8_length(read.delta)
        elif read.response is not UNSET:
            self._account(read.type, bytes(read.response))
        elif read.error is not None or read.type == "error":
            raise stream_failure(read.error or {"message": read.message, "code": read.code})
        elif read.item is not None and read.type == "response.output_item.done" and read.item.type in _HOSTED_CALLS:
            self._done.append(read.item)
            self.extras = parse_extras(Response(output=self._done))
        elif not read.type:
            raise UnreadableResponse("an event of the stream has no type")
        elif read.item is not None and read.type == "response.output_item.added":
            self.received_output_bytes += utf8_length(read.item.name)
        return []

    def _account(self, kind: str, body: bytes) -> None:
        if kind not in ENDS and self.response_id:
            return
        response = decode_provider_json(decode_response, body)
        self.response_id = identifier(response.id) or self.response_id
        self.answered_by = identifier(response.model) or self.answered_by
        if kind not in ENDS:
            return
        self.is_ended = self.is_tail = True
        self.extras = parse_extras(response)
        self.item_ids = item_ids(response)
        self.usage = parse_responses_usage(response.usage)
        if kind == "response.failed":
            raise stream_failure(response.error or {})
        self.finish_reason = finish_reason(response)


def parse_extras(response: Response) -> Extras:
    """Read what a response says beside its tokens: billable calls of hosted tools, and the tier that served it.

    `tool_usage` has the searches that are billed, where the provider sends it.
    """
    counted: Counter[str] = Counter()
    containers: set[str] = set()
    unpriced: dict[str, None] = {}
    for item in response.output or ():
        if item.type in _CONTAINER_CALLS:
            container = item.environment.get("container_id") if isinstance(item.environment, dict) else None
            if item.type != _SHELL_CALL or container is not None:
                containers.add(str(container or item.container_id))
        elif item.type == _IMAGE_CALL:
            unpriced[item.type] = None
        elif item.type in _FEES and not (isinstance(item.action, dict) and item.action.get("type") != "search"):
            counted[_FEES[item.type]] += 1
    tool_usage = response.tool_usage if isinstance(response.tool_usage, dict) else {}
    searches, drawn = tool_usage.get("web_search"), _drawn(tool_usage.get("image_gen"))
    if drawn:
        unpriced.pop(_IMAGE_CALL, None)
    if isinstance(searches, dict) and "num_requests" in searches:
        counted["web_search"] = count_of(searches["num_requests"])
    if response.status in _UNDER_WAY:
        unpriced[response.status or ""] = None
    terms, names = served_terms((("service_tier", response.service_tier),))
    return Extras(
        uses={tool: count for tool, count in (*counted.items(), ("container", len(containers))) if count},
        terms=terms,
        stated=names,
        others=drawn,
        unpriced=(*unpriced, *unpriced_parts(response.usage, "input_tokens_details", "output_tokens_details")),
        provider_cost_nano_usd=stated_cost(response.usage.get("cost")) if isinstance(response.usage, dict) else None,
    )


def _drawn(said: Any) -> tuple[OtherUsage, ...]:
    """The tokens of the model that drew, by class; empty if none are told. Of which kind they are not told counts as
    the dearer one: as of an image.
    """
    if not isinstance(said, dict) or not _tokens_of(said.get("total_tokens")):
        return ()
    cached, read, written = (
        details if isinstance(details := said.get(name), dict) else {}
        for name in ("cached_tokens_details", "input_tokens_details", "output_tokens_details")
    )
    text, output_text = _tokens_of(read.get("text_tokens")), _tokens_of(written.get("text_tokens"))
    cached_text, cached_image = (_tokens_of(cached.get(f"cached_{kind}_tokens")) for kind in ("text", "image"))
    tokens = {
        "input": text - min(text, cached_text),
        "cache_read": min(text, cached_text),
        "output": output_text,
        "output_image": max(0, _tokens_of(said.get("output_tokens")) - output_text),
    }
    image = max(0, _tokens_of(said.get("input_tokens")) - text)
    tokens |= {"input_image": image - min(image, cached_image), "cache_image_read": min(image, cached_image)}
    return (OtherUsage(use=_IMAGE_CALL, tokens=tokens),)


def _tokens_of(value: Any) -> int:
    return count_of(value, MAX_TOKENS)


def finish_reason(response: Response) -> FinishReason:
    """Why a response that did not fail ended."""
    if response.incomplete_details is not None:
        return _INCOMPLETE.get(response.incomplete_details.reason or "", "stop")
    return "tool_calls" if any(item.type in CALLS for item in response.output or ()) else "stop"


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
    is_under_way = response.status in _UNDER_WAY
    if response.usage is None and response.output is None and not is_under_way:
        raise UnreadableResponse("it is no response")
    usage = parse_responses_usage(response.usage)
    return passed_through(
        body,
        usage=TokenUsage() if usage is None and is_under_way else usage,
        model=identifier(response.model),
        response_id=identifier(response.id),
        finish_reason=finish_reason(response) if response.error is None else FAILED,
        received_output_bytes=0 if usage is not None else len(body),
        is_empty=not response.output,
        item_ids=item_ids(response),
        extras=parse_extras(response),
        is_under_way=is_under_way,
    )
