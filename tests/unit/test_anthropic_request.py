"""Requests of Anthropic's clients are carried to other vendors: what that costs is dropped and told, or refused."""

from typing import Any, get_type_hints

import httpx2
import msgspec
import pytest
from anthropic.types import Message
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaMessageCreateParams
from anthropic.types.message_create_params import MessageCreateParamsBase
from anthropic.types.tool_param import ToolParam
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    FunctionCall,
    ToolCall,
)
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.parse_request import parse_chat_request as parse_translated
from domain.dialects.anthropic.render_request import render_chat_request as render_anthropic
from domain.dialects.anthropic.response import render_chat_response
from domain.dialects.anthropic.types import CustomTool, MessagesBody
from domain.dialects.openai.render import render_chat_request as render_openai
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage, answer_usage
from tests.support.canonical import anthropic_client, is_valid, objects, requests_in_anthropics_words

USAGE = TokenUsage(
    input=10, cache_read=20, cache_write=3, cache_write_1h=4, input_audio=2, output=30, output_audio=5, reasoning=7
)
HELLO = {"role": "user", "content": "hello"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
TOOL_USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}


def parse_chat_request(content: bytes) -> ChatRequest:
    found = parse_translated(content).request
    assert isinstance(found, ChatRequest)
    return found


def call(arguments: str) -> ToolCall:
    return ToolCall(id="t1", function=FunctionCall(name="f", arguments=arguments))


def answer(message: AnswerMessage, finish_reason: Any = "stop") -> ChatResponse:
    return ChatResponse(
        id="chatcmpl-1",
        model="gpt-4o",
        provider="openai",
        choices=[Choice(index=0, message=message, finish_reason=finish_reason)],
        usage=answer_usage(USAGE),
    )


def body(*messages: dict[str, Any], **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "gpt-4o", "max_tokens": 9, "messages": list(messages) or [HELLO]} | fields)


def canonical(*messages: dict[str, Any]) -> list[Any]:
    return msgspec.convert({"messages": list(messages)}, ChatRequest).messages


def refusal(content: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(content)
    return refused.value


@given(requests_in_anthropics_words)
def test_anthropic_request_round_trips(request: ChatRequest) -> None:
    wire = msgspec.json.encode(render_anthropic(request, "claude-3-haiku-20240307"))
    read = parse_chat_request(wire)
    assert read == request
    assert is_valid(read)


def test_sdk_request_is_parsed() -> None:
    seen: list[bytes] = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return httpx2.Response(200, content=render_chat_response(answer(AnswerMessage(content="hi")), USAGE))

    anthropic_client(serve).messages.create(
        model="gpt-4o",
        max_tokens=5,
        system=[{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"} | CACHED],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": PNG},
                    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "well"}, TOOL_USE]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "1"}]} | CACHED,
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        tools=[TOOL | {"description": "d", "type": "custom"} | CACHED],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        extra_body={
            "temperature": 0.5,
            "top_p": 0.9,
        },  # newer models refuse these, and the SDK has no arguments for them
        metadata={"user_id": "u"},
        thinking={"type": "disabled"},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        service_tier="auto",
    )
    tool = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    canonical_body = {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "imageUrl": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "imageUrl": {"url": "https://x/y.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": "well",
                "toolCalls": [{"id": "t1", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "content": "1", "toolCallId": "t1"},
            {"role": "user", "content": "go on"},
        ],
        "maxTokens": 5,
        "tools": [{"function": tool}],
        "toolChoice": {"function": {"name": "f"}},
        "parallelToolCalls": False,
        "stop": ["END"],
        "temperature": 0.5,
        "topP": 0.9,
        "user": "u",
        "responseFormat": {
            "type": "json_schema",
            "jsonSchema": {"name": "answer", "schema": {"type": "object"}, "strict": False},
        },
        "reasoningEffort": "max",
    }
    assert parse_chat_request(seen[0]) == msgspec.convert(canonical_body, ChatRequest)


def test_parallel_tool_results_keep_their_order() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "t2"},
        {"type": "tool_result", "tool_use_id": "t3", "content": "no such city", "is_error": True},
        {"type": "tool_result", "tool_use_id": "t4", "content": [{"type": "text", "text": "a"}] * 2, "is_error": True},
    ]
    read = parse_chat_request(body(HELLO, {"role": "user", "content": results}))
    assert read.messages[1:] == canonical(
        {"role": "tool", "toolCallId": "t1", "content": "one"},
        {"role": "tool", "toolCallId": "t2", "content": ""},
        {"role": "tool", "toolCallId": "t3", "content": "no such city", "isError": True},
        {"role": "tool", "toolCallId": "t4", "content": [{"type": "text", "text": "a"}] * 2, "isError": True},
    )


def test_results_come_before_what_else_their_turn_says() -> None:
    said, result = {"type": "text", "text": "see"}, {"type": "tool_result", "tool_use_id": "t1", "content": "r"}
    turn = {"role": "assistant", "content": [TOOL_USE]}
    read = parse_chat_request(body(HELLO, turn, {"role": "user", "content": [said, result]}))
    assert [message.content for message in read.messages] == ["hello", None, "r", "see"]


