"""A Responses request becomes a canonical one: what is carried, what is dropped and told, what is refused by name."""

import base64
from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatRequest
from domain.dialects.codec import TranslatedRequest
from domain.dialects.field_rules import FieldRule
from domain.dialects.openai.codec import OpenAiResponses
from domain.dialects.openai.responses.reasoning import KeptReasoning, encode_reasoning
from domain.dialects.openai.responses.rules import RESPONSES_RULES
from domain.dialects.openai.responses.types import ResponsesBody
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.translation import Passthrough
from domain.errors import InvalidRequest

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
SIGNED = encode_reasoning(KeptReasoning(text="hm", signature="sig"))
WITH_CALLS = encode_reasoning(KeptReasoning(extra_content={"call_1": {"google": {"thought_signature": "s"}}}))


def parse(**fields: Any) -> TranslatedRequest:
    return OpenAiResponses().parse_request(msgspec.json.encode({"model": "m", "input": "x"} | fields))


def canonical(**fields: Any) -> ChatRequest:
    request = parse(**fields).request
    assert isinstance(request, ChatRequest)
    return request


def messages(*items: Any) -> Any:
    return msgspec.to_builtins(canonical(input=list(items)).messages)


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        ([{"type": "message", "role": "developer", "content": "d"}], [{"role": "developer", "content": "d"}]),
        (
            [user({"type": "input_image", "image_url": PNG, "detail": "low"})],
            [user({"type": "image_url", "imageUrl": {"url": PNG, "detail": "low"}})],
        ),
        (
            [user({"type": "input_image", "image_url": "https://x/a.png", "detail": "original"})],
            [user({"type": "image_url", "imageUrl": {"url": "https://x/a.png"}})],
        ),
        (
            [user({"type": "input_file", "file_data": PDF, "filename": "a.pdf"})],
            [user({"type": "file", "file": {"url": PDF, "filename": "a.pdf"}})],
        ),
        (
            [user({"type": "input_file", "file_data": "JVBERi0=", "filename": "a.pdf"})],
            [user({"type": "file", "file": {"url": PDF, "filename": "a.pdf"}})],
        ),
        (
            [user({"type": "input_file", "file_url": "https://x/a.pdf"})],
            [user({"type": "file", "file": {"url": "https://x/a.pdf"}})],
        ),
        (
            [{"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": [{"x": 1}]}]}, CALL],
            [{"role": "assistant", "content": "a", "toolCalls": [CALLED]}],
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
            [{"role": "assistant", "content": "no"}],
        ),
        (
            [CALL, {"role": "assistant", "content": "after"}],
            [{"role": "assistant", "toolCalls": [CALLED]}, {"role": "assistant", "content": "after"}],
        ),
        (
            [CALL, {"type": "function_call_output", "call_id": "call_1", "output": "r"}],
            [
                {"role": "assistant", "toolCalls": [CALLED]},
                {"role": "tool", "content": "r", "toolCallId": "call_1"},
            ],
        ),
        (
            [
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": PNG}],
                }
            ],
            [
                {
                    "role": "tool",
                    "content": [{"type": "text", "text": "t"}, {"type": "image_url", "imageUrl": {"url": PNG}}],
                    "toolCallId": "c",
                }
            ],
        ),
        (
            [{"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "o", "stderr": ""}]}],
            [{"role": "tool", "content": '[{"stdout":"o","stderr":""}]', "toolCallId": "c"}],
        ),
        (
            [{"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no such file"}],
            [{"role": "tool", "content": "no such file", "toolCallId": "c", "isError": True}],
        ),
        (
            [{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": SIGNED}, CALL],
            [{"role": "assistant", "toolCalls": [CALLED], "reasoning": [{"text": "hm", "signature": "sig"}]}],
        ),
        (
            [{"type": "reasoning", "id": "rs", "content": [{"type": "reasoning_text", "text": "open"}]}, CALL],
            [{"role": "assistant", "toolCalls": [CALLED], "reasoning": [{"text": "open"}]}],
        ),
        (
            [CALL, {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": WITH_CALLS}],
            [
                {
                    "role": "assistant",
                    "toolCalls": [CALLED | {"extraContent": {"google": {"thought_signature": "s"}}}],
                }
            ],
        ),
        (
            [{"type": "web_search_call", "id": "ws", "status": "completed", "action": {"query": "q"}}],
            [{"role": "assistant", "content": '[web_search_call: {"action":{"query":"q"}}]'}],
        ),
    ],
)
def test_items_become_messages(items: list[Any], expected: list[Any]) -> None:
    assert messages(*items) == expected


@pytest.mark.parametrize(
    ("item", "name", "arguments"),
    [
        ({"type": "custom_tool_call", "name": "p", "input": "text"}, "p", {"input": "text"}),
        ({"type": "function_call", "name": "g", "namespace": "mcp__a", "arguments": "{}"}, "mcp__a__g", {}),
        ({"type": "function_call", "name": "g", "arguments": {"b": 2}}, "g", {"b": 2}),
        ({"type": "function_call", "name": "g", "arguments": ""}, "g", {}),
        (
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None}},
            "local_shell",
            {"command": ["ls"]},
        ),
        ({"type": "shell_call", "action": {"commands": ["ls"]}}, "shell", {"commands": ["ls"]}),
        (
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
            "apply_patch",
            {"operation": {"type": "delete_file", "path": "a"}},
        ),
    ],
)
def test_calls_of_every_kind_of_tool_become_calls_of_functions(item: Any, name: str, arguments: Any) -> None:
    (message,) = messages(item | {"call_id": "c"})
    (call,) = message["toolCalls"]
    assert (call["id"], call["function"]["name"]) == ("c", name)
    assert msgspec.json.decode(call["function"]["arguments"]) == arguments


def test_instructions_stand_in_front() -> None:
    request = canonical(instructions="be kind")
    assert [message.content for message in request.messages] == ["be kind", "x"]


def test_settings_are_carried() -> None:
    request = canonical(
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=77,
        reasoning={"effort": "low", "summary": "auto"},
        parallel_tool_calls=False,
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "f"},
        safety_identifier="u" * 300,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
    )
    assert (request.temperature, request.top_p, request.max_tokens) == (0.5, 0.9, 77)
    assert (request.reasoning_effort, request.shows_reasoning, request.parallel_tool_calls) == ("low", True, False)
    assert request.user is not None
    assert len(request.user) == 64
    assert request.response_format is not None
    assert request.response_format.json_schema is not None
    assert request.response_format.json_schema.strict is True


def test_what_changes_nothing_is_dropped_and_told() -> None:
    found = parse(
        store=True,
        truncation="auto",
        prompt_cache_key="k",
        service_tier="flex",
        include=["reasoning.encrypted_content", "web_search_call.action.sources"],
        text={"verbosity": "low"},
        a_field_of_tomorrow=1,
        tools=[FUNCTION, {"type": "web_search"}, {"type": "mcp", "server_label": "s"}],
        input=[{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}, user()],
    )
    assert set(found.dropped) == {
        *("store", "truncation", "prompt_cache_key", "service_tier", "include", "verbosity", "a_field_of_tomorrow"),
        *("web_search", "mcp", "reasoning"),
    }


def test_what_says_nothing_is_not_told() -> None:
    found = parse(
        store=False,
        truncation="disabled",
        service_tier="auto",
        metadata={},
        include=["reasoning.encrypted_content"],
        text={"format": {"type": "text"}, "verbosity": "medium"},
        previous_response_id=None,
        background=False,
        tools=[],
    )
    assert found.dropped == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0] (item_reference)"),
        ({"input": [{"id": "msg_1"}]}, "input[0] (item_reference)"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0] (compaction)"),
        ({"input": [{"type": "of_tomorrow"}]}, "input[0] (of_tomorrow)"),
        ({"input": [user({"type": "input_image", "file_id": "f"})]}, "input[0].content[0].file_id"),
        ({"input": [user({"type": "input_audio", "input_audio": {}})]}, "input[0].content[0] (input_audio)"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        (
            {
                "input": [
                    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": 5}]}
                ]
            },
            "input[0].output[0].text",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "message", "role": "critic", "content": "x"}]}, "input[0].role"),
        ({"input": []}, "input"),
    ],
)
def test_what_would_be_another_request_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.field == named


