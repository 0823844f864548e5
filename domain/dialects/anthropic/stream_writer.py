"""Writes canonical chunks as Anthropic's stream of message events.

https://docs.anthropic.com/en/docs/build-with-claude/streaming. Anthropic's blocks come one after the other, while
OpenAI's parallel calls may be interleaved: the pieces of a call, and text, wait until the block before them is
complete, that is, until its arguments are valid JSON, to which nothing could be added.
"""

from collections import deque
from typing import Any

import msgspec

from domain.canonical.chat import FinishReason, ReasoningBlock
from domain.canonical.stream import ChatChunk, Delta, ReasoningDelta, ToolCallDelta
from domain.dialects.anthropic.kept_thinking import KeptThinking, write_kept
from domain.dialects.anthropic.response import kept_block, stop_reason, thinking_block
from domain.dialects.anthropic.tool_ids import made_id, written_id
from domain.dialects.anthropic.usage import render_usage
from domain.dialects.codec import StreamSummary
from domain.dialects.errors import UnreadableResponse
from domain.dialects.sse import sse
from domain.json_numbers import json_number

_encode = msgspec.json.Encoder().encode


class _WrittenCall:
    """A tool call: its pieces so far, written and waiting."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.written: list[str] = []
        self.waiting: list[str] = []
        self.is_closed = False
        self.extra_content: dict[str, Any] | None = None
        self._is_complete: bool | None = False

    def add(self, piece: ToolCallDelta) -> None:
        if self.is_closed and piece.function.arguments and piece.function.arguments.strip():
            raise UnreadableResponse("a piece of a tool call came after its end")
        self.id = piece.id or self.id
        self.name = piece.function.name or self.name
        self.extra_content = piece.extra_content or self.extra_content
        if piece.function.arguments and not self.is_closed:
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


class _Thought:
    """A block of thinking: what is not written as it comes."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.texts: list[str] = []
        self.signatures: list[str] = []
        self.data: str | None = None
        self.id: str | None = None
        self.detail: dict[str, Any] | None = None
        self.is_shown = False

    def add(self, piece: ReasoningDelta) -> None:
        self.texts += [piece.text] if piece.text else []
        self.signatures += [piece.signature] if piece.signature else []
        self.data, self.id = piece.data or self.data, piece.id or self.id
        if piece.detail is not None:
            self.detail = self.detail if self.detail is not None else {}
            self.detail.update(piece.detail)

    def block(self) -> ReasoningBlock:
        return ReasoningBlock(
            text="".join(self.texts) or None,
            signature="".join(self.signatures) or None,
            data=self.data,
            id=self.id,
            detail=self.detail,
        )

    def kept(self) -> str:
        return write_kept(KeptThinking.of(self.block()))


