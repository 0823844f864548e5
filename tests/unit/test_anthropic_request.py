"""Requests of Anthropic's SDK are parsed and answered; fields that other vendors do not support are refused by name."""

from typing import Any, get_type_hints

import httpx2
import msgspec
import pytest
from anthropic.types import Message
from anthropic.types.message_create_params import MessageCreateParamsBase
from anthropic.types.tool_param import ToolParam
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import AnswerMessage, ChatRequest, ChatResponse, Choice, FunctionCall, ToolCall
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.request import TOOL_ERROR_MARK, parse_chat_request
from domain.dialects.anthropic.request import render_chat_request as render_anthropic
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
            "jsonSchema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
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
        {"role": "tool", "toolCallId": "t3", "content": TOOL_ERROR_MARK + "no such city"},
        {
            "role": "tool",
            "toolCallId": "t4",
            "content": [{"type": "text", "text": text} for text in (TOOL_ERROR_MARK, "a", "a")],
        },
    )
    wire = render_openai(read, "gpt-4o")["messages"]
    assert [message["role"] for message in wire] == ["user", "tool", "tool", "tool", "tool"]


def test_system_messages_keep_their_place() -> None:
    read = parse_chat_request(body(HELLO, {"role": "system", "content": "now be brief"}, HELLO, system="be kind"))
    assert [message.content for message in read.messages] == ["be kind", "hello", "now be brief", "hello"]


def test_earlier_thinking_is_dropped_for_other_vendors() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    said = {"type": "text", "text": "a", "citations": None}
    read = parse_chat_request(
        body(
            HELLO,
            {"role": "assistant", "content": [thinking, redacted, said, TOOL_USE]},
            {"role": "assistant", "content": [thinking]},
            HELLO,
        )
    )
    assert read.messages == canonical(
        HELLO,
        {
            "role": "assistant",
            "content": "a",
            "toolCalls": [{"id": "t1", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        HELLO,
    )


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
        CACHED,
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"service_tier": "standard_only", "speed": "standard"},
        {"system": "", "stop_sequences": [], "tools": [], "metadata": {}, "output_config": {}},
        {"system": [], "mcp_servers": [], "context_management": {"edits": []}, "diagnostics": {}},
        dict.fromkeys(MessagesBody.__struct_fields__[3:]),
    ],
)
def test_droppable_values_are_accepted(fields: dict[str, Any]) -> None:
    assert parse_chat_request(body(**fields)) == parse_chat_request(body())


def test_droppable_tool_values_are_accepted() -> None:
    extras = {
        "allowed_callers": ["direct"],
        "defer_loading": False,
        "input_examples": [],
        "eager_input_streaming": True,
    }
    assert parse_chat_request(body(tools=[TOOL | extras | CACHED])) == parse_chat_request(body(tools=[TOOL]))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"top_k": 5}, "top_k"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, "thinking.display"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"speed": "fast"}, "speed"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"diagnostics": {"previous_message_id": "m"}}, "diagnostics"),
        ({"user_profile_id": "u"}, "user_profile_id"),
        ({"workspace_id": "w"}, "workspace_id"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"context_management": {"edits": [{}]}}, "context_management"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]}, "tools[0].type"),
        ({"tools": [TOOL, {"name": "g"}]}, "tools[1].input_schema"),
        ({"tools": [TOOL | {"what": 1}]}, "tools[0].what"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [TOOL | {"input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"metadata": {"team": "x"}}, "metadata.team"),
        ({"output_config": {"effort": "least"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"n": 1}, "n"),
        ({"system": [{"type": "image", "source": PNG}]}, "system[0].type"),
        ({"messages": [HELLO, {"role": "assistant", "content": "The answer is ("}]}, "messages[1].role"),
        ({"messages": [HELLO] * 10_000, "system": "x"}, "messages"),
    ],
)
def test_a_field_that_cannot_be_carried_is_named(fields: dict[str, Any], field: str) -> None:
    error = refusal(body(**fields))
    assert error.field == field
    assert f"`{field}`" in error.message


def test_a_tool_of_anthropics_is_refused_with_its_type() -> None:
    assert "'bash_20250124'" in refusal(body(tools=[{"type": "bash_20250124", "name": "bash"}])).message


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "document", "source": {"type": "text", "data": "x"}}, "type"),
        ({"type": "search_result"}, "type"),
        ({"type": "container_upload", "file_id": "f"}, "type"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ({"type": "image", "source": PNG | {"media_type": "image/tiff"}}, "source.media_type"),
        ({"type": "image", "source": PNG, "transformations": {"oversized_image": "error"}}, "transformations"),
        ({"type": "text", "text": "x", "citations": [{}]}, "citations"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}]}, "content[0].type"),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x", "citations": [{}]}]},
            "content[0].citations",
        ),
        ({"type": "tool_result", "tool_use_id": "t", "toolset_name": "browser"}, "toolset_name"),
        ({"type": "tool_result"}, "tool_use_id"),
    ],
)
def test_a_users_block_that_cannot_be_carried_is_named(block: dict[str, Any], field: str) -> None:
    error = refusal(body({"role": "user", "content": [{"type": "text", "text": "see"}, block]}))
    assert error.field == f"messages[0].content[1].{field}"


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, ".type"),
        ({"type": "image", "source": PNG}, ".type"),
        (TOOL_USE | {"caller": {"type": "code_execution_20250825", "tool_id": "s"}}, ".caller"),
        (TOOL_USE | {"toolset_name": "computer"}, ".toolset_name"),
        (TOOL_USE | {"input": "x"}, ".input"),
        ({"type": "text", "text": "after a call"}, ""),
    ],
)
def test_a_models_block_that_cannot_be_carried_is_named(block: dict[str, Any], field: str) -> None:
    turn = {"role": "assistant", "content": [TOOL_USE | {"caller": {"type": "direct"}}, block]}
    assert refusal(body(HELLO, turn)).field == f"messages[1].content[1]{field}"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model":"\xff"}', b"[" * 100_000])
def test_invalid_request_is_refused(content: bytes) -> None:
    assert refusal(content).field is None


def test_every_field_of_the_sdk_is_decided_on() -> None:
    elsewhere = {"temperature", "top_p", "top_k", "output_format", "mcp_servers", "context_management"}
    sdk = get_type_hints(MessageCreateParamsBase).keys() | {"stream"}
    assert sdk | elsewhere == set(MessagesBody.__struct_fields__)
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
