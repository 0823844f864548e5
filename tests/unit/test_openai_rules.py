"""Every rule of OpenAI's chat completions is true: what is carried arrives, what is dropped is told, what is refused
says the way out.
"""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import (
    AssistantMessage,
    CacheControl,
    ChatRequest,
    DeveloperMessage,
    File,
    FilePart,
    FunctionCall,
    FunctionTool,
    ImagePart,
    ImageUrl,
    JsonSchema,
    ReasoningBlock,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.codec import AdaptedRequest
from domain.dialects.field_rules import FieldRule
from domain.dialects.openai.adapt import adapt_chat_request
from domain.dialects.openai.render import render_chat_request
from domain.dialects.openai.request import parse_chat_request
from domain.dialects.openai.rules import CHAT_CLIENT_RULES, CHAT_PROVIDER_RULES
from domain.dialects.tool_names import with_tool_names
from domain.errors import InvalidRequest

HELLO: dict[str, Any] = {"role": "user", "content": "hi"}
FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MARK = {"type": "ephemeral"}


def asked(*messages: dict[str, Any], **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "claude", "messages": list(messages) or [HELLO]} | fields)


def said(*parts: dict[str, Any]) -> bytes:
    return asked({"role": "user", "content": list(parts)})


def answered(**members: Any) -> bytes:
    return asked(HELLO, {"role": "assistant", "content": "a"} | members, HELLO)


CARRIED: dict[str, tuple[bytes, str]] = {
    "max_completion_tokens": (asked(max_tokens=9, max_completion_tokens=7), '"maxTokens":7'),
    "safety_identifier": (asked(user="a", safety_identifier="b"), '"user":"b"'),
    "n": (asked(n=2), '"n":2'),
    "functions": (asked(functions=[{"name": "g"}]), '"function":{"name":"g"}'),
    "function_call": (asked(functions=[{"name": "g"}], function_call="none"), '"toolChoice":"none"'),
    "tools[].custom": (asked(tools=[{"type": "custom", "custom": {"name": "g"}}]), '"required":["input"]'),
    "tool_choice.allowed_tools": (
        asked(
            tools=[FUNCTION, {"type": "function", "function": {"name": "g"}}],
            tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [FUNCTION]}},
        ),
        '"toolChoice":"required"',
    ),
    "response_format": (
        asked(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": None}}),
        '"responseFormat":{"type":"json_object"}',
    ),
    "reasoning_effort": (asked(reasoning_effort="low"), '"reasoningEffort":"low"'),
    "reasoning": (
        asked(reasoning={"max_tokens": 2000, "exclude": True}),
        '"thinkingBudget":2000,"showsReasoning":false',
    ),
    "thinking": (asked(thinking={"type": "enabled", "budget_tokens": 2000}), '"thinkingBudget":2000'),
    "include_reasoning": (asked(include_reasoning=True), '"showsReasoning":true'),
    "cache_control": (asked(cache_control=MARK), '"cacheControl":{"type":"ephemeral"}'),
    "messages[].cache_control": (asked(HELLO | {"cache_control": MARK}), '"cacheControl":{"type":"ephemeral"}'),
    "messages[].reasoning_content": (answered(reasoning_content="hm"), '"reasoning":[{"text":"hm"}]'),
    "messages[].reasoning_details": (
        answered(reasoning_details=[{"type": "reasoning.text", "text": "hm", "signature": "s"}]),
        '"reasoning":[{"text":"hm","signature":"s"}]',
    ),
    "messages[].function_call": (answered(function_call={"name": "f", "arguments": "{}"}), '"toolCalls":[{'),
    "messages[].refusal": (answered(refusal="no"), '"text":"no"'),
    "messages[].content[].file": (
        said({"type": "file", "file": {"file_data": "JVBERi0xLjQ=", "filename": "a.pdf"}}),
        '"url":"data:application/pdf;base64,JVBERi0xLjQ="',
    ),
    "messages[].content[] (of another API)": (
        said({"type": "tool_result", "tool_use_id": "t", "content": "r"}),
        '{"role":"tool","content":"r","toolCallId":"t"}',
    ),
    "messages[].tool_calls[].extra_content": (
        answered(tool_calls=[CALL | {"extra_content": {"google": {"thought_signature": "s"}}}]),
        '"extraContent":{"google":{"thought_signature":"s"}}',
    ),
}
DROPPED: dict[str, tuple[bytes, str]] = {
    "presence_penalty": (asked(presence_penalty=0.5), "presence_penalty"),
    "frequency_penalty": (asked(frequency_penalty=-1), "frequency_penalty"),
    "logit_bias": (asked(logit_bias={"1": 2}), "logit_bias"),
    "top_logprobs": (asked(top_logprobs=2), "top_logprobs"),
    "store": (asked(store=True), "store"),
    "metadata": (asked(metadata={"a": "b"}), "metadata"),
    "service_tier": (asked(service_tier="flex"), "service_tier"),
    "verbosity": (asked(verbosity="low"), "verbosity"),
    "prediction": (asked(prediction={"type": "content", "content": "x"}), "prediction"),
    "web_search_options": (asked(web_search_options={}), "web_search_options"),
    "prompt_cache_key": (asked(prompt_cache_key="k"), "prompt_cache_key"),
    "prompt_cache_options": (asked(prompt_cache_options={"mode": "x"}), "prompt_cache_options"),
    "prompt_cache_retention": (asked(prompt_cache_retention="24h"), "prompt_cache_retention"),
    "tool_choice": (asked(tool_choice="auto", tools=[]), "tool_choice"),
    "parallel_tool_calls": (asked(parallel_tool_calls=False), "parallel_tool_calls"),
    "tools[].type": (asked(tools=[FUNCTION, {"type": "web_search"}]), "web_search"),
    "stream_options.include_obfuscation": (asked(stream_options={"include_obfuscation": True}), "include_obfuscation"),
    "messages[].annotations": (answered(annotations=[{"type": "url_citation"}]), "annotations"),
    "messages[].content[].prompt_cache_breakpoint": (
        said({"type": "text", "text": "x", "prompt_cache_breakpoint": {}}),
        "prompt_cache_breakpoint",
    ),
}
REFUSED: dict[str, bytes] = {
    "logprobs": asked(logprobs=True),
    "modalities": asked(modalities=["text", "audio"]),
    "audio": asked(audio={"voice": "x"}),
    "moderation": asked(moderation={"model": "x"}),
}


