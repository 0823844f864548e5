"""Requests of OpenAI's SDK are parsed and answered; fields that other vendors do not support are refused by name."""

import base64
import hashlib
from typing import Any, get_type_hints

import httpx2
import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsBase,
    CompletionCreateParamsNonStreaming,
)
from openai.types.create_embedding_response import CreateEmbeddingResponse
from openai.types.embedding_create_params import EmbeddingCreateParams

from domain.canonical.chat import (
    AnswerMessage,
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    FunctionCall,
    FunctionTool,
    Tool,
    ToolCall,
)
from domain.canonical.embeddings import Embedding, EmbeddingsResponse
from domain.dialects.openai.adapt import adapt_chat_request
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.openai.embeddings import OpenAIEmbeddingsBody, parse_embeddings_request, render_embeddings_response
from domain.dialects.openai.render import render_chat_request as render_openai
from domain.dialects.openai.request import parse_chat_request
from domain.dialects.openai.request_types import ChatCompletionsBody
from domain.dialects.openai.response import render_chat_response
from domain.errors import InvalidRequest
from domain.tokens import TokenUsage, answer_usage
from tests.support.canonical import is_valid, openai_client, requests

USAGE = TokenUsage(
    input=10, cache_read=20, cache_write=3, cache_write_1h=4, input_audio=2, output=30, output_audio=5, reasoning=7
)
CALL = ToolCall(id="call_1", function=FunctionCall(name="f", arguments='{"a": 1}'))
WIRE_CALL: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CREATED_S = 1_790_000_000
HELLO = {"role": "user", "content": "hello"}


def answer(message: AnswerMessage, finish_reason: Any = "stop") -> ChatResponse:
    return ChatResponse(
        id="msg_1",
        model="claude-3-haiku",
        provider="anthropic",
        choices=[Choice(index=0, message=message, finish_reason=finish_reason)],
        usage=answer_usage(USAGE),
    )


def body(*messages: dict[str, Any], **fields: Any) -> bytes:
    return msgspec.json.encode({"model": "claude-3-haiku", "messages": list(messages) or [HELLO]} | fields)


def read(content: bytes) -> ChatRequest:
    request = parse_chat_request(content).request
    assert isinstance(request, ChatRequest)
    return request


