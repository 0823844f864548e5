"""`POST /completions/chat` and `POST /completions/embeddings`: reads the request and sends the response."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Response, post
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from api.delivery import EventStream, JsonAnswer, answer_headers, limit_headers, stream_headers
from api.idempotency import idempotency_of
from api.inference_response import InferenceResponse
from api.native.openapi import completion_operation
from api.native.streams import STREAM, NativeStream, stated_latency_ms
from api.planned_targets import planned
from api.request_context import InferenceRequest
from api.request_facts import facts_of
from api.requests import (
    CacheTtl,
    Fallbacks,
    HttpRequest,
    Metadata,
    asks_strict_translation,
    bytes_in_hand,
    cache_policy,
    caller_and_body,
    fallbacks_of,
    metadata_of,
    request_id_of,
    services_of,
)
from domain.call_origin import origin_of
from domain.canonical.chat import ChatRequest, Choice
from domain.canonical.embeddings import Embedding, EmbeddingsRequest
from domain.decoding import decoded
from domain.dialects.request_body import CanonicalRequest
from domain.events import Operation
from domain.money import to_usd
from domain.tokens import AnswerUsage
from infra.jobs import StreamFormat


class ChatBody(ChatRequest, frozen=True, kw_only=True):
    """A chat request, and how it is to be delivered."""

    cache: bool | None = None
    """Default true."""
    cache_ttl: CacheTtl | None = None
    """Seconds; default 3600. A cached response may be this old; this one is cached for as long."""
    metadata: Metadata | None = None
    stream: bool | None = None
    """If true, the answer is sent as Server-Sent Events."""
    fallbacks: Fallbacks | None = None
    """Models that are tried, in their order, if `model` fails."""


class EmbeddingsBody(EmbeddingsRequest, frozen=True, kw_only=True):
    """An embeddings request, and how it is to be delivered."""

    cache: bool | None = None
    cache_ttl: CacheTtl | None = None
    metadata: Metadata | None = None
    fallbacks: Fallbacks | None = None


class _DeliveryOut(Struct, kw_only=True, rename="camel"):
    usage: AnswerUsage
    cost: Decimal | None
    """US dollars; 0 if cached; null if the model has no price."""
    cost_is_lower_bound: bool | UnsetType = UNSET
    """True: something was used that has no known price, and the cost is without it."""
    cached: bool
    latency_ms: int
    request_id: str


class ChatOut(_DeliveryOut, kw_only=True, rename="camel"):
    """A chat answer."""

    id: str
    model: str
    provider: str
    choices: list[Choice]


class EmbeddingsOut(_DeliveryOut, kw_only=True, rename="camel"):
    """Embeddings."""

    model: str
    provider: str
    embeddings: list[Embedding]


_chat_decoder = msgspec.json.Decoder(ChatBody)
_embeddings_decoder = msgspec.json.Decoder(EmbeddingsBody)


@post(
    "/completions/chat",
    summary="Ask a model",
    operation_id="ApiV1CompletionsChatChat",
    operation_class=completion_operation(ChatBody, ChatOut, STREAM),
    status_code=200,
)
async def chat(request: HttpRequest) -> Response[bytes]:
    """Answer a chat request, from the cache if it may be and the cache has a response."""
    return await answer_chat(request)


@post(
    "/completions/embeddings",
    summary="Turn texts into vectors",
    operation_id="ApiV1CompletionsEmbeddingsEmbeddings",
    operation_class=completion_operation(EmbeddingsBody, EmbeddingsOut),
    status_code=200,
)
async def embeddings(request: HttpRequest) -> Response[bytes]:
    """Answer an embeddings request, from the cache if it may be and the cache has a response."""
    return await answer_embeddings(request)


async def answer_chat(request: HttpRequest) -> Response[bytes]:
    """Answer a chat request. Raises as `InferenceService.infer`."""
    return await _complete(request, "chat", _chat_decoder, ChatRequest)


async def answer_embeddings(request: HttpRequest) -> Response[bytes]:
    """Answer an embeddings request. Raises as `InferenceService.infer`."""
    return await _complete(request, "embeddings", _embeddings_decoder, EmbeddingsRequest)


HANDLERS = (chat, embeddings)
OPENAPI_TYPES = (ChatBody, ChatOut, EmbeddingsBody, EmbeddingsOut, *STREAM.types)
"""For the OpenAPI description: the handlers' signatures do not have these types."""


async def _complete(
    request: HttpRequest, operation: Operation, decoder: Any, shape: type[ChatRequest | EmbeddingsRequest]
) -> Response[bytes]:
    received_at = datetime.now(UTC)
    services = services_of(request)
    caller, body = await caller_and_body(request, services)
    call = await services.large_requests.run(caller.project_id, len(body), decoded, body, decoder)
    plan = services.planner.targets(caller, call.model, fallbacks_of(request, call.fallbacks))
    asked = shape(**{name: getattr(call, name) for name in shape.__struct_fields__})
    inference_request = InferenceRequest(
        request_id=request_id_of(request.scope),
        operation=operation,
        body=CanonicalRequest(asked),
        target=plan.first,
        size_bytes=len(body),
        cache=cache_policy(request, mode="off" if call.cache is False else "on", ttl_s=call.cache_ttl),
        metadata=metadata_of(request, call.metadata),
        origin=origin_of(request.scope["headers"]),
        received_at=received_at,
        in_hand=bytes_in_hand(request),
        is_strict=asks_strict_translation(request),
        has_native_defaults=True,
        stream=StreamFormat(surface="native") if getattr(call, "stream", None) else None,
        idempotency=await idempotency_of(request, caller, body, received_at),
        facts=facts_of(request.scope),
    )
    if not plan.is_ordinary:
        bodies = [CanonicalRequest(replace(asked, model=one.asked.model)) for one in plan.targets]
        each = [
            replace(inference_request, target=one.target, body=body)
            for one, body in zip(plan.targets, bodies, strict=True)
        ]
        inference_request = planned(plan, each)
    response = await services.inference.infer(caller, inference_request, request.receive)
    if inference_request.stream is not None:
        headers = stream_headers(response) | limit_headers(response.limit_status)
        return EventStream(response, NativeStream(inference_request), headers)
    assert isinstance(response, InferenceResponse), "not asked to be streamed"
    return _delivered(response, inference_request)


_LOWER_BOUND = '"costIsLowerBound":true,'


def _delivered(response: InferenceResponse, inference_request: InferenceRequest) -> Response[bytes]:
    """Send the response's own JSON as it is, with the fields of its delivery appended."""
    cost_nano_usd = response.stated_cost_nano_usd
    cost = f"{to_usd(cost_nano_usd):f}" if cost_nano_usd is not None else "null"
    request_id = response.replay.request_id if response.replay is not None else inference_request.request_id
    delivery = (
        f',"cost":{cost},"cached":{"true" if response.is_cached else "false"},'
        f"{_LOWER_BOUND if response.stated_cost_is_lower_bound else ''}"
        f'"latencyMs":{stated_latency_ms(response, inference_request)},"requestId":"{request_id}"}}}}'
    )
    content = b'{"success":true,"data":' + response.body[:-1] + delivery.encode()
    return JsonAnswer(content, answer_headers(response) | limit_headers(response.limit_status))
