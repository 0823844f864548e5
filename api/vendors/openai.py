"""OpenAI's surface, `/v1`: chat completions, embeddings, completions, moderations.

https://platform.openai.com/docs/api-reference
"""

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from api.delivery import limit_headers
from api.requests import HttpRequest
from api.vendors.errors import openai_error
from api.vendors.surface import Endpoint, handle
from domain.dialects.sse import sse
from domain.errors import GatewayError


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/chat/completions", status_code=200)
    async def chat(request: HttpRequest) -> Response[bytes]:
        """Answer a chat completion."""
        return await handle(request, CHAT)

    @post("/embeddings", status_code=200)
    async def embeddings(request: HttpRequest) -> Response[bytes]:
        """Turn texts into vectors."""
        return await handle(request, EMBEDDINGS)

    @post("/completions", status_code=200)
    async def completions(request: HttpRequest) -> Response[bytes]:
        """Have a text completed, by the vendor's older call."""
        return await handle(request, _COMPLETIONS)

    @post("/moderations", status_code=200)
    async def moderations(request: HttpRequest) -> Response[bytes]:
        """Have texts and images looked at for what may not be said or shown."""
        return await handle(request, _MODERATIONS)

    return [chat, embeddings, completions, moderations]


def _stream_error(error: GatewayError, _request_id: str, _sent: bytes) -> bytes:
    return sse(openai_error(error).body)


CHAT = Endpoint(dialect="openai", operation="chat", error=_stream_error, limit_headers=limit_headers)
EMBEDDINGS = Endpoint(dialect="openai", operation="embeddings", error=_stream_error, limit_headers=limit_headers)
_COMPLETIONS = Endpoint(dialect="openai", operation="completions", error=_stream_error, limit_headers=limit_headers)
_MODERATIONS = Endpoint(dialect="openai", operation="moderations", error=_stream_error, limit_headers=limit_headers)
