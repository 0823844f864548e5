"""OpenAI's responses, of a provider: into canonical chunks and the canonical response.

https://platform.openai.com/docs/api-reference/responses-streaming. A response in one piece is read as the stream whose
only event is its end. Whatever an event should have said before and did not (providers that speak alike leave events
out) is made up for by the next that has the whole item. Items of types that are not known are left out.
"""

from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.stream import ChatAssembler, ChatChunk, ChunkChoice, Delta, FunctionDelta, ReasoningDelta
from domain.canonical.stream import ToolCallDelta as CallDelta
from domain.dialects.codec import ProviderResponse
from domain.dialects.decode import decode_known_event, decode_provider_json
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.response import MadeIds, arguments_of, made_id
from domain.dialects.openai.responses_api import CALLS, ENDS, ResponsesReader
from domain.dialects.openai.tools import custom_arguments
from domain.dialects.sse import BYTE_ORDER_MARK, DONE, SseEvent, SseParser, sse
from domain.estimate import utf8_length
from domain.tokens import TokenUsage, answer_usage

MAX_ITEMS = 4_096
"""Of one response that are read."""
BETWEEN_MESSAGES = "\n\n"
"""Between two messages of one response, and between two parts of a summary: canonical answers have one text."""
ENDING_STATUSES = {"incomplete": "response.incomplete", "failed": "response.failed"}
"""Of a response in one piece, and the event that it amounts to; any other: `response.completed`."""

_TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THINKING_DELTAS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_ARGUMENT_DELTAS = frozenset({"response.function_call_arguments.delta"})
_ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})


class _Part(Struct, frozen=True, gc=False):
    type: str = ""
    text: Any = None
    refusal: Any = None

    @property
    def said(self) -> str:
        said = self.refusal if self.type == "refusal" else self.text
        return said if isinstance(said, str) else ""


class _Item(Struct, frozen=True, gc=False):
    """An item of the output. What comes in several shapes is `Any`."""

    type: str = ""
    id: Any = None
    call_id: Any = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None


class _Response(Struct, frozen=True, gc=False):
    id: Any = None
    output: list[_Item] | None = None


class _Event(Struct, frozen=True, gc=False):
    type: str = ""
    delta: Any = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: Any = None
    item: _Item | None = None
    response: _Response | None = None


class _Whole(Struct, frozen=True, gc=False):
    status: str | None = None
    error: Any = None
    output: Any = None


class _Open:
    """An item of the output so far."""

    def __init__(self, place: int) -> None:
        self.place = place
        """Among the calls, or among the pieces of thinking."""
        self.after_calls = 0
        """Of thinking: how many calls came before it."""
        self.has_begun = False
        self.has_said = False
        self.part: tuple[int | None, int | None] | None = None
        self.is_done = False


_decode = msgspec.json.Decoder(_Event).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_KNOWN = ENDS | _ITEMS | _TEXT_DELTAS | _THINKING_DELTAS | _ARGUMENT_DELTAS | {"response.created"}
_LINES = (b"data:", b"event:", b": ", b":\n", b"id:")


