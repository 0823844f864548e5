"""Writes the canonical stream as Anthropic's message events.

Anthropic's blocks come one after the other, while OpenAI's parallel calls may be interleaved: the pieces of a call wait
until the block before it is complete, that is, until its arguments are valid JSON, to which nothing could be added.
"""

from decimal import Decimal
from typing import Any

import msgspec

from domain.canonical.chat import FinishReason
from domain.canonical.stream import ChatChunk, Delta, ToolCallDelta
from domain.dialects.anthropic_served import stop_reason, usage_to_wire
from domain.dialects.provider_response import UnreadableResponse
from domain.dialects.sse import sse
from domain.tokens import TokenUsage

_encode = msgspec.json.Encoder(decimal_format="number").encode


class _Call:
    """A tool call: what came of it, and what of that was not written yet."""

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
    """One stream to one client. What the prompt cost is unknown at its start: `message_start` says 0 tokens, and
    `message_delta` everything.
    """

    def __init__(self) -> None:
        self._has_started = False
        self._next_block = 0
        self._is_text_open = False
        self._open_call: _Call | None = None
        self._calls: dict[int, _Call] = {}
        self._finish_reason: FinishReason | None = None

    def write(self, chunk: ChatChunk) -> bytes:
        """The events of a chunk; none where Anthropic has no word for it.

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

    def end(self, usage: TokenUsage, cost_usd: Decimal | None) -> bytes:
        """The last events: what is still open, the stop reason, usage with `usage.cost`, and the end."""
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
            "usage": usage_to_wire(usage) | {"cost": cost_usd},
        }
        written += (event(last), event({"type": "message_stop"}))
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
        written.append(event({"type": "message_start", "message": message}))

    def _write(self, written: list[bytes], delta: Delta) -> None:
        if delta.content:
            if not self._is_text_open:
                self._close_all(written)
                self._open(written, {"type": "text", "text": ""})
                self._is_text_open = True
            written.append(self._delta({"type": "text_delta", "text": delta.content}))
        for piece in delta.tool_calls or ():
            self._calls.setdefault(piece.index, _Call()).add(piece)
            self._advance(written)

    def _advance(self, written: list[bytes]) -> None:
        """Write what may be written: the open call's pieces; those of the next once the open one is complete."""
        for call in self._calls.values():
            if call.is_closed:
                continue
            if call is not self._open_call:
                if self._open_call is not None and not self._open_call.is_complete():
                    return
                self._open_tool(written, call)
            self._write_waiting(written, call)

    def _write_waiting(self, written: list[bytes], call: _Call) -> None:
        written += [self._delta({"type": "input_json_delta", "partial_json": piece}) for piece in call.write_waiting()]

    def _open_tool(self, written: list[bytes], call: _Call) -> None:
        self._close(written)
        self._open(written, {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        self._open_call = call

    def _open(self, written: list[bytes], block: dict[str, Any]) -> None:
        written.append(event({"type": "content_block_start", "index": self._next_block, "content_block": block}))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return event({"type": "content_block_delta", "index": self._next_block, "delta": delta})

    def _close(self, written: list[bytes]) -> None:
        if not self._is_text_open and self._open_call is None:
            return
        written.append(event({"type": "content_block_stop", "index": self._next_block}))
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


def event(body: dict[str, Any]) -> bytes:
    """An event of Anthropic's: its name is its type."""
    return sse(_encode(body), body["type"])
