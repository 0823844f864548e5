"""Canonical requests are rendered for each vendor, and responses parsed. Unsupported fields are refused by name."""

import msgspec
import pytest

from domain.canonical.chat import ChatRequest, ChatResponse
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.codec import OpenAiChat, OpenAiEmbeddings
from domain.dialects.openai.render import render_chat_request as render_openai
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.registry import DIALECTS
from domain.dialects.request_body import CanonicalRequest
from domain.dialects.sse import SseEvent
from domain.errors import InvalidRequest, UnknownModel
from domain.routing import NamedProvider, resolve_target
from domain.tokens import TokenUsage

TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def request(*messages: dict[str, object], **fields: object) -> ChatRequest:
    return msgspec.convert({"messages": list(messages)} | fields, ChatRequest)


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def test_openai_gets_the_request_in_its_own_spelling() -> None:
    request_ = request(
        {"role": "system", "content": "be brief"},
        user([{"type": "text", "text": "see"}, {"type": "image_url", "imageUrl": {"url": "https://x/y.png"}}]),
        {"role": "assistant", "toolCalls": [CALL]},
        {"role": "tool", "content": "1", "toolCallId": "call_1"},
        tools=TOOLS,
        toolChoice={"type": "function", "function": {"name": "f"}},
        maxTokens=5,
        responseFormat={"type": "json_object"},
    )
    wire = render_openai(request_, "gpt-4o")
    assert wire["messages"][1]["content"][1] == {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    assert wire["messages"][2]["tool_calls"] == [CALL]
    assert wire["messages"][3] == {"role": "tool", "content": "1", "tool_call_id": "call_1"}
    assert (wire["max_tokens"], wire["tools"], wire["tool_choice"]["function"]["name"]) == (5, TOOLS, "f")
    assert "temperature" not in wire
    assert "max_completion_tokens" in render_openai(request_, "o3-mini")


@pytest.mark.parametrize(
    ("message", "content", "finish_reason"),
    [
        (b'{"content":null,"refusal":"no"}', "no", "content_filter"),
        (b'{"content":"yes","refusal":null}', "yes", "stop"),
    ],
)
def test_an_answer_that_is_only_a_refusal_ends_as_one(message: bytes, content: str, finish_reason: str) -> None:
    body = b'{"id":"c1","choices":[{"message":%s,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}' % message
    found = OpenAiChat().parse_response(body, model=request(user("x")).model, provider="openai")
    answer = msgspec.json.decode(found.body, type=ChatResponse)
    assert (answer.choices[0].message.content, found.finish_reason) == (content, finish_reason)


def test_embeddings_of_a_provider_without_them_are_refused() -> None:
    to = resolve_target("claude-3-haiku", {})
    with pytest.raises(InvalidRequest) as refused:
        DIALECTS.adapt(CanonicalRequest(EmbeddingsRequest(input="x")), to, "embeddings")
    assert refused.value.field == "model"


def test_openais_prompt_tokens_include_the_cached_ones() -> None:
    body = (
        b'{"id":"c1","model":"gpt-4o-x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":9,"prompt_tokens_details":'
        b'{"cached_tokens":60,"audio_tokens":10},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":2}}}'
    )
    found = OpenAiChat().parse_response(body, model=request(user("x")).model, provider="openai")
    assert found.usage == TokenUsage(input=30, cache_read=60, input_audio=10, output=7, output_audio=2, reasoning=4)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (100, 9)
    assert (found.answered_by, found.response_id, found.finish_reason) == ("gpt-4o-x", "c1", "stop")


@pytest.mark.parametrize(
    ("counted", "output", "reasoning"),
    [
        ({"completion_tokens": 5, "total_tokens": 1015}, 1005, 1000),
        (
            {
                "completion_tokens": 5,
                "total_tokens": 1015,
                "completion_tokens_details": {"reasoning_tokens": 1000},
            },
            1005,
            1000,
        ),
        ({"completion_tokens": 5, "total_tokens": 15}, 5, 0),
        ({"completion_tokens": 5, "total_tokens": 3}, 5, 0),
        ({"completion_tokens": 5, "total_tokens": None}, 5, 0),
        ({"completion_tokens": 5}, 5, 0),
        ({"total_tokens": 15}, 5, 5),
    ],
)
def test_total_beyond_the_parts_is_reasoning(counted: dict[str, object], output: int, reasoning: int) -> None:
    usage = {"prompt_tokens": 10} | counted
    body = msgspec.json.encode({"id": "c", "model": "m", "choices": [], "usage": usage})
    expected = TokenUsage(input=10, output=output, reasoning=reasoning)
    assert OpenAiChat().parse_response(body, model=request(user("x")).model, provider="openai").usage == expected
    assert OpenAiChat().meter_response(body).usage == expected
    reader = OpenAiChatReader()
    reader.take(SseEvent(name="", data=body, raw=b""))
    assert reader.usage == expected


def test_embeddings_never_have_output_tokens() -> None:
    body = b'{"model":"m","data":[],"usage":{"prompt_tokens":10,"total_tokens":1015}}'
    assert OpenAiEmbeddings().parse_response(
        body, model=EmbeddingsRequest(input="x").model, provider="openai"
    ).usage == TokenUsage(input=10)
    assert OpenAiEmbeddings().meter_response(body).usage == TokenUsage(input=10)


def test_anthropics_input_tokens_exclude_the_cached_ones() -> None:
    body = (
        b'{"id":"m1","model":"claude-x","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"},'
        b'{"type":"tool_use","id":"t1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":5,'
        b'"output_tokens":7,"cache_read_input_tokens":11,"cache_creation_input_tokens":13,"cache_creation":'
        b'{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":3}}}'
    )
    found = AnthropicMessages().parse_response(body, model=request(user("x")).model, provider="anthropic")
    assert found.usage == TokenUsage(input=5, cache_read=11, cache_write=10, cache_write_1h=3, output=7)
    shown = msgspec.json.decode(found.body)["choices"][0]
    assert shown["finishReason"] == "tool_calls"
    assert shown["message"]["content"] == "a"
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert shown["message"]["toolCalls"] == [call]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"id":"x","choices":[]}', b'{"id":"x"}', b"[]"])
def test_non_response_is_unreadable(body: bytes) -> None:
    with pytest.raises((UnreadableResponse, StreamFailed)):
        OpenAiChat().parse_response(body, model=request(user("x")).model, provider="openai")
    with pytest.raises((UnreadableResponse, StreamFailed)):
        AnthropicMessages().parse_response(body, model=request(user("x")).model, provider="anthropic")


