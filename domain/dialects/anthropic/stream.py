"""Anthropic's streams of message events: a provider's into canonical chunks, and canonical chunks into a client's.

https://docs.anthropic.com/en/docs/build-with-claude/streaming. Anthropic's blocks come one after the other, while
OpenAI's parallel calls may be interleaved: the pieces of a call wait until the block before it is complete, that is,
until its arguments are valid JSON, to which nothing could be added.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta
from domain.dialects.anthropic.response import FINISH_REASONS, stop_reason
from domain.dialects.anthropic.types import EventBlock, EventDelta, StreamEvent
from domain.dialects.anthropic.usage import MessageUsage, PartialUsage, parse_extras, parse_usage, render_usage
from domain.dialects.codec import StreamSummary
from domain.dialects.decode import decode_known_event, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import SseEvent, sse
from domain.estimate import utf8_length
from domain.extras import NO_EXTRAS
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage

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
_decode = msgspec.json.Decoder(StreamEvent).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class _ToolUse:
    """A tool use that is being read: its index among the calls, and the input that it started with."""

    def __init__(self, index: int, start: Any) -> None:
        self.index = index
        self.start = start
        self.has_begun = False


class AnthropicMessagesReader:
    """A `StreamReader` of messages.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks.
    Thinking, and tools that the provider runs itself, have no place in canonical chunks.
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
        self._searches = 0
        self.item_ids: tuple[str, ...] = ()
        self._counted: dict[str, Any] = {}
        self._container: Any = None
        self._model = model
        self._tools: dict[int, _ToolUse] = {}

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data:
            return []
        read = decode_known_event(_decode, event.data, _KNOWN)
        if read is None:
            return []
        if read.type == "content_block_delta":
            delta = read.delta
            if delta is not None:
                self.writing_run = read.index if delta.text or delta.partial_json else None
                self.received_output_bytes += (
                    utf8_length(delta.text) + utf8_length(delta.thinking) + utf8_length(delta.partial_json)
                )
        elif read.type == "error":
            raise stream_failure(read.error or {})
        else:
            self._account(read)
        return self._canonical(self._model, read) if self._model is not None else []

    def _account(self, event: StreamEvent) -> None:
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
                block, self.writing_run = event.content_block, None
                if block.type == "server_tool_use" and block.name == "web_search":
                    self._searches += 1
                    self.extras = replace(self.extras, uses={"web_search": self._searches})
                self.received_output_bytes += (
                    utf8_length(block.text) + utf8_length(block.thinking) + utf8_length(block.name)
                )
            case "message_delta":
                self.is_tail = True
                if event.delta is not None and event.delta.container is not None:
                    self._container = event.delta.container
                if event.usage is not None and event.usage.output_tokens is not None:
                    self.usage = self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason is not None:
                    self.finish_reason = FINISH_REASONS.get(event.delta.stop_reason, "stop")
            case "message_stop":
                self.is_tail = self.is_ended = True
            case _:
                pass

    def _count(self, usage: PartialUsage | None) -> TokenUsage | None:
        """Add these counts; None until both sums are there, of input and of output."""
        if usage is not None:
            said = msgspec.structs.asdict(usage)
            self._counted.update({name: value for name, value in said.items() if value is not None})
            self.extras = parse_extras(PartialUsage(**self._counted), self._container)
        if "input_tokens" not in self._counted or "output_tokens" not in self._counted:
            return None
        return parse_usage(MessageUsage(**self._counted))

    def _canonical(self, model: str, event: StreamEvent) -> list[ChatChunk]:
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

    def _started(self, block_index: int, block: EventBlock) -> Delta | None:
        if block.type == "text" and block.text:
            return Delta(content=block.text)
        if block.type != "tool_use":
            return None
        tool = self._tools[block_index] = _ToolUse(len(self._tools), block.input)
        function = FunctionDelta(name=block.name or "", arguments="")
        return Delta(tool_calls=[ToolCallDelta(index=tool.index, id=block.id, type="function", function=function)])

    def _continued(self, block_index: int, delta: EventDelta) -> Delta | None:
        if delta.type == "text_delta":
            return Delta(content=delta.text)
        tool = self._tools.get(block_index)
        if tool is None or not delta.partial_json:
            return None
        tool.has_begun = True
        return _arguments(tool, delta.partial_json)

    def _stopped(self, block_index: int) -> Delta | None:
        """A tool use without input events has the input that it started with: `{}` if the tool takes none."""
        tool = self._tools.get(block_index)
        if tool is None or tool.has_begun:
            return None
        return _arguments(tool, msgspec.json.encode(tool.start or {}).decode())


def _arguments(tool: _ToolUse, piece: str) -> Delta:
    return Delta(tool_calls=[ToolCallDelta(index=tool.index, function=FunctionDelta(arguments=piece))])