def refusal(content: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(content)
    return refused.value


@given(requests)
def test_an_adapted_request_round_trips(request: ChatRequest) -> None:
    adapted = adapt_chat_request(request, "gpt-4o").request
    assert isinstance(adapted, ChatRequest)
    found = read(msgspec.json.encode(render_openai(adapted, "gpt-4o")))
    assert found == replace(adapted, model="gpt-4o")
    assert is_valid(found)


def test_sdk_request_is_parsed() -> None:
    seen: list[bytes] = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return httpx2.Response(
            200, content=render_chat_response(answer(AnswerMessage(content="hi")), USAGE, created_s=CREATED_S)
        )

    openai_client(serve).chat.completions.create(
        model="claude-3-haiku",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
            {
                "role": "user",
                "name": "n",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [WIRE_CALL]},
            {"role": "tool", "content": "1", "tool_call_id": "call_1"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        max_completion_tokens=5,
        stop=["END"],
        seed=1,
        user="u",
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        n=1,
        logprobs=False,
        logit_bias={},
        store=False,
        service_tier="auto",
        stream_options=None,
    )
    expected = {
        "model": "claude-3-haiku",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
            {
                "role": "user",
                "name": "n",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "imageUrl": {"url": "https://x/y.png", "detail": "high"}},
                    {"type": "image_url", "imageUrl": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {"role": "assistant", "toolCalls": [WIRE_CALL]},
            {"role": "tool", "content": "1", "toolCallId": "call_1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        "toolChoice": {"type": "function", "function": {"name": "f"}},
        "parallelToolCalls": False,
        "responseFormat": {"type": "json_schema", "jsonSchema": {"name": "s", "schema": {"type": "object"}}},
        "maxTokens": 5,
        "stop": ["END"],
        "seed": 1,
        "user": "u",
        "temperature": 0.5,
        "topP": 0.9,
        "reasoningEffort": "low",
    }
    assert read(seen[0]) == msgspec.convert(expected, ChatRequest)


def test_an_answer_that_the_sdk_sends_back_is_read() -> None:
    given_back = ChatCompletion.model_validate_json(
        render_chat_response(answer(AnswerMessage(content="a", tool_calls=[CALL])), USAGE, created_s=CREATED_S)
    ).choices[0]
    message = read(body(HELLO, given_back.message.model_dump())).messages[1]
    assert message == msgspec.convert({"role": "assistant", "content": "a", "toolCalls": [WIRE_CALL]}, type(message))


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ({"content": None, "refusal": "no"}, "no"),
        ({"content": "", "refusal": "no"}, "no"),
        ({"content": "well", "refusal": "no"}, ["well", "no"]),
        ({"content": [{"type": "text", "text": "well"}, {"type": "refusal", "refusal": "no"}]}, ["well", "no"]),
        ({"content": "a", "refusal": None, "tool_calls": []}, "a"),
    ],
)
def test_a_refusal_is_the_models_content(said: dict[str, Any], content: object) -> None:
    message = read(body(HELLO, {"role": "assistant"} | said)).messages[1]
    assert isinstance(message, AssistantMessage)
    parts = [part.text for part in message.content] if isinstance(message.content, list) else message.content
    assert parts == content


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"logprobs": False, "top_logprobs": 0},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"logit_bias": {}, "metadata": {}, "modalities": ["text"], "store": False},
        {"service_tier": "default", "verbosity": "medium"},
        {"stop": [], "stream": None, "stream_options": None},
        dict.fromkeys(ChatCompletionsBody.__struct_fields__[2:]),
    ],
)
def test_values_that_say_nothing_are_not_told(fields: dict[str, Any]) -> None:
    assert parse_chat_request(body(**fields)) == parse_chat_request(body())


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "a"}, "a"),
        ({"safety_identifier": "b"}, "b"),
        ({"user": "a", "safety_identifier": "b"}, "b"),
        ({"user": ""}, None),
        ({"user": "x" * 300}, hashlib.sha256(b"x" * 300).hexdigest()),
    ],
)
def test_the_end_user_has_two_names(fields: dict[str, Any], user: str | None) -> None:
    assert read(body(**fields)).user == user


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 0}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "tool_choice": {"type": "function", "function": {"name": "\x00"}},
            },
            "tool_choice",
        ),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"parameters": {}}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_what_changes_the_answer_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    error = refusal(body(**fields))
    assert error.field == field
    assert f"`{field}`" in error.message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
            "messages[1].content[0].file.file_id",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
            "messages[1].content[0].type",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content[0].image_url"),
        ({"role": "guest", "content": "x"}, "messages[1].role"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages[1].tool_calls[0]"),
    ],
)
def test_what_no_model_can_be_shown_is_refused_by_name(message: dict[str, Any], field: str) -> None:
    assert refusal(body(HELLO, message)).field == field


def test_sdk_additions_are_accepted_in_the_history() -> None:
    call = WIRE_CALL | {"index": 0, "function": WIRE_CALL["function"] | {"parsed_arguments": {"a": 1}}}
    turn = {"role": "assistant", "content": "{}", "parsed": {}, "tool_calls": [call]}
    assert parse_chat_request(body(HELLO, turn)) == parse_chat_request(
        body(HELLO, turn | {"parsed": None, "tool_calls": [WIRE_CALL]})
    )


def test_a_kind_that_is_missing_is_only_missing() -> None:
    error = refusal(body({"role": "user", "content": [{"text": "x"}]}))
    assert error.message == "`messages[0].content[0].type`: Object missing required field `type`"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b'{"model":"\xff"}', b"[" * 100_000])
def test_invalid_request_is_refused(content: bytes) -> None:
    assert refusal(content).field is None


def test_every_field_of_the_sdk_is_decided_on() -> None:
    sdk = get_type_hints(CompletionCreateParamsBase).keys() | {"stream"}
    assert "stream" in get_type_hints(CompletionCreateParamsNonStreaming)
    others = {"reasoning", "thinking", "include_reasoning", "cache_control"}
    assert sdk == set(ChatCompletionsBody.__struct_fields__) - others
    assert get_type_hints(EmbeddingCreateParams).keys() == set(OpenAIEmbeddingsBody.__struct_fields__)


