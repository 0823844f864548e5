"""OpenAI's streams of chat completion chunks, to a client: out of canonical chunks.

The role comes first, a call's id and name in one piece before its arguments, and every choice and call has an end:
frameworks rely on each of these.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.stream import ChatChunk, ChunkChoice, FunctionDelta, ReasoningDelta, ToolCallDelta
from domain.dialects.codec import StreamSummary
from domain.dialects.openai.reasoning import render_detail
from domain.dialects.openai.response import NO_ECHO, renamed_finish
from domain.dialects.openai.tools import ToolEcho, custom_input
from domain.dialects.openai.types import (
    WrittenChoice,
    WrittenChunk,
    WrittenCustom,
    WrittenDelta,
    WrittenToolCall,
)
from domain.dialects.openai.usage import render_usage
from domain.dialects.sse import DONE_EVENT
from domain.json_numbers import json_number

_encode = msgspec.json.Encoder().encode


class _Choice:
    """One of the choices so far."""

    def __init__(self) -> None:
        self.is_finished = False
        self.has_refused = False
        self.without_arguments: set[int] = set()
        self.custom: dict[int, tuple[WrittenToolCall, list[str]]] = {}
        """Calls of custom tools, with their arguments so far: a piece of JSON is no piece of the text in it."""


class OpenAiChatWriter:
    """Writes one stream. `include_usage` is the option of that name in the client's `stream_options`."""

    def __init__(self, *, created_s: int, include_usage: bool = False, echo: ToolEcho = NO_ECHO) -> None:
        self._created_s = created_s
        self._include_usage = include_usage
        self._echo = echo
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._model = ""

    def write(self, chunk: ChatChunk) -> bytes:
        """The event of a chunk."""
        self._id, self._model = chunk.id, chunk.model
        return self._event([self._choice(choice) for choice in chunk.choices])

    def end(self, summary: StreamSummary) -> bytes:
        """The last events: a finish for choices that had none, since clients expect one; the usage with
        `usage.cost`, if the client asked for it; and `[DONE]`.
        """
        unfinished = [
            WrittenChoice(index, self._delta(choice, WrittenDelta(), [], is_last=True), "stop")
            for index, choice in self._choices.items()
            if not choice.is_finished
        ]
        finish = self._event(unfinished) if unfinished else b""
        if not self._include_usage:
            return finish + DONE_EVENT
        return (
            finish + self._event([], render_usage(summary.usage) | {"cost": json_number(summary.cost_usd)}) + DONE_EVENT
        )

    def _event(self, choices: list[WrittenChoice], usage: dict[str, Any] | None = None) -> bytes:
        said = usage if self._include_usage else UNSET
        chunk = WrittenChunk(id=self._id, created=self._created_s, model=self._model, choices=choices, usage=said)
        return b"data: " + _encode(chunk) + b"\n\n"

    def _choice(self, choice: ChunkChoice) -> WrittenChoice:
        known = self._choices.get(choice.index)
        is_first = known is None
        if known is None:
            known = self._choices[choice.index] = _Choice()
        given = choice.delta
        known.has_refused |= given.is_refusal
        delta = WrittenDelta(
            role="assistant" if is_first else None,
            content=None if given.is_refusal else given.content,
            refusal=given.content if given.is_refusal else None,
        )
        if given.reasoning:
            texts = [piece.text for piece in given.reasoning if piece.text]
            delta.reasoning_content = "".join(texts) or None
            delta.reasoning_details = [_detail(piece) for piece in given.reasoning]
        is_last = choice.finish_reason is not None
        known.is_finished = is_last
        if given.tool_calls or (is_last and (known.custom or known.without_arguments)):
            delta = self._delta(known, delta, given.tool_calls or [], is_last=is_last)
        finish = renamed_finish(choice.finish_reason, self._echo)
        return WrittenChoice(choice.index, delta, "stop" if known.has_refused and is_last else finish)

    def _delta(
        self, choice: _Choice, delta: WrittenDelta, calls: list[ToolCallDelta], *, is_last: bool
    ) -> WrittenDelta:
        """The delta with its pieces of calls, and with the rest of every call if it is the last."""
        written = [piece for call in calls if (piece := self._call(choice, call)) is not None]
        if is_last:
            written += (
                WrittenToolCall(index, FunctionDelta(arguments="{}")) for index in sorted(choice.without_arguments)
            )
            written += (_whole_custom(*custom) for custom in choice.custom.values())
            choice.without_arguments.clear()
            choice.custom.clear()
        if self._echo.are_functions:
            first = [piece.function for piece in written if piece.index == 0 and piece.function is not None]
            delta.function_call = (
                FunctionDelta(
                    name=next((function.name for function in first if function.name), None),
                    arguments="".join(function.arguments or "" for function in first),
                )
                if first
                else None
            )
        else:
            delta.tool_calls = written or None
        return delta

    def _call(self, choice: _Choice, call: ToolCallDelta) -> WrittenToolCall | None:
        function = call.function
        if function.name is not None and function.name in self._echo.custom:
            begun = WrittenToolCall(call.index, id=call.id, type="custom", custom=WrittenCustom(name=function.name))
            choice.custom[call.index] = (begun, [])
        if call.index in choice.custom:
            choice.custom[call.index][1].append(function.arguments or "")
            return None
        if function.name is not None and not function.arguments:
            choice.without_arguments.add(call.index)
            function = FunctionDelta(name=function.name, arguments="")
        elif function.arguments:
            choice.without_arguments.discard(call.index)
        return WrittenToolCall(call.index, function, call.id, call.type, call.extra_content)


def _whole_custom(begun: WrittenToolCall, arguments: list[str]) -> WrittenToolCall:
    assert begun.custom is not None, "it was begun as a custom call"
    begun.custom.input = custom_input("".join(arguments))
    return begun


def _detail(piece: ReasoningDelta) -> dict[str, Any]:
    return render_detail(
        piece.index,
        text=piece.text,
        signature=piece.signature,
        data=piece.data,
        block_id=piece.id,
        detail=piece.detail,
        after_calls=piece.after_calls,
    )
