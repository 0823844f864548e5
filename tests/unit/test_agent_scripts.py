"""The script of an agent's model is a function of the request, and the vendors' rules find what a vendor refuses."""

import json
from typing import Any
from urllib.parse import unquote

import pytest

from tests.provider.running import RecordedRequest
from tests.provider.script import Step, step_at, steps_word
from tests.support.agents.vendor_rules import complaints

READ = Step(tool="read", arguments={"path": "a"})
EDIT = Step(tool="edit", otherwise=Step(tool="patch"))
END = Step(say="done")
STEPS = unquote(steps_word(READ, EDIT, END).removeprefix("[[steps=").removesuffix("]]"))
TOOLS = {"read", "edit"}


def test_each_result_leads_to_the_next_step() -> None:
    assert [step_at(STEPS, done, TOOLS) for done in range(4)] == [READ, EDIT, END, END]


def test_a_tool_that_is_not_offered_has_another_in_its_place() -> None:
    assert step_at(STEPS, 1, {"read", "patch"}).tool == "patch"


def test_a_request_without_the_tool_gets_a_text() -> None:
    assert step_at(STEPS, 0, set()).tool == ""


def asked(path: str, body: dict[str, Any]) -> RecordedRequest:
    return RecordedRequest(number=1, method="POST", path=path, headers=(), body=json.dumps(body).encode())


CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]}
CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
BOUNDED = {"type": "object", "properties": {"minimum": {"type": "integer", "minimum": 0}}}
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("body", [CLAUDE, CLAUDE | {"messages": [CALL, RESULT]}])
def test_a_good_request_to_anthropic_has_no_complaint(body: dict[str, Any]) -> None:
    assert complaints(asked("/v1/messages?beta=true", body)) == []


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        ({"seed": 1}, "seed is not known"),
        ({"max_tokens": 64_001}, "claude-sonnet-4-5 writes 64000 tokens, asked are 64001"),
        ({"temperature": 1, "top_p": 1}, "temperature and top_p together"),
        ({"messages": [CALL]}, "calls ['a'] have no results"),
        ({"messages": [RESULT]}, "calls [] have results ['a']"),
        ({"system": [{"type": "text", "text": " "}]}, "a text is blank"),
        ({"output_config": {"format": {"type": "json_schema", "schema": BOUNDED}}}, "minimum in a schema"),
    ],
)
def test_what_anthropic_refuses_is_found(member: dict[str, Any], complaint: str) -> None:
    assert complaints(asked("/v1/messages", CLAUDE | member)) == [complaint]


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        ({"top_k": 1}, "top_k is not known"),
        ({"stop": ["x"]}, "stop to gpt-5"),
        ({"user": "u" * 65}, "user is too long"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
            "f has an object without properties",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "a", "content": "r"}]},
            "the result of a follows no call",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "cache_control": {}}]},
            "cache_control, which only Anthropic knows",
        ),
    ],
)
def test_what_openai_refuses_is_found(member: dict[str, Any], complaint: str) -> None:
    assert complaints(asked("/v1/chat/completions", CHAT | member)) == [complaint]
