"""Anthropic's count of a message's tokens. https://docs.anthropic.com/en/api/messages-count-tokens"""

import msgspec

from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.fields import COUNT_TOKENS_FIELDS
from domain.dialects.codec import AdaptedRequest, Codec, ProviderResponse, RenderOptions, TranslatedRequest
from domain.dialects.passthrough.json_edit import rewrite
from domain.dialects.passthrough.json_members import decode_members
from domain.dialects.token_count import decode_count, encode_count, estimate_tokens, meter_count
from domain.tokens import TokenUsage

_ANY_CAP = 1
_encode = msgspec.json.Encoder().encode


class AnthropicTokenCount(Codec):
    """`POST /v1/messages/count_tokens`: a message as `AnthropicMessages` reads and writes it, without its output."""

    dialect = "anthropic"
    operation = "count_tokens"
    path = "/v1/messages/count_tokens"
    has_streams = False
    has_output = False
    is_charged = False
    is_estimable = True
    known_fields = COUNT_TOKENS_FIELDS
    refused_fields = AnthropicMessages.refused_fields
    meter_response = staticmethod(meter_count)
    without_foreign_thinking = staticmethod(AnthropicMessages.without_foreign_thinking)
    messages = AnthropicMessages()

    def parse_request(self, body: bytes) -> TranslatedRequest:
        """See `Codec`: what is only counted loses nothing by what is left out."""
        return TranslatedRequest(request=self._counted(body))

    def adapt_request(self, request: ChatRequest | EmbeddingsRequest, upstream_model: str) -> AdaptedRequest:
        """See `Codec`."""
        return AdaptedRequest(request=self.messages.adapt_request(request, upstream_model).request)

    def render_request(
        self, request: ChatRequest | EmbeddingsRequest, upstream_model: str, *, is_stream: bool
    ) -> bytes:
        """See `Codec`."""
        members = decode_members(self.messages.render_request(request, upstream_model, is_stream=False))
        return _encode({name: value for name, value in members.items() if name in COUNT_TOKENS_FIELDS})

    def parse_response(self, body: bytes, *, model: str, provider: str) -> ProviderResponse:
        """See `Codec`."""
        return meter_count(encode_count(decode_count(body)))

    def estimate_response(self, body: bytes) -> bytes:
        """See `Codec`."""
        return _encode({"input_tokens": estimate_tokens(self._counted(body)), "estimated": True})

    def render_response(self, body: bytes, usage: TokenUsage, options: RenderOptions) -> bytes:
        """See `Codec`."""
        return body

    def _counted(self, body: bytes) -> ChatRequest | EmbeddingsRequest:
        """A message needs an output cap, which the request for its count has not."""
        return self.messages.parse_request(rewrite(body, {"max_tokens": _ANY_CAP})).request
