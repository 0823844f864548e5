"""Anthropic's codecs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.canonical.chat import ChatRequest, ChatResponse
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.anthropic.fields import MESSAGES_FIELDS
from domain.dialects.anthropic.images import image_tokens
from domain.dialects.anthropic.kept_thinking import without_kept
from domain.dialects.anthropic.parse_request import Echo, parse_chat_request
from domain.dialects.anthropic.render_request import adapt_chat_request, render_chat_request
from domain.dialects.anthropic.response import (
    meter_chat_response,
    parse_chat_response,
    render_chat_response,
)
from domain.dialects.anthropic.rules import CLIENT_NAMES, CLIENT_RULES, PROVIDER_RULES
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.stream_writer import AnthropicMessagesWriter
from domain.dialects.anthropic.whole_answers import events_of_message
from domain.dialects.codec import AdaptedRequest, Codec, RenderOptions, StreamWriter
from domain.estimate import thinking_within
from domain.models import usual_window, widest_window
from domain.tokens import TokenUsage

_encode = msgspec.json.Encoder().encode
_decode_chat = msgspec.json.Decoder(ChatResponse).decode
_decode_echo = msgspec.json.Decoder(Echo).decode

_LONG_CONTEXT = "context-1m-"
LONG_CONTEXT_WINDOW = 1_000_000

# The size of a thread is money, and its owner would be unknown here.
_NO_THREADS = {"thread": "send the whole conversation with each request"}


def _hides_thinking(options: RenderOptions) -> bool:
    return options.echo is not None and _decode_echo(options.echo).hides_thinking


class AnthropicMessages(Codec):
    """`POST /v1/messages`."""

    dialect = "anthropic"
    operation = "chat"
    path = "/v1/messages"
    output_caps = ("max_tokens",)
    known_fields = MESSAGES_FIELDS
    client_names = CLIENT_NAMES
    has_cache_marks = True
    fields_within_cap = ("thinking",)
    image_tokens = staticmethod(image_tokens)
    refused_fields = _NO_THREADS
    client_rules = CLIENT_RULES
    provider_rules = PROVIDER_RULES
    max_tool_name_chars = 128
    parse_request = staticmethod(parse_chat_request)
    parse_response = staticmethod(parse_chat_response)
    meter_response = staticmethod(meter_chat_response)
    without_foreign_thinking = staticmethod(without_kept)
    stream_reader = staticmethod(AnthropicMessagesReader)
    events_of_response = staticmethod(events_of_message)

    def context_window(self, upstream_model: str, context_window: int | None, headers: Mapping[str, str]) -> int:
        """See `Codec`: a beta makes it a million tokens."""
        if not any(_LONG_CONTEXT in value for name, value in headers.items() if name.lower() == "anthropic-beta"):
            return usual_window(upstream_model, context_window)
        return max(widest_window(upstream_model, context_window), LONG_CONTEXT_WINDOW)

    def thinking_budget(self, fields: Mapping[str, Any]) -> int | None:
        """See `Codec`."""
        thinking = fields.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        return budget if isinstance(budget, int) else None

    def within_cap(self, fields: Mapping[str, Any], cap: int) -> dict[str, Any]:
        """See `Codec`: the thinking budget."""
        budget = self.thinking_budget(fields)
        if budget is None or (lowered := thinking_within(cap, budget)) == budget:
            return {}
        return {"thinking": {**fields["thinking"], "budget_tokens": lowered}}

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "the operation is chat"
        return adapt_chat_request(request, upstream_model)

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "the operation is chat"
        rendered = render_chat_request(request, upstream_model)
        if is_stream:
            rendered["stream"] = True
        return _encode(rendered)

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return render_chat_response(_decode_chat(body), usage, hides_thinking=_hides_thinking(options))

    def stream_writer(self, options: RenderOptions) -> StreamWriter:
        """See `Codec`."""
        return AnthropicMessagesWriter(hides_thinking=_hides_thinking(options))
