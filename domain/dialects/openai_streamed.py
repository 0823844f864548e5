"""Reads a stream of OpenAI's chat completions, and of the many providers that speak alike.

https://platform.openai.com/docs/api-reference/chat/streaming. Providers differ in where usage comes: in a chunk
of its own without choices (OpenAI), beside the finish reason, or with every chunk, each time the sum so far.
"""

from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta
from domain.dialects.openai import FINISH_REASONS, WireUsage, text_of, usage_from_wire
from domain.dialects.openai_assembled import OpenAiAssembler
from domain.dialects.openai_calls import CallOrder
from domain.dialects.sse import SseEvent
from domain.dialects.streamed import DONE, decoded, failure, utf8_bytes
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage


class _Function(Struct, frozen=True, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, frozen=True, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: Any = None

    @property
    def is_named(self) -> bool:
        """Whether it says what is called."""
        return bool(self.custom or (self.function is not None and self.function.name))


class _Audio(Struct, frozen=True, gc=False):
    data: str | None = None
    transcript: str | None = None


class _Delta(Struct, frozen=True, gc=False):
    role: str | None = None
    content: Any = None
    """Text, or (Mistral's thinking models) a list of parts."""
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _Choice(Struct, frozen=True, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct, frozen=True, gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_whole = msgspec.json.Decoder(dict[str, Any]).decode
_NOTHING = _Delta()


class OpenAiChatReader:
    """A `StreamReader` of chat completion chunks.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks. `keep`: see `assembled`.
    """

    def __init__(self, *, model: str | None = None, keep: bool = False) -> None:
        self.usage: TokenUsage | None = None
        self.input_usage: TokenUsage | None = None
        self.answered_by = ""
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self._answering: set[int] = set()
        self._refusing: set[int] = set()
        self._open: set[int] = set()
        """Choices that have begun and have not finished."""
        self._calls: dict[int, CallOrder] = {}
        """By choice."""
        self._model = model
        self._assembler = OpenAiAssembler() if keep else None

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        data = event.data
        if not data:
            return []
        if data == DONE:
            self.is_ended = self.is_tail = True
            return []
        chunk = decoded(_decode, data)
        if chunk.error:
            raise failure(chunk.error)
        if not self.response_id:
            self.response_id = sanitize_identifier(chunk.id or "")
        if not self.answered_by:
            self.answered_by = sanitize_identifier(chunk.model or "")
        choices = chunk.choices or ()
        for choice in choices:
            self._account(choice)
        if chunk.usage is not None:
            self.usage = usage_from_wire(chunk.usage)
        if choices and (self._open or all(choice.finish_reason is None for choice in choices)):
            self.is_tail = self.is_ended
        elif chunk.usage is not None:
            self.is_tail = True
        if self._assembler is not None:
            self._assembler.add(decoded(_decode_whole, data))
        return self._canonical(self._model, choices) if self._model is not None else []

    def assembled(self) -> bytes:
        """See `StreamReader.assembled`: a `chat.completion`."""
        assert self._assembler is not None
        return self._assembler.answer()

    def _account(self, choice: _Choice) -> None:
        delta = choice.delta
        if delta is not None:
            self.received_output_bytes += _output_bytes(delta)
            if text_of(delta.content):
                self._answering.add(choice.index)
            elif delta.refusal:
                self._refusing.add(choice.index)
        if choice.finish_reason is None:
            self._open.add(choice.index)
            return
        self._open.discard(choice.index)
        if choice.index == 0:
            self.finish_reason = self._finish(choice)

    def _finish(self, choice: _Choice) -> FinishReason | None:
        """As of a whole answer: one that is nothing but a refusal is not what was asked for."""
        if choice.finish_reason is not None and choice.index in self._refusing - self._answering:
            return "content_filter"
        return FINISH_REASONS.get(choice.finish_reason, "stop")

    def _canonical(self, model: str, choices: "list[_Choice] | tuple[()]") -> list[ChatChunk]:
        pieces = [
            piece
            for choice in choices
            if (piece := self._piece(choice)).delta != _EMPTY or piece.finish_reason is not None
        ]
        return [ChatChunk(id=self.response_id, model=model, choices=pieces)] if pieces else []

    def _piece(self, choice: _Choice) -> ChunkChoice:
        delta = choice.delta or _NOTHING
        return ChunkChoice(
            index=choice.index,
            delta=Delta(
                role="assistant" if delta.role else None,
                content=text_of(delta.content) or delta.refusal or None,
                tool_calls=self._tool_calls(choice.index, delta.tool_calls) if delta.tool_calls else None,
            ),
            finish_reason=self._finish(choice),
        )

    def _tool_calls(self, choice_index: int, calls: list[_ToolCall]) -> list[ToolCallDelta]:
        order = self._calls.setdefault(choice_index, CallOrder())
        return [
            ToolCallDelta(
                index=order.index_of(call.index, call.id, is_named=call.is_named),
                id=call.id,
                type="function" if call.id else None,
                function=FunctionDelta(name=call.function.name, arguments=call.function.arguments)
                if call.function is not None
                else FunctionDelta(),
            )
            for call in calls
        ]


_EMPTY = Delta()


def _output_bytes(delta: _Delta) -> int:
    count = _any_bytes(delta.content) + utf8_bytes(delta.refusal)
    count += utf8_bytes(delta.reasoning_content) + utf8_bytes(delta.reasoning)
    if delta.tool_calls:
        count += sum(_call_bytes(call.function) + _any_bytes(call.custom) for call in delta.tool_calls)
    if delta.function_call is not None:
        count += _call_bytes(delta.function_call)
    if delta.audio is not None:
        count += utf8_bytes(delta.audio.data) + utf8_bytes(delta.audio.transcript)
    return count


def _call_bytes(function: _Function | None) -> int:
    return utf8_bytes(function.name) + utf8_bytes(function.arguments) if function is not None else 0


def _any_bytes(said: Any) -> int:
    """How long it is: a text by itself, whatever else as JSON."""
    if said is None or isinstance(said, str):
        return utf8_bytes(said)
    return len(msgspec.json.encode(said))
