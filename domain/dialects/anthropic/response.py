"""Anthropic's messages: a provider's into the canonical response, and the canonical response into a client's."""

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import AnswerMessage, ChatResponse, Choice, FinishReason, FunctionCall, ToolCall
from domain.dialects.anthropic import types
from domain.dialects.anthropic.tools import render_tool_input
from domain.dialects.anthropic.usage import parse_extras, parse_usage, render_usage
from domain.dialects.codec import ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage, answer_usage

_decode = msgspec.json.Decoder(types.Message).decode
_decode_metered = msgspec.json.Decoder(types.MeteredMessage).decode
_decode_count = msgspec.json.Decoder(types.MessageTokensCount).decode
_encode = msgspec.json.encode

FINISH_REASONS: dict[str | None, FinishReason | None] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    None: None,
}

STOP_REASONS: dict[str | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    None: "end_turn",
}
"""By the canonical finish reason. A stop sequence cannot be told from an end."""


def parse_chat_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read a message: its text blocks are joined, its tool uses become calls. `model` is the caller's name for it.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    message = decode_provider_json(_decode, body)
    usage = parse_usage(message.usage)
    response_id = sanitize_identifier(message.id)
    texts = [block.text for block in message.content if block.type == "text"]
    calls = [
        ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=_encode(block.input).decode()))
        for block in message.content
        if block.type == "tool_use"
    ]
    finish_reason = FINISH_REASONS.get(message.stop_reason, "stop")
    answer = AnswerMessage(content="".join(texts) if texts else None, tool_calls=calls or UNSET)
    response = ChatResponse(
        id=response_id,
        model=model,
        provider=provider,
        choices=[Choice(index=0, message=answer, finish_reason=finish_reason)],
        usage=answer_usage(usage),
    )
    return ProviderResponse(
        body=_encode(response),
        usage=usage,
        answered_by=sanitize_identifier(message.model),
        response_id=response_id,
        finish_reason=finish_reason,
        extras=parse_extras(message.usage, message.container),
    )


def render_chat_response(response: ChatResponse, usage: TokenUsage) -> bytes:
    """Write a message: of the choices, the first, since Anthropic's messages have one."""
    choice = response.choices[0] if response.choices else None
    blocks = _render_blocks(choice.message) if choice is not None else []
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    return _encode(
        {
            "id": response.id,
            "type": "message",
            "role": "assistant",
            "model": response.model,
            "content": blocks,
            "stop_reason": stop_reason(choice.finish_reason if choice is not None else None, has_calls=has_calls),
            "stop_sequence": None,
            "usage": render_usage(usage),
        }
    )


def stop_reason(finish_reason: str | None, *, has_calls: bool) -> str:
    """Anthropic's word. OpenAI says `stop` if a call was forced; Anthropic's clients go by the reason alone."""
    return "tool_use" if has_calls and finish_reason in ("stop", None) else STOP_REASONS[finish_reason]


def _render_blocks(message: AnswerMessage) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if message.content:
        blocks.append({"type": "text", "text": message.content, "citations": None})
    calls = message.tool_calls if message.tool_calls is not UNSET else ()
    blocks += [
        {
            "type": "tool_use",
            "id": call.id,
            "name": call.function.name,
            "input": render_tool_input(call.function.arguments),
        }
        for call in calls
    ]
    return blocks


def meter_chat_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through message. Raises as `parse_chat_response`."""
    message = decode_provider_json(_decode_metered, body)
    return passed_through(
        body,
        usage=parse_usage(message.usage),
        model=message.model,
        response_id=message.id,
        finish_reason=FINISH_REASONS.get(message.stop_reason, "stop"),
        extras=parse_extras(message.usage, message.container),
    )


def meter_token_count(body: bytes) -> ProviderResponse:
    """Read a count of tokens, for which nothing is charged.

    Raises:
        UnreadableResponse: it is none.

    """
    decode_provider_json(_decode_count, body)
    identity = f"count-{hashlib.sha256(body).hexdigest()[:24]}"
    return passed_through(body, usage=TokenUsage(), model="", response_id=identity)
