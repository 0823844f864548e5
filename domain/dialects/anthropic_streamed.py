"""Reads a stream of Anthropic's messages. https://docs.anthropic.com/en/docs/build-with-claude/streaming"""

from typing import Any

import msgspec
from msgspec import Struct

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta
from domain.dialects.anthropic import (
    FINISH_REASONS,
    CacheCreation,
    Iterations,
    OutputDetails,
    WireUsage,
    usage_from_wire,
)
from domain.dialects.anthropic_assembled import AnthropicAssembler
from domain.dialects.sse import SseEvent
from domain.dialects.streamed import decoded, decoded_if_known, failure, utf8_bytes
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenCount, TokenUsage


class _Delta(Struct, frozen=True, gc=False):
    """Of a block, or (`stop_reason`) of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Block(Struct, frozen=True, gc=False):
    type: str
    id: str = ""
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: Any = None


class _PartialUsage(Struct, frozen=True, gc=False):
    """What `message_delta` counts: sums so far. What it leaves out is as `message_start` said."""

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    iterations: Iterations | None = None


class _Message(Struct, frozen=True, gc=False):
    id: str = ""
    model: str = ""
    usage: _PartialUsage | None = None


class _Event(Struct, frozen=True, gc=False):
    type: str
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: _PartialUsage | None = None
    error: Any = None


class _ToolUse:
    """A tool use being read: which of the answer's calls it is, and whether its input has begun."""

    def __init__(self, index: int, start: Any) -> None:
        self.index = index
        self.start = start
        self.has_begun = False


_KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)
_decode = msgspec.json.Decoder(_Event).decode
_decode_whole = msgspec.json.Decoder(dict[str, Any]).decode


class AnthropicMessagesReader:
    """A `StreamReader` of messages.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks. `keep`: see `assembled`.
    Thinking, and tools that the provider runs itself, have no place in canonical chunks.
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
        self._counted: dict[str, Any] = {}
        self._model = model
        self._tools: dict[int, _ToolUse] = {}
        self._assembler = AnthropicAssembler() if keep else None

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data:
            return []
        read = decoded_if_known(_decode, event.data, _KNOWN)
        if read is None:
            return []
        if read.type == "content_block_delta":
            delta = read.delta
            if delta is not None:
                self.received_output_bytes += (
                    utf8_bytes(delta.text) + utf8_bytes(delta.thinking) + utf8_bytes(delta.partial_json)
                )
        elif read.type == "error":
            raise failure(read.error or {})
        else:
            self._account(read)
        if self._assembler is not None:
            self._assembler.add(decoded(_decode_whole, event.data))
        return self._canonical(self._model, read) if self._model is not None else []

    def assembled(self) -> bytes:
        """See `StreamReader.assembled`: a `message`."""
        assert self._assembler is not None
        return self._assembler.answer()

    def _account(self, event: _Event) -> None:
        match event.type:
            case "message_start" if event.message is not None:
                self.response_id, self.answered_by = (
                    sanitize_identifier(event.message.id),
                    sanitize_identifier(event.message.model),
                )
                counted = self._count(event.message.usage)
                if counted is not None:
                    self.input_usage = msgspec.structs.replace(counted, output=0, reasoning=0)
            case "content_block_start" if event.content_block is not None:
                block = event.content_block
                self.received_output_bytes += (
                    utf8_bytes(block.text) + utf8_bytes(block.thinking) + utf8_bytes(block.name)
                )
            case "message_delta":
                self.is_tail = True
                if event.usage is not None and event.usage.output_tokens is not None:
                    self.usage = self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason is not None:
                    self.finish_reason = FINISH_REASONS.get(event.delta.stop_reason, "stop")
            case "message_stop":
                self.is_tail = self.is_ended = True
            case _:
                pass

    def _count(self, usage: _PartialUsage | None) -> TokenUsage | None:
        """Add what is known now; None as long as one of the two sums that every answer has is missing."""
        if usage is not None:
            said = msgspec.structs.asdict(usage)
            self._counted.update({name: value for name, value in said.items() if value is not None})
        if "input_tokens" not in self._counted or "output_tokens" not in self._counted:
            return None
        return usage_from_wire(WireUsage(**self._counted))

    def _canonical(self, model: str, event: _Event) -> list[ChatChunk]:
        delta: Delta | None = None
        match event.type:
            case "message_start":
                delta = Delta(role="assistant")
            case "content_block_start" if event.content_block is not None:
                delta = self._started(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                delta = self._continued(event.index, event.delta)
            case "content_block_stop":
                delta = self._stopped(event.index)
            case "message_delta" if event.delta is not None and event.delta.stop_reason is not None:
                delta = Delta()
        if delta is None:
            return []
        finish = self.finish_reason if event.type == "message_delta" else None
        return [
            ChatChunk(
                id=self.response_id, model=model, choices=[ChunkChoice(index=0, delta=delta, finish_reason=finish)]
            )
        ]

    def _started(self, block_index: int, block: _Block) -> Delta | None:
        if block.type == "text" and block.text:
            return Delta(content=block.text)
        if block.type != "tool_use":
            return None
        tool = self._tools[block_index] = _ToolUse(len(self._tools), block.input)
        function = FunctionDelta(name=block.name or "", arguments="")
        return Delta(tool_calls=[ToolCallDelta(index=tool.index, id=block.id, type="function", function=function)])

    def _continued(self, block_index: int, delta: _Delta) -> Delta | None:
        if delta.type == "text_delta":
            return Delta(content=delta.text)
        tool = self._tools.get(block_index)
        if tool is None or not delta.partial_json:
            return None
        tool.has_begun = True
        return _arguments(tool, delta.partial_json)

    def _stopped(self, block_index: int) -> Delta | None:
        """A tool use whose input never came has the one that it started with: `{}` where the tool takes nothing."""
        tool = self._tools.get(block_index)
        if tool is None or tool.has_begun:
            return None
        return _arguments(tool, msgspec.json.encode(tool.start or {}).decode())


def _arguments(tool: _ToolUse, piece: str) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index=tool.index, function=FunctionDelta(arguments=piece))])
