"""Handles every call of the vendors' surfaces. Calls differ by their `Endpoint`."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote, unquote

from litestar import Response
from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.delivery import EventStream, JsonAnswer, answer_headers, stream_headers
from api.idempotency import idempotency_of
from api.inference_response import InferenceResponse
from api.missing_calls import may_lack_call
from api.planned_targets import planned
from api.request_context import CachePolicy, InferenceRequest
from api.request_facts import facts_of
from api.requests import (
    HttpRequest,
    asks_strict_translation,
    bytes_in_hand,
    cache_policy,
    caller_and_body,
    id_in_path,
    metadata_of,
    request_id_of,
    services_of,
)
from api.services import Services
from api.vendors.reading import Read, Reads, read_request
from domain.call_origin import origin_of
from domain.dialects.codec import Codec, Dialect, RenderOptions, StreamSummary
from domain.dialects.passthrough.object_request import ObjectRequest
from domain.dialects.translation import Translation
from domain.errors import GatewayError, InvalidRequest, NotFound, ProviderRejected
from domain.events import Operation
from domain.idempotency import Idempotency
from domain.limits import LimitStatus
from domain.money import to_usd
from domain.routing import Target
from infra.ids import new_id
from infra.jobs import HttpMethod, StreamFormat
from infra.offload import offload

MAX_QUERY_CHARS = 1_000
_QUERY = re.compile(r"[\w.~!$&'()*+,;=:@/?%-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One call of a surface."""

    dialect: Dialect
    operation: Operation
    error: Callable[[GatewayError, str, bytes], bytes]
    """An error inside a stream: what happened, the request's id, the last part that was sent before it."""
    limit_headers: Callable[[LimitStatus], dict[str, str]]
    forwarded: tuple[str, ...] = ()
    """The client's headers that are forwarded to the provider."""
    query_fields: frozenset[str] = frozenset()
    """The members of the client's query that are forwarded to the provider. Others are the gateway's own, or a key."""
    request_id_header: str | None = None
    """The header in which its clients look for the request's id, beside `x-request-id`."""


async def handle(request: HttpRequest, endpoint: Endpoint) -> Response[bytes]:
    """Answer one call.

    Raises:
        GatewayError: every refusal, and every failure before an answer has begun.

    """
    received_at = datetime.now(UTC)
    services = services_of(request)
    caller, body = await caller_and_body(request, services)
    codec = services.dialects.codec(endpoint.dialect, endpoint.operation)
    cache = cache_policy(request, mode="off")
    reads = await read_request(services, request, caller, body, codec, is_cached=cache.is_used)
    read = reads.first
    call = _Call(
        request=request,
        services=services,
        endpoint=endpoint,
        caller=caller,
        size_bytes=len(body),
        received_at=received_at,
        cache=cache,
        idempotency=await idempotency_of(request, caller, body, received_at),
    )
    if codec.is_estimable and not read.parsed.body.is_passthrough and read.translation.provider is None:
        return await _estimate(codec, read, call)
    try:
        return await _serve(call, reads, request_id_of(request.scope))
    except ProviderRejected as error:
        read = reads.refused_by(error)
        if not may_lack_call(read.target, error):
            raise
        if codec.is_estimable:
            return await _estimate(codec, read, call)
        lacked = _call_by_other_way(codec, read)
        if lacked is None:
            raise
        return await _serve_by_other_way(call, codec, body, (read.target, lacked))


async def _serve_by_other_way(
    call: "_Call", codec: Codec, body: bytes, lacked: tuple[Target, Operation]
) -> Response[bytes]:
    """Have a request answered by another call of its provider's, and remember that the provider lacks the first one."""
    services, missing_calls = call.services, call.services.missing_calls
    is_cached = call.cache.is_used
    reads = await read_request(services, call.request, call.caller, body, codec, is_cached=is_cached, lacked=lacked)
    target, operation = lacked
    try:
        response = await _serve(call, reads, new_id("req"))
    except ProviderRejected as error:
        if not may_lack_call(target, error):  # it has that one
            await missing_calls.add(call.caller.project_id, target, operation)
        raise
    await missing_calls.add(call.caller.project_id, target, operation)
    return response


