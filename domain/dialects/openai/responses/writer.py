"""Writes the stream of a response: numbered events, each item with its start, its pieces and its end.

https://platform.openai.com/docs/api-reference/responses-streaming. An item ends when the next one begins. The items of
tools that are no functions come in one piece, since what they are made of is known at their end.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from domain.canonical.chat import FinishReason, FunctionCall, ReasoningBlock, ToolCall
from domain.canonical.stream import ChatChunk, Delta, ReasoningDelta, ToolCallDelta
from domain.dialects.codec import StreamSummary
from domain.dialects.openai.responses.echo import Echo, read_echo
from domain.dialects.openai.responses.output import (
    ending,
    extras_item,
    item_id,
    item_status,
    message_item,
    reasoning_item,
    refusal_part,
    render_responses_usage,
    response_object,
    summary_part,
    text_part,
    tool_item,
    with_identity,
)
from domain.dialects.openai.responses.tools import CALL_TYPES, ToolKind
from domain.dialects.sse import sse
from domain.json_numbers import json_number

_encode = msgspec.json.Encoder().encode

Events = Iterator[tuple[str, dict[str, Any]]]
"""Types of events without `response.`, and their members."""


class _OpenItem(Protocol):
    """An item that is being written."""

    @property
    def kind(self) -> str:
        """Its type."""
        ...

    def started(self) -> dict[str, Any]:
        """The item as it begins."""
        ...

    def first(self) -> Events:
        """The events that follow its start."""
        ...

    def last(self) -> Events:
        """The events before its end."""
        ...

    def done(self) -> dict[str, Any]:
        """The item in whole."""
        ...


_Item = TypeVar("_Item", bound=_OpenItem)


class _Text:
    kind = "message"

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def started(self) -> dict[str, Any]:
        return message_item([])

    def first(self) -> Events:
        yield "content_part.added", {"content_index": 0, "part": text_part("")}

    def add(self, piece: str) -> Events:
        self._pieces.append(piece)
        yield "output_text.delta", {"content_index": 0, "delta": piece, "logprobs": []}

    def last(self) -> Events:
        text = "".join(self._pieces)
        yield "output_text.done", {"content_index": 0, "text": text, "logprobs": []}
        yield "content_part.done", {"content_index": 0, "part": text_part(text)}

    def done(self) -> dict[str, Any]:
        return message_item([text_part("".join(self._pieces))])


class _Refusal(_Text):
    """The model's refusal: a text by other names."""

    def first(self) -> Events:
        yield "content_part.added", {"content_index": 0, "part": refusal_part("")}

    def add(self, piece: str) -> Events:
        self._pieces.append(piece)
        yield "refusal.delta", {"content_index": 0, "delta": piece}

    def last(self) -> Events:
        text = "".join(self._pieces)
        yield "refusal.done", {"content_index": 0, "refusal": text}
        yield "content_part.done", {"content_index": 0, "part": refusal_part(text)}

    def done(self) -> dict[str, Any]:
        return message_item([refusal_part("".join(self._pieces))])


class _Thinking:
    kind = "reasoning"

    def __init__(self, index: int) -> None:
        self.index = index
        self._texts: list[str] = []
        self._signatures: list[str] = []
        self._data: str | None = None
        self._id: str | None = None
        self._detail: dict[str, Any] | None = None

    def started(self) -> dict[str, Any]:
        return {"type": "reasoning", "summary": []}

    def first(self) -> Events:
        yield from ()

    def add(self, piece: ReasoningDelta) -> Events:
        self._data, self._id = piece.data or self._data, piece.id or self._id
        if piece.detail is not None:
            self._detail = self._detail if self._detail is not None else {}
            self._detail.update(piece.detail)
        if piece.signature:
            self._signatures.append(piece.signature)
        if not piece.text:
            return
        if not self._texts:
            yield "reasoning_summary_part.added", {"summary_index": 0, "part": summary_part("")}
        self._texts.append(piece.text)
        yield "reasoning_summary_text.delta", {"summary_index": 0, "delta": piece.text}

    def last(self) -> Events:
        if self._texts:
            text = "".join(self._texts)
            yield "reasoning_summary_text.done", {"summary_index": 0, "text": text}
            yield "reasoning_summary_part.done", {"summary_index": 0, "part": summary_part(text)}

    def done(self) -> dict[str, Any]:
        texts, signatures = ("".join(pieces) or None for pieces in (self._texts, self._signatures))
        return reasoning_item(
            ReasoningBlock(text=texts, signature=signatures, data=self._data, id=self._id, detail=self._detail)
        )


