"""OpenAI's Responses API: making responses with any model, and the calls about them, which OpenAI alone serves.

https://platform.openai.com/docs/api-reference/responses
"""

import math
from typing import Any

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from api.delivery import JSON, limit_headers
from api.requests import HttpRequest
from api.vendors.errors import openai_error, openai_http_error
from api.vendors.surface import Endpoint, handle, handle_object
from domain.dialects.openai.responses_api import error_events, next_sequence_number
from domain.dialects.sse import sse
from domain.errors import GatewayError, InvalidRequest, ProviderRateLimited, RateLimited

SERVER_ERROR = "server_error"
"""OpenAI's code for a failure that has no other."""
UPGRADE_REQUIRED = 426


class _Error(Struct, frozen=True):
    message: str
    code: Any = None


class _ErrorBody(Struct, frozen=True):
    error: _Error


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/responses", status_code=200)
    async def create(request: HttpRequest) -> Response[bytes]:
        """Make a response."""
        return await handle(request, RESPONSES)

    @get("/responses")
    async def upgrade() -> Response[bytes]:
        """Refuse a WebSocket, so that its client (Codex) falls back to HTTP at once: it does on this status alone."""
        return _no_websocket()

    @post("/responses/input_tokens", status_code=200)
    async def input_tokens(request: HttpRequest) -> Response[bytes]:
        """Have the input's tokens counted."""
        return await handle(request, _INPUT_TOKENS)

    @post("/responses/compact", status_code=200)
    async def compact(request: HttpRequest) -> Response[bytes]:
        """Have a conversation compacted."""
        return await handle(request, _COMPACT)

    return [create, upgrade, input_tokens, compact, *_routes_of_one()]


def _routes_of_one() -> list[HTTPRouteHandler]:
    @get("/responses/{response_id:str}")
    async def retrieve(request: HttpRequest, response_id: FromPath[str]) -> Response[bytes]:
        """Read a response that the project has made."""
        if request.query_params.get("stream") not in (None, "false"):
            raise InvalidRequest("`stream`: read the response without it, once it has ended", field="stream")
        return await handle_object(request, _STORED, response_id, method="GET")

    @delete("/responses/{response_id:str}", status_code=200)
    async def remove(request: HttpRequest, response_id: FromPath[str]) -> Response[bytes]:
        """Delete a response that the project has made."""
        return await handle_object(request, _STORED, response_id, method="DELETE")

    @post("/responses/{response_id:str}/cancel", status_code=200)
    async def cancel(request: HttpRequest, response_id: FromPath[str]) -> Response[bytes]:
        """Cancel a response that the project has made in the background."""
        return await handle_object(request, _STORED, response_id, method="POST", below="/cancel")

    @get("/responses/{response_id:str}/input_items")
    async def input_items(request: HttpRequest, response_id: FromPath[str]) -> Response[bytes]:
        """List what a response that the project has made was asked with."""
        return await handle_object(request, _STORED, response_id, method="GET", below="/input_items")

    return [retrieve, remove, cancel, input_items]


def _no_websocket() -> Response[bytes]:
    refusal = openai_http_error(UPGRADE_REQUIRED, "there is no WebSocket here: send POST /v1/responses")
    return Response(refusal.body, status_code=refusal.status, media_type=JSON, headers={"connection": "close"})


def _stream_error(error: GatewayError, _request_id: str, _sent: bytes) -> bytes:
    return sse(openai_error(error).body)


def _responses_error(error: GatewayError, request_id: str, sent: bytes) -> bytes:
    """Codex reads when to try again from the words of a rate limit's message."""
    said = msgspec.json.decode(openai_error(error).body, type=_ErrorBody).error
    message = said.message
    if error.retry_after_s is not None and isinstance(error, ProviderRateLimited | RateLimited):
        message = f"{message} Please try again in {math.ceil(error.retry_after_s)}s."
    code = said.code if isinstance(said.code, str) else SERVER_ERROR
    return error_events(message, code, request_id, next_sequence_number(sent))


RESPONSES = Endpoint(dialect="openai", operation="responses", error=_responses_error, limit_headers=limit_headers)
_INPUT_TOKENS = Endpoint(dialect="openai", operation="count_tokens", error=_stream_error, limit_headers=limit_headers)
_COMPACT = Endpoint(dialect="openai", operation="compact", error=_stream_error, limit_headers=limit_headers)
_LISTED = frozenset({"after", "before", "include", "include[]", "limit", "order"})
"""What a query may say of a stored response, and of the list of its input:
https://platform.openai.com/docs/api-reference/responses/input-items."""
_STORED = Endpoint(
    dialect="openai",
    operation="stored_responses",
    error=_stream_error,
    limit_headers=limit_headers,
    query_fields=_LISTED,
)