def test_a_custom_tool_is_described_with_its_grammar() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    request = canonical(tools=[{"type": "custom", "name": "p", "description": "Edits.", "format": grammar}])
    assert request.tools is not None
    function = request.tools[0].function
    assert function.description == "Edits.\n\n`input` has to match this lark grammar:\nstart: X"
    assert function.parameters is not None
    assert function.parameters["required"] == ["input"]


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    request = canonical(tools=[{"type": "function", "name": "f", "parameters": None}])
    assert request.tools is not None
    assert request.tools[0].function.parameters == {"type": "object", "properties": {}}


def test_allowed_tools_are_the_only_ones_that_are_sent() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    request = canonical(tools=[FUNCTION, FUNCTION | {"name": "g"}], tool_choice=allowed)
    assert request.tools is not None
    assert [tool.function.name for tool in request.tools] == ["f"]
    assert request.tool_choice == "required"


def test_a_choice_without_tools_is_left_out() -> None:
    assert canonical(tools=[{"type": "web_search"}], tool_choice="auto").tool_choice is None


def test_members_of_a_schema_keep_their_order() -> None:
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}}
    request = canonical(tools=[FUNCTION | {"parameters": schema}])
    assert request.tools is not None
    assert request.tools[0].function.parameters is not None
    assert list(request.tools[0].function.parameters["properties"]) == ["z", "a"]


