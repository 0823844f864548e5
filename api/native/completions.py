"""`POST /completions/chat` and `POST /completions/embeddings`: the question as it comes, the answer as it goes."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.answering import Answer
from api.limit_headers import limit_headers
from api.native.envelope import JSON, Described, Description
from api.question import CachePolicy, Question
from api.requests import AnyRequest, body_of, caller_of, convert, request_id_of, services_of
from domain.chat import AnswerUsage, ChatRequest, Choice
from domain.decoding import invalid
from domain.embeddings import Embedding, EmbeddingsRequest
from domain.errors import InvalidRequest
from domain.events import Operation
from domain.money import to_usd

MIN_CACHE_TTL_S = 60
MAX_CACHE_TTL_S = 86_400
DEFAULT_CACHE_TTL_S = 3_600
MAX_METADATA_MEMBERS = 32
MAX_METADATA_NAME_CHARS = 64
MAX_METADATA_BYTES = 8_192

CacheTtl = Annotated[int, Meta(ge=MIN_CACHE_TTL_S, le=MAX_CACHE_TTL_S)]
MetadataName = Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_NAME_CHARS, pattern="^[^\\x00]*$")]
Metadata = Annotated[dict[MetadataName, Any], Meta(max_length=MAX_METADATA_MEMBERS)]


class ChatCall(ChatRequest, frozen=True, kw_only=True):
    """A chat request, and how it is to be delivered."""

    cache: bool | None = None
    """Default true."""
    cache_ttl: CacheTtl | None = None
    """Seconds; default 3600. An older answer is not good enough, and this one is kept as long."""
    metadata: Metadata | None = None
    stream: Literal[False] | None = None


class EmbeddingsCall(EmbeddingsRequest, frozen=True, kw_only=True):
    """An embeddings request, and how it is to be delivered."""

    cache: bool | None = None
    cache_ttl: CacheTtl | None = None
    metadata: Metadata | None = None


class _Delivered(Struct, kw_only=True, rename="camel"):
    usage: AnswerUsage
    cost: Decimal | None
    """US dollars; 0 where cached; null where nobody can price the model."""
    cached: bool
    latency_ms: int
    request_id: str


class ChatDelivered(_Delivered, kw_only=True, rename="camel"):
    """A chat answer."""

    id: str
    model: str
    provider: str
    choices: list[Choice]


class EmbeddingsDelivered(_Delivered, kw_only=True, rename="camel"):
    """Embeddings."""

    model: str
    provider: str
    embeddings: list[Embedding]


class _CacheHeaders(Struct, frozen=True, rename={"mode": "x-gateway-cache", "ttl_s": "x-gateway-cache-ttl"}):
    """The headers by which a request on any surface says what it wants of the cache."""

    mode: Literal["on", "off", "refresh"] | None = None
    ttl_s: CacheTtl | None = None


_chat_decoder = msgspec.json.Decoder(ChatCall)
_embeddings_decoder = msgspec.json.Decoder(EmbeddingsCall)
_metadata_decoder = msgspec.json.Decoder(Metadata)
_encode = msgspec.json.Encoder().encode
_NUL = re.compile(rb"\\u0000")


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The two routes."""
    errors = (400, 401, 402, 403, 404, 413, 422, 429, 502, 503, 504)

    @post(
        "/completions/chat",
        summary="Ask a model",
        operation_class=described.operation(Description(body=ChatCall, answer=ChatDelivered, errors=errors)),
        status_code=200,
    )
    async def chat(request: AnyRequest) -> Response[bytes]:
        """Answer a chat request, from the cache where that may be."""
        return await _complete(request, "chat", _chat_decoder, ChatRequest)

    @post(
        "/completions/embeddings",
        summary="Turn texts into vectors",
        operation_class=described.operation(
            Description(body=EmbeddingsCall, answer=EmbeddingsDelivered, errors=errors)
        ),
        status_code=200,
    )
    async def embeddings(request: AnyRequest) -> Response[bytes]:
        """Answer an embeddings request, from the cache where that may be."""
        return await _complete(request, "embeddings", _embeddings_decoder, EmbeddingsRequest)

    return [chat, embeddings]


