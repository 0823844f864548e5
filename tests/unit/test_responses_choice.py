"""Chat requests go to the one of OpenAI's two APIs that takes them without a loss, and as that API wants them."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import (
    AssistantMessage,
    CacheControl,
    ChatRequest,
    File,
    FilePart,
    FunctionCall,
    FunctionTool,
    ImagePart,
    ImageUrl,
    JsonSchema,
    NamedFunction,
    NamedToolChoice,
    ReasoningBlock,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from domain.dialects.openai.codec import OpenAiChat, OpenAiResponses
from domain.dialects.openai.responses.rules import RESPONSES_PROVIDER_RULES
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.dialects.request_body import CanonicalRequest
from domain.dialects.translation import Passthrough, Translated
from domain.errors import InvalidRequest
from domain.routing import ECHO, OPENAI, Target

TOOL = Tool(function=FunctionTool(name="f"))
SEALED = ReasoningBlock(text="hm", data="enc", id="rs_1")
LINK = FilePart(file=File(url="https://x/a.pdf"))
PNG = ImagePart(image_url=ImageUrl(url="data:image/png;base64,iVBORw0KGgo="))


def asked(model: str = "gpt-5-pro", *messages: Any, **fields: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=list(messages) or [UserMessage(content="hi")], **fields)


def target(model: str, base_url: str | None = None, kind: str = OPENAI) -> Target:
    return Target(model=model, provider=kind, kind=kind, upstream_model=model, base_url=base_url)


def adapted(request: ChatRequest, base_url: str | None = None) -> tuple[CanonicalRequest, tuple[str, ...]]:
    body, dropped = DIALECTS.adapt(CanonicalRequest(request), target(request.model, base_url), "chat")
    assert isinstance(body, CanonicalRequest)
    return body, dropped


def sent(request: ChatRequest) -> dict[str, Any]:
    """Return what the Responses API is sent."""
    codec = OpenAiResponses()
    given = codec.adapt_request(request, request.model).request
    wire: dict[str, Any] = msgspec.json.decode(codec.render_request(given, request.model, is_stream=False))
    return wire


OURS, THEIRS = None, "https://seller.example/v1"


@pytest.mark.parametrize(
    ("model", "fields", "base_url", "operation"),
    [
        ("gpt-5-pro", {}, OURS, "responses"),
        ("gpt-5-pro-2025-10-06", {}, OURS, "responses"),
        ("gpt-5.3-codex", {"tools": [TOOL]}, OURS, "responses"),
        ("gpt-6-astra", {}, OURS, None),
        ("gpt-6-astra", {"reasoning_effort": "high"}, OURS, None),
        ("gpt-6-astra", {"tools": [TOOL]}, OURS, "responses"),
        ("gpt-6-astra", {"tools": [TOOL], "reasoning_effort": "none"}, OURS, "responses"),
        ("gpt-6-sol", {"tools": [TOOL]}, OURS, "responses"),
        ("gpt-6-sol", {"tools": [TOOL], "reasoning_effort": "none"}, OURS, None),
        ("gpt-6-sol", {"reasoning_effort": "high"}, OURS, None),
        ("gpt-6-sol", {"reasoning_effort": "max"}, OURS, "responses"),
        ("gpt-5.4", {"tools": [TOOL]}, OURS, None),
        ("gpt-5.4", {"tools": [TOOL], "reasoning_effort": "low"}, OURS, "responses"),
        ("gpt-5.4", {"tools": [TOOL], "thinking_budget": 9_000}, OURS, "responses"),
        ("gpt-5.4", {"reasoning_effort": "max"}, OURS, None),
        ("gpt-5", {"tools": [TOOL], "reasoning_effort": "high"}, OURS, None),
        ("gpt-4o", {"tools": [TOOL]}, OURS, None),
        ("gpt-5-pro", {}, THEIRS, "responses"),
        ("gpt-6-astra", {"tools": [TOOL]}, THEIRS, "responses"),
        ("gpt-6-sol", {"tools": [TOOL]}, THEIRS, None),
        ("openai/gpt-5-pro", {}, THEIRS, None),
        ("some-llama", {"tools": [TOOL], "reasoning_effort": "max"}, THEIRS, None),
    ],
)
def test_a_request_goes_to_the_api_that_takes_it_without_a_loss(
    model: str, fields: dict[str, Any], base_url: str | None, operation: str | None
) -> None:
    body, _ = adapted(asked(model, **fields), base_url)
    assert body.asked_operation == operation
    wire = {"tools": [{"type": "function"}]} if "tools" in fields else {}
    if "thinking_budget" not in fields:
        wire |= {"reasoning_effort": fields.get("reasoning_effort")}
        request = read_passthrough(msgspec.json.encode({"model": model} | wire), OpenAiChat())
        assert DIALECTS.passes_through(request, target(model, base_url)) == (operation is None)


def test_a_file_at_an_address_goes_where_it_is_taken() -> None:
    linked = UserMessage(content=[LINK])
    assert adapted(asked("gpt-4o", linked))[0].asked_operation == "responses"
    with pytest.raises(InvalidRequest, match="file at an address"):
        adapted(asked("gpt-4o", linked, stop="END"))
    with pytest.raises(InvalidRequest, match="file at an address"):
        adapted(asked("gpt-4o", linked), THEIRS)


def test_a_provider_without_the_api_gets_what_its_clients_send() -> None:
    request = read_passthrough(b'{"model":"gpt-5-pro"}', OpenAiChat())
    assert DIALECTS.passes_through(request, target("gpt-5-pro", THEIRS), has_fuller=False)
    assert DIALECTS.passes_through(request, target("echo", kind=ECHO))
    assert isinstance(DIALECTS.choose(OpenAiChat(), OPENAI, fits=False), Translated)
    assert isinstance(DIALECTS.choose(OpenAiChat(), OPENAI), Passthrough)


def test_a_client_of_the_fuller_api_is_not_sent_back_to_it() -> None:
    body = CanonicalRequest(asked())
    with pytest.raises(InvalidRequest, match="which this provider does not have"):
        DIALECTS.adapt(body, target("gpt-5-pro", THEIRS), "responses")
    with pytest.raises(InvalidRequest, match="which this provider does not have"):
        DIALECTS.adapt(CanonicalRequest(asked("gpt-6-astra", tools=[TOOL])), target("gpt-6-astra", THEIRS), "responses")


def test_the_job_is_read_by_the_api_that_was_asked() -> None:
    chosen = DIALECTS.chosen("anthropic", "chat", OPENAI, is_passthrough=False, asked="responses")
    assert chosen.provider is DIALECTS.codec("openai", "responses")
    usual = DIALECTS.chosen("anthropic", "chat", OPENAI, is_passthrough=False)
    assert usual.provider is DIALECTS.codec("openai", "chat")


def test_nothing_is_kept_at_the_provider() -> None:
    wire = sent(asked())
    assert (wire["store"], wire["include"], "reasoning" in wire) == (False, ["reasoning.encrypted_content"], False)
    assert "include" not in sent(asked("gpt-4o", UserMessage(content=[LINK])))


CALL = ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))
TURN = (
    UserMessage(content="look"),
    AssistantMessage(
        content="well",
        tool_calls=[CALL],
        reasoning=[SEALED, ReasoningBlock(text="claude's", signature="s"), ReasoningBlock(data="redacted")],
    ),
    ToolMessage(tool_call_id="call_1", content=[TextPart(text="seen"), PNG]),
)


def test_a_turn_goes_back_with_its_own_thinking_alone() -> None:
    assert sent(asked("gpt-5-pro", *TURN))["input"] == [
        {"role": "user", "content": "look"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "enc",
        },
        {"role": "assistant", "content": "well"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [
                {"type": "input_text", "text": "seen"},
                {"type": "input_image", "image_url": PNG.image_url.url, "detail": "auto"},
            ],
        },
    ]


def test_thinking_between_calls_goes_back_to_its_place() -> None:
    later, last = (ReasoningBlock(data="enc", id=f"rs_{n}", after_calls=n - 1) for n in (2, 3))
    other = ToolCall(id="call_2", function=FunctionCall(name="f", arguments="{}"))
    said = AssistantMessage(tool_calls=[CALL, other], reasoning=[SEALED, later, last])
    results = [ToolMessage(tool_call_id=call_id, content="x") for call_id in ("call_1", "call_2")]
    wire = sent(asked("gpt-5-pro", UserMessage(content="a"), said, *results))
    named = [item.get("id") or item.get("call_id") for item in wire["input"][1:6]]
    assert named == ["rs_1", "call_1", "rs_2", "rs_3", "call_2"], "each is followed by what is the model's"


def test_thinking_that_nothing_follows_is_left_out() -> None:
    cut = AssistantMessage(content=None, reasoning=[SEALED])
    wire = sent(asked("gpt-5-pro", UserMessage(content="a"), cut, UserMessage(content="b")))
    assert [item["role"] for item in wire["input"]] == ["user", "user"]


CARRIED: dict[str, tuple[ChatRequest, str, Any]] = {
    "max_tokens": (asked(max_tokens=1), "max_output_tokens", 16),
    "tools": (
        asked("gpt-6-astra", tools=[TOOL], tool_choice=NamedToolChoice(function=NamedFunction(name="f"))),
        "tool_choice",
        {"type": "function", "name": "f"},
    ),
    "reasoning_effort": (asked("gpt-6-sol", reasoning_effort="max"), "reasoning", {"effort": "max"}),
    "thinking_budget": (asked("gpt-6-sol", thinking_budget=9_000), "reasoning", {"effort": "medium"}),
    "shows_reasoning": (asked(shows_reasoning=True), "reasoning", {"summary": "auto"}),
    "messages[].reasoning": (asked("gpt-5-pro", *TURN), "input", {"encrypted_content": "enc"}),
    "messages[tool].content": (asked("gpt-5-pro", *TURN), "input", {"type": "function_call_output"}),
    "messages[].content[].file": (
        asked("gpt-5-pro", UserMessage(content=[LINK])),
        "input",
        {"content": [{"type": "input_file", "file_url": "https://x/a.pdf"}]},
    ),
    "response_format.json_schema": (
        asked(response_format=ResponseFormat(type="json_schema", json_schema=JsonSchema(name="a b", schema={}))),
        "text",
        {"format": {"type": "json_schema", "name": "a_b", "schema": {}}},
    ),
    "n": (asked(n=3), "n", None),
    "user": (asked(user="ann"), "user", "ann"),
}
DROPPED: dict[str, ChatRequest] = {
    "stop": asked(stop="END"),
    "seed": asked(seed=7),
    "messages[].name": asked("gpt-5-pro", UserMessage(content="hi", name="ann")),
    "messages[].reasoning (another model's)": asked(
        "gpt-5-pro", UserMessage(content="a"), AssistantMessage(content="b", reasoning=[ReasoningBlock(text="hm")])
    ),
    "temperature": asked(temperature=0.5),
    "top_p": asked(top_p=0.5),
    "cache_control": asked("gpt-5-pro", UserMessage(content=[TextPart(text="x", cache_control=CacheControl())])),
}


def test_every_rule_has_a_case() -> None:
    assert [rule.field for rule in RESPONSES_PROVIDER_RULES if rule.fate == "carried"] == list(CARRIED)
    assert [rule.field for rule in RESPONSES_PROVIDER_RULES if rule.fate == "dropped"] == list(DROPPED)


@pytest.mark.parametrize("field", CARRIED)
def test_what_is_carried_arrives(field: str) -> None:
    request, name, expected = CARRIED[field]
    value = sent(request).get(name)
    if name == "input":
        assert any(expected.items() <= item.items() for item in value or ())
    else:
        assert value == expected


@pytest.mark.parametrize("field", DROPPED)
def test_what_is_dropped_is_told(field: str) -> None:
    found = OpenAiResponses().adapt_request(DROPPED[field], "gpt-5-pro")
    assert found.dropped == (field.partition(" ")[0].rpartition(".")[2],)
    assert sent(DROPPED[field]).keys() == sent(asked()).keys()


def test_several_answers_are_several_calls() -> None:
    assert adapted(asked(n=3))[0].calls == 3


def test_a_tool_is_strict_only_if_it_says_so() -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    strict = Tool(function=FunctionTool(name="g", parameters=schema, strict=True))
    assert [tool["strict"] for tool in sent(asked(tools=[TOOL, strict]))["tools"]] == [False, True]


def test_the_bound_covers_what_is_sent() -> None:
    body, _ = adapted(asked("gpt-5-pro", *TURN, max_tokens=1))
    bound = body.token_bound("gpt-5-pro", None, is_builtin=True)
    thinking, _ = adapted(asked("gpt-5-pro", TURN[0], msgspec.structs.replace(TURN[1], reasoning=None), TURN[2]))
    without = thinking.token_bound("gpt-5-pro", None, is_builtin=True)
    assert bound.input_tokens >= without.input_tokens + len("hm" + "enc")
    assert bound.output_tokens == 16


def test_chat_completions_of_openai_are_sent_no_thinking() -> None:
    body = b'{"model" :"gpt-4o","messages":[{"role":"assistant","content":"a","reasoning_content":"hm"}], "seed":1}'
    request = read_passthrough(body, OpenAiChat())
    passed = Passthrough(OpenAiChat())
    assert passed.parse_request(request).body.payload("gpt-4o") == body
    stripped = passed.parse_request(request, is_builtin=True).body.payload("gpt-4o")
    assert stripped == b'{"model" :"gpt-4o","messages":[{"role":"assistant","content":"a"}], "seed":1}'
    quoted = b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\"reasoning_content\\""}]}'
    assert OpenAiChat().for_vendor(quoted) is quoted


def test_a_refused_wish_is_left_out_and_nothing_else() -> None:
    codec = OpenAiResponses()
    request = asked("gpt-5-pro", *TURN, shows_reasoning=True)
    content = codec.render_request(codec.adapt_request(request, "gpt-5-pro").request, "gpt-5-pro", is_stream=True)
    foreign = codec.without_refused(content, b"The encrypted content for item rs_1 could not be verified.")
    assert foreign is not None
    wire = msgspec.json.decode(foreign)
    assert [item.get("type") for item in wire["input"]] == [None, None, "function_call", "function_call_output"]
    unable = codec.without_refused(foreign, b"Encrypted content is not supported with this model.")
    assert unable is not None
    assert msgspec.json.decode(unable)["include"] == []
    said = b"Your organization must be verified to generate reasoning summaries."
    unverified = codec.without_refused(content, said)
    assert unverified is not None
    assert msgspec.json.decode(unverified)["reasoning"] == {}
    assert codec.without_refused(unverified, said) is None
    assert codec.without_refused(content, b"Invalid schema for function 'f'.") is None
    assert OpenAiChat().without_refused(content, said) is None
