"""Reads Anthropic's streams of message events into canonical chunks.

https://docs.anthropic.com/en/docs/build-with-claude/streaming. Read leniently: other providers that speak alike leave
members out, send null, or end with OpenAI's `[DONE]`.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, ChunkChoice, Delta, FunctionDelta, ReasoningDelta, ToolCallDelta
from domain.dialects.anthropic.answer_types import ContentBlock, EventDelta, StreamEvent
from domain.dialects.anthropic.response import FINISH_REASONS, called
from domain.dialects.anthropic.structured import ANSWER_TOOL
from domain.dialects.anthropic.tools import written_arguments
from domain.dialects.anthropic.usage import PartialUsage, counted_usage, parse_extras
from domain.dialects.decode import decode_known_event, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import DONE, SseEvent
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


class _ToolUse:
    """A tool use that is being read: its index among the calls, and the input that it started with."""

    def __init__(self, index: int | None, start: Any) -> None:
        self.index = index
        """None: it is the tool of the answer, whose input is the answer's text."""
        self.start = start
        self.is_done = False
        """Its input has begun to come, or was given as it started."""


class AnthropicMessagesReader:
    """A `StreamReader` of messages.

    `model` is the name that canonical chunks carry (the caller's); None: no canonical chunks.
    Tools that the provider runs itself have no place in canonical chunks.
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
        self._said: dict[str, Any] = {}
        self._container: Any = None
        self.item_ids: tuple[str, ...] = ()
        self._counted: dict[str, Any] = {}
        self._model = model
        self._tools: dict[int, _ToolUse] = {}
        self._calls = 0
        self._thoughts: dict[int, int] = {}
        """The numbers of the blocks of thinking, by their indexes among all blocks."""
        self._places: dict[int, int] = {}
        """How many calls came before a block of thinking, by its number."""

    def take(self, event: SseEvent) -> list[ChatChunk]:
        """See `StreamReader.take`."""
        if not event.data:
            return []
        if event.data == DONE:
            self.is_tail = self.is_ended = self.is_ended or self.finish_reason is not None
            return []
        read = decode_known_event(_decode, event.data, _KNOWN)
        if read is None:
            return []
        kind = read.type or event.name
        if kind == "error" or (not kind and read.error is not None):
            raise stream_failure(read.error or {})
        if not kind:
            raise UnreadableResponse("an event of the stream has no type")
        if kind == "content_block_delta":
            self._count_delta(read.delta, read.index or 0)
        else:
            self._account(kind, read)
        return self._canonical(self._model, kind, read) if self._model is not None else []

    def _count_delta(self, delta: EventDelta | None, index: int) -> None:
        if delta is not None:
            self.writing_run = index if delta.text or delta.partial_json else None
            self.received_output_bytes += (
                utf8_length(delta.text) + utf8_length(delta.thinking) + utf8_length(delta.partial_json)
            )

    def _account(self, kind: str, event: StreamEvent) -> None:
        match kind:
            case "message_start" if event.message is not None:
                self.response_id = sanitize_identifier(event.message.id or "")
                self.answered_by = sanitize_identifier(event.message.model or "")
                counted, of_input = self._count(event.message.usage)
                found = counted or of_input
                if found is not None:
                    self.input_usage = msgspec.structs.replace(found, output=0, reasoning=0)
            case "content_block_start" if event.content_block is not None:
                block, self.writing_run = event.content_block, None
                if block.type == "server_tool_use" and block.name == "web_search":
                    self._searches += 1
                    self.extras = replace(self.extras, uses={"web_search": self._searches})
                self.received_output_bytes += (
                    utf8_length(block.text) + utf8_length(block.thinking) + utf8_length(block.name)
                )
                if block.input:
                    self.received_output_bytes += utf8_length(written_arguments(block.input))
            case "message_delta":
                self.is_tail = True
                if event.delta is not None and event.delta.container is not None:
                    self._container = event.delta.container
                if isinstance(event.usage, dict) and event.usage.get("output_tokens") is not None:
                    self.usage = self._count(event.usage)[0]
                if event.delta is not None and event.delta.stop_reason is not None:
                    self.finish_reason = FINISH_REASONS.get(event.delta.stop_reason, "stop")
                    if self.finish_reason == "tool_calls" and not self._calls and self._tools:
                        self.finish_reason = "stop"  # it called the tool of its answer alone
            case "message_stop":
                self.is_tail = self.is_ended = True
            case _:
                pass

    def _count(self, said: Any) -> tuple[TokenUsage | None, TokenUsage | None]:
        """Add these counts; the first is None until both sums are there, of input and of output."""
        if isinstance(said, dict):
            self._said.update({name: value for name, value in said.items() if value is not None})
            self.extras = parse_extras(self._said, self._container)
        try:
            usage = msgspec.convert(said, PartialUsage | None)
        except msgspec.ValidationError:
            return None, None
        if usage is not None:
            found = msgspec.structs.asdict(usage)
            self._counted.update({name: value for name, value in found.items() if value is not None})
        return counted_usage(self._counted)

    def _canonical(self, model: str, kind: str, event: StreamEvent) -> list[ChatChunk]:
        index = event.index or 0
        deltas: list[Delta] = []
        match kind:
            case "message_start":
                deltas = [Delta(role="assistant")]
            case "content_block_start" if event.content_block is not None:
                deltas = self._started(index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                deltas = self._continued(index, event.delta)
            case "content_block_stop":
                deltas = self._stopped(index)
            case "message_delta":
                deltas = [delta for open_index in self._tools for delta in self._stopped(open_index)]
                if event.delta is not None and event.delta.stop_reason is not None:
                    deltas.append(Delta())
            case _:
                pass
        finish = self.finish_reason if kind == "message_delta" else None
        last = len(deltas) - 1
        return [
            ChatChunk(
                id=self.response_id,
                model=model,
                choices=[ChunkChoice(index=0, delta=delta, finish_reason=finish if number == last else None)],
            )
            for number, delta in enumerate(deltas)
        ]

    def _started(self, block_index: int, block: ContentBlock) -> list[Delta]:
        match block.type:
            case "text" if block.text:
                return [Delta(content=block.text)]
            case "thinking" | "redacted_thinking":
                number = self._thoughts[block_index] = len(self._thoughts)
                return self._thought(number, text=block.thinking, signature=block.signature, data=block.data)
            case "tool_use" if block.name == ANSWER_TOOL:
                self._tools[block_index] = _ToolUse(None, block.input)
                return []
            case "tool_use":
                tool = self._tools[block_index] = _ToolUse(self._calls, block.input)
                self._calls += 1
                call = called(block, block_index, self.response_id)
                function = FunctionDelta(name=call.function.name, arguments="")
                begun = ToolCallDelta(index=tool.index or 0, id=call.id, type="function", function=function)
                return [Delta(tool_calls=[begun])]
            case _:
                return []

    def _continued(self, block_index: int, delta: EventDelta) -> list[Delta]:
        match delta.type:
            case "text_delta":
                return [Delta(content=delta.text)] if delta.text else []
            case "thinking_delta" | "signature_delta":
                number = self._thoughts.setdefault(block_index, len(self._thoughts))
                return self._thought(number, text=delta.thinking, signature=delta.signature)
            case _:
                pass
        tool = self._tools.get(block_index)
        if tool is None or not delta.partial_json:
            return []
        tool.is_done = True
        return [_input_of(tool, delta.partial_json)]

    def _thought(self, number: int, *, text: str | None, signature: str | None, data: str | None = None) -> list[Delta]:
        if not (text or signature or data):
            return []
        thought = ReasoningDelta(
            index=number,
            text=text or None,
            signature=signature or None,
            data=data or None,
            after_calls=self._places.setdefault(number, self._calls),
        )
        return [Delta(reasoning=[thought])]

    def _stopped(self, block_index: int) -> list[Delta]:
        """A tool use without input events has the input that it started with: `{}` if the tool takes none."""
        tool = self._tools.get(block_index)
        if tool is None or tool.is_done:
            return []
        tool.is_done = True
        return [_input_of(tool, written_arguments(tool.start))]


def _input_of(tool: _ToolUse, piece: str) -> Delta:
    """A piece of a tool's input: of a call's arguments, or of the answer's text."""
    if tool.index is None:
        return Delta(content=piece)
    return Delta(tool_calls=[ToolCallDelta(index=tool.index, function=FunctionDelta(arguments=piece))])
