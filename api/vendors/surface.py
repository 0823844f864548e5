"""What the vendors' surfaces have in common: a request is passed on in its own dialect, or read and told in another.

A surface is a table of what its dialect reads and writes; the way to the answer is everybody's.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Response

from api.client_disconnect import watch_disconnect
from api.delivery import EventStream, answer_headers, stream_headers
from api.inference import InferenceResponse
from api.request_context import InferenceRequest
from api.request_options import cache_policy, metadata_of
from api.requests import HttpRequest, bytes_in_hand, caller_and_body, request_id_of, services_of
from domain.canonical.chat import ChatRequest, ChatResponse
from domain.canonical.embeddings import EmbeddingsRequest, EmbeddingsResponse
from domain.canonical.stream import replay_chat
from domain.dialects.passthrough.inspect import PassthroughRequest, WireDialect, WireOperation, read_wire
from domain.dialects.passthrough.json_edit import with_cost
from domain.dialects.table import passes_on
from domain.errors import GatewayError, InvalidRequest
from domain.limits import LimitStatus
from domain.money import to_usd
from domain.routing import Route
from domain.tokens import TokenUsage
from infra.jobs import StreamFormat, Surface
from infra.offload import offload

JSON = "application/json"
MAX_QUERY_CHARS = 1_000
_QUERY = re.compile(r"[\w.~!$&'()*+,;=:@/?%-]*", re.ASCII)

_decode_chat = msgspec.json.Decoder(ChatResponse).decode
_decode_embeddings = msgspec.json.Decoder(EmbeddingsResponse).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedRequest:
    """A request read for a provider that speaks otherwise, and how its answer is to be written."""

    request: ChatRequest | EmbeddingsRequest
    write: Callable[[InferenceResponse], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One call of a surface."""

    surface: Surface
    dialect: WireDialect
    operation: WireOperation
    translated: Callable[[bytes], TranslatedRequest] | None
    """None: only providers of this dialect serve it."""
    replay_wire: Callable[[bytes, Decimal | None, bool], Iterable[bytes]] | None = None
    """A kept answer in the dialect as its stream: body, cost, whether usage was asked for. None: it has no streams."""
    replay_translated: Callable[[ChatResponse, TokenUsage, Decimal | None, bool], Iterable[bytes]] | None = None
    error: Callable[[GatewayError, str, bytes], bytes]
    """An error inside a stream: what happened, the request's id, the last that was sent before it."""
    limit_headers: Callable[[LimitStatus], dict[str, str]]
    forwarded: tuple[str, ...] = ()
    """The caller's headers that its provider is told."""
    forwards_query: bool = False
    request_id_header: str | None = None
    """Where its clients look for the request's id, beside `x-request-id`."""


async def handle(request: HttpRequest, endpoint: Endpoint) -> Response[bytes]:
    """Answer one call.

    Raises:
        GatewayError: every refusal, and every failure before an answer has begun.

    """
    received_at = datetime.now(UTC)
    caller, body = await caller_and_body(request)
    services = services_of(request)
    inference = services.inference
    passthrough, translated = await services.large_requests.run(
        caller.project_id, len(body), _parsed, body, endpoint, lambda model: inference.route(caller, model)
    )
    with_usage = endpoint.surface != "openai" or passthrough.stream_options.get("include_usage") is True
    is_stream = passthrough.is_stream and endpoint.replay_wire is not None
    request_id = request_id_of(request.scope)
    named = {endpoint.request_id_header: request_id} if endpoint.request_id_header is not None else {}
    inference_request = InferenceRequest(
        request_id=request_id,
        operation=endpoint.operation,
        request=passthrough if translated is None else translated.request,
        size_bytes=len(body),
        cache=cache_policy(request, mode="off"),
        metadata=metadata_of(request),
        received_at=received_at,
        in_hand=bytes_in_hand(request),
        stream=StreamFormat(surface=endpoint.surface, with_usage=with_usage) if is_stream else None,
        headers={name: ", ".join(lines) for name in endpoint.forwarded if (lines := request.headers.getall(name, []))}
        or None,
        query=_query(request) if endpoint.forwards_query else None,
    )
    if inference_request.stream is not None:
        async with watch_disconnect(request.receive) as disconnect:
            answer = await inference.stream(caller, inference_request, disconnect)
        stream = VendorStream(endpoint, inference_request, is_translated=translated is not None)
        return EventStream(answer, stream, named | stream_headers(answer) | endpoint.limit_headers(answer.limit_status))
    async with watch_disconnect(request.receive, listen=caller.cancel_on_disconnect) as disconnect:
        answer = await inference.answer(caller, inference_request, disconnect)
    content = await offload(len(answer.body), _written, answer, translated)
    headers = named | answer_headers(answer) | endpoint.limit_headers(answer.limit_status)
    return Response(content, media_type=JSON, headers=headers)