def of(rules: tuple[FieldRule, ...], fate: str) -> Any:
    return pytest.mark.parametrize("rule", [rule for rule in rules if rule.fate == fate], ids=lambda rule: rule.field)


@of(CHAT_CLIENT_RULES, "carried")
def test_a_carried_field_is_in_the_canonical_request(rule: FieldRule) -> None:
    body, expected = CARRIED[rule.field]
    parsed = parse_chat_request(body)
    assert expected in msgspec.json.encode(parsed.request).decode()
    assert parsed.dropped == ()


@of(CHAT_CLIENT_RULES, "dropped")
def test_a_dropped_field_is_told(rule: FieldRule) -> None:
    body, name = DROPPED[rule.field]
    assert parse_chat_request(body).dropped == (name,)


@of(CHAT_CLIENT_RULES, "refused")
def test_a_refused_field_says_the_way_out(rule: FieldRule) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(REFUSED[rule.field])
    assert refused.value.field == rule.field
    assert rule.how in refused.value.message


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (asked(top_k=3, min_p=0.1, repetition_penalty=1.1), ("top_k", "min_p", "repetition_penalty")),
        (asked(HELLO | {"id": "m1", "timestamp": 3}), ("id", "timestamp")),
        (asked(top_k=None, tools=None, seed=None), ()),
        (asked(reasoning_effort="default"), ("reasoning_effort",)),
        (asked(stop=["", "END"]), ("stop",)),
        (said({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "original"}}), ("detail",)),
        (asked(tools=[FUNCTION | {"eager": True}]), ("eager",)),
    ],
)
def test_what_is_unknown_and_optional_is_dropped_and_told(body: bytes, names: tuple[str, ...]) -> None:
    assert parse_chat_request(body).dropped == names


# --- towards a provider ---

PDF = "data:application/pdf;base64,JVBERi0xLjQ="
TOOL = Tool(function=FunctionTool(name="f", parameters={"type": "object", "properties": {}}))


