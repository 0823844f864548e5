"""Thinking in a history that its model is not sent is told by its name."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatRequest
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.kept_thinking import KeptThinking, write_kept
from domain.dialects.codec import Codec
from domain.dialects.openai.codec import OpenAiChat, OpenAiResponses
from domain.dialects.openai.responses.reasoning import KeptReasoning, encode_reasoning
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.translation import Passthrough

HELLO: dict[str, Any] = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "toolCallId": "call_1", "content": "r"}
SIGNED, OPEN, SEALED = {"text": "hm", "signature": "s"}, {"text": "hm"}, {"data": "d", "id": "rs_1"}
CLAUDE, CHAT = AnthropicMessages(), OpenAiChat()


def answered(*thoughts: dict[str, Any], is_open: bool = True, **fields: Any) -> ChatRequest:
    said = {"role": "assistant", "content": "a", "toolCalls": [CALL], "reasoning": list(thoughts)}
    messages = [HELLO, said, RESULT, *([] if is_open else [HELLO])]
    return msgspec.convert({"messages": messages, "reasoningEffort": "high"} | fields, ChatRequest)


@pytest.mark.parametrize(
    ("codec", "model", "request_", "dropped"),
    [
        (CLAUDE, "claude-opus-4-6", answered(SIGNED), ()),
        (CLAUDE, "claude-opus-4-6", answered(OPEN), ("reasoning",)),
        (CLAUDE, "claude-opus-4-6", answered(SIGNED, SEALED), ("reasoning",)),
        (CLAUDE, "claude-haiku-4-5", answered(SIGNED, reasoningEffort="none"), ("reasoning",)),
        (CHAT, "some-model", answered(OPEN), ()),
        (CHAT, "some-model", answered(OPEN, is_open=False), ("reasoning",)),
        (CHAT, "some-model", answered(SIGNED), ("reasoning",)),
        (CHAT, "gpt-4o", answered(OPEN), ("reasoning",)),
    ],
)
def test_what_a_model_is_not_sent_of_its_thinking_is_told(
    codec: Codec, model: str, request_: ChatRequest, dropped: tuple[str, ...]
) -> None:
    found = codec.adapt_request(request_, model).dropped
    assert tuple(name for name in found if name == "reasoning") == dropped


def test_anthropics_clients_know_it_as_thinking() -> None:
    assert CLAUDE.client_names["reasoning"] == "thinking"


def test_a_turn_of_thinking_alone_is_told() -> None:
    alone = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    body = {"model": "m", "max_tokens": 9, "messages": [HELLO, alone, HELLO]}
    assert CLAUDE.parse_request(msgspec.json.encode(body)).dropped == ("thinking",)


def test_reasoning_that_nothing_follows_is_told() -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    body = msgspec.json.encode({"model": "m", "input": [HELLO, item, HELLO]})
    assert OpenAiResponses().parse_request(body).dropped == ("reasoning",)


@pytest.mark.parametrize(
    ("codec", "body", "name"),
    [
        (
            CLAUDE,
            {
                "max_tokens": 9,
                "messages": [
                    HELLO,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": write_kept(KeptThinking())},
                            {"type": "text", "text": "a"},
                        ],
                    },
                    HELLO,
                ],
            },
            "thinking",
        ),
        (
            OpenAiResponses(),
            {
                "input": [
                    HELLO,
                    {
                        "type": "reasoning",
                        "summary": [],
                        "encrypted_content": encode_reasoning(KeptReasoning(text="hm")),
                    },
                    HELLO,
                ]
            },
            "reasoning",
        ),
    ],
)
def test_a_request_that_is_passed_through_tells_what_it_loses(codec: Codec, body: dict[str, Any], name: str) -> None:
    request = read_passthrough(msgspec.json.encode({"model": "m"} | body), codec, is_cached=False)
    assert Passthrough(codec).parse_request(request).dropped == (name,)