def test_an_answer_is_parsed_by_the_sdk_with_equal_content() -> None:
    message = AnswerMessage(content="hi", tool_calls=[CALL])
    found = ChatCompletion.model_validate_json(
        render_chat_response(answer(message, "tool_calls"), USAGE, created_s=CREATED_S), strict=True
    )
    choice = found.choices[0]
    assert (found.id, found.model, found.created) == ("msg_1", "claude-3-haiku", CREATED_S)
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "tool_calls", None)
    assert (choice.message.content, choice.message.refusal) == ("hi", None)
    assert [call.model_dump() for call in choice.message.tool_calls or ()] == [WIRE_CALL]
    assert found.model_extra == {}
    assert choice.message.model_extra == {}


def test_usage_is_parsed_by_the_sdk_in_openais_classes() -> None:
    found = ChatCompletion.model_validate_json(
        render_chat_response(answer(AnswerMessage(content="hi")), USAGE, created_s=CREATED_S)
    ).usage
    assert found is not None
    assert found.prompt_tokens_details is not None
    assert found.completion_tokens_details is not None
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (39, 35, 74)
    assert found.prompt_tokens_details.cached_tokens == 20
    assert found.prompt_tokens_details.cache_write_tokens == 7
    assert found.prompt_tokens_details.audio_tokens == 2
    assert found.completion_tokens_details.reasoning_tokens == 7
    assert found.completion_tokens_details.audio_tokens == 5


def test_every_response_has_a_finish_reason() -> None:
    written = render_chat_response(answer(AnswerMessage(content=None), None), USAGE, created_s=CREATED_S)
    found = ChatCompletion.model_validate_json(written).choices[0]
    assert (found.finish_reason, found.message.content, found.message.tool_calls) == ("stop", None, None)


def test_openais_reader_reads_the_rendered_response() -> None:
    written = render_chat_response(answer(AnswerMessage(content="x", tool_calls=[CALL])), USAGE, created_s=CREATED_S)
    found = OpenAiChat().parse_response(written, model="m", provider="openai")
    choices = msgspec.json.decode(found.body, type=ChatResponse).choices
    assert choices == answer(AnswerMessage(content="x", tool_calls=[CALL]), "tool_calls").choices


def test_vectors_reach_the_sdk_in_its_own_base64() -> None:
    vectors = [[0.5, -1.25, 3.0], [0.0, 1e-3, 2.0]]
    found = EmbeddingsResponse(
        model="echo",
        provider="echo",
        embeddings=[Embedding(index=index, embedding=vector) for index, vector in enumerate(vectors)],
        usage=answer_usage(USAGE),
    )
    expected: list[Any] = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        expected.append(parse_embeddings_request(request.content))
        return httpx2.Response(
            200, content=render_embeddings_response(found, TokenUsage(input=9), expected[0].encoding_format)
        )

    answered = openai_client(serve).embeddings.create(model="echo", input=["a", "b"], dimensions=3, user="u")
    assert expected[0].encoding_format == "base64"
    assert (expected[0].request.input, expected[0].request.dimensions, expected[0].request.user) == (["a", "b"], 3, "u")
    assert [item.embedding for item in answered.data] == [vectors[0], pytest.approx(vectors[1])]
    assert [item.index for item in answered.data] == [0, 1]
    assert (answered.model, answered.usage.prompt_tokens, answered.usage.total_tokens) == ("echo", 9, 9)


def test_base64_is_of_little_endian_floats() -> None:
    found = EmbeddingsResponse(
        model="m", provider="p", embeddings=[Embedding(index=0, embedding=[1.0])], usage=answer_usage(USAGE)
    )
    written = msgspec.json.decode(render_embeddings_response(found, USAGE, "base64"))
    assert base64.b64decode(written["data"][0]["embedding"]) == b"\x00\x00\x80\x3f"


def test_vectors_are_numbers_by_default() -> None:
    served = parse_embeddings_request(b'{"model":"echo","input":"a"}')
    found = EmbeddingsResponse(
        model="m", provider="p", embeddings=[Embedding(index=0, embedding=[0.1])], usage=answer_usage(USAGE)
    )
    parsed = CreateEmbeddingResponse.model_validate_json(
        render_embeddings_response(found, USAGE, served.encoding_format)
    )
    assert (served.request.input, parsed.data[0].embedding) == ("a", [0.1])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({}, "input"),
    ],
)
def test_unsupported_embeddings_fields_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_embeddings_request(msgspec.json.encode({"model": "echo"} | fields))
    assert refused.value.field == field


