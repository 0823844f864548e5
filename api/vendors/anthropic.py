"""Anthropic's surface: messages and count_tokens. https://docs.anthropic.com/en/api/messages"""

from datetime import UTC, datetime

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from api.delivery import anthropic_limit_headers
from api.requests import HttpRequest
from api.vendors.errors import REQUEST_ID_HEADER, anthropic_error
from api.vendors.surface import Endpoint, handle
from domain.dialects.sse import sse
from domain.errors import GatewayError
from domain.limits import LimitStatus

_FORWARDED = ("anthropic-version", "anthropic-beta")


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/messages", status_code=200)
    async def messages(request: HttpRequest) -> Response[bytes]:
        """Answer a message."""
        return await handle(request, MESSAGES)

    @post("/messages/count_tokens", status_code=200)
    async def count_tokens(request: HttpRequest) -> Response[bytes]:
        """Have its provider count a message's tokens."""
        return await handle(request, _COUNT_TOKENS)

    return [messages, count_tokens]


def _stream_error(error: GatewayError, request_id: str, _sent: bytes) -> bytes:
    return sse(anthropic_error(error, request_id).body, "error")


def _limit_headers(limit_status: LimitStatus) -> dict[str, str]:
    return anthropic_limit_headers(limit_status, datetime.now(UTC))


_QUERY_FIELDS = frozenset({"beta"})
"""Of the query: https://docs.anthropic.com/en/api/beta-headers; its SDKs add `beta=true`."""

MESSAGES = Endpoint(
    dialect="anthropic",
    operation="chat",
    error=_stream_error,
    limit_headers=_limit_headers,
    forwarded=_FORWARDED,
    query_fields=_QUERY_FIELDS,
    request_id_header=REQUEST_ID_HEADER,
)
_COUNT_TOKENS = Endpoint(
    dialect="anthropic",
    operation="count_tokens",
    error=_stream_error,
    limit_headers=_limit_headers,
    forwarded=_FORWARDED,
    query_fields=_QUERY_FIELDS,
    request_id_header=REQUEST_ID_HEADER,
)