def test_the_default_temperature_is_sent_only_where_it_can_be() -> None:
    def sent(model: str, **fields: object) -> float | None:
        body = CanonicalRequest(request(user("x"), **fields)).with_native_defaults(model)
        assert isinstance(body.request, ChatRequest)
        return body.request.temperature

    assert sent("gpt-4o") == 0.7
    assert sent("o3-mini") is None
    assert sent("gpt-4o", topP=0.5) is None
    assert sent("gpt-4o", temperature=0.1) == 0.1


@pytest.mark.parametrize(
    ("model", "provider", "upstream"),
    [
        ("gpt-4o", "openai", "gpt-4o"),
        ("claude-3.5-sonnet", "anthropic", "claude-3-5-sonnet-20241022"),
        ("openai/my-model", "openai", "my-model"),
        ("anthropic/claude-3-haiku", "anthropic", "claude-3-haiku-20240307"),
        ("echo", "echo", "echo"),
        ("o4-mini", "openai", "o4-mini"),
    ],
)
def test_a_models_name_leads_to_its_provider(model: str, provider: str, upstream: str) -> None:
    found = resolve_target(model, {})
    assert (found.provider, found.upstream_model) == (provider, upstream)


def test_an_operator_may_override_the_upstream_name() -> None:
    assert resolve_target("claude-3-opus", {"claude-3-opus": "claude-opus-4-1"}).upstream_model == "claude-opus-4-1"


@pytest.mark.parametrize("model", ["llama", "", "nobody/gpt-4o", "openai/"])
def test_a_name_that_no_rule_matches_is_refused(model: str) -> None:
    with pytest.raises(UnknownModel):
        resolve_target(model, {})


OWN = NamedProvider(name="groq", kind="openai", base_url="https://own.example.com/v1", models=("llama", "openai/oss"))
SHARED = NamedProvider(name="groq", kind="anthropic", base_url="https://shared.example.com")
ROUTER = NamedProvider(name="router", kind="openai", base_url="https://router.example.com/v1")


@pytest.mark.parametrize(
    ("model", "provider", "kind", "upstream", "base_url"),
    [
        ("groq/llama", "groq", "openai", "llama", OWN.base_url),
        ("llama", "groq", "openai", "llama", OWN.base_url),
        ("router/anthropic/claude-3.5-sonnet", "router", "openai", "anthropic/claude-3.5-sonnet", ROUTER.base_url),
        ("groq/openai/oss", "groq", "openai", "openai/oss", OWN.base_url),
        ("openai/oss", "openai", "openai", "oss", None),
        ("gpt-4o", "openai", "openai", "gpt-4o", None),
    ],
)
def test_a_name_leads_to_a_provider_by_configuration(
    model: str, provider: str, kind: str, upstream: str, base_url: str | None
) -> None:
    found = resolve_target(model, {"llama": "never"}, [OWN, SHARED, ROUTER])
    assert (found.provider, found.kind, found.upstream_model) == (provider, kind, upstream)
    assert found.base_url == base_url


BUILTIN_NAMES = ("gpt-4o", "claude-3-haiku", "echo")


@pytest.mark.parametrize("model", BUILTIN_NAMES)
def test_builtin_name_is_replaced_only_explicitly(model: str) -> None:
    azure = NamedProvider(name="azure", kind="openai", base_url="https://x.example.com", models=(*BUILTIN_NAMES, "own"))
    replacing = NamedProvider(
        name="other", kind="openai", base_url="https://y.example.com", models=BUILTIN_NAMES, replaces_builtin=True
    )
    built_in = resolve_target(model, {}).provider
    assert resolve_target(model, {}, [azure]).provider == built_in
    assert resolve_target(f"azure/{model}", {}, [azure]).provider == "azure"
    assert resolve_target("own", {}, [azure]).provider == "azure"
    assert resolve_target(model, {}, [azure, replacing]).provider == "other"
    assert resolve_target(f"{built_in}/{model}", {}, [azure, replacing]).provider == built_in


@pytest.mark.parametrize("model", ["groq/gpt-4o", "groq/", "mixtral"])
def test_provider_with_a_model_list_serves_nothing_else(model: str) -> None:
    with pytest.raises(UnknownModel):
        resolve_target(model, {}, [OWN, SHARED])