def test_an_unknown_field_of_embeddings_is_dropped_and_told() -> None:
    assert parse_embeddings_request(b'{"model":"echo","input":"a","what":1}').dropped == ("what",)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "image_url", "image_url": "https://x/y.png"}, ("image_url", "https://x/y.png")),
        ({"type": "image_url", "image_url": {"url": "http://x/y.png"}}, ("image_url", "http://x/y.png")),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}},
            ("image_url", "data:image/jpeg;base64,AAAA"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,JVBERi0x"}},
            ("file", "data:application/pdf;base64,JVBERi0x"),
        ),
        ({"type": "file", "file": {"file_data": "JVBERi0xLjQ="}}, ("file", "data:application/pdf;base64,JVBERi0xLjQ=")),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "a.TXT"}},
            ("file", "data:text/plain;base64,aGk="),
        ),
        ({"type": "file", "file": {"file_id": "https://x/y.pdf"}}, ("file", "https://x/y.pdf")),
        (
            {"type": "file", "file": {"file_data": "data:image/png;base64,AAAA"}},
            ("image_url", "data:image/png;base64,AAAA"),
        ),
    ],
)
@pytest.mark.parametrize("role", ["user", "tool"])
def test_a_picture_or_a_file_is_read_as_clients_write_it(
    part: dict[str, Any], found: tuple[str, str], role: str
) -> None:
    message = {"role": role, "content": [part]} | ({"tool_call_id": "c1"} if role == "tool" else {})
    content = msgspec.to_builtins(read(body(HELLO, message)).messages[1])["content"]
    (shown,) = content
    kind = shown["type"]
    assert (kind, shown["imageUrl" if kind == "image_url" else "file"]["url"]) == found


@pytest.mark.parametrize(
    ("messages", "answered"),
    [
        (
            [
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "r"},
            ],
            1,
        ),
        (
            [
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, WIRE_CALL]},
                {"role": "tool", "tool_call_id": None, "content": "r"},
                {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": None},
            ],
            2,
        ),
    ],
)
def test_a_result_belongs_to_its_call_whatever_its_id(messages: list[dict[str, Any]], answered: int) -> None:
    turn, *results = read(body(*messages)).messages
    assert isinstance(turn, AssistantMessage)
    calls = turn.tool_calls or []
    assert [call.id for call in calls] == [result.tool_call_id for result in results]  # type: ignore[union-attr]
    assert len(calls) == answered
    assert all(isinstance(call.function.arguments, str) for call in calls)


@pytest.mark.parametrize("kind", [{}, {"type": "custom"}, {"type": "function"}])
def test_a_tool_as_anthropic_writes_it_keeps_its_schema(kind: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    translated = parse_chat_request(body(tools=[{"name": "read", "description": "d", "input_schema": schema} | kind]))
    assert isinstance(translated.request, ChatRequest)
    function = FunctionTool(name="read", description="d", parameters=schema)
    assert (translated.request.tools, translated.dropped) == ([Tool(function=function)], ())


def test_a_custom_tools_history_and_its_grammar_are_read() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x/"}}
    tools = [{"type": "custom", "custom": {"name": "patch", "description": "Edits.", "format": grammar}}]
    called = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "x"}}
    request = read(body({"role": "assistant", "tool_calls": [called]}, tools=tools))
    assert request.tools is not None
    assert "start: /x/" in (request.tools[0].function.description or "")
    message = request.messages[0]
    assert isinstance(message, AssistantMessage)
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"input":"x"}'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thinking": {"type": "disabled"}}, ("none", None, None)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, (None, 2000, True)),
        ({"thinking": {"type": "adaptive"}}, ("high", None, True)),
        ({"thinking": {"type": "enabled"}}, ("medium", None, True)),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, ("low", None, True)),
        ({"thinking": {"type": "adaptive"}, "reasoning": {"max_tokens": 2000}}, (None, 2000, True)),
        ({"reasoning": {"effort": "high", "exclude": True}}, ("high", None, False)),
        ({"reasoning": {"enabled": True}}, ("medium", None, None)),
        ({"reasoning": {"enabled": False}}, ("none", None, None)),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, ("low", None, None)),
        ({"include_reasoning": False}, (None, None, False)),
    ],
)
def test_settings_of_thinking_are_read_in_every_vendors_words(fields: dict[str, Any], expected: Any) -> None:
    found = read(body(**fields))
    assert (found.reasoning_effort, found.thinking_budget, found.shows_reasoning) == expected