@pytest.mark.parametrize(
    "rule",
    [
        rule
        for rule in RESPONSES_RULES
        if rule.fate != "carried" and "[" not in rule.field and " " not in rule.field and "." not in rule.field
    ],
    ids=lambda rule: rule.field,
)
def test_every_field_meets_its_fate(rule: FieldRule) -> None:
    value: Any = next((value for value in (True, ["x"], {"a": 1}, 3, "x") if _is_read(rule, value)), None)
    assert value is not None
    if rule.fate == "refused":
        with pytest.raises(InvalidRequest) as refused:
            parse(**{rule.field: value})
        assert refused.value.field == rule.field
    else:
        assert parse(**{rule.field: value}).dropped == (rule.field,)


def _is_read(rule: FieldRule, value: Any) -> bool:
    """Return whether the field takes a value of this type, which is not one that says nothing."""
    declared = ResponsesBody.__annotations__[rule.field]
    try:
        msgspec.convert(value, declared)
    except msgspec.ValidationError:
        return False
    return value not in rule.harmless


def test_a_conversation_goes_on_with_gpt_without_what_others_thought() -> None:
    own = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    made_here = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": SIGNED}
    left = [own, CALL, {"type": "function_call_output", "call_id": "call_1", "output": SIGNED}]
    body = b'{"model": "gpt-5", "input": %s, "top_p": 0.50}' % msgspec.json.encode([made_here, *left])
    passed = Passthrough(OpenAiResponses()).parse_request(read_passthrough(body, OpenAiResponses())).body
    assert isinstance(passed, PassthroughRequest)
    assert msgspec.json.decode(passed.body)["input"] == left
    assert passed.body.endswith(b', "top_p": 0.50}')


@pytest.mark.parametrize("body", [b'{"input":"\\"gw1."}', b'{"input":[],"x":"gw1."}', b'{"x":"gw1."', b'["gw1."]'])
def test_a_request_that_has_no_reasoning_of_ours_keeps_its_bytes(body: bytes) -> None:
    assert OpenAiResponses().without_foreign_thinking(body) is body


def test_a_kept_value_that_is_nested_too_deeply_is_none_of_ours() -> None:
    deep = b'[null,null,null,null,{"c":{"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}}]"
    item = {"type": "reasoning", "summary": [], "encrypted_content": "gw1." + base64.urlsafe_b64encode(deep).decode()}
    assert messages(item, {"role": "user", "content": "hi"}) == [{"role": "user", "content": "hi"}]