class ResponsesChatReader(ResponsesReader):
    """A `StreamReader` of responses that gives canonical chunks. `model` is the name that they carry (the caller's)."""

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self._model = model
        self._items: dict[int, _Open] = {}
        """By the index of the output."""
        self._places: dict[str, int] = {}
        """Of items that a provider numbers by their ids alone."""
        self._call_ids: set[str] = set()
        self._thoughts = 0
        self._has_role = False
        self._has_text = False
        self._has_refused = False

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        super().take(event)
        self.item_ids = ()  # nothing is kept of them
        if not event.data or event.data == DONE:
            return []
        read = decode_known_event(_decode, event.data, _KNOWN)
        if read is None or not read.type:
            return []
        if not self.response_id and (read.type in _KNOWN):
            self.response_id = made_id("resp_", event.data)
        deltas = list(self._deltas(read, MadeIds(event.data)))
        if not self._has_role and read.type in _KNOWN:
            self._has_role = True
            deltas = [Delta(role="assistant"), *deltas]
        chunks = [self._chunk(delta) for delta in deltas]
        if read.type in ENDS:
            self._settle_finish()
            last = ChunkChoice(index=0, delta=Delta(), finish_reason=self.finish_reason)
            chunks.append(ChatChunk(id=self.response_id, model=self._model, choices=[last]))
        return chunks

    def _chunk(self, delta: Delta) -> ChatChunk:
        return ChatChunk(id=self.response_id, model=self._model, choices=[ChunkChoice(index=0, delta=delta)])

    def _settle_finish(self) -> None:
        """An answer that is only a refusal was filtered; and the end need not repeat the calls."""
        if self.finish_reason == "stop" and self._call_ids:
            self.finish_reason = "tool_calls"
        if self._has_refused and not self._has_text and not self._call_ids:
            self.finish_reason = "content_filter"

    def _deltas(self, read: _Event, ids: MadeIds) -> list[Delta]:
        place = self._place(read)
        delta = read.delta if isinstance(read.delta, str) else ""
        if read.type in _TEXT_DELTAS:
            return self._text(place, delta, is_refusal=read.type == "response.refusal.delta")
        if read.type in _THINKING_DELTAS:
            return self._thinking(place, delta, (read.content_index, read.summary_index))
        if read.type in _ARGUMENT_DELTAS:
            return self._arguments(place, delta)
        if read.item is not None and read.type in _ITEMS:
            return self._item(place, read.item, ids, is_done=read.type == "response.output_item.done")
        if read.type in ENDS and read.response is not None:
            return self._unsaid(read.response.output or [], ids)
        return []

    def _place(self, read: _Event) -> int:
        """The index of the item that an event is about."""
        if read.output_index is not None:
            return read.output_index
        item_id = read.item_id or (read.item.id or read.item.call_id if read.item is not None else None)
        if len(self._places) >= MAX_ITEMS and str(item_id) not in self._places:
            raise UnreadableResponse(f"it has more than {MAX_ITEMS} items")
        return self._places.setdefault(str(item_id), len(self._places))

    def _unsaid(self, output: list[_Item], ids: MadeIds) -> list[Delta]:
        """What the end has and no event before it said."""
        has_text, has_thought = self._has_text or self._has_refused, self._thoughts > 0
        first = max(self._items, default=-1) + 1
        found: list[Delta] = []
        for place, item in enumerate(output, start=first):
            is_said = has_text if item.type == "message" else has_thought
            if item.type in CALLS:
                is_said = str(item.call_id or item.id or "") in self._call_ids
            if not is_said:
                found += self._item(place, item, ids, is_done=True)
        return found

    def _open(self, place: int, *, is_thought: bool = False) -> _Open:
        known = self._items.get(place)
        if known is None:
            if len(self._items) >= MAX_ITEMS:
                raise UnreadableResponse(f"it has more than {MAX_ITEMS} items")
            number = self._thoughts if is_thought else len(self._call_ids)
            self._thoughts += is_thought
            known = self._items[place] = _Open(number)
            known.after_calls = len(self._call_ids)
        return known

    def _text(self, place: int, text: str, *, is_refusal: bool) -> list[Delta]:
        if not text:
            return []
        item = self._open(place)
        is_next = not item.has_said and (self._has_text or self._has_refused)
        item.has_said = True
        self._has_text |= not is_refusal
        self._has_refused |= is_refusal
        return [Delta(content=BETWEEN_MESSAGES + text if is_next else text, is_refusal=is_refusal)]

    def _thinking(self, place: int, text: str, part: tuple[int | None, int | None]) -> list[Delta]:
        if not text:
            return []
        item = self._open(place, is_thought=True)
        is_next = item.has_said and item.part != part
        item.has_said, item.part = True, part
        return [_thought(item, text=BETWEEN_MESSAGES + text if is_next else text)]

    def _arguments(self, place: int, text: str) -> list[Delta]:
        item = self._items.get(place)
        if item is None or not item.has_begun or not text:
            return []  # of a call that nothing names: the whole item will
        item.has_said = True
        return [_call(item, FunctionDelta(arguments=text))]

    def _item(self, place: int, item: _Item, ids: MadeIds, *, is_done: bool) -> list[Delta]:
        match item.type:
            case "message":
                return self._message(place, item) if is_done else []
            case kind if kind in CALLS and item.name:
                return self._call_item(place, item, ids, is_done=is_done)
            case "reasoning":
                return self._reasoning(place, item) if is_done else []
            case _:
                return []

    def _message(self, place: int, item: _Item) -> list[Delta]:
        """What the message's own events have not said."""
        known = self._items.get(place)
        if known is not None and known.has_said:
            return []
        found: list[Delta] = []
        for part in item.content or ():
            self.received_output_bytes += utf8_length(part.said)
            found += self._text(place, part.said, is_refusal=part.type == "refusal")
        return found

    def _call_item(self, place: int, item: _Item, ids: MadeIds, *, is_done: bool) -> list[Delta]:
        known = self._open(place)
        found: list[Delta] = []
        if not known.has_begun:
            known.has_begun = True
            call_id = str(item.call_id or item.id or "") or ids.of("call_", place)
            self._call_ids.add(call_id)
            found.append(_call(known, FunctionDelta(name=item.name), call_id))
        if is_done and not known.is_done:
            known.is_done = True
            if not known.has_said:
                is_custom = item.type == "custom_tool_call"
                said = custom_arguments(str(item.input or "")) if is_custom else arguments_of(item.arguments)
                self.received_output_bytes += utf8_length(said)
                found.append(_call(known, FunctionDelta(arguments=said or "{}")))
        return found

    def _reasoning(self, place: int, item: _Item) -> list[Delta]:
        """The end of a piece of thinking, with what is to come back: OpenAI's own is encrypted, and needs its id."""
        known = self._open(place, is_thought=True)
        if known.is_done:
            return []
        known.is_done = True
        found: list[Delta] = []
        if not known.has_said:
            text = BETWEEN_MESSAGES.join(part.said for part in (item.summary or item.content or ()) if part.said)
            self.received_output_bytes += utf8_length(text)
            found += self._thinking(place, text, (0, 0))
        if item.encrypted_content:
            item_id = str(item.id) if item.id else made_id("rs_", item.encrypted_content)
            found.append(_thought(known, data=item.encrypted_content, item_id=item_id))
        return found