def test_system_messages_keep_their_place() -> None:
    read = parse_chat_request(body(HELLO, {"role": "system", "content": "now be brief"}, HELLO, system="be kind"))
    assert [message.content for message in read.messages] == ["be kind", "hello", "now be brief", "hello"]


def test_a_turn_of_nothing_but_thinking_is_left_out() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    read = parse_chat_request(body(HELLO, {"role": "assistant", "content": [thinking]}, HELLO))
    assert read.messages == canonical(HELLO, HELLO)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ("auto", None)),
        ({"type": "any"}, ("required", None)),
        ({"type": "any", "disable_parallel_tool_use": True}, ("required", False)),
        ({"type": "auto", "disable_parallel_tool_use": False}, ("auto", True)),
        ({"type": "none"}, ("none", None)),
    ],
)
def test_tool_choices_have_words_of_openais(choice: dict[str, Any], expected: object) -> None:
    read = parse_chat_request(body(tools=[TOOL], tool_choice=choice))
    assert (read.tool_choice, read.parallel_tool_calls) == expected


def test_the_betas_name_for_the_format_is_read() -> None:
    settled = {"type": "json_schema", "schema": {"type": "object"}}
    older = parse_chat_request(body(output_format=settled))
    assert older == parse_chat_request(body(output_config={"format": settled}))
    assert older == parse_chat_request(body(output_format=settled, output_config={"format": settled}))
    other = {"type": "json_schema", "schema": {}}
    assert refusal(body(output_format=settled, output_config={"format": other})).field == "output_format"


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "standard_only", "speed": "standard", "inference_geo": "global"},
        {"system": "", "stop_sequences": [], "tools": [], "metadata": {}, "output_config": {}},
        {"system": [], "mcp_servers": [], "context_management": {"edits": []}, "diagnostics": {}, "betas": []},
        dict.fromkeys(MessagesBody.__struct_fields__[3:]),
    ],
)
def test_what_says_nothing_is_not_told(fields: dict[str, Any]) -> None:
    found = parse_translated(body(**fields))
    assert found.request == parse_chat_request(body())
    assert found.dropped == ()


@pytest.mark.parametrize(
    "fields",
    [
        CACHED,
        {"tools": [TOOL | CACHED]},
        {"system": [{"type": "text", "text": "s"} | CACHED]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"} | CACHED]}]},
    ],
)
def test_a_mark_for_the_cache_is_told_wherever_it_stands(fields: dict[str, Any]) -> None:
    assert parse_translated(body(**fields)).dropped == ("cache_control",)


def test_a_tools_settings_that_say_nothing_are_not_told() -> None:
    extras = {
        "allowed_callers": ["direct"],
        "defer_loading": False,
        "input_examples": [],
        "eager_input_streaming": True,
    }
    found = parse_translated(body(tools=[TOOL | extras]))
    assert found.request == parse_chat_request(body(tools=[TOOL]))
    assert found.dropped == ()


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
THREAD = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"top_k": 5}, ("top_k",)),
        ({"service_tier": "priority", "speed": "fast"}, ("service_tier", "speed")),
        ({"container": "c"}, ("container",)),
        ({"context_management": THREAD}, ("context_management",)),
        ({"diagnostics": {"previous_message_id": "m"}}, ("diagnostics",)),
        ({"user_profile_id": "u", "workspace_id": "w"}, ("user_profile_id", "workspace_id")),
        ({"fallbacks": "default"}, ("fallbacks",)),
        ({"tools": [SEARCH, TOOL]}, ("web_search_20250305",)),
        ({"tools": [TOOL | {"what": 1}]}, ("what",)),
        ({"tools": [TOOL | {"defer_loading": True}]}, ("defer_loading",)),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution_20250825"]}]}, ("allowed_callers",)),
        ({"metadata": {"team": "x"}}, ("team",)),
        ({"n": 1, "never_heard_of": {"deep": 1}}, ("n", "never_heard_of")),
        ({"messages": [HELLO | {"name": "n"}]}, ("name",)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "odd": 1}]}]}, ("odd",)),
        ({"stop_sequences": [str(n) for n in range(17)]}, ("stop_sequences",)),
    ],
)
def test_what_changes_nothing_is_dropped_and_told(fields: dict[str, Any], dropped: tuple[str, ...]) -> None:
    assert parse_translated(body(**fields)).dropped == dropped


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inference_geo": "us"}, "inference_geo"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"tools": [SEARCH, TOOL], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice.name"),
        ({"tools": [TOOL, {"name": "g"}]}, "tools[1].input_schema"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"output_config": {"effort": "least"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"system": [{"type": "image", "source": PNG}]}, "system[0].type"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [HELLO] * 10_000, "system": "x"}, "messages"),
    ],
)
def test_what_the_answer_depends_on_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    error = refusal(body(**fields))
    assert error.field == field
    assert f"`{field}`" in error.message


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "container_upload", "file_id": "f"}, "type"),
        ({"type": "hologram"}, "type"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.file_id"),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, "source.file_id"),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}, "source"),
        ({"type": "tool_result"}, "tool_use_id"),
        ({"type": "text"}, "text"),
    ],
)
def test_a_block_that_cannot_be_shown_is_refused_by_name(block: dict[str, Any], field: str) -> None:
    error = refusal(body({"role": "user", "content": [{"type": "text", "text": "see"}, block]}))
    assert error.field == f"messages[0].content[1].{field}"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model":"\xff"}', b"[" * 100_000])
def test_invalid_request_is_refused(content: bytes) -> None:
    assert refusal(content).field is None


def test_every_field_of_the_sdk_is_decided_on() -> None:
    sdk = get_type_hints(MessageCreateParamsBase).keys() | get_type_hints(BetaMessageCreateParams).keys()
    dropped_as_unknown = {"thread", "fallback_credit_token", "billing_policy"}
    assert sdk - dropped_as_unknown <= set(MessagesBody.__struct_fields__)
    assert get_type_hints(ToolParam).keys() == set(CustomTool.__struct_fields__)


def test_an_answer_is_parsed_by_the_sdk_with_equal_content() -> None:
    message = AnswerMessage(content="hi", tool_calls=[call('{"a": [1, null]}')])
    found = Message.model_validate_json(render_chat_response(answer(message, "tool_calls"), USAGE), strict=True)
    assert [block.model_dump(exclude_none=True) for block in found.content] == [
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, None]}},
    ]
    assert (found.id, found.model, found.role, found.type) == ("chatcmpl-1", "gpt-4o", "assistant", "message")
    assert (found.stop_reason, found.stop_sequence) == ("tool_use", None)
    assert found.model_extra == {}