class _WrittenCall:
    """A tool call: its pieces so far, written and waiting."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.written: list[str] = []
        self.waiting: list[str] = []
        self.is_closed = False
        self._is_complete: bool | None = False

    def add(self, piece: ToolCallDelta) -> None:
        if self.is_closed:
            raise UnreadableResponse("a piece of a tool call came after its end")
        self.id = piece.id or self.id
        self.name = piece.function.name or self.name
        if piece.function.arguments:
            self.waiting.append(piece.function.arguments)

    def write_waiting(self) -> list[str]:
        pieces = self.waiting
        if pieces:
            self.written += pieces
            self.waiting = []
            self._is_complete = None
        return pieces

    def is_complete(self) -> bool:
        if self._is_complete is None:
            self._is_complete = _is_json("".join(self.written))
        return self._is_complete


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class AnthropicMessagesWriter:
    """Writes one stream. The prompt's tokens are unknown at its start: `message_start` has 0 of them, and
    `message_delta` everything.
    """

    def __init__(self) -> None:
        self._has_started = False
        self._next_block = 0
        self._is_text_open = False
        self._open_call: _WrittenCall | None = None
        self._calls: dict[int, _WrittenCall] = {}
        self._finish_reason: FinishReason | None = None

    def write(self, chunk: ChatChunk) -> bytes:
        """The events of a chunk; none if Anthropic has no event for it.

        Raises:
            UnreadableResponse: there is a second choice, or a call goes on after its end.

        """
        written: list[bytes] = []
        if not self._has_started:
            self._start(written, chunk.id, chunk.model)
        for choice in chunk.choices:
            if choice.index != 0:
                raise UnreadableResponse("Anthropic's answers have one choice")
            self._write(written, choice.delta)
            self._finish_reason = choice.finish_reason or self._finish_reason
        return b"".join(written)

    def end(self, summary: StreamSummary) -> bytes:
        """The last events: the rest of open blocks, the stop reason, usage with `usage.cost`, and the end."""
        written: list[bytes] = []
        if not self._has_started:
            self._start(written, "", "")
        self._close_all(written)
        last = {
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason(self._finish_reason, has_calls=bool(self._calls)),
                "stop_sequence": None,
            },
            "usage": render_usage(summary.usage) | {"cost": summary.cost_usd},
        }
        written += (named_event(last), named_event({"type": "message_stop"}))
        return b"".join(written)

    def _start(self, written: list[bytes], response_id: str, model: str) -> None:
        self._has_started = True
        message: dict[str, Any] = {
            "id": response_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        written.append(named_event({"type": "message_start", "message": message}))

    def _write(self, written: list[bytes], delta: Delta) -> None:
        if delta.content:
            if not self._is_text_open:
                self._close_all(written)
                self._open(written, {"type": "text", "text": ""})
                self._is_text_open = True
            written.append(self._delta({"type": "text_delta", "text": delta.content}))
        for piece in delta.tool_calls or ():
            self._calls.setdefault(piece.index, _WrittenCall()).add(piece)
            self._advance(written)

    def _advance(self, written: list[bytes]) -> None:
        """Write the open call's waiting pieces, and those of the next call once the open one is complete."""
        for call in self._calls.values():
            if call.is_closed:
                continue
            if call is not self._open_call:
                if self._open_call is not None and not self._open_call.is_complete():
                    return
                self._open_tool(written, call)
            self._write_waiting(written, call)

    def _write_waiting(self, written: list[bytes], call: _WrittenCall) -> None:
        written += [self._delta({"type": "input_json_delta", "partial_json": piece}) for piece in call.write_waiting()]

    def _open_tool(self, written: list[bytes], call: _WrittenCall) -> None:
        self._close(written)
        self._open(written, {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        self._open_call = call

    def _open(self, written: list[bytes], block: dict[str, Any]) -> None:
        written.append(named_event({"type": "content_block_start", "index": self._next_block, "content_block": block}))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._next_block, "delta": delta})

    def _close(self, written: list[bytes]) -> None:
        if not self._is_text_open and self._open_call is None:
            return
        written.append(named_event({"type": "content_block_stop", "index": self._next_block}))
        self._next_block += 1
        self._is_text_open = False
        if self._open_call is not None:
            self._open_call.is_closed = True
            self._open_call = None

    def _close_all(self, written: list[bytes]) -> None:
        """Nothing more comes for the calls so far: write those that still wait."""
        for call in self._calls.values():
            if not call.is_closed:
                if call is not self._open_call:
                    self._open_tool(written, call)
                self._write_waiting(written, call)
        self._close(written)


def named_event(body: dict[str, Any]) -> bytes:
    """An named_event of Anthropic's: its name is its type."""
    return sse(_encode(body), body["type"])
