"""What another vendor's model cannot be sent, and changes nothing, is left out and told; strict callers are refused."""

from typing import Any

import pytest
from anthropic import BadRequestError as AnthropicBadRequest
from openai import BadRequestError as OpenAIBadRequest

from tests.support.samples import ANTHROPIC_TOOLS, PIXEL
from tests.support.sdk_clients import CLAUDE, GPT, SdkClients, user

DROPPED = "x-gateway-dropped"
STRICT = {"x-gateway-translation": "strict"}
THREAD = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"seed": 1}, "seed"),
        ({"messages": [{"role": "user", "name": "ann", "content": "hello"}]}, "name"),
        ({"messages": user([PICTURE])}, "detail"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop": ["\n"]}, "stop"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning_effort": "high", "seed": 7}, "seed, reasoning_effort"),
        ({"presence_penalty": 0.5, "frequency_penalty": 0.5}, "presence_penalty, frequency_penalty"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"store": True, "metadata": {"a": "b"}, "verbosity": "low"}, "store, metadata, verbosity"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ],
)
def test_a_chat_completion_says_what_claude_was_not_sent(sync_sdks: SdkClients, fields: Any, dropped: str) -> None:
    request: Any = {"model": CLAUDE, "messages": user("hello")} | fields
    answer = sync_sdks.openai.chat.completions.with_raw_response.create(**request)
    assert answer.headers[DROPPED] == dropped
    with pytest.raises(OpenAIBadRequest) as refused:
        sync_sdks.openai.chat.completions.create(**request, extra_headers=STRICT)
    assert dropped.partition(",")[0] in refused.value.message


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"top_k": 5}, "top_k"),
        ({"context_management": THREAD}, "context_management"),
        ({"container": "container_1"}, "container"),
        ({"output_config": {"task_budget": {"total": 1}}}, "task_budget"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": [ANTHROPIC_TOOLS[0] | {"defer_loading": True}]}, "defer_loading"),
        ({"not_yet_known": {"a": 1}}, "not_yet_known"),
    ],
)
def test_a_message_says_what_gpt_was_not_sent(sync_sdks: SdkClients, fields: Any, dropped: str) -> None:
    request: Any = {"model": GPT, "max_tokens": 50, "messages": user("hello"), "extra_body": fields}
    answer = sync_sdks.anthropic.messages.with_raw_response.create(**request)
    assert answer.headers[DROPPED] == dropped
    with pytest.raises(AnthropicBadRequest) as refused:
        sync_sdks.anthropic.messages.create(**request, extra_headers=STRICT)
    assert dropped.partition(",")[0] in str(refused.value.api_message)
