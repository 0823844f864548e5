"""OpenAI's chat completions: a provider's into the canonical response, and the canonical response into a client's."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from domain.canonical.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    FinishReason,
    ReasoningBlock,
    ToolCall,
    answered_call,
)
from domain.dialects.codec import ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json, stream_failure
from domain.dialects.errors import UnreadableResponse
from domain.dialects.openai import types
from domain.dialects.openai.reasoning import parse_reasoning, render_reasoning, thinking_text
from domain.dialects.openai.tools import ToolEcho, custom_arguments, custom_input
from domain.dialects.openai.usage import CITATION, parse_extras, parse_usage, render_usage
from domain.dialects.sse import BYTE_ORDER_MARK
from domain.estimate import utf8_length
from domain.extras import NO_EXTRAS, Extras
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenUsage, answer_usage

MAX_CHOICES_BYTES = 1024 * 1024
MADE_ID_CHARS = 24
NO_ECHO = ToolEcho()

_decode = msgspec.json.Decoder(types.ChatCompletion).decode
_decode_metered = msgspec.json.Decoder(types.MeteredChatCompletion).decode
_decode_choices = msgspec.json.Decoder(list[types.MeteredChoice]).decode
_decode_only_choice = msgspec.json.Decoder(tuple[types.MeteredChoice]).decode
_encode = msgspec.json.encode

_FINISH_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
}
"""OpenAI's words, and those of providers that speak alike, in lower case. Any other is `stop`."""
_NOTHING = frozenset({b"null", b'""', b"[]", b"{}"})


def finish_reason(said: Any, *, has_calls: bool = False) -> FinishReason | None:
    """Why an answer ended; None: the provider did not say. Some say that it stopped when it wants to call a tool."""
    if said is None or said == "":
        return None
    found = _FINISH_REASONS.get(said.lower(), "stop") if isinstance(said, str) else "stop"
    return "tool_calls" if has_calls and found == "stop" else found


def identifier(said: Any) -> str:
    """An id or a model's name as the provider wrote it; empty if it wrote none."""
    return sanitize_identifier(str(said)) if isinstance(said, str | int) else ""


def made_id(prefix: str, *parts: object) -> str:
    """An id for what has none: other in other answers, and the same whenever this one is read."""
    digest = hashlib.sha256(b"\x00".join(str(part).encode() if not isinstance(part, bytes) else part for part in parts))
    return f"{prefix}{digest.hexdigest()[:MADE_ID_CHARS]}"


