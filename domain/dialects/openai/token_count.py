"""OpenAI's count of a request's tokens. https://platform.openai.com/docs/api-reference/responses/input-tokens"""

import msgspec
from msgspec.structs import replace

from domain.canonical.chat import AssistantMessage, ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.codec import AdaptedRequest, Codec, ProviderResponse, RenderOptions, TranslatedRequest
from domain.dialects.openai.fields import RESPONSES_FIELDS
from domain.dialects.openai.responses.choice import needs_responses
from domain.dialects.openai.responses.reasoning import without_kept_reasoning
from domain.dialects.openai.responses.render import render_count_request
from domain.dialects.openai.responses.request import parse_responses_request
from domain.dialects.token_count import decode_count, encode_count, estimate_tokens, meter_count
from domain.tokens import TokenUsage


class OpenAiTokenCount(Codec):
    """`POST /responses/input_tokens`."""

    dialect = "openai"
    operation = "count_tokens"
    path = "/responses/input_tokens"
    has_streams = False
    has_output = False
    is_charged = False
    is_estimable = True
    known_fields = RESPONSES_FIELDS
    without_foreign_thinking = staticmethod(without_kept_reasoning)
    meter_response = staticmethod(meter_count)

    def parse_request(self, body: bytes) -> TranslatedRequest:
        """See `Codec`: what is only counted loses nothing by what is left out."""
        return TranslatedRequest(request=parse_responses_request(body).request)

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """See `Codec`: of the thinking in it, the model is shown what the Responses API is sent."""
        assert isinstance(request, ChatRequest), "a conversation is counted"
        if needs_responses(request, upstream_model, is_builtin=True):
            return AdaptedRequest(request=request)
        messages = [
            replace(message, reasoning=None) if isinstance(message, AssistantMessage) else message
            for message in request.messages
        ]
        return AdaptedRequest(request=replace(request, messages=messages))

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """See `Codec`."""
        assert isinstance(request, ChatRequest), "a conversation is counted"
        return msgspec.json.encode(render_count_request(request, upstream_model))

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """See `Codec`."""
        return meter_count(encode_count(decode_count(body)))

    def estimate_response(self, body: bytes) -> bytes:
        """See `Codec`."""
        counted = estimate_tokens(parse_responses_request(body).request)
        return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": counted, "estimated": True})

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": decode_count(body)})