def _call_by_other_way(codec: Codec, read: Read) -> Operation | None:
    """The call that a request was made by, if there is another way for it: translated, or passed through after all."""
    if read.parsed.body.is_passthrough:
        return codec.operation if codec.translated_operation is not None else None
    return None if read.fits else codec.fuller_operation


async def _serve(call: "_Call", reads: Reads, request_id: str) -> Response[bytes]:
    """Have a request answered. `request_id` is that of its record."""
    request, endpoint = call.request, call.endpoint
    inference_request = _request(call, reads.first, request_id)
    if not reads.plan.is_ordinary:
        each = [one if one is None else _request(call, one, request_id) for one in reads.each]
        inference_request = planned(reads.plan, each, reads.left_out)
    response = await call.services.inference.infer(call.caller, inference_request, request.receive)
    if inference_request.stream is not None:
        read = reads.first
        if isinstance(response, InferenceResponse):  # it is replayed
            read = await _as_answered(call, reads.at(response.target), response)
        stream = VendorStream(endpoint, read.translation, _options(call, read, response), request_id)
        headers = call.named() | stream_headers(response) | endpoint.limit_headers(response.limit_status)
        return EventStream(response, stream, headers)
    assert isinstance(response, InferenceResponse), "not asked to be streamed"
    read = reads.at(response.target)
    if response.replay is not None:
        read = await _as_answered(call, read, response)
    render, options = read.translation.render_response, _options(call, read, response)
    content = await offload(len(response.body), render, response.body, response.receipt.usage, _cost(response), options)
    headers = call.named() | answer_headers(response) | endpoint.limit_headers(response.limit_status)
    return JsonAnswer(content, headers)


async def _as_answered(call: "_Call", read: Read, response: InferenceResponse) -> Read:
    """The request as it was read when a replayed response came: whether it is passed on may have changed since."""
    replay, endpoint = response.replay, call.endpoint
    if replay is None or replay.is_passthrough in (None, read.parsed.body.is_passthrough):
        return read
    translation = call.services.dialects.chosen(
        endpoint.dialect, endpoint.operation, read.target.kind, is_passthrough=replay.is_passthrough
    )
    parsed = await offload(call.size_bytes, translation.parse_request, read.passthrough)
    return replace(read, translation=translation, parsed=parsed)


def _options(call: "_Call", read: Read, response: object = None) -> RenderOptions:
    """What its client wants to be told, in which form. A replay states when the first request came."""
    replay = response.replay if isinstance(response, InferenceResponse) else None
    received_at = replay.received_at if replay is not None else call.received_at
    return RenderOptions(
        created_s=int(received_at.timestamp()),
        with_usage=read.passthrough.codec.wants_usage(read.passthrough.stream_options),
        encoding_format=read.parsed.encoding_format,
        echo=read.parsed.echo,
        tool_names=read.parsed.tool_names,
    )


def _request(call: "_Call", read: Read, request_id: str) -> InferenceRequest:
    """The request at one target."""
    request, endpoint, parsed = call.request, call.endpoint, read.parsed
    is_passthrough = parsed.body.is_passthrough
    return InferenceRequest(
        request_id=request_id,
        operation=endpoint.operation,
        body=parsed.body,
        target=read.target,
        size_bytes=call.size_bytes,
        cache=call.cache,
        metadata=metadata_of(request),
        origin=origin_of(request.scope["headers"], read.passthrough.session),
        received_at=call.received_at,
        in_hand=bytes_in_hand(request),
        dropped=parsed.dropped,
        field_names=read.passthrough.codec.client_names,
        is_strict=asks_strict_translation(request),
        stream=_stream_format(endpoint, _options(call, read)) if read.passthrough.is_stream else None,
        headers=_forwarded(request, endpoint) if is_passthrough and endpoint.forwarded else None,
        query=_query(request, endpoint) if is_passthrough and endpoint.query_fields else None,
        idempotency=call.idempotency,
        facts=facts_of(request.scope),
    )


async def _estimate(codec: Codec, read: Read, call: "_Call") -> Response[bytes]:
    """Answer a call that the provider does not have."""
    content = await offload(call.size_bytes, codec.estimate_response, read.passthrough.body)
    return JsonAnswer(content, call.named() | {"x-gateway-estimated": "true"})