def _parsed(
    body: bytes, endpoint: Endpoint, route_of: Callable[[str], Route]
) -> tuple[PassthroughRequest, TranslatedRequest | None]:
    """The request as its provider is asked it: in its own dialect, and read into the canonical form for any other."""
    passthrough = read_wire(body, endpoint.dialect, endpoint.operation)
    if passes_on(route_of(passthrough.model).kind, endpoint.dialect):
        return passthrough, None
    if endpoint.translated is None:
        raise InvalidRequest(
            f"`model` {passthrough.model!r} is no model of a provider that serves this call", field="model"
        )
    return passthrough, endpoint.translated(body)


def _query(request: HttpRequest) -> str | None:
    query: str = request.scope["query_string"].decode("latin-1")
    if len(query) > MAX_QUERY_CHARS or not _QUERY.fullmatch(query):
        raise InvalidRequest(f"the query may have {MAX_QUERY_CHARS} characters of those that addresses are made of")
    return query or None


class VendorStream:
    """How a call's answer is streamed."""

    def __init__(self, endpoint: Endpoint, inference_request: InferenceRequest, *, is_translated: bool) -> None:
        self._endpoint = endpoint
        self._question = inference_request
        self._is_translated = is_translated

    def replay(self, answer: InferenceResponse) -> Iterable[bytes]:
        """See `SurfaceStream`."""
        stream_format = self._question.stream
        assert stream_format is not None, "asked to be streamed"
        if self._is_translated:
            assert self._endpoint.replay_translated is not None, "what is told can be told again"
            return self._endpoint.replay_translated(
                _decode_chat(answer.body), answer.receipt.usage, _cost(answer), stream_format.with_usage
            )
        assert self._endpoint.replay_wire is not None, "what is streamed can be streamed again"
        return self._endpoint.replay_wire(answer.body, _cost(answer), stream_format.with_usage)

    def error(self, error: GatewayError, sent: bytes) -> bytes:
        """See `SurfaceStream`."""
        return self._endpoint.error(error, self._question.request_id, sent)


def render_stream(writer: Any, answer: ChatResponse, usage: TokenUsage, cost_usd: Decimal | None) -> Iterator[bytes]:
    """A canonical answer as the stream of a writer's dialect."""
    for chunk in replay_chat(answer):
        yield writer.write(chunk)
    yield writer.end(usage, cost_usd)


def chat_in(answer: InferenceResponse) -> ChatResponse:
    """The canonical chat answer that was found."""
    return _decode_chat(answer.body)


def embeddings_in(answer: InferenceResponse) -> EmbeddingsResponse:
    """The canonical embeddings that were found."""
    return _decode_embeddings(answer.body)


def _written(answer: InferenceResponse, translated: TranslatedRequest | None) -> bytes:
    return with_cost(answer.body if translated is None else translated.write(answer), _cost(answer))


def _cost(answer: InferenceResponse) -> Decimal | None:
    cost = answer.cost_nano_usd
    return to_usd(cost) if cost is not None else None