def test_usage_is_parsed_by_the_sdk_in_anthropics_classes() -> None:
    usage = Message.model_validate_json(render_chat_response(answer(AnswerMessage(content="hi")), USAGE)).usage
    assert usage.cache_creation is not None
    assert usage.output_tokens_details is not None
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (12, 20, 7)
    assert usage.cache_creation.ephemeral_5m_input_tokens == 3
    assert usage.cache_creation.ephemeral_1h_input_tokens == 4
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (35, 7)


@pytest.mark.parametrize(
    ("message", "finish_reason", "stop_reason"),
    [
        (AnswerMessage(content="a"), "stop", "end_turn"),
        (AnswerMessage(content="a"), None, "end_turn"),
        (AnswerMessage(content="a"), "length", "max_tokens"),
        (AnswerMessage(content="a"), "content_filter", "refusal"),
        (AnswerMessage(content=None, tool_calls=[call("{}")]), "tool_calls", "tool_use"),
        (AnswerMessage(content=None, tool_calls=[call("{}")]), "stop", "tool_use"),
        (AnswerMessage(content=None, tool_calls=[call("{}")]), "length", "max_tokens"),
    ],
)
def test_finish_reason_translates_to_anthropics(message: AnswerMessage, finish_reason: Any, stop_reason: str) -> None:
    assert (
        Message.model_validate_json(render_chat_response(answer(message, finish_reason), USAGE)).stop_reason
        == stop_reason
    )


@pytest.mark.parametrize("message", [AnswerMessage(content=None), AnswerMessage(content="")])
def test_an_empty_response_has_no_blocks(message: AnswerMessage) -> None:
    assert Message.model_validate_json(render_chat_response(answer(message), USAGE)).content == []


def test_a_response_without_a_choice_is_an_empty_message() -> None:
    nothing = msgspec.structs.replace(answer(AnswerMessage(content="x")), choices=[])
    assert Message.model_validate_json(render_chat_response(nothing, USAGE)).content == []


def arguments_given_back(arguments: str) -> str:
    """Return a call's arguments after a client has sent the response back."""
    written = render_chat_response(
        answer(AnswerMessage(content=None, tool_calls=[call(arguments)]), "tool_calls"), USAGE
    )
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}
    turn = {"role": "assistant", "content": Message.model_validate_json(written).model_dump()["content"]}
    wire = render_openai(parse_chat_request(body(HELLO, turn, result)), "gpt-4o")
    return str(wire["messages"][1]["tool_calls"][0]["function"]["arguments"])


@given(objects)
def test_a_calls_arguments_come_back_as_the_same_object(arguments: dict[str, Any]) -> None:
    assert msgspec.json.decode(arguments_given_back(msgspec.json.encode(arguments).decode())) == arguments


@given(st.text())
def test_non_object_arguments_round_trip(text: str) -> None:
    assert arguments_given_back(f"[{text}") == f"[{text}"


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert arguments_given_back("") == "{}"


def test_anthropics_reader_reads_the_rendered_response() -> None:
    said = answer(AnswerMessage(content="x", tool_calls=[call('{"a":1}')]), "tool_calls")
    found = AnthropicMessages().parse_response(
        render_chat_response(said, USAGE), model=parse_chat_request(body()).model, provider="anthropic"
    )
    assert msgspec.json.decode(found.body, type=ChatResponse).choices == said.choices
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (39, 35)
    assert found.usage.cached_prompt_tokens == 20
