"""OpenAI's streams of chat completion chunks, of a provider: into canonical chunks.

https://platform.openai.com/docs/api-reference/chat/streaming. Providers of this dialect send usage in different places:
in a chunk of its own without choices (OpenAI), beside the finish reason, or in every chunk as the sum so far.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from domain.canonical.chat import FinishReason, ReasoningBlock
from domain.canonical.stream import ChatChunk, Delta, FunctionDelta, ReasoningDelta, ToolCallDelta
from domain.canonical.stream import ChunkChoice as CanonicalChoice
from domain.dialects.decode import UNREADABLE_JSON, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai.reasoning import parse_detail
from domain.dialects.openai.response import (
    MadeIds,
    arguments_of,
    extra_content,
    finish_reason,
    identifier,
    made_id,
    text_of,
    thoughts_of,
)
from domain.dialects.openai.tool_call_index import ToolCallIndex
from domain.dialects.openai.tools import custom_arguments
from domain.dialects.openai.types import (
    ChatCompletion,
    CompletionChoice,
    CompletionFunction,
    CompletionMessage,
    CompletionToolCall,
)
from domain.dialects.openai.usage import CITATION, parse_extras, parse_usage
from domain.dialects.sse import DONE, SseEvent
from domain.estimate import utf8_length
from domain.extras import NO_EXTRAS
from domain.tokens import TokenUsage

_decode = msgspec.json.Decoder(ChatCompletion).decode
_NO_DELTA = CompletionMessage()
_NO_CANONICAL_DELTA = Delta()


class _Message:
    """One of the choices so far."""

    def __init__(self) -> None:
        self.has_answered = False
        self.has_refused = False
        self.is_open = False
        """It has begun and has not finished."""
        self.order = ToolCallIndex()
        self.begun: set[int] = set()
        """Calls that have their id."""
        self.without_arguments: set[int] = set()
        self.thought_index = 0
        self.has_thought = False


class OpenAiChatReader:
    """A `StreamReader` of chat completion chunks.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks.
    """

    def __init__(self, *, model: str | None = None) -> None:
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
        self.item_ids: tuple[str, ...] = ()
        self._messages: dict[int, _Message] = {}
        """By choice."""
        self._open_messages = 0
        self._said_usage: Any = None
        self._service_tier: Any = None
        self._has_citations = False
        self._model = model

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        data = event.data
        if not data:
            return []
        if DONE in data and data.strip() == DONE:
            self.is_ended = self.is_tail = True
            return []
        try:  # as `decode_provider_json`, without a call for each event
            chunk = _decode(data)
        except UNREADABLE_JSON as error:
            raise UnreadableResponse(str(error)) from error
        if chunk.error and not chunk.choices:
            raise stream_failure(chunk.error)
        choices = chunk.choices or []
        if not self.response_id:
            self.response_id = identifier(chunk.id) or (made_id("chatcmpl-", data) if choices else "")
        if not self.answered_by:
            self.answered_by = identifier(chunk.model)
        for choice in choices:
            self._account(choice)
        cites = CITATION in data
        if cites or chunk.usage is not None or chunk.service_tier not in (None, self._service_tier):
            self._account_extras(chunk, cites=cites)
        said_usage = self._account_usage(chunk.usage) if chunk.usage is not None else False
        if choices and (self._open_messages or all(choice.finish_reason is None for choice in choices)):
            self.is_tail = self.is_ended
        elif said_usage:
            self.is_tail = True
        return self._canonical(self._model, choices, data) if self._model is not None else []

    def _account_extras(self, chunk: ChatCompletion, *, cites: bool) -> None:
        self._said_usage = chunk.usage or self._said_usage
        self._service_tier = chunk.service_tier or self._service_tier
        self._has_citations |= cites
        self.extras = parse_extras(self._said_usage, self._service_tier, has_citations=self._has_citations)

    def _account_usage(self, usage: Any) -> bool:
        said = parse_usage(usage)
        self.usage = said.usage or self.usage
        self.input_usage = said.input_usage or self.input_usage
        return said.usage is not None

    def _account(self, choice: CompletionChoice) -> None:
        index = choice.index or 0
        delta = choice.delta or choice.message or _NO_DELTA
        if index not in self._messages:
            self._messages[index] = _Message()
        message = self._messages[index]
        match delta.content:
            case None | str() as text:
                is_list = False
                if text:  # as `utf8_length`, without a call for each event
                    self.received_output_bytes += len(text) if text.isascii() else len(text.encode())
            case content:
                text, is_list = text_of(content), isinstance(content, list)
                self.received_output_bytes += _any_bytes(content)
        if (
            delta.refusal
            or delta.reasoning_content
            or delta.reasoning
            or delta.reasoning_details
            or delta.tool_calls
            or delta.function_call is not None
            or delta.audio is not None
        ):
            self.received_output_bytes += _bytes_beside_content(delta)
        if delta.reasoning_content or delta.reasoning or is_list:
            self.writing_run = None
        elif self.writing_run is None and (text or delta.tool_calls):
            self._runs += 1
            self.writing_run = self._runs
        if text:
            message.has_answered = True
        elif delta.refusal:
            message.has_refused = True
        is_open = choice.finish_reason is None
        self._open_messages += is_open - message.is_open
        message.is_open = is_open
        if choice.finish_reason is not None and index == 0:
            self.finish_reason = self._finish(choice, message)

    def _finish(self, choice: CompletionChoice, message: _Message) -> FinishReason | None:
        """As in a response in one piece: an answer that is only a refusal was filtered."""
        if choice.finish_reason is not None and message.has_refused and not message.has_answered:
            return "content_filter"
        has_calls = bool(message.begun or _delta(choice).tool_calls)
        return finish_reason(choice.finish_reason, has_calls=has_calls)

    def _canonical(self, model: str, choices: list[CompletionChoice], data: bytes) -> list[ChatChunk]:
        ids = MadeIds(data)
        pieces = [
            piece
            for choice in choices
            if (piece := self._piece(choice, ids)).delta != _NO_CANONICAL_DELTA or piece.finish_reason is not None
        ]
        return [ChatChunk(id=self.response_id, model=model, choices=pieces)] if pieces else []

    def _piece(self, choice: CompletionChoice, ids: MadeIds) -> CanonicalChoice:
        delta, index = _delta(choice), choice.index or 0
        message = self._messages[index]
        calls = _calls(delta)
        pieces = self._tool_calls(message, calls, lambda place: ids.of("call_", index, place)) if calls else []
        if choice.finish_reason is not None:
            pieces += _empty_arguments(message)
        return CanonicalChoice(
            index=index,
            delta=Delta(
                role="assistant" if delta.role else None,
                content=text_of(delta.content) or delta.refusal or None,
                is_refusal=bool(delta.refusal) and not text_of(delta.content),
                tool_calls=pieces or None,
                reasoning=_thoughts(delta, message) or None,
            ),
            finish_reason=self._finish(choice, message),
        )

    def _tool_calls(
        self, message: _Message, calls: list[CompletionToolCall], make_id: Callable[[int], str]
    ) -> list[ToolCallDelta]:
        pieces: list[ToolCallDelta] = []
        for call in calls:
            index = message.order.index_of(call.index, call.call_id, is_named=call.is_named)
            is_first = index not in message.begun
            call_id = call.call_id or (make_id(index) if is_first else None)
            function = _function(call)
            if is_first:
                message.begun.add(index)
                message.without_arguments.add(index)
            if function.arguments:
                message.without_arguments.discard(index)
            pieces.append(
                ToolCallDelta(
                    index=index,
                    id=call_id,
                    type="function" if call_id else None,
                    function=function,
                    extra_content=extra_content(call),
                )
            )
        return pieces


def _delta(choice: CompletionChoice) -> CompletionMessage:
    """What a chunk adds. Some providers call it `message`, as in a response in one piece."""
    return choice.delta or choice.message or _NO_DELTA


def _calls(delta: CompletionMessage) -> list[CompletionToolCall] | None:
    if delta.tool_calls or delta.function_call is None:
        return delta.tool_calls
    return [CompletionToolCall(index=0, function=delta.function_call)]


def _function(call: CompletionToolCall) -> FunctionDelta:
    if call.function is not None:
        return FunctionDelta(name=call.function.name or None, arguments=arguments_of(call.function.arguments))
    if isinstance(call.custom, dict) and call.custom.get("name"):
        arguments = custom_arguments(str(call.custom.get("input") or ""))
        return FunctionDelta(name=str(call.custom["name"]), arguments=arguments)
    return FunctionDelta()


def _empty_arguments(message: _Message) -> list[ToolCallDelta]:
    """Of calls that ended without arguments: a client expects JSON."""
    ended, message.without_arguments = sorted(message.without_arguments), set()
    return [ToolCallDelta(index=index, function=FunctionDelta(arguments="{}")) for index in ended]


def _thoughts(delta: CompletionMessage, message: _Message) -> list[ReasoningDelta]:
    """Pieces of thinking. Details tell their blocks apart; a text alone goes on with the block before it."""
    found: list[ReasoningDelta] = []
    details = delta.reasoning_details if isinstance(delta.reasoning_details, list) else ()
    for detail in details:
        if not isinstance(detail, dict):
            continue
        block, said = parse_detail(detail), detail.get("index")
        if isinstance(said, int):
            message.thought_index = said
        elif block.data is not None and message.has_thought:
            message.thought_index += 1
        message.has_thought = True
        if block != ReasoningBlock():
            found.append(
                ReasoningDelta(
                    index=message.thought_index,
                    text=block.text,
                    signature=block.signature,
                    data=block.data,
                    id=block.id,
                    detail=block.detail,
                )
            )
    if found:
        return found
    texts = [block.text for block in thoughts_of(delta.content)]
    text = "".join(filter(None, texts)) or _text(delta.reasoning_content) or _text(delta.reasoning)
    if not text:
        return []
    message.has_thought = True
    return [ReasoningDelta(index=message.thought_index, text=text)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _bytes_beside_content(delta: CompletionMessage) -> int:
    count = utf8_length(delta.refusal) if delta.refusal else 0
    if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
        count += max(
            _any_bytes(delta.reasoning_content), _any_bytes(delta.reasoning), _any_bytes(delta.reasoning_details)
        )
    if delta.tool_calls:
        count += sum(_call_bytes(call.function) + _any_bytes(call.custom) for call in delta.tool_calls)
    if delta.function_call is not None:
        count += _call_bytes(delta.function_call)
    if delta.audio is not None:
        count += utf8_length(delta.audio.data) + utf8_length(delta.audio.transcript)
    return count


def _call_bytes(function: CompletionFunction | None) -> int:
    return utf8_length(function.name) + _any_bytes(function.arguments) if function is not None else 0


def _any_bytes(said: Any) -> int:
    """The length of a text, or of anything else as JSON."""
    if isinstance(said, str) or said is None:
        return utf8_length(said)
    return len(msgspec.json.encode(said))
