"""Requests that are as dear to read as a caller can make them: one dimension of each is as large as its size allows."""

from collections.abc import Callable
from typing import Any

import msgspec

from tests.fuzz.planning import PlannedSurface, surface
from tests.support.samples import PIXEL

Shape = Callable[[int], dict[str, Any]]
"""Makes a request without its model, of about so many bytes."""

_IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
_CLAUDE_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
_RESPONSES_TOOL = {"type": "function", "name": "f", "parameters": {}}
_USER = {"role": "user", "content": "Hi"}


def _repeated(part: Any, size_bytes: int) -> list[Any]:
    return [part] * max(1, size_bytes // (len(msgspec.json.encode(part)) + 1))


def _nested_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def _tool(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def _chat(**fields: Any) -> dict[str, Any]:
    return {"messages": [_USER]} | fields


def _call(number: int) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _calls(size_bytes: int) -> list[Any]:
    calls = [_call(number) for number in range(size_bytes // 120)]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls]
    return [_USER, {"role": "assistant", "content": None, "tool_calls": calls}, *results]


CHAT_SHAPES: dict[str, Shape] = {
    "one text": lambda size: _chat(messages=[{"role": "user", "content": "x" * size}]),
    "one text of escapes": lambda size: _chat(messages=[{"role": "user", "content": '"\\\n' * (size // 6)}]),
    "messages": lambda size: _chat(messages=_repeated(_USER, size)[:9_999]),
    "parts": lambda size: _chat(messages=[{"role": "user", "content": _repeated({"type": "text", "text": "x"}, size)}]),
    "images": lambda size: _chat(messages=[{"role": "user", "content": _repeated(_IMAGE, size)}]),
    "calls and results": lambda size: _chat(messages=_calls(size)[:9_999]),
    "tools": lambda size: _chat(tools=_repeated(_tool({"type": "object", "properties": {}}), size)[:512]),
    "properties": lambda size: _chat(
        tools=[_tool({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(size // 26)}})]
    ),
    "a deep schema": lambda size: _chat(tools=[_tool(_nested_schema(min(size // 45, 120)))] * max(1, size // 5_600)),
    "an enum": lambda size: _chat(tools=[_tool({"type": "string", "enum": [str(n) for n in range(size // 8)]})]),
    "unknown fields": lambda size: _chat(**{f"field_{n}": n for n in range(size // 20)}),
    "unknown values": lambda size: _chat(unknown=[0] * (size // 2)),
    "a bias": lambda size: _chat(logit_bias={str(n): 1 for n in range(size // 10)}),
}
MESSAGES_SHAPES: dict[str, Shape] = {
    "messages": lambda size: {"max_tokens": 9, "messages": _repeated(_USER, size)[:9_999]},
    "parts": lambda size: {
        "max_tokens": 9,
        "messages": [{"role": "user", "content": _repeated({"type": "text", "text": "x"}, size)}],
    },
    "images": lambda size: {"max_tokens": 9, "messages": [{"role": "user", "content": _repeated(_CLAUDE_IMAGE, size)}]},
    "marks": lambda size: {
        "max_tokens": 9,
        "system": _repeated({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, size),
        "messages": [_USER],
    },
    "thinking": lambda size: {
        "max_tokens": 9,
        "messages": [
            _USER,
            {"role": "assistant", "content": _repeated({"type": "thinking", "thinking": "x", "signature": "s"}, size)},
            _USER,
        ],
    },
    "results": lambda size: {
        "max_tokens": 9,
        "messages": [_USER, {"role": "user", "content": _repeated({"type": "tool_result", "tool_use_id": "t"}, size)}],
    },
}
RESPONSES_SHAPES: dict[str, Shape] = {
    "items": lambda size: {"input": _repeated({"role": "user", "content": "Hi"}, size)[:9_999]},
    "calls": lambda size: {
        "input": _repeated({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, size)[:9_999]
    },
    "reasoning": lambda size: {"input": _repeated({"type": "reasoning", "summary": []}, size)[:9_999]},
    "tools": lambda size: {"input": "Hi", "tools": _repeated(_RESPONSES_TOOL, size)},
}

SHAPES: dict[str, tuple[PlannedSurface, dict[str, Shape], tuple[str, ...]]] = {
    "chat": (surface("openai", "chat"), CHAT_SHAPES, ("gpt-4o", "claude-sonnet-4-5")),
    "messages": (surface("anthropic", "chat"), MESSAGES_SHAPES, ("claude-sonnet-4-5", "gpt-4o")),
    "responses": (surface("openai", "responses"), RESPONSES_SHAPES, ("gpt-5", "claude-sonnet-4-5")),
}
"""By call: the call, its shapes, and a model to which it is passed through and one to which it is translated."""
