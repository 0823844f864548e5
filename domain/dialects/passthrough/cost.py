"""Answers that are passed on as their provider wrote them: read only for what it takes to account for them."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from domain.dialects import anthropic, openai, responses_streamed
from domain.dialects.provider_response import FAILED, ProviderResponse, UnreadableResponse
from domain.dialects.streamed import decoded
from domain.sanitize import sanitize_identifier
from domain.tokens import TokenCount, TokenUsage

MAX_CHOICES_BYTES = 1024 * 1024


class _Ended(Struct, frozen=True):
    finish_reason: str | None = None


class _Chat(Struct, frozen=True):
    id: str
    usage: openai.WireUsage
    choices: msgspec.Raw = msgspec.Raw(b"[]")
    model: str = ""


class _Embeddings(Struct, frozen=True):
    usage: openai.WireUsage
    model: str = ""


class _Message(Struct, frozen=True):
    id: str
    usage: anthropic.WireUsage
    model: str = ""
    stop_reason: str | None = None


class _Count(Struct, frozen=True):
    input_tokens: TokenCount


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_choices = msgspec.json.Decoder(list[_Ended]).decode
_decode_only_choice = msgspec.json.Decoder(tuple[_Ended]).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_count = msgspec.json.Decoder(_Count).decode


def openai_chat(body: bytes) -> ProviderResponse:
    """An answer of `POST /chat/completions`.

    Raises:
        UnreadableResponse: it is none, or has no usage; so do all of these.

    """
    chat = decoded(_decode_chat, body)
    reason = _finish_reason(chat.choices)
    return _answered(
        body, openai.usage_from_wire(chat.usage), chat.model, chat.id, openai.FINISH_REASONS.get(reason, "stop")
    )


def _finish_reason(choices: msgspec.Raw) -> str | None:
    """Of the first choice; None if there is none. Of many long ones it is not looked for: an object for each would take
    far more memory than the answer.
    """
    try:
        if len(choices) <= MAX_CHOICES_BYTES:
            found = decoded(_decode_choices, choices)
            return found[0].finish_reason if found else None
        return decoded(_decode_only_choice, choices)[0].finish_reason
    except UnreadableResponse:
        if len(choices) <= MAX_CHOICES_BYTES:
            raise
        return None


def openai_embeddings(body: bytes) -> ProviderResponse:
    """An answer of `POST /embeddings`, which has no id: its digest stands for one."""
    found = decoded(_decode_embeddings, body)
    identity = f"emb-{hashlib.sha256(body).hexdigest()[:24]}"
    return _answered(body, openai.embeddings_usage_from_wire(found.usage), found.model, identity, None)


def openai_response(body: bytes) -> ProviderResponse:
    """An answer of `POST /responses`."""
    response = decoded(responses_streamed.decode_response, body)
    if response.usage is None or not response.id:
        raise UnreadableResponse("it is no response, or has no usage")
    usage = responses_streamed.usage_from_wire(response.usage)
    reason = responses_streamed.finish_reason(response) if response.error is None else FAILED
    return _answered(body, usage, response.model, response.id, reason)


def anthropic_message(body: bytes) -> ProviderResponse:
    """An answer of `POST /v1/messages`."""
    message = decoded(_decode_message, body)
    reason = anthropic.FINISH_REASONS.get(message.stop_reason, "stop")
    return _answered(body, anthropic.usage_from_wire(message.usage), message.model, message.id, reason)


def anthropic_count(body: bytes) -> ProviderResponse:
    """An answer of `POST /v1/messages/count_tokens`, for which nothing is charged."""
    decoded(_decode_count, body)
    return _answered(body, TokenUsage(), "", f"count-{hashlib.sha256(body).hexdigest()[:24]}", None)


def _answered(body: bytes, usage: TokenUsage, model: str, response_id: str, finish_reason: Any) -> ProviderResponse:
    return ProviderResponse(
        answer=body,
        usage=usage,
        answered_by=sanitize_identifier(model),
        response_id=sanitize_identifier(response_id),
        finish_reason=finish_reason,
    )
