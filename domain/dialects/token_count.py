"""A count of a request's tokens, as both vendors' calls for it answer: `{"input_tokens": …}`.

What a provider counts is exact. Where it has no such call, `estimate_tokens` says about how many there are: a guess for
a client that watches its context window, not the bound that a budget is held to.
"""

import hashlib

import msgspec
from msgspec import Struct

from domain.canonical.chat import ChatRequest, ImagePart, TextPart
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.codec import ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json
from domain.estimate import utf8_length
from domain.tokens import TokenCount, TokenUsage

BYTES_PER_TOKEN = 4
"""Of English and of code, by OpenAI's own rule of thumb; other languages have fewer characters and more bytes."""
TOKENS_PER_MESSAGE = 4
TOKENS_PER_IMAGE = 1_600
"""What Anthropic's formula gives for the largest image that is not scaled down; OpenAI's tiles give about as many."""
TOKENS_PER_FILE = 3_000
"""A page or two."""


class _Count(Struct, frozen=True):
    input_tokens: TokenCount


_decode = msgspec.json.Decoder(_Count).decode


def decode_count(body: bytes) -> int:
    """The count in a provider's answer.

    Raises:
        UnreadableResponse: there is none.

    """
    return decode_provider_json(_decode, body).input_tokens


def encode_count(input_tokens: int) -> bytes:
    """The canonical count."""
    return msgspec.json.encode(_Count(input_tokens))


def meter_count(body: bytes) -> ProviderResponse:
    """Read a count, for which nothing is charged. Raises as `decode_count`."""
    decode_count(body)
    identity = f"count-{hashlib.sha256(body).hexdigest()[:24]}"
    return passed_through(body, usage=TokenUsage(), model="", response_id=identity)


def estimate_tokens(request: ChatRequest | EmbeddingsRequest) -> int:
    """About how many tokens a request has, for a model that nobody can be asked about."""
    assert isinstance(request, ChatRequest), "a conversation is counted"
    sizes = tokens = 0
    for message in request.messages:
        tokens += TOKENS_PER_MESSAGE
        content = message.content
        for part in [TextPart(text=content)] if isinstance(content, str) else content or ():
            if isinstance(part, TextPart):
                sizes += utf8_length(part.text)
            else:
                tokens += TOKENS_PER_IMAGE if isinstance(part, ImagePart) else TOKENS_PER_FILE
        for call in getattr(message, "tool_calls", None) or ():
            sizes += utf8_length(call.function.name) + utf8_length(call.function.arguments)
        for thought in getattr(message, "reasoning", None) or ():
            sizes += utf8_length(thought.text)
    for described in (request.tools, request.response_format):
        sizes += len(msgspec.json.encode(described)) if described is not None else 0
    return tokens + -(-sizes // BYTES_PER_TOKEN)
