"""A history in another vendor's words reaches the model: the calls, their results and their images are all there."""

import json
from typing import Any

import pytest

from tests.provider.running import RunningProvider
from tests.support.samples import PIXEL
from tests.support.sdk_clients import CLAUDE, GPT, SdkClients

URL = f"data:image/png;base64,{PIXEL}"
SOURCE = {"type": "base64", "media_type": "image/png", "data": PIXEL}
SCHEMA = {"type": "object", "properties": {}}
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
ANTHROPICS: Any = [
    {"role": "user", "content": [{"type": "text", "text": "what is there?"}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "door"}}]},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "image", "source": SOURCE}]},
            {"type": "text", "text": "well?"},
        ],
    },
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"door"}'}}
OPENAIS: Any = [
    {"role": "user", "content": [{"type": "input_text", "text": "what is there?"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"door"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "image_url", "image_url": {"url": URL}}]},
    {"role": "user", "content": [{"type": "text", "text": "well?"}]},
]


def received(upstream: RunningProvider) -> list[Any]:
    messages: list[Any] = json.loads(upstream.requests(last=1)[0].body)["messages"]
    return messages


@pytest.mark.parametrize("history", [ANTHROPICS, OPENAIS], ids=["anthropics-words", "openais-words"])
@pytest.mark.parametrize("surface", ["chat completions", "responses"])
def test_claude_is_told_a_history_in_either_vendors_words(
    sync_sdks: SdkClients, upstream: RunningProvider, surface: str, history: Any
) -> None:
    client = sync_sdks.openai
    if surface == "responses":
        tool: Any = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}
        client.responses.create(model=CLAUDE, input=history, tools=[tool], store=False)
    else:
        tools: Any = [FUNCTION]
        client.chat.completions.create(model=CLAUDE, messages=history, tools=tools)
    asked, called, answered = received(upstream)
    assert asked == {"role": "user", "content": [{"type": "text", "text": "what is there?"}]}
    assert called["content"] == [{"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "door"}}]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "image", "source": SOURCE}]},
        {"type": "text", "text": "well?"},
    ]


def test_gpt_is_told_openais_history_by_an_anthropic_client(sync_sdks: SdkClients, upstream: RunningProvider) -> None:
    tool: Any = {"name": "look", "input_schema": SCHEMA}
    sync_sdks.anthropic.messages.create(model=GPT, max_tokens=50, messages=OPENAIS, tools=[tool])
    asked, called, answered, shown, last = received(upstream)
    assert asked == {"role": "user", "content": "what is there?"}
    assert called["tool_calls"] == OPENAIS[1]["tool_calls"]
    assert (answered["role"], answered["tool_call_id"]) == ("tool", "call_1")
    assert shown["content"][1] == {"type": "image_url", "image_url": {"url": URL}}
    assert last == {"role": "user", "content": "well?"}
