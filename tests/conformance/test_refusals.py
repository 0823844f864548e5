"""What the answer depends on and another vendor's model cannot be sent is refused by name."""

from typing import Any

import pytest
from anthropic import BadRequestError as AnthropicBadRequest
from openai import BadRequestError as OpenAIBadRequest

from tests.provider.running import RunningProvider
from tests.support.samples import ANTHROPIC_TOOLS
from tests.support.sdk_clients import CLAUDE, ECHO, GPT, SdkClients, user

SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}


def after_hello(*turns: Any) -> Any:
    return [*user("hello"), *turns]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"messages": user([{"type": "file", "file": {"file_id": "f"}}])}, "messages[0].content[0].file.file_id"),
        (
            {"messages": user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])},
            "messages[0].content[0].type",
        ),
        (
            {"messages": user([{"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}}])},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": after_hello({"role": "assistant", "content": None, "audio": {"id": "a"}})},
            "messages[1].audio",
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
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"extra_body": {"mcp_servers": [{"type": "url", "url": "https://x", "name": "m"}]}}, "mcp_servers"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice.type"),
        (
            {"tools": [SEARCH, *ANTHROPIC_TOOLS], "tool_choice": {"type": "tool", "name": "web_search"}},
            "tool_choice.name",
        ),
        (
            {"messages": user([{"type": "image", "source": {"type": "file", "file_id": "f"}}])},
            "messages[0].content[0].source.file_id",
        ),
        ({"messages": user([{"type": "container_upload", "file_id": "f"}])}, "messages[0].content[0].type"),
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