class _Extras:
    kind = "reasoning"

    def __init__(self, extra_content: dict[str, dict[str, Any]]) -> None:
        self._extra_content = extra_content

    def started(self) -> dict[str, Any]:
        return {"type": "reasoning", "summary": []}

    def first(self) -> Events:
        yield from ()

    def last(self) -> Events:
        yield from ()

    def done(self) -> dict[str, Any]:
        return extras_item(self._extra_content)


class _Call:
    def __init__(self, piece: ToolCallDelta, echo: Echo, place: int) -> None:
        self.index = piece.index
        self.place = place
        """Among the calls that are open."""
        self._id = piece.id or ""
        self._name = piece.function.name or ""
        self._pieces: list[str] = []
        self._echo = echo
        named = echo.names.get(self._name)
        self._tool: ToolKind = named.kind if named is not None else "function"

    @property
    def kind(self) -> str:
        return CALL_TYPES[self._tool]

    @property
    def is_late(self) -> bool:
        return self._tool not in ("function", "custom")

    def started(self) -> dict[str, Any]:
        if self.is_late:
            return self.done()
        return self._item("") | ({"arguments": ""} if self._tool == "function" else {"input": ""})

    def first(self) -> Events:
        yield from ()

    def add(self, piece: ToolCallDelta) -> Events:
        arguments = piece.function.arguments
        if not arguments:
            return
        self._pieces.append(arguments)
        if self._tool == "function":
            yield "function_call_arguments.delta", {"delta": arguments}

    def last(self) -> Events:
        item = self.done()
        if self._tool == "function":
            yield "function_call_arguments.done", {"name": item["name"], "arguments": item["arguments"]}
        elif self._tool == "custom":
            yield "custom_tool_call_input.delta", {"delta": item["input"]}
            yield "custom_tool_call_input.done", {"input": item["input"]}

    def done(self) -> dict[str, Any]:
        return self._item("".join(self._pieces))

    def _item(self, arguments: str) -> dict[str, Any]:
        call = ToolCall(id=self._id, function=FunctionCall(name=self._name, arguments=arguments))
        return tool_item(call, self._echo)


