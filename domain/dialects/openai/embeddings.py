"""OpenAI's embeddings, requests and responses. https://platform.openai.com/docs/api-reference/embeddings

Texts only: a token has a meaning to its own model alone, so a request that has tokens for texts is not translated.
"""

import base64
import hashlib
import sys
from array import array
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from domain.canonical.chat import User
from domain.canonical.embeddings import MAX_INPUTS, Dimensions, EmbeddingsRequest, EmbeddingsResponse, InputText
from domain.dialects.codec import EncodingFormat, ProviderResponse, TranslatedRequest, passed_through
from domain.dialects.decode import decode_provider_json
from domain.dialects.errors import UnreadableResponse
from domain.dialects.field_rules import DroppedFields, decode_translatable, drop_unknown, not_translatable
from domain.dialects.openai.request_types import RequestPart
from domain.dialects.openai.response import identifier
from domain.dialects.openai.usage import parse_embeddings_usage
from domain.dialects.sse import BYTE_ORDER_MARK
from domain.names import Name
from domain.tokens import AnswerUsage, TokenUsage, answer_usage

MAX_OTHER_ARRAYS = 16
"""Arrays in a response beside the vectors: `data`, and others that the vendor may add."""


class OpenAIEmbeddingsBody(RequestPart, frozen=True, kw_only=True):
    """The body of `POST /embeddings`; OpenAI takes tokens for texts."""

    model: Name
    input: InputText | Annotated[list[InputText | int | list[int]], Meta(min_length=1, max_length=MAX_INPUTS)]
    dimensions: Dimensions | None = None
    encoding_format: EncodingFormat | None = None
    user: User | None = None


class EmbeddingObject(Struct, frozen=True):
    """One vector of a response."""

    index: int
    embedding: msgspec.Raw
    """Numbers as the provider wrote them: as objects they would take several times the memory."""


class EmbeddingsList(Struct, frozen=True):
    """A provider's response."""

    data: list[EmbeddingObject]
    usage: Any = None
    model: Any = None


class MeteredEmbeddings(Struct, frozen=True):
    """As much of a passed-through response as its costs depend on."""

    usage: Any = None
    model: Any = None


class _CanonicalEmbeddings(Struct, frozen=True, kw_only=True, rename="camel"):
    """`EmbeddingsResponse` with vectors that are JSON already."""

    model: str
    provider: str
    embeddings: list[EmbeddingObject]
    usage: AnswerUsage


_decode_request = msgspec.json.Decoder(OpenAIEmbeddingsBody)
_decode_list = msgspec.json.Decoder(EmbeddingsList).decode
_decode_metered = msgspec.json.Decoder(MeteredEmbeddings).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_encode = msgspec.json.encode


def parse_embeddings_request(body: bytes) -> TranslatedRequest:
    """Read the body of `POST /embeddings`, and how its client wants the vectors written.

    Raises:
        InvalidRequest: names the field, as the client spelled it.

    """
    given = decode_translatable(body, _decode_request)
    texts = [given.input] if isinstance(given.input, str) else [text for text in given.input if isinstance(text, str)]
    if not isinstance(given.input, str) and len(texts) != len(given.input):
        raise not_translatable("input", "send texts, tokens are those of OpenAI's models")
    request = EmbeddingsRequest(
        model=given.model,
        input=given.input if isinstance(given.input, str) else texts,
        dimensions=given.dimensions,
        user=given.user,
    )
    dropped = DroppedFields()
    drop_unknown(given, msgspec.json.decode(body), dropped)
    return TranslatedRequest(request=request, encoding_format=given.encoding_format or "float", dropped=dropped.names)


def render_embeddings_request(request: EmbeddingsRequest, upstream_model: str) -> dict[str, Any]:
    """The body of `POST /embeddings`. It always requests floats; our response has the client's format."""
    wire = {
        "model": upstream_model,
        "input": request.input,
        "dimensions": request.dimensions,
        "user": request.user,
        "encoding_format": "float",
    }
    return {name: value for name, value in wire.items() if value is not None}


def parse_embeddings_response(body: bytes, *, model: str, provider: str) -> ProviderResponse:
    """Read the vectors. A response has no id: its digest stands for one. `model` is the name that the caller used.

    Raises:
        UnreadableResponse: it is none.

    """
    if body.count(b"[") > MAX_INPUTS + MAX_OTHER_ARRAYS:
        raise UnreadableResponse("it has more arrays than there can be vectors")
    embeddings = decode_provider_json(_decode_list, body.removeprefix(BYTE_ORDER_MARK))
    for vector in embeddings.data:
        decode_provider_json(_decode_numbers, vector.embedding)
    usage = parse_embeddings_usage(embeddings.usage).usage
    response = _CanonicalEmbeddings(
        model=model, provider=provider, embeddings=embeddings.data, usage=answer_usage(usage or TokenUsage())
    )
    return ProviderResponse(
        body=_encode(response),
        usage=usage,
        answered_by=identifier(embeddings.model),
        response_id=_digest_id(body),
    )


def render_embeddings_response(
    response: EmbeddingsResponse, usage: TokenUsage, encoding_format: EncodingFormat
) -> bytes:
    """Write the vectors; in `base64` (which OpenAI's SDK asks for) they are little-endian 32-bit floats."""
    return _encode(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": vector.index,
                    "embedding": _base64(vector.embedding) if encoding_format == "base64" else vector.embedding,
                }
                for vector in response.embeddings
            ],
            "model": response.model,
            "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens},
        }
    )


def _base64(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def meter_embeddings_response(body: bytes) -> ProviderResponse:
    """Read the usage of a passed-through response. Raises as `parse_embeddings_response`."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    embeddings = decode_provider_json(_decode_metered, body)
    return passed_through(
        body,
        usage=parse_embeddings_usage(embeddings.usage).usage,
        model=identifier(embeddings.model),
        response_id=_digest_id(body),
    )


def _digest_id(body: bytes) -> str:
    return f"emb-{hashlib.sha256(body).hexdigest()[:24]}"