class _Call(Struct, frozen=True, kw_only=True):
    """One call, before it was read."""

    request: HttpRequest
    services: Services
    endpoint: Endpoint
    caller: Caller
    size_bytes: int
    received_at: datetime
    cache: CachePolicy
    idempotency: Idempotency | None

    def named(self) -> dict[str, str]:
        """The header in which the endpoint's clients look for the request's id."""
        header = self.endpoint.request_id_header
        return {header: request_id_of(self.request.scope)} if header is not None else {}


async def handle_object(
    request: HttpRequest, endpoint: Endpoint, response_id: str, *, method: HttpMethod, below: str = ""
) -> Response[bytes]:
    """Pass on a call about a response that the project has made. `below` is the path behind the response's own.

    Raises:
        NotFound: the project has made no such response.
        GatewayError: as `handle`.

    """
    received_at = datetime.now(UTC)
    services = services_of(request)
    caller, body = await caller_and_body(request, services)
    made = await services.objects.made_by(caller.project_id, id_in_path(response_id))
    target = services.planner.target(caller, made.model)
    if target.provider != made.provider:
        raise NotFound(f"response {response_id!r} is kept at {made.provider}, which no longer serves {made.model!r}")
    codec = services.dialects.codec(endpoint.dialect, endpoint.operation)
    inference_request = InferenceRequest(
        request_id=request_id_of(request.scope),
        operation=endpoint.operation,
        body=ObjectRequest(model=made.model, response_id=response_id),
        target=target,
        route=made.asked_as,  # who may ask it may read its answers
        size_bytes=len(body),
        cache=cache_policy(request, mode="off"),
        metadata=metadata_of(request),
        origin=origin_of(request.scope["headers"]),
        received_at=received_at,
        in_hand=bytes_in_hand(request),
        query=_query(request, endpoint),
        method=method,
        path=f"{codec.path}/{quote(response_id, safe='')}{below}",
        facts=facts_of(request.scope),
    )
    response = await services.inference.infer(caller, inference_request, request.receive)
    assert isinstance(response, InferenceResponse), "not asked to be streamed"
    headers = answer_headers(response) | endpoint.limit_headers(response.limit_status)
    return JsonAnswer(response.body, headers)


def _stream_format(endpoint: Endpoint, options: RenderOptions) -> StreamFormat:
    return StreamFormat(
        surface=endpoint.dialect, with_usage=options.with_usage, echo=options.echo, tool_names=options.tool_names
    )


def _forwarded(request: HttpRequest, endpoint: Endpoint) -> dict[str, str] | None:
    """The client's headers that mean something to its own vendor."""
    found = {name: ", ".join(lines) for name in endpoint.forwarded if (lines := request.headers.getall(name, []))}
    return found or None


def _query(request: HttpRequest, endpoint: Endpoint) -> str | None:
    if not endpoint.query_fields:
        return None
    query: str = request.scope["query_string"].decode("latin-1")
    if len(query) > MAX_QUERY_CHARS or not _QUERY.fullmatch(query):
        raise InvalidRequest(f"the query may have {MAX_QUERY_CHARS} characters of those that addresses are made of")
    known = [one for one in query.split("&") if unquote(one.partition("=")[0]) in endpoint.query_fields]
    return "&".join(known) or None


class VendorStream:
    """The stream of one response."""

    def __init__(self, endpoint: Endpoint, translation: Translation, options: RenderOptions, request_id: str) -> None:
        self._endpoint = endpoint
        self._translation = translation
        self._options = options
        self._request_id = request_id

    def replay(self, response: InferenceResponse) -> Iterable[bytes]:
        """See `SurfaceStream`."""
        summary = StreamSummary(usage=response.receipt.usage, cost_usd=_cost(response), latency_ms=0, is_cached=True)
        return self._translation.replay(response.body, summary, self._options)

    def error(self, error: GatewayError, sent: bytes) -> bytes:
        """See `SurfaceStream`."""
        return self._endpoint.error(error, self._request_id, sent)


def _cost(answer: InferenceResponse) -> Decimal | None:
    cost = answer.stated_cost_nano_usd
    return to_usd(cost) if cost is not None else None