def adapted(model: str, *messages: Any, **fields: Any) -> tuple[AdaptedRequest, dict[str, Any]]:
    request = ChatRequest(model="m", messages=list(messages) or [UserMessage(content="hi")], **fields)
    found = adapt_chat_request(request, model)
    assert isinstance(found.request, ChatRequest)
    return found, render_chat_request(found.request, model)


def result(content: Any, call_id: str = "c1", **fields: Any) -> tuple[Any, ...]:
    call = ToolCall(id=call_id, function=FunctionCall(name="f", arguments="{}"))
    return (
        UserMessage(content="hi"),
        AssistantMessage(tool_calls=[call], reasoning=fields.pop("reasoning", None)),
        ToolMessage(content=content, tool_call_id=call_id, **fields),
    )


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def schema_format(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat(type="json_schema", json_schema=JsonSchema(name="a b", schema=schema, strict=True))


OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": []}
STRICT = Tool(function=FunctionTool(name="f", parameters=OPEN, strict=True))
TO_PROVIDER: dict[str, tuple[tuple[str, Any, Any], Any]] = {
    "max_tokens": (("gpt-5", (), {"max_tokens": 999_999}), ("max_completion_tokens", 128_000)),
    "user": (("gpt-4o", (), {"user": "a" * 150}), ("user", 64)),
    "thinking_budget": (("gpt-5", (), {"thinking_budget": 31_999}), ("reasoning_effort", "high")),
    "tools[].function.parameters": (
        ("gpt-4o", (), {"tools": [Tool(function=FunctionTool(name="f", parameters={"type": "object"}))]}),
        (
            "tools",
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        ),
    ),
    "tools[].function.strict": (
        ("gpt-4o", (), {"tools": [STRICT]}),
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": OPEN}}]),
    ),
    "response_format.json_schema": (
        ("gpt-4-turbo", (), {"response_format": schema_format(closed(a={"type": "string"}))}),
        ("response_format", {"type": "json_object"}),
    ),
}


@pytest.mark.parametrize("field", TO_PROVIDER)
def test_a_field_reaches_the_provider_by_its_own_means(field: str) -> None:
    (model, messages, fields), (name, expected) = TO_PROVIDER[field]
    found, wire = adapted(model, *messages, **fields)
    assert found.dropped == ()
    assert (len(wire[name]) if isinstance(expected, int) and isinstance(wire[name], str) else wire[name]) == expected


def test_a_tools_name_of_more_than_64_characters_is_another_one() -> None:
    long = Tool(function=FunctionTool(name="n" * 70))
    request, names = with_tool_names(ChatRequest(messages=[UserMessage(content="x")], tools=[long]), 64)
    assert request.tools is not None
    assert len(request.tools[0].function.name) == 64
    assert list(names.values()) == ["n" * 70]


def test_a_long_id_is_its_digest_at_both_ends() -> None:
    _, wire = adapted("gpt-4o", *result("r", "functions.f:" + "0" * 60))
    (call,) = wire["messages"][1]["tool_calls"]
    assert wire["messages"][2]["tool_call_id"] == call["id"]
    assert len(call["id"]) <= 40


def test_what_a_result_shows_follows_in_a_message_of_the_user() -> None:
    image = ImagePart(image_url=ImageUrl(url="data:image/png;base64,AAAA"))
    pdf = FilePart(file=File(url=PDF, filename="a.pdf"))
    _, wire = adapted("gpt-4o", *result([TextPart(text="seen"), image, pdf]), UserMessage(content="go on"))
    roles = [message["role"] for message in wire["messages"]]
    assert roles == ["user", "assistant", "tool", "user", "user"]
    assert {part["type"] for part in wire["messages"][2]["content"]} == {"text"}
    shown = wire["messages"][3]["content"]
    assert shown[1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert shown[3] == {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}


def test_a_failed_tool_says_so() -> None:
    _, wire = adapted("gpt-4o", *result("disk full", is_error=True))
    assert wire["messages"][2]["content"] == "Error: the tool call failed.\ndisk full"


def test_unsigned_thinking_goes_back_to_a_model_that_gave_it_while_its_tools_run() -> None:
    thought = [ReasoningBlock(text="hm")]
    _, wire = adapted("deepseek-reasoner", *result("r", reasoning=thought))
    assert wire["messages"][1]["reasoning_content"] == "hm"
    for model, messages in (
        ("gpt-5", result("r", reasoning=thought)),
        ("deepseek-reasoner", (*result("r", reasoning=thought), UserMessage(content="next"))),
        ("deepseek-reasoner", result("r", reasoning=[ReasoningBlock(text="hm", signature="s")])),
    ):
        assert "reasoning_content" not in adapted(model, *messages)[1]["messages"][1]


def test_geminis_signature_goes_back_to_it_and_to_no_model_of_openais() -> None:
    extra = {"google": {"thought_signature": "s"}}
    call = ToolCall(id="c1", function=FunctionCall(name="f", arguments=""), extra_content=extra)
    turn = (UserMessage(content="hi"), AssistantMessage(tool_calls=[call]), ToolMessage(content="r", tool_call_id="c1"))
    (sent,) = adapted("gemini-3-pro", *turn)[1]["messages"][1]["tool_calls"]
    assert (sent["extra_content"], sent["function"]["arguments"]) == (extra, "{}")
    assert "extra_content" not in adapted("gpt-5", *turn)[1]["messages"][1]["tool_calls"][0]


def test_a_developer_message_is_a_system_message_for_models_that_know_no_other() -> None:
    for model, role in (("gpt-4o", "system"), ("some-llama", "system"), ("gpt-5", "developer")):
        assert adapted(model, DeveloperMessage(content="x"))[1]["messages"][0]["role"] == role


def test_a_text_file_is_sent_as_text() -> None:
    part = FilePart(file=File(url="data:text/plain;base64,aGVsbG8=", filename="a.txt"))
    assert adapted("gpt-4o", UserMessage(content=[part]))[1]["messages"][0]["content"] == [
        {"type": "text", "text": "a.txt:\nhello"}
    ]


DROPPED_THERE: dict[str, tuple[str, Any, Any]] = {
    "reasoning_effort": ("gpt-4o", (), {"reasoning_effort": "high"}),
    "thinking_budget": ("gpt-4o", (), {"thinking_budget": 2_000}),
    "temperature": ("gpt-5", (), {"temperature": 0.7}),
    "top_p": ("gpt-5", (), {"top_p": 0.5}),
    "stop": ("gpt-5", (), {"stop": ["a"]}),
    "tool_choice": ("gpt-4o", (), {"tool_choice": "auto"}),
    "parallel_tool_calls": ("gpt-4o", (), {"parallel_tool_calls": True}),
    "messages[].name": ("gpt-4o", (UserMessage(content="x", name="a b"),), {}),
    "cache_control": ("gpt-4o", (UserMessage(content=[TextPart(text="x", cache_control=CacheControl())]),), {}),
}


@of(CHAT_PROVIDER_RULES, "dropped")
def test_what_a_model_does_not_take_is_dropped_and_told(rule: FieldRule) -> None:
    model, messages, fields = DROPPED_THERE[rule.field]
    found, wire = adapted(model, *messages, **fields)
    name = rule.field.rpartition(".")[2]
    assert found.dropped == (name,)
    assert name not in wire


@pytest.mark.parametrize(
    ("field", "model", "message", "fields"),
    [
        ("tools", "gpt-4o", UserMessage(content="x"), {"tools": [TOOL] * 129}),
        (
            "messages[].content[].image_url",
            "gpt-3.5-turbo",
            UserMessage(content=[ImagePart(image_url=ImageUrl(url="https://x/y.png"))]),
            {},
        ),
        ("messages[].content[].file", "gpt-4o", UserMessage(content=[FilePart(file=File(url="https://x/y.pdf"))]), {}),
    ],
)
def test_what_a_model_cannot_be_shown_is_refused(field: str, model: str, message: Any, fields: Any) -> None:
    assert field in {rule.field for rule in CHAT_PROVIDER_RULES if rule.fate == "refused"}
    with pytest.raises(InvalidRequest, match=r"send|ask"):
        adapted(model, message, **fields)


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-5", "max", "high"),
        ("gpt-5", "none", "minimal"),
        ("o3", "minimal", "low"),
        ("gpt-5", "medium", "medium"),
        ("some-llama", "none", None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_takes(model: str, effort: Any, sent: str | None) -> None:
    assert adapted(model, reasoning_effort=effort)[1].get("reasoning_effort") == sent


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (closed(a={"type": "string"}), True),
        (closed(a={"type": "string"}) | {"required": []}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
        (closed(a={"type": "object", "properties": {"b": {"type": "string"}}}), False),
        (closed(a={"type": "array", "items": closed(b={"type": ["string", "null"]})}), True),
        (closed(a={"type": "string", "maxLength": 3}), False),
        (closed(a={"anyOf": [{"type": "string"}, {"type": "null"}]}), True),
        (closed(a={"type": "string", "format": "date"}), True),
        (closed(a={"type": "string", "format": "uri"}), False),
        (closed(a={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "string"}}}, True),
        (closed(a={"$ref": "#/$defs/b", "description": "d"}) | {"$defs": {"b": {"type": "string"}}}, False),
    ],
)
def test_an_answers_schema_is_strict_only_where_it_may_be(schema: dict[str, Any], strict: bool) -> None:
    wire = adapted("gpt-4o", response_format=schema_format(schema))[1]["response_format"]["json_schema"]
    assert (wire["strict"], wire["name"], wire["schema"]) == (strict, "a_b", schema)


def test_results_stand_behind_their_calls_and_nothing_is_missing() -> None:
    first, second = (ToolCall(id=one, function=FunctionCall(name="f", arguments="{}")) for one in ("c1", "c2"))
    _, wire = adapted(
        "gpt-4o",
        AssistantMessage(content=""),
        UserMessage(content="hi"),
        AssistantMessage(tool_calls=[first, second]),
        AssistantMessage(content="both, at once"),
        UserMessage(content="wait"),
        ToolMessage(content="r1", tool_call_id="c1"),
        ToolMessage(content="r9", tool_call_id="c9"),
    )
    shown = [(message["role"], message.get("tool_call_id")) for message in wire["messages"]]
    assert shown == [
        ("user", None),
        ("assistant", None),
        ("tool", "c1"),
        ("tool", "c2"),
        ("user", None),
        ("user", None),
    ]
    assert wire["messages"][1]["content"] == "both, at once"
    assert "interrupted" in wire["messages"][3]["content"]
    assert wire["messages"][5]["content"] == "Result of the tool call c9:\nr9"


def test_an_array_of_nothing_is_one_of_anything() -> None:
    text = {"type": "array", "items": {"type": "string"}}
    many = {"type": ["array", "null"], "description": "d"}
    schema = {"type": "object", "properties": {"a": {"anyOf": [many, text]}, "b": {"enum": [{"type": "array"}]}}}
    tool = Tool(function=FunctionTool(name="f", parameters=schema))
    wire = adapted("gpt-4o", tools=[tool], response_format=schema_format(schema))[1]
    properties = {"a": {"anyOf": [many | {"items": {}}, text]}, "b": schema["properties"]["b"]}  # type: ignore[index]
    assert wire["tools"][0]["function"]["parameters"]["properties"] == properties
    assert wire["response_format"]["json_schema"]["schema"]["properties"] == properties


def test_the_order_of_a_schemas_members_is_kept() -> None:
    schema = closed(reasoning={"type": "string"}, answer={"type": "string"})
    wire = adapted("gpt-4o", response_format=schema_format(schema))[1]
    assert list(wire["response_format"]["json_schema"]["schema"]["properties"]) == ["reasoning", "answer"]


def test_at_most_four_stop_sequences_are_sent_to_openais_models() -> None:
    found, wire = adapted("gpt-4o", stop=["a", "b", "c", "d", "e"])
    assert (wire["stop"], found.dropped) == (["a", "b", "c", "d"], ("stop",))


def test_many_pictures_in_a_result_take_no_more_time_than_their_number() -> None:
    pictures = [ImagePart(image_url=ImageUrl(url="https://x/y.png"))] * 20_000
    call = AssistantMessage(tool_calls=[ToolCall(id="c", function=FunctionCall(name="f", arguments="{}"))])
    messages = [UserMessage(content="hi"), call, ToolMessage(content=list(pictures), tool_call_id="c")]
    adapted_ = adapt_chat_request(ChatRequest(messages=messages), "gpt-4o").request
    assert isinstance(adapted_, ChatRequest)
    shown = adapted_.messages[-1].content
    assert isinstance(shown, list)
    assert shown[-2] == TextPart(text="Attachment 20000, of the result of f:")
