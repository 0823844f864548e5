"""Answers that are as dear to read as a provider can make them: of one part there are as many as the size allows.

Each maker takes about how many bytes there shall be. One for an answer in one piece gives its JSON, one for a stream
the JSON of its events.
"""

from collections.abc import Callable
from typing import Any

import msgspec

AnswerShape = Callable[[int], Any]
StreamShape = Callable[[int], list[Any]]

_FUNCTION = {"name": "f", "arguments": '{"a":1}'}
_LONG = "x" * 150
_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
_TOKENS = {"input_tokens": 9, "output_tokens": 3}


def _many(size_bytes: int, make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in range(max(1, size_bytes // (len(msgspec.json.encode(make(1_000))) + 1)))]


def _chat(choices: list[Any]) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": choices, "usage": _USAGE}


def _message(**message: Any) -> dict[str, Any]:
    return _chat([{"index": 0, "finish_reason": "stop", "message": {"content": "Hm."} | message}])


def _choice(index: int, message: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "finish_reason": "stop", "message": message}


def _detail(number: int) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": "So.", "index": 0, f"member_{number}": 1}


CHAT_ANSWERS: dict[str, AnswerShape] = {
    "calls without ids": lambda size: _message(tool_calls=_many(size, lambda _: {"function": _FUNCTION})),
    "choices": lambda size: _chat(_many(size, lambda n: _choice(n, {"content": "Hm."}))),
    "choices with a call": lambda size: _chat(
        _many(size, lambda n: _choice(n, {"tool_calls": [{"function": _FUNCTION}]}))
    ),
    "details of one block": lambda size: _message(reasoning_details=_many(size, _detail)),
    "details of blocks": lambda size: _message(reasoning_details=_many(size, lambda n: _detail(n) | {"index": n})),
    "parts": lambda size: _message(content=_many(size, lambda _: {"type": "text", "text": "Hm."})),
    "one text": lambda size: _message(content="x" * size),
}


def _chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def _chunks(pieces: list[Any]) -> list[Any]:
    return [_chunk({"role": "assistant", "content": ""}), *pieces, _chunk({}, "stop"), _chat([])]


def _piece(call: dict[str, Any]) -> dict[str, Any]:
    return _chunk({"tool_calls": [call]})


CHAT_STREAMS: dict[str, StreamShape] = {
    "texts": lambda size: _chunks(_many(size, lambda _: _chunk({"content": "Hm."}))),
    "thoughts": lambda size: _chunks(_many(size, lambda _: _chunk({"reasoning_content": "Hm."}))),
    "details": lambda size: _chunks(_many(size, lambda n: _chunk({"reasoning_details": [_detail(n)]}))),
    "details of one chunk": lambda size: _chunks([_chunk({"reasoning_details": _many(size, _detail)})]),
    "arguments": lambda size: _chunks(
        [
            _piece({"index": 0, "id": "c", "function": _FUNCTION | {"arguments": ""}}),
            *_many(size, lambda _: _piece({"index": 0, "function": {"arguments": " "}})),
        ]
    ),
    "calls": lambda size: _chunks(_many(size, lambda n: _piece({"id": f"c{n}", "function": _FUNCTION}))),
    "calls of one chunk, without ids": lambda size: _chunks(
        [_chunk({"tool_calls": _many(size, lambda n: {"index": n, "function": _FUNCTION})})]
    ),
    "choices": lambda size: _chunks(_many(size, lambda n: _chunk({"content": "Hm."}, "stop", n))),
    "choices of one chunk": lambda size: [
        _chat(_many(size, lambda n: {"index": n, "delta": {"tool_calls": [{"function": _FUNCTION}]}})),
        _chunk({}, "stop"),
    ],
}


def _claude(content: list[Any]) -> dict[str, Any]:
    head = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    return head | {"stop_reason": "end_turn", "content": content, "usage": _TOKENS}


MESSAGE_ANSWERS: dict[str, AnswerShape] = {
    "texts": lambda size: _claude(_many(size, lambda _: {"type": "text", "text": "Hm."})),
    "thoughts": lambda size: _claude(_many(size, lambda _: {"type": "thinking", "thinking": "So.", "signature": "c2"})),
    "calls without ids": lambda size: _claude(
        _many(size, lambda _: {"type": "tool_use", "name": "f", "input": {"a": 1}})
    ),
}


def _claude_stream(events: list[Any]) -> list[Any]:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
    return [
        {"type": "message_start", "message": _claude([]) | {"stop_reason": None}},
        *events,
        end,
        {"type": "message_stop"},
    ]


def _block(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> list[Any]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _blocks(size_bytes: int, block: dict[str, Any], delta: dict[str, Any]) -> list[Any]:
    return [event for events in _many(size_bytes, lambda index: _block(index, block, [delta])) for event in events]


def _long_block(size_bytes: int, block: dict[str, Any], delta: dict[str, Any]) -> list[Any]:
    return _block(0, block, [delta] * (size_bytes // 80))


_CLAUDE_BLOCKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "texts": ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Hm."}),
    "thoughts": ({"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "So."}),
    "calls": (
        {"type": "tool_use", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": " "},
    ),
}
MESSAGE_STREAMS: dict[str, StreamShape] = {
    f"{how} {name}": lambda size, make=make, kind=kind: _claude_stream(make(size, *kind))  # type: ignore[misc]
    for name, kind in _CLAUDE_BLOCKS.items()
    for how, make in (("many", _blocks), ("long", _long_block))
}


def _response(output: list[Any]) -> dict[str, Any]:
    usage = _TOKENS | {"total_tokens": 12}
    return {"id": "r", "object": "response", "status": "completed", "model": "m", "output": output, "usage": usage}


def _responded(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


_CALL = {"type": "function_call", "name": "f", "arguments": _LONG}
_PART = {"type": "output_text", "text": "Hm."}
_THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So."}], "encrypted_content": _LONG}
RESPONSE_ANSWERS: dict[str, AnswerShape] = {
    "calls without ids": lambda size: _response(_many(size, lambda _: _CALL)),
    "messages": lambda size: _response(_many(size, lambda _: _responded(_PART | {"text": _LONG}))),
    "parts": lambda size: _response([_responded(*_many(size, lambda _: _PART))]),
    "thoughts": lambda size: _response(_many(size, lambda _: _THOUGHT)),
}


def _responses(events: list[Any], *output: Any) -> list[Any]:
    begun = _response([]) | {"status": "in_progress", "usage": None}
    return [
        {"type": "response.created", "response": begun},
        *events,
        {"type": "response.completed", "response": _response(list(output))},
    ]


def _delta(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": 0, "content_index": 0, "delta": " "} | fields


def _item(kind: str, index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": item}


RESPONSE_STREAMS: dict[str, StreamShape] = {
    "texts": lambda size: _responses(_many(size, lambda _: _delta("output_text"))),
    "thoughts": lambda size: _responses(_many(size, lambda n: _delta("reasoning_summary_text", summary_index=n))),
    "arguments": lambda size: _responses(
        [_item("added", 0, _CALL | {"arguments": ""}), *_many(size, lambda _: _delta("function_call_arguments"))]
    ),
    "calls": lambda size: _responses(_many(size, lambda n: _item("done", n, _CALL))),
    "calls of the end, without ids": lambda size: _responses([], *_many(size, lambda _: _CALL)),
    "messages": lambda size: _responses(_many(size, lambda n: _item("done", n, _responded(_PART | {"text": _LONG})))),
}
