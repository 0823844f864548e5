"""OpenAI's surface, `/v1`: chat completions, embeddings, responses, completions, moderations.

https://platform.openai.com/docs/api-reference
"""

import math

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from api.delivery import limit_headers
from api.requests import HttpRequest
from api.vendors.errors import openai_error
from api.vendors.surface import Endpoint, handle
from domain.dialects.openai.responses_api import error_events, next_sequence_number
from domain.dialects.sse import sse
from domain.errors import GatewayError, ProviderRateLimited, RateLimited

SERVER_ERROR = "server_error"
"""OpenAI's code for a failure that has no other."""


class _Error(Struct, frozen=True):
    code: str | None = None


class _ErrorBody(Struct, frozen=True):
    error: _Error


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/chat/completions", status_code=200)
    async def chat(request: HttpRequest) -> Response[bytes]:
        """Answer a chat completion."""
        return await handle(request, _CHAT)

    @post("/embeddings", status_code=200)
    async def embeddings(request: HttpRequest) -> Response[bytes]:
        """Turn texts into vectors."""
        return await handle(request, _EMBEDDINGS)

    @post("/responses", status_code=200)
    async def responses(request: HttpRequest) -> Response[bytes]:
        """Make a response."""
        return await handle(request, _RESPONSES)

    @post("/completions", status_code=200)
    async def completions(request: HttpRequest) -> Response[bytes]:
        """Have a text completed, by the vendor's older call."""
        return await handle(request, _COMPLETIONS)

    @post("/moderations", status_code=200)
    async def moderations(request: HttpRequest) -> Response[bytes]:
        """Have texts and images looked at for what may not be said or shown."""
        return await handle(request, _MODERATIONS)

    return [chat, embeddings, responses, completions, moderations]


def _stream_error(error: GatewayError, _request_id: str, _sent: bytes) -> bytes:
    return sse(openai_error(error).body)


def _responses_error(error: GatewayError, request_id: str, sent: bytes) -> bytes:
    """Codex reads when to try again from the words of a rate limit's message."""
    code = msgspec.json.decode(openai_error(error).body, type=_ErrorBody).error.code
    message = error.message
    if error.retry_after_s is not None and isinstance(error, ProviderRateLimited | RateLimited):
        message = f"{message} Please try again in {math.ceil(error.retry_after_s)}s."
    return error_events(message, code or SERVER_ERROR, request_id, next_sequence_number(sent))


_CHAT = Endpoint(dialect="openai", operation="chat", error=_stream_error, limit_headers=limit_headers)
_EMBEDDINGS = Endpoint(dialect="openai", operation="embeddings", error=_stream_error, limit_headers=limit_headers)
_COMPLETIONS = Endpoint(dialect="openai", operation="completions", error=_stream_error, limit_headers=limit_headers)
_MODERATIONS = Endpoint(dialect="openai", operation="moderations", error=_stream_error, limit_headers=limit_headers)
_RESPONSES = Endpoint(dialect="openai", operation="responses", error=_responses_error, limit_headers=limit_headers)