def _thought(item: _Open, *, text: str | None = None, data: str | None = None, item_id: str | None = None) -> Delta:
    piece = ReasoningDelta(index=item.place, text=text, data=data, id=item_id, after_calls=item.after_calls)
    return Delta(reasoning=[piece])


def _call(item: _Open, function: FunctionDelta, call_id: str | None = None) -> Delta:
    kind: Any = "function" if call_id is not None else None
    return Delta(tool_calls=[CallDelta(index=item.place, id=call_id, type=kind, function=function)])


def terminal_event(body: bytes) -> list[SseEvent]:
    """The stream that a response in one piece amounts to: its last event, which has all of it.

    Raises:
        UnreadableResponse: it is no response.

    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    whole = decode_provider_json(_decode_whole, body)
    if whole.error and not whole.status:
        return SseParser().feed(sse(_encode({"type": "error", "error": whole.error}), "error"))
    if whole.status is None and whole.output is None:
        raise UnreadableResponse("it is no response")
    kind = ENDING_STATUSES.get(whole.status or "", "response.completed")
    response = decode_provider_json(_decode_object, body)
    return SseParser().feed(sse(_encode({"type": kind, "response": response}), kind))


def parse_responses_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read a response, in one piece or as the events of a stream. `model` is the name that the caller used.

    Raises:
        UnreadableResponse: it is none, or it has no end.
        StreamFailed: it is the provider's report of a failure.

    """
    is_stream = body[:64].removeprefix(BYTE_ORDER_MARK).lstrip().startswith(_LINES)
    reader = ResponsesChatReader(model=model)
    assembler = ChatAssembler(provider=provider, model=model)
    try:
        for event in _events(body) if is_stream else terminal_event(body):
            for chunk in reader.take(event):
                assembler.add(chunk)
    except StreamFailed as error:
        if reader.usage is not None and reader.usage.total_tokens:
            raise UnreadableResponse(f"it failed, and is charged: {error}") from error
        raise
    if not reader.is_ended:
        raise UnreadableResponse("these events have no response")
    response = assembler.answer(answer_usage(reader.usage or TokenUsage()))
    return ProviderResponse(
        body=_encode(response),
        usage=reader.usage,
        received_output_bytes=reader.received_output_bytes if reader.usage is None else 0,
        answered_by=reader.answered_by,
        response_id=reader.response_id,
        finish_reason=reader.finish_reason,
        is_empty=not any(choice.message.content or choice.message.tool_calls for choice in response.choices),
        extras=reader.extras,
    )


def _events(body: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = parser.feed(body)
    return events + parser.feed(b"\n\n") if parser.rest() else events
