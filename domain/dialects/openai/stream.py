"""OpenAI's streams of chat completion chunks: a provider's into canonical chunks, and canonical chunks into a client's.

https://platform.openai.com/docs/api-reference/chat/streaming. Providers of this dialect send usage in different places:
in a chunk of its own without choices (OpenAI), beside the finish reason, or in every chunk as the sum so far.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, Delta, FunctionDelta, ToolCallDelta
from domain.canonical.stream import ChunkChoice as CanonicalChoice
from domain.dialects.codec import StreamSummary
from domain.dialects.decode import decode_provider_json, stream_failure
from domain.dialects.openai.response import FINISH_REASONS, text_of
from domain.dialects.openai.tool_call_index import ToolCallIndex
from domain.dialects.openai.types import (
    ChatCompletionChunk,
    ChoiceDelta,
    ChoiceDeltaFunction,
    ChoiceDeltaToolCall,
    ChunkChoice,
    WrittenChoice,
    WrittenChunk,
    WrittenDelta,
    WrittenToolCall,
)
from domain.dialects.openai.usage import parse_usage, render_usage
from domain.dialects.sse import DONE, DONE_EVENT, SseEvent
from domain.estimate import utf8_length
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage

_decode = msgspec.json.Decoder(ChatCompletionChunk).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode
_NO_DELTA = ChoiceDelta()
_NO_CANONICAL_DELTA = Delta()


class OpenAiChatReader:
    """A `StreamReader` of chat completion chunks.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks.
    """

    def __init__(self, *, model: str | None = None) -> None:
        self.usage: TokenUsage | None = None
        self.input_usage: TokenUsage | None = None
        self.answered_by = ""
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.is_ended = False
        self.is_tail = False
        self.received_output_bytes = 0
        self.item_ids: tuple[str, ...] = ()
        self._answering: set[int] = set()
        self._refusing: set[int] = set()
        self._open: set[int] = set()
        """Choices that have begun and have not finished."""
        self._calls: dict[int, ToolCallIndex] = {}
        """By choice."""
        self._model = model

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        data = event.data
        if not data:
            return []
        if data == DONE:
            self.is_ended = self.is_tail = True
            return []
        chunk = decode_provider_json(_decode, data)
        if chunk.error:
            raise stream_failure(chunk.error)
        if not self.response_id:
            self.response_id = sanitize_identifier(chunk.id or "")
        if not self.answered_by:
            self.answered_by = sanitize_identifier(chunk.model or "")
        choices = chunk.choices or ()
        for choice in choices:
            self._account(choice)
        if chunk.usage is not None:
            self.usage = parse_usage(chunk.usage)
        if choices and (self._open or all(choice.finish_reason is None for choice in choices)):
            self.is_tail = self.is_ended
        elif chunk.usage is not None:
            self.is_tail = True
        return self._canonical(self._model, choices) if self._model is not None else []

    def _account(self, choice: ChunkChoice) -> None:
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

    def _finish(self, choice: ChunkChoice) -> FinishReason | None:
        """As in a response in one piece: an answer that is only a refusal was filtered."""
        if choice.finish_reason is not None and choice.index in self._refusing - self._answering:
            return "content_filter"
        return FINISH_REASONS.get(choice.finish_reason, "stop")

    def _canonical(self, model: str, choices: "list[ChunkChoice] | tuple[()]") -> list[ChatChunk]:
        pieces = [
            piece
            for choice in choices
            if (piece := self._piece(choice)).delta != _NO_CANONICAL_DELTA or piece.finish_reason is not None
        ]
        return [ChatChunk(id=self.response_id, model=model, choices=pieces)] if pieces else []

    def _piece(self, choice: ChunkChoice) -> CanonicalChoice:
        delta = choice.delta or _NO_DELTA
        return CanonicalChoice(
            index=choice.index,
            delta=Delta(
                role="assistant" if delta.role else None,
                content=text_of(delta.content) or delta.refusal or None,
                tool_calls=self._tool_calls(choice.index, delta.tool_calls) if delta.tool_calls else None,
            ),
            finish_reason=self._finish(choice),
        )

    def _tool_calls(self, choice_index: int, calls: list[ChoiceDeltaToolCall]) -> list[ToolCallDelta]:
        order = self._calls.setdefault(choice_index, ToolCallIndex())
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


def _output_bytes(delta: ChoiceDelta) -> int:
    count = _any_bytes(delta.content) + utf8_length(delta.refusal)
    count += utf8_length(delta.reasoning_content) + utf8_length(delta.reasoning)
    if delta.tool_calls:
        count += sum(_call_bytes(call.function) + _any_bytes(call.custom) for call in delta.tool_calls)
    if delta.function_call is not None:
        count += _call_bytes(delta.function_call)
    if delta.audio is not None:
        count += utf8_length(delta.audio.data) + utf8_length(delta.audio.transcript)
    return count


def _call_bytes(function: ChoiceDeltaFunction | None) -> int:
    return utf8_length(function.name) + utf8_length(function.arguments) if function is not None else 0


def _any_bytes(said: Any) -> int:
    """The length of a text, or of anything else as JSON."""
    if said is None or isinstance(said, str):
        return utf8_length(said)
    return len(msgspec.json.encode(said))


class OpenAiChatWriter:
    """Writes one stream. `include_usage` is the option of that name in the client's `stream_options`."""

    def __init__(self, *, created_s: int, include_usage: bool = False) -> None:
        self._created_s = created_s
        self._include_usage = include_usage
        self._finished: dict[int, bool] = {}
        self._id = ""
        self._model = ""

    def write(self, chunk: ChatChunk) -> bytes:
        """The event of a chunk."""
        self._id, self._model = chunk.id, chunk.model
        for choice in chunk.choices:
            self._finished[choice.index] = choice.finish_reason is not None
        return self._event([_render_choice(choice) for choice in chunk.choices])

    def end(self, summary: StreamSummary) -> bytes:
        """The last events: a finish for choices that had none, since clients expect one; the usage with
        `usage.cost`, if the client asked for it; and `[DONE]`.
        """
        unfinished = [
            WrittenChoice(index, WrittenDelta(), "stop")
            for index, is_finished in self._finished.items()
            if not is_finished
        ]
        finish = self._event(unfinished) if unfinished else b""
        if not self._include_usage:
            return finish + DONE_EVENT
        return finish + self._event([], render_usage(summary.usage) | {"cost": summary.cost_usd}) + DONE_EVENT

    def _event(self, choices: list[WrittenChoice], usage: dict[str, Any] | None = None) -> bytes:
        said = usage if self._include_usage else UNSET
        chunk = WrittenChunk(id=self._id, created=self._created_s, model=self._model, choices=choices, usage=said)
        return b"data: " + _encode(chunk) + b"\n\n"


def _render_choice(choice: CanonicalChoice) -> WrittenChoice:
    delta = choice.delta
    calls = [_render_tool_call(call) for call in delta.tool_calls] if delta.tool_calls else None
    return WrittenChoice(choice.index, WrittenDelta(delta.role, delta.content, calls), choice.finish_reason)


def _render_tool_call(call: ToolCallDelta) -> WrittenToolCall:
    return WrittenToolCall(call.index, call.function, call.id, call.type)