class AnthropicMessagesWriter:
    """Writes one stream. The prompt's tokens are unknown at its start: `message_start` has 0 of them, and
    `message_delta` everything. `hides_thinking`: see `render_chat_response`.
    """

    def __init__(self, *, hides_thinking: bool = False) -> None:
        self._hides_thinking = hides_thinking
        self._has_started = False
        self._next_block = 0
        self._is_text_open = False
        self._late_texts: list[str] = []
        """Text that came while a call was not complete."""
        self._thought: _Thought | None = None
        self._hidden: list[ReasoningBlock] = []
        self._open_call: _WrittenCall | None = None
        self._calls: dict[int, _WrittenCall] = {}
        self._unclosed: deque[_WrittenCall] = deque()
        self._marked: list[_WrittenCall] = []
        """The calls with an `extra_content` that may not have been written."""
        self._told: set[str] = set()
        """The calls whose `extra_content` was written."""
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
            "usage": render_usage(summary.usage) | {"cost": json_number(summary.cost_usd)},
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
        for thought in delta.reasoning or ():
            self._think(written, thought)
        if delta.content:
            self._write_text(written, delta.content)
        for piece in delta.tool_calls or ():
            call = self._calls.get(piece.index)
            if call is None:
                call = self._calls[piece.index] = _WrittenCall()
                self._unclosed.append(call)
            call.add(piece)
            if piece.extra_content:
                self._marked.append(call)
            self._advance(written)

    def _think(self, written: list[bytes], piece: ReasoningDelta) -> None:
        if self._thought is None or self._thought.index != piece.index:
            self._close_all(written)
            self._thought = _Thought(piece.index)
        thought = self._thought
        thought.add(piece)
        if self._hides_thinking or not piece.text:
            return
        if not thought.is_shown:
            self._write_hidden(written)
            thought.is_shown = True
            self._open(written, {"type": "thinking", "thinking": "", "signature": ""})
        written.append(self._delta({"type": "thinking_delta", "thinking": piece.text}))

    def _end_thought(self, written: list[bytes]) -> None:
        thought, self._thought = self._thought, None
        if thought is None:
            return
        if thought.is_shown:
            written.append(self._delta({"type": "signature_delta", "signature": thought.kept()}))
            self._stop_block(written)
        elif thought.block() != ReasoningBlock():  # shows nothing, and is wanted back with the results of calls alone
            self._hidden.append(thought.block())

    def _write_hidden(self, written: list[bytes]) -> None:
        for thought in self._hidden:
            self._whole(written, thinking_block(thought, hides=True))
        self._hidden.clear()

    def _write_text(self, written: list[bytes], text: str) -> None:
        if self._open_call is not None and not self._open_call.is_complete():
            self._late_texts.append(text)
            return
        if not self._is_text_open:
            self._close_all(written)
            self._open(written, {"type": "text", "text": ""})
            self._is_text_open = True
        written.append(self._delta({"type": "text_delta", "text": text}))

    def _advance(self, written: list[bytes]) -> None:
        """Write the open call's waiting pieces, and those of the next call once the open one is complete."""
        while self._unclosed:
            call = self._unclosed[0]
            if call is not self._open_call:
                self._open_tool(written, call)
            self._write_waiting(written, call)
            if len(self._unclosed) == 1 or not call.is_complete():
                return
            self._unclosed.popleft()

    def _write_waiting(self, written: list[bytes], call: _WrittenCall) -> None:
        written += [self._delta({"type": "input_json_delta", "partial_json": piece}) for piece in call.write_waiting()]

    def _open_tool(self, written: list[bytes], call: _WrittenCall) -> None:
        self._end_thought(written)
        self._close(written)
        self._write_hidden(written)
        call.id = call.id or made_id(self._next_block, call.name)
        self._write_extra_content(written, call)
        self._open(written, {"type": "tool_use", "id": written_id(call.id), "name": call.name, "input": {}})
        self._open_call = call

    def _write_extra_content(self, written: list[bytes], call: _WrittenCall) -> None:
        """What the provider wants back with a call stands before it, or at the end if it came later."""
        if call.extra_content and call.id not in self._told:
            self._told.add(call.id)
            self._whole(written, kept_block(KeptThinking(calls={call.id: call.extra_content})))

    def _whole(self, written: list[bytes], block: dict[str, Any]) -> None:
        self._open(written, block)
        self._stop_block(written)

    def _open(self, written: list[bytes], block: dict[str, Any]) -> None:
        written.append(named_event({"type": "content_block_start", "index": self._next_block, "content_block": block}))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._next_block, "delta": delta})

    def _stop_block(self, written: list[bytes]) -> None:
        written.append(named_event({"type": "content_block_stop", "index": self._next_block}))
        self._next_block += 1

    def _close(self, written: list[bytes]) -> None:
        if not self._is_text_open and self._open_call is None:
            return
        self._stop_block(written)
        self._is_text_open = False
        if self._open_call is not None:
            self._open_call.is_closed = True
            self._open_call = None

    def _close_all(self, written: list[bytes]) -> None:
        """Nothing more comes for the calls so far: write those that still wait, and the text behind them."""
        self._end_thought(written)
        for call in self._unclosed:
            if call is not self._open_call:
                self._open_tool(written, call)
            self._write_waiting(written, call)
        self._unclosed.clear()
        self._close(written)
        for call in self._marked:
            self._write_extra_content(written, call)
        self._marked.clear()
        if self._late_texts:
            self._open(written, {"type": "text", "text": ""})
            written.append(self._delta({"type": "text_delta", "text": "".join(self._late_texts)}))
            self._stop_block(written)
            self._late_texts.clear()


def named_event(body: dict[str, Any]) -> bytes:
    """An event of Anthropic's: its name is its type."""
    return sse(_encode(body), body["type"])
