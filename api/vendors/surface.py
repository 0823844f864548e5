"""Handles every call of the vendors' surfaces. Calls differ by their `Endpoint`."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from litestar import Response

from api.delivery import JSON, EventStream, answer_headers, stream_headers
from api.inference_response import InferenceResponse
from api.request_context import InferenceRequest
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
from api.vendors.paths import MODEL_SCOPE
from domain.dialects.codec import Codec, Dialect, RenderOptions, StreamSummary
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.passthrough.json_edit import rewrite
from domain.dialects.passthrough.object_request import ObjectRequest
from domain.dialects.registry import DialectRegistry
from domain.dialects.translation import ParsedRequest, Translation
from domain.errors import GatewayError, InvalidRequest, NotFound
from domain.events import Operation
from domain.limits import LimitStatus
from domain.money import to_usd
from domain.routing import Route
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
    forwards_query: bool = False
    request_id_header: str | None = None
    """The header in which its clients look for the request's id, beside `x-request-id`."""


async def handle(request: HttpRequest, endpoint: Endpoint) -> Response[bytes]:
    """Answer one call.

    Raises:
        GatewayError: every refusal, and every failure before an answer has begun.

    """
    received_at = datetime.now(UTC)
    caller, body = await caller_and_body(request)
    services = services_of(request)
    dialects = services.dialects
    cache = cache_policy(request, mode="off")
    codec = dialects.codec(endpoint.dialect, endpoint.operation)
    passthrough, route, translation, parsed = await services.large_requests.run(
        caller.project_id,
        len(body),
        _parse,
        body,
        codec,
        dialects,
        lambda model: services.planner.route(caller, model),
        model_in_path=request.scope.get(MODEL_SCOPE),
        is_cached=cache.mode != "off",
    )
    options = RenderOptions(
        created_s=int(received_at.timestamp()),
        with_usage=codec.wants_usage(passthrough.stream_options),
        encoding_format=parsed.encoding_format,
        echo=parsed.echo,
        tool_names=parsed.tool_names,
    )
    request_id = request_id_of(request.scope)
    named = {endpoint.request_id_header: request_id} if endpoint.request_id_header is not None else {}
    inference_request = InferenceRequest(
        request_id=request_id,
        operation=endpoint.operation,
        body=parsed.body,
        route=route,
        size_bytes=len(body),
        cache=cache,
        metadata=metadata_of(request),
        received_at=received_at,
        in_hand=bytes_in_hand(request),
        dropped=parsed.dropped,
        is_strict=asks_strict_translation(request),
        stream=_stream_format(endpoint, options) if passthrough.is_stream else None,
        headers=_forwarded(request, endpoint) if parsed.body.is_passthrough else None,
        query=_query(request) if endpoint.forwards_query and parsed.body.is_passthrough else None,
    )
    response = await services.inference.infer(caller, inference_request, request.receive)
    if inference_request.stream is not None:
        stream = VendorStream(endpoint, translation, options, request_id)
        headers = named | stream_headers(response) | endpoint.limit_headers(response.limit_status)
        return EventStream(response, stream, headers)
    assert isinstance(response, InferenceResponse), "not asked to be streamed"
    content = await offload(
        len(response.body), translation.render_response, response.body, response.receipt.usage, _cost(response), options
    )
    headers = named | answer_headers(response) | endpoint.limit_headers(response.limit_status)
    return Response(content, media_type=JSON, headers=headers)


async def handle_object(
    request: HttpRequest, endpoint: Endpoint, response_id: str, *, method: HttpMethod, below: str = ""
) -> Response[bytes]:
    """Pass on a call about a response that the project has made. `below` is the path behind the response's own.

    Raises:
        NotFound: the project has made no such response.
        GatewayError: as `handle`.

    """
    received_at = datetime.now(UTC)
    caller, body = await caller_and_body(request)
    services = services_of(request)
    made = await services.objects.made_by(caller.project_id, id_in_path(response_id))
    route = services.planner.route(caller, made.model)
    if route.provider != made.provider:
        raise NotFound(f"response {response_id!r} is kept at {made.provider}, which no longer serves {made.model!r}")
    codec = services.dialects.codec(endpoint.dialect, endpoint.operation)
    inference_request = InferenceRequest(
        request_id=request_id_of(request.scope),
        operation=endpoint.operation,
        body=ObjectRequest(model=made.model, response_id=response_id),
        route=route,
        size_bytes=len(body),
        cache=cache_policy(request, mode="off"),
        metadata=metadata_of(request),
        received_at=received_at,
        in_hand=bytes_in_hand(request),
        query=_query(request),
        method=method,
        path=f"{codec.path}/{quote(response_id, safe='')}{below}",
    )
    response = await services.inference.infer(caller, inference_request, request.receive)
    assert isinstance(response, InferenceResponse), "not asked to be streamed"
    headers = answer_headers(response) | endpoint.limit_headers(response.limit_status)
    return Response(response.body, media_type=JSON, headers=headers)


def _parse(
    body: bytes,
    codec: Codec,
    dialects: DialectRegistry,
    route_of: Callable[[str], Route],
    *,
    model_in_path: Any,
    is_cached: bool,
) -> tuple[PassthroughRequest, Route, Translation, ParsedRequest]:
    """Read the request, choose its way to the provider, and translate it if that is the way."""
    if model_in_path is not None:
        body = rewrite(body, {"model": model_in_path})
    passthrough = read_passthrough(body, codec, is_cached=is_cached)
    route = route_of(passthrough.model)
    translation = dialects.choose(codec, route.kind)
    return passthrough, route, translation, translation.parse_request(passthrough)


def _stream_format(endpoint: Endpoint, options: RenderOptions) -> StreamFormat:
    return StreamFormat(
        surface=endpoint.dialect, with_usage=options.with_usage, echo=options.echo, tool_names=options.tool_names
    )


def _forwarded(request: HttpRequest, endpoint: Endpoint) -> dict[str, str] | None:
    """The client's headers that mean something to its own vendor."""
    found = {name: ", ".join(lines) for name in endpoint.forwarded if (lines := request.headers.getall(name, []))}
    return found or None


def _query(request: HttpRequest) -> str | None:
    query: str = request.scope["query_string"].decode("latin-1")
    if len(query) > MAX_QUERY_CHARS or not _QUERY.fullmatch(query):
        raise InvalidRequest(f"the query may have {MAX_QUERY_CHARS} characters of those that addresses are made of")
    return query or None


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
    cost = answer.cost_nano_usd
    return to_usd(cost) if cost is not None else None
