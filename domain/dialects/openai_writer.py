"""Writes the canonical stream as OpenAI's chat completion chunks."""

from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from domain.canonical.stream import ChatChunk, ChunkChoice, FunctionDelta, ToolCallDelta
from domain.dialects.openai_served import usage_to_wire
from domain.tokens import TokenUsage

END = b"data: [DONE]\n\n"


class _ToolCall(Struct, omit_defaults=True, gc=False):
    index: int
    function: FunctionDelta
    id: str | None = None
    type: str | None = None


class _Delta(Struct, omit_defaults=True, gc=False):
    role: str | None = None
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    index: int
    delta: _Delta
    finish_reason: str | None
    logprobs: None = None


class _Chunk(Struct, gc=False):
    id: str
    created: int
    model: str
    choices: list[_Choice]
    usage: dict[str, Any] | None | UnsetType = UNSET
    object: str = "chat.completion.chunk"


_encode = msgspec.json.Encoder(decimal_format="number").encode


class OpenAiChatWriter:
    """One stream to one client. `include_usage` is what its `stream_options` say."""

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
        return self._event([_choice(choice) for choice in chunk.choices])

    def end(self, usage: TokenUsage, cost_usd: Decimal | None) -> bytes:
        """The last events: a finish for choices that had none, since a client is always told one; the usage with
        `usage.cost`, where the client asked for it; and `[DONE]`.
        """
        unfinished = [
            _Choice(index, _Delta(), "stop") for index, is_finished in self._finished.items() if not is_finished
        ]
        finish = self._event(unfinished) if unfinished else b""
        if not self._include_usage:
            return finish + END
        return finish + self._event([], usage_to_wire(usage) | {"cost": cost_usd}) + END

    def _event(self, choices: list[_Choice], usage: dict[str, Any] | None = None) -> bytes:
        said = usage if self._include_usage else UNSET
        chunk = _Chunk(id=self._id, created=self._created_s, model=self._model, choices=choices, usage=said)
        return b"data: " + _encode(chunk) + b"\n\n"


def _choice(choice: ChunkChoice) -> _Choice:
    delta = choice.delta
    calls = [_call(call) for call in delta.tool_calls] if delta.tool_calls else None
    return _Choice(choice.index, _Delta(delta.role, delta.content, calls), choice.finish_reason)


def _call(call: ToolCallDelta) -> _ToolCall:
    return _ToolCall(call.index, call.function, call.id, call.type)