class MadeIds:
    """Ids for the parts of a text that have none. The text is hashed once, however many they are, and not for none."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def of(self, prefix: str, *places: object) -> str:
        """The id of what stands at a place in the text."""
        return made_id(prefix, self._digest, *places)

    @cached_property
    def _digest(self) -> bytes:
        return hashlib.sha256(self._text).digest()


def parse_chat_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read a chat completion. `model` is the name that the caller used.

    Raises:
        UnreadableResponse: it is none.
        StreamFailed: it is the provider's report of a failure.

    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    completion = decode_provider_json(_decode, body)
    if completion.error and not completion.choices:
        raise stream_failure(completion.error)
    if not completion.choices and completion.usage is None:
        raise UnreadableResponse("it has neither an answer nor a usage")
    ids = MadeIds(body)
    choices = [_parse_choice(choice, place, ids) for place, choice in enumerate(completion.choices or ())]
    choices = choices or [Choice(index=0, message=AnswerMessage(content=None), finish_reason="stop")]
    return canonical_response(
        ChatResponse(
            id=identifier(completion.id) or made_id("chatcmpl-", body),
            model=model,
            provider=provider,
            choices=choices,
            usage=answer_usage(TokenUsage()),
        ),
        said_usage=completion.usage,
        answered_by=identifier(completion.model),
        extras=parse_extras(completion.usage, completion.service_tier, has_citations=CITATION in body),
    )


def canonical_response(
    response: ChatResponse, *, said_usage: Any, answered_by: str, extras: Extras = NO_EXTRAS
) -> ProviderResponse:
    """The response of a provider, with the usage as it said it."""
    said = parse_usage(said_usage)
    if said.usage is not None:
        response = msgspec.structs.replace(response, usage=answer_usage(said.usage))
    messages = [choice.message for choice in response.choices]
    return ProviderResponse(
        body=_encode(response),
        usage=said.usage,
        input_usage=said.input_usage,
        received_output_bytes=sum(map(_output_bytes, messages)) if said.usage is None else 0,
        answered_by=answered_by,
        response_id=response.id,
        finish_reason=response.choices[0].finish_reason if response.choices else None,
        is_empty=not any(message.content or message.tool_calls for message in messages),
        extras=extras,
    )


def _output_bytes(message: AnswerMessage) -> int:
    texts = [message.content, *(text for one in message.reasoning or () for text in (one.text, one.data))]
    for call in message.tool_calls or ():
        texts += (call.function.name, call.function.arguments)
    return sum(map(utf8_length, texts))


def _parse_choice(choice: types.CompletionChoice, place: int, ids: MadeIds) -> Choice:
    """Read a choice. An answer that is only a refusal counts as filtered, whatever its finish reason."""
    message = choice.message or choice.delta or types.CompletionMessage()
    text = text_of(message.content)
    calls = _parse_calls(message, lambda index: ids.of("call_", place, index))
    thoughts = parse_reasoning(message.reasoning_details) or thoughts_of(message.content)
    thoughts = thoughts or parse_reasoning(None, message.reasoning_content, message.reasoning)
    ended = finish_reason(choice.finish_reason, has_calls=bool(calls)) or ("tool_calls" if calls else "stop")
    return Choice(
        index=place if choice.index is None else choice.index,
        message=AnswerMessage(
            content=text or message.refusal or text,
            tool_calls=calls or UNSET,
            reasoning=thoughts or UNSET,
            is_refusal=bool(message.refusal and not text) or UNSET,
        ),
        finish_reason="content_filter" if message.refusal and not text else ended,
    )


def _parse_calls(message: types.CompletionMessage, make_id: Callable[[int], str]) -> list[ToolCall]:
    calls = [
        answered_call(call.call_id or make_id(index), *function, extra_content(call) or UNSET)
        for index, call in enumerate(message.tool_calls or ())
        if (function := _parse_function(call)) is not None
    ]
    said = message.function_call
    if not calls and said is not None and said.name:
        calls = [answered_call(make_id(0), said.name, arguments_of(said.arguments) or "{}")]
    return calls


def _parse_function(call: types.CompletionToolCall) -> tuple[str, str] | None:
    """The name and the arguments of a call."""
    if call.function is not None and call.function.name:
        return call.function.name, arguments_of(call.function.arguments) or "{}"
    if isinstance(call.custom, dict) and isinstance(call.custom.get("name"), str):
        return call.custom["name"], custom_arguments(str(call.custom.get("input") or ""))
    return None


def arguments_of(said: Any) -> str | None:
    """A call's arguments, or a piece of them, as text. Some providers write the object itself."""
    if said is None or isinstance(said, str):
        return said or None
    return _encode(said).decode()


def extra_content(call: types.CompletionToolCall) -> dict[str, Any] | None:
    """What the provider wants back with a call. Some write Gemini's signature beside the function's name."""
    if isinstance(call.extra_content, dict) and call.extra_content:
        return call.extra_content
    signature = call.function.thought_signature if call.function is not None else None
    return {"google": {"thought_signature": signature}} if signature else None


def text_of(content: Any) -> str | None:
    """The text of a message or a delta: a string, or (Mistral's thinking models) the text parts of a list."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [text for part in parts if (text := _text_of_part(part)) is not None]
    return "".join(texts) if texts else None


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "output_text", None) else None
    return text if isinstance(text, str) else None


def thoughts_of(content: Any) -> list[ReasoningBlock]:
    """The parts of a content that are thinking."""
    parts = content if isinstance(content, list) else ()
    texts = [
        text
        for part in parts
        if isinstance(part, dict) and part.get("type") == "thinking" and (text := thinking_text(part.get("thinking")))
    ]
    return [ReasoningBlock(text=text) for text in texts]


def render_chat_response(
    response: ChatResponse, usage: TokenUsage, *, created_s: int, echo: ToolEcho = NO_ECHO
) -> bytes:
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
                    "message": _render_message(choice.message, echo),
                    "logprobs": None,
                    "finish_reason": written_finish(choice, echo) or "stop",  # clients expect one
                }
                for choice in response.choices
            ],
            "usage": render_usage(usage),
            "system_fingerprint": None,
        }
    )


def written_finish(choice: Choice, echo: ToolEcho) -> str | None:
    """The finish reason as the client knows it. OpenAI's refusals have a place of their own, and stop."""
    if choice.message.is_refusal is True:
        return "stop"
    return renamed_finish(choice.finish_reason, echo)