class ResponsesWriter:
    """Writes one stream. It is a `StreamWriter`."""

    def __init__(self, *, created_s: int, echo: bytes | None) -> None:
        self._created_s = created_s
        self._echo = read_echo(echo)
        self._sequence_number = 0
        self._answer_id = self._model = ""
        self._has_begun = False
        self._finish: FinishReason | None = None
        self._has_refused = False
        self._open: _OpenItem | None = None
        self._calls: dict[int, _Call] = {}
        self._extras: dict[str, dict[str, Any]] = {}
        self._output: list[dict[str, Any]] = []

    def write(self, chunk: ChatChunk) -> bytes:
        """See `StreamWriter`: of several choices, the first is written."""
        written: list[bytes] = []
        if not self._has_begun:
            self._begin(chunk, written)
        for choice in chunk.choices:
            if choice.index == 0:
                self._add(choice.delta, written)
                self._finish = choice.finish_reason or self._finish
        return b"".join(written)

    def end(self, summary: StreamSummary) -> bytes:
        """See `StreamWriter`: the end of the last item, and the response in whole."""
        written: list[bytes] = []
        if not self._has_begun:
            self._begin(ChatChunk(id="", model="", choices=[]), written)
        if self._has_refused and self._finish == "content_filter":
            self._finish = "stop"  # a response that refuses is complete
        self._close(written, item_status(self._finish))
        if self._extras:
            self._open = self._start(_Extras(self._extras), written)
            self._close(written)
        ended = ending(self._finish, self._output)
        usage = render_responses_usage(summary.usage) | {"cost": json_number(summary.cost_usd)}
        self._emit(written, str(ended["status"]), {"response": self._response() | ended | {"usage": usage}})
        return b"".join(written)

    def _begin(self, chunk: ChatChunk, written: list[bytes]) -> None:
        self._has_begun = True
        self._answer_id, self._model = chunk.id, chunk.model
        for kind in ("created", "in_progress"):
            self._emit(written, kind, {"response": self._response()})

    def _response(self) -> dict[str, Any]:
        return response_object(self._answer_id, self._model, self._echo, created_s=self._created_s)

    def _add(self, delta: Delta, written: list[bytes]) -> None:
        for thought in delta.reasoning or ():
            self._add_thinking(thought, written)
        if delta.content:
            kind = _Refusal if delta.is_refusal else _Text
            self._has_refused |= delta.is_refusal
            text = self._open
            if not isinstance(text, _Text) or type(text) is not kind:
                self._close(written)
                text = self._open = self._start(kind(), written)
            self._emit_inside(written, len(self._output), text, text.add(delta.content))
        for piece in delta.tool_calls or ():
            self._add_call(piece, written)

    def _add_thinking(self, thought: ReasoningDelta, written: list[bytes]) -> None:
        thinking = self._open
        if not isinstance(thinking, _Thinking) or thinking.index != thought.index:
            self._close(written)
            thinking = self._open = self._start(_Thinking(thought.index), written)
        self._emit_inside(written, len(self._output), thinking, thinking.add(thought))

    def _add_call(self, piece: ToolCallDelta, written: list[bytes]) -> None:
        if self._open is not None:
            self._close(written)
        call = self._calls.get(piece.index)
        if call is None:
            call = self._calls[piece.index] = _Call(piece, self._echo, len(self._calls))
            if not call.is_late:
                self._start(call, written, call.place)
        if piece.extra_content and piece.id:
            self._extras[piece.id] = piece.extra_content
        self._emit_inside(written, len(self._output) + call.place, call, call.add(piece))

    def _start(self, item: _Item, written: list[bytes], after: int = 0) -> _Item:
        index = len(self._output) + after
        started = with_identity(item.started(), self._answer_id, index, "in_progress")
        self._emit(written, "output_item.added", {"output_index": index, "item": started})
        self._emit_inside(written, index, item, item.first())
        return item

    def _close(self, written: list[bytes], status: str = "completed") -> None:
        """End what is open: one item, or the calls, which may come in parallel. `status` is that of the last."""
        items: list[_OpenItem] = [self._open] if self._open is not None else list(self._calls.values())
        for number, item in enumerate(items, start=1):
            index = len(self._output)
            if isinstance(item, _Call) and item.is_late:
                self._start(item, written)
            self._emit_inside(written, index, item, item.last())
            done = with_identity(item.done(), self._answer_id, index, status if number == len(items) else "completed")
            self._emit(written, "output_item.done", {"output_index": index, "item": done})
            self._output.append(done)
        self._open = None
        self._calls.clear()

    def _emit_inside(self, written: list[bytes], index: int, item: _OpenItem, events: Events) -> None:
        for kind, members in events:
            place = {"output_index": index, "item_id": item_id(item.kind, self._answer_id, index)}
            self._emit(written, kind, place | members)

    def _emit(self, written: list[bytes], kind: str, members: dict[str, Any]) -> None:
        event = {"type": f"response.{kind}", "sequence_number": self._sequence_number} | members
        self._sequence_number += 1
        written.append(sse(_encode(event), f"response.{kind}"))
