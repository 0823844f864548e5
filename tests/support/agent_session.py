"""A coding agent's session as its provider sees it: tools, instructions, and a history that grows with each request.

The sizes are those of Claude Code's requests: 64 KB of tools, 14 KB of instructions of which a line changes each time,
marks for the cache that move along, a cap of 64,000 tokens. Every run has the same bytes.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

TURNS = 30
CAP = 64_000
MODEL = "claude-sonnet-4-5"
_TOOLS = 18
_TOOL_BYTES = 64 * 1024 // _TOOLS
_READ_BYTES = (300, 1_200, 4_000, 9_000, 16_000)
_MARK = {"cache_control": {"type": "ephemeral"}}
_WORDS = (
    "Use this to read, search or change files of the project. Prefer it to shell commands. The path must be absolute, "
    "not relative. Results are cut after 2000 lines. Call several at once where they do not depend on each other. "
)


def requests(turns: int = TURNS, *, model: str = MODEL, bytes_per_token: int = 4) -> Iterator[dict[str, Any]]:
    """Yield the body of each request. The test provider counts its input with so many bytes a token."""
    chance, source = random.Random(7), _source()
    tools = [_tool(number) for number in range(_TOOLS)]
    question = f"[[count={bytes_per_token}]] [[tokens=1/400]] Find out why the bound is too high, and mend it."
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    for turn in range(turns):
        yield {
            "model": model,
            "max_tokens": CAP,
            "stream": True,
            "system": _instructions(turn),
            "tools": tools,
            "messages": [*messages[:-1], _marked(messages[-1])],
            "metadata": {"user_id": f"user_{'a' * 64}_account__session_0b7f"},
        }
        messages += _step(turn, chance, source)


def _instructions(turn: int) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.44; cc_entrypoint=cli; cch={turn:05x};"},
        {"type": "text", "text": "You are a coding agent, a tool of its user.", **_MARK},
        {"type": "text", "text": (_WORDS * 200)[:14_000], **_MARK},
    ]


def _tool(number: int) -> dict[str, Any]:
    properties = {
        f"parameter_{index}": {"type": "string", "description": _WORDS[:120], "enum": ["content", "files", "count"]}
        for index in range(8)
    }
    schema = {"type": "object", "properties": properties, "required": ["parameter_0"], "additionalProperties": False}
    written = len(json.dumps(schema))
    description = (_WORDS * 40)[: _TOOL_BYTES - written]
    return {"name": f"tool_{number}", "description": description, "input_schema": schema}


def _step(turn: int, chance: random.Random, source: Iterator[str]) -> list[dict[str, Any]]:
    """The answer of the model, and the result of the tool that it calls."""
    read = next(source)[: chance.choice(_READ_BYTES)]
    call = {
        "type": "tool_use",
        "id": f"toolu_{turn}",
        "name": "tool_3",
        "input": {"parameter_0": f"/src/module_{turn}.py", "parameter_1": "content"},
    }
    return [
        {"role": "assistant", "content": [{"type": "text", "text": "Now I look at the next module."}, call]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": [{"type": "text", "text": read}]}
            ],
        },
    ]


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    *before, last = message["content"]
    return message | {"content": [*before, last | _MARK]}


def _source() -> Iterator[str]:
    """Yield the texts of files, each as long as the longest read."""
    chance = random.Random(11)
    while True:
        lines: list[str] = []
        while sum(map(len, lines)) < max(_READ_BYTES):
            name, *words = chance.choices(_WORDS.split(), k=chance.randint(3, 12))
            lines.append(f"{'    ' * chance.randint(0, 3)}{name.strip('.,').lower()} = {' + '.join(words)!r}\n")
        yield "".join(lines)
