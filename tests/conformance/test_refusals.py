"""A field that another vendor's model does not support is refused by name, and never dropped silently."""

from typing import Any

import pytest
from anthropic import BadRequestError as AnthropicBadRequest
from openai import BadRequestError as OpenAIBadRequest

from tests.provider.running import RunningProvider
from tests.support.samples import ANTHROPIC_TOOLS, OPENAI_TOOLS, PIXEL
from tests.support.sdk_clients import CLAUDE, ECHO, GPT, SdkClients, user

PICTURE: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
TEXT_DOCUMENT: Any = {"type": "text", "media_type": "text/plain", "data": "x"}


def after_hello(*turns: Any) -> Any:
    return [*user("hello"), *turns]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"store": True}, "store"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"verbosity": "low"}, "verbosity"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"seed": 1}, "seed"),
        ({"temperature": 1.5}, "temperature"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": OPENAI_TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"messages": [{"role": "user", "name": "n", "content": "x"}]}, "messages[0].name"),
        ({"messages": user([{"type": "file", "file": {"file_id": "f"}}])}, "messages[0].content[0].type"),
        (
            {"messages": user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])},
            "messages[0].content[0].type",
        ),
        (
            {"messages": user([{"type": "image_url", "image_url": {"url": "http://example.com/cat.png"}}])},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": user([{"type": "image_url", "image_url": PICTURE["image_url"] | {"detail": "low"}}])},
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": after_hello({"role": "assistant", "content": None, "audio": {"id": "a"}})},
            "messages[1].audio",
        ),
        (
            {
                "messages": after_hello(
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "no json"}}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "x"},
                )
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_chat_completion_names_fields_that_anthropic_lacks(
    sync_sdks: SdkClients, upstream: RunningProvider, fields: Any, param: str
) -> None:
    before = upstream.calls
    request: Any = {"model": CLAUDE, "messages": user("hello")} | fields
    with pytest.raises(OpenAIBadRequest) as refused:
        sync_sdks.openai.chat.completions.create(**request)
    assert refused.value.param == param
    assert f"`{param}`" in refused.value.message
    assert refused.value.type == "invalid_request_error"
    assert upstream.calls == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"extra_body": {"thinking": {"type": "adaptive", "display": "summarized"}}}, "thinking.display"),
        ({"extra_body": {"container": "container_1"}}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"extra_body": {"mcp_servers": [{"type": "url", "url": "https://x", "name": "m"}]}}, "mcp_servers"),
        ({"extra_body": {"context_management": {"edits": [{"type": "clear"}]}}}, "context_management"),
        ({"extra_body": {"output_config": {"task_budget": {"total": 1}}}}, "output_config.task_budget"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [ANTHROPIC_TOOLS[0] | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [ANTHROPIC_TOOLS[0] | {"input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"messages": after_hello({"role": "assistant", "content": "It is"})}, "messages[1].role"),
        ({"messages": user([{"type": "document", "source": TEXT_DOCUMENT}])}, "messages[0].content[0].type"),
        (
            {"messages": user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": user([{"type": "search_result", "source": "s", "title": "t", "content": []}])},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": after_hello(
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c",
                                "content": [
                                    {
                                        "type": "image",
                                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                                    }
                                ],
                            }
                        ],
                    },
                )
            },
            "messages[2].content[0].content[0].type",
        ),
        (
            {
                "messages": after_hello(
                    {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search"}]},
                    *user("and?"),
                )
            },
            "messages[1].content[0].type",
        ),
        (
            {
                "messages": user(
                    [{"type": "text", "text": "x", "citations": [{"type": "char_location", "cited_text": "y"}]}]
                )
            },
            "messages[0].content[0].citations",
        ),
    ],
)
def test_message_names_fields_that_openai_lacks(
    sync_sdks: SdkClients, upstream: RunningProvider, fields: Any, field: str
) -> None:
    before = upstream.calls
    request: Any = {"model": GPT, "max_tokens": 50, "messages": user("hello")} | fields
    with pytest.raises(AnthropicBadRequest) as refused:
        sync_sdks.anthropic.messages.create(**request)
    assert f"`{field}`" in str(refused.value.api_message)
    assert refused.value.type == "invalid_request_error"
    assert upstream.calls == before


def test_embeddings_are_of_models_that_make_them(sync_sdks: SdkClients) -> None:
    with pytest.raises(OpenAIBadRequest) as refused:
        sync_sdks.openai.embeddings.create(model=CLAUDE, input="hello")
    assert refused.value.param == "model"
    with pytest.raises(OpenAIBadRequest) as unread:
        sync_sdks.openai.embeddings.create(model=ECHO, input=[1, 2, 3])
    assert unread.value.param == "input"