async def _complete(
    request: AnyRequest, operation: Operation, decoder: Any, shape: type[ChatRequest | EmbeddingsRequest]
) -> Response[bytes]:
    received_at = datetime.now(UTC)
    caller = await caller_of(request)
    call = await body_of(request, decoder)
    question = Question(
        request_id=request_id_of(request.scope),
        operation=operation,
        request=shape(**{name: getattr(call, name) for name in shape.__struct_fields__}),
        cache=_cache_policy(request, call),
        metadata=_metadata(request, call.metadata),
        received_at=received_at,
    )
    answer = await services_of(request).answering.answer(caller, question)
    return _delivered(answer, question)


def _delivered(answer: Answer, question: Question) -> Response[bytes]:
    """The answer's own JSON goes out as it is, with what is known of its delivery behind it."""
    cost_nano_usd = answer.cost_nano_usd
    cost = f"{to_usd(cost_nano_usd):f}" if cost_nano_usd is not None else None
    latency = datetime.now(UTC) - question.received_at
    delivery = (
        f',"cost":{cost or "null"},"cached":{"true" if answer.cache == "HIT" else "false"},'
        f'"latencyMs":{max(0, round(latency.total_seconds() * 1000))},"requestId":"{question.request_id}"}}}}'
    )
    headers = {
        "x-gateway-cache": answer.cache,
        "x-gateway-provider": answer.receipt.provider,
        "x-gateway-model": answer.receipt.upstream_model,
        **limit_headers(answer.standing),
    }
    if answer.lowered_cap is not None:
        headers["x-gateway-max-tokens"] = str(answer.lowered_cap)
    if cost is not None:
        headers["x-gateway-cost-usd"] = cost
    else:
        headers["x-gateway-warning"] = f"model {answer.receipt.upstream_model} has no known price: its cost is unknown"
    content = b'{"success":true,"data":' + answer.body[:-1] + delivery.encode()
    return Response(content, media_type=JSON, headers=headers)


def _cache_policy(request: AnyRequest, call: ChatCall | EmbeddingsCall) -> CachePolicy:
    """The headers' word goes before the body's."""
    headers = request.headers
    ttl_s = call.cache_ttl or DEFAULT_CACHE_TTL_S
    mode: Literal["on", "off", "refresh"] = "off" if call.cache is False else "on"
    if "x-gateway-cache" in headers or "x-gateway-cache-ttl" in headers:
        given = {name: value for name in ("x-gateway-cache", "x-gateway-cache-ttl") if (value := headers.get(name))}
        wanted = convert(given, _CacheHeaders)
        mode, ttl_s = wanted.mode or mode, wanted.ttl_s or ttl_s
    return CachePolicy(mode=mode, ttl_s=ttl_s)


def _metadata(request: AnyRequest, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """The body's metadata and the header's, checked: it is kept in the log for ever."""
    header = request.headers.get("x-gateway-metadata")
    if header is not None:
        try:
            metadata = (metadata or {}) | _metadata_decoder.decode(header)
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"`x-gateway-metadata`: {invalid(error).message}", field="x-gateway-metadata"
            ) from None
        except msgspec.DecodeError as error:
            message = f"`x-gateway-metadata` is not valid JSON: {error}"
            raise InvalidRequest(message, field="x-gateway-metadata") from None
    if not metadata:
        return None
    encoded = _encode(metadata)
    if len(encoded) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"`metadata` may have {MAX_METADATA_BYTES} bytes as JSON", field="metadata")
    if _NUL.search(encoded):
        raise InvalidRequest("`metadata` may not contain the character U+0000", field="metadata")
    return metadata
