"""OpenAI's chat completions: a provider's into the canonical response, and the canonical response into a client's."""

from typing import Any

import msgspec
from msgspec import UNSET

from domain.canonical.chat import AnswerMessage, ChatResponse, Choice, FinishReason, FunctionCall, ToolCall
from domain.dialects.codec import ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai import types
from domain.dialects.openai.usage import parse_usage, render_usage
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage, answer_usage

MAX_CHOICES_BYTES = 1024 * 1024

_decode = msgspec.json.Decoder(types.ChatCompletion).decode
_decode_metered = msgspec.json.Decoder(types.MeteredChatCompletion).decode
_decode_choices = msgspec.json.Decoder(list[types.MeteredChoice]).decode
_decode_only_choice = msgspec.json.Decoder(tuple[types.MeteredChoice]).decode
_encode = msgspec.json.encode

FINISH_REASONS: dict[str | None, FinishReason | None] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    None: None,
}


def parse_chat_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read a chat completion. `model` is the name that the caller used.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    completion = decode_provider_json(_decode, body)
    usage = parse_usage(completion.usage)
    response_id = sanitize_identifier(completion.id)
    choices = [_parse_choice(choice) for choice in completion.choices]
    response = ChatResponse(id=response_id, model=model, provider=provider, choices=choices, usage=answer_usage(usage))
    return ProviderResponse(
        body=_encode(response),
        usage=usage,
        answered_by=sanitize_identifier(completion.model),
        response_id=response_id,
        finish_reason=choices[0].finish_reason if choices else None,
    )


def _parse_choice(choice: types.CompletionChoice) -> Choice:
    """Read a choice. An answer that is only a refusal counts as filtered, whatever its finish reason."""
    message = choice.message
    text = text_of(message.content)
    calls = [
        ToolCall(id=call.id, function=FunctionCall(name=call.function.name, arguments=call.function.arguments))
        for call in message.tool_calls or ()
    ]
    is_refusal = message.refusal and not text
    return Choice(
        index=choice.index,
        message=AnswerMessage(content=text or message.refusal, tool_calls=calls or UNSET),
        finish_reason="content_filter" if is_refusal else FINISH_REASONS.get(choice.finish_reason, "stop"),
    )


def text_of(content: Any) -> str | None:
    """The text of a message or a delta: a string, or (Mistral's thinking models) the text parts of a list.

    Thinking has no place in the canonical answer, nor have parts of kinds to come.
    """
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    return "".join(texts) if texts else None


def _text_of_part(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    return text if isinstance(text, str) else None


def render_chat_response(response: ChatResponse, usage: TokenUsage, *, created_s: int) -> bytes:
    """Write a chat completion; `created_s` is a Unix time."""
    return _encode(
        {
            "id": response.id,
            "object": "chat.completion",
            "created": created_s,
            "model": response.model,
            "choices": [
                {
                    "index": choice.index,
                    "message": _render_message(choice.message),
                    "logprobs": None,
                    "finish_reason": choice.finish_reason or "stop",  # clients expect one
                }
                for choice in response.choices
            ],
            "usage": render_usage(usage),
        }
    )


def _render_message(message: AnswerMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content, "refusal": None}
    if message.tool_calls is not UNSET and message.tool_calls:
        wire["tool_calls"] = message.tool_calls
    return wire


def meter_chat_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through chat completion.

    Raises:
        UnreadableResponse: it is none, or has no usage.

    """
    completion = decode_provider_json(_decode_metered, body)
    return passed_through(
        body,
        usage=parse_usage(completion.usage),
        model=completion.model,
        response_id=completion.id,
        finish_reason=FINISH_REASONS.get(_first_finish_reason(completion.choices), "stop"),
    )


def _first_finish_reason(choices: msgspec.Raw) -> str | None:
    """None if there is no choice, or if there are several long ones: decoding those would take far more memory than
    the response.
    """
    try:
        if len(choices) <= MAX_CHOICES_BYTES:
            found = decode_provider_json(_decode_choices, choices)
            return found[0].finish_reason if found else None
        return decode_provider_json(_decode_only_choice, choices)[0].finish_reason
    except UnreadableResponse:
        if len(choices) <= MAX_CHOICES_BYTES:
            raise
        return None