def renamed_finish(reason: FinishReason | None, echo: ToolEcho) -> str | None:
    """The finish reason, by which a client of `functions` knows its calls."""
    return "function_call" if reason == "tool_calls" and echo.are_functions else reason


def _render_message(message: AnswerMessage, echo: ToolEcho) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content, "refusal": None}
    if message.is_refusal is True:
        wire |= {"content": None, "refusal": message.content}
    if message.reasoning:
        wire |= render_reasoning(message.reasoning)
    if message.tool_calls and echo.are_functions:
        wire["function_call"] = message.tool_calls[0].function
    elif message.tool_calls:
        wire["tool_calls"] = [_render_call(call, echo) for call in message.tool_calls]
    return wire


def _render_call(call: ToolCall, echo: ToolEcho) -> ToolCall | dict[str, Any]:
    if call.function.name in echo.custom:
        custom = {"name": call.function.name, "input": custom_input(call.function.arguments)}
        return {"id": call.id, "type": "custom", "custom": custom}
    wire: dict[str, Any] = {"id": call.id, "function": call.function, "type": call.type}
    return wire | ({"extra_content": call.extra_content} if call.extra_content else {})


def meter_chat_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through chat completion. Raises as `parse_chat_response`."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    completion = decode_provider_json(_decode_metered, body)
    choices = _metered_choices(completion.choices)
    if completion.error and not choices:
        raise stream_failure(completion.error)
    if not choices and completion.usage is None:
        raise UnreadableResponse("it has neither an answer nor a usage")
    said = parse_usage(completion.usage)
    return passed_through(
        body,
        usage=said.usage,
        input_usage=said.input_usage,
        received_output_bytes=len(completion.choices) if said.usage is None else 0,
        model=identifier(completion.model),
        response_id=identifier(completion.id) or made_id("chatcmpl-", body),
        finish_reason=_metered_finish(choices[0]) if choices else None,
        is_empty=all(map(_is_empty, choices)),
        extras=parse_extras(completion.usage, completion.service_tier, has_citations=CITATION in body),
    )


def _metered_finish(choice: types.MeteredChoice) -> FinishReason | None:
    """As in a canonical response: an answer that is only a refusal was filtered."""
    message = choice.message or types.MeteredMessage()
    has_refused = message.refusal is not UNSET and bytes(message.refusal) not in _NOTHING
    has_answered = message.content is not UNSET and bytes(message.content) not in _NOTHING
    return "content_filter" if has_refused and not has_answered else finish_reason(choice.finish_reason)


def _metered_choices(choices: Raw) -> Sequence[types.MeteredChoice]:
    """The choices. One that says nothing if there are several long ones: decoding those would take far more memory
    than the response.
    """
    if bytes(choices) == b"null":
        return ()
    try:
        if len(choices) <= MAX_CHOICES_BYTES:
            return decode_provider_json(_decode_choices, choices)
        return decode_provider_json(_decode_only_choice, choices)
    except UnreadableResponse:
        if len(choices) <= MAX_CHOICES_BYTES:
            raise
        return (types.MeteredChoice(message=types.MeteredMessage(content=choices)),)


def _is_empty(choice: types.MeteredChoice) -> bool:
    message = choice.message or types.MeteredMessage()
    spoken = (message.content, choice.text, message.audio, message.refusal)
    for one in (*spoken, message.tool_calls, message.function_call):
        if one is not UNSET and bytes(one) not in _NOTHING:
            return False
    return True
