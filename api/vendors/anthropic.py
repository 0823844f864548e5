"""Anthropic's surface: messages and count_tokens. https://docs.anthropic.com/en/api/messages"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from api.limit_headers import anthropic_limit_headers
from api.requests import HttpRequest
from api.vendors.errors import REQUEST_ID_HEADER, anthropic_error
from api.vendors.surface import Endpoint, TranslatedRequest, chat_in, handle, render_stream
from domain.canonical.chat import ChatResponse
from domain.dialects import anthropic_served
from domain.dialects.anthropic_replay import replay_anthropic
from domain.dialects.anthropic_writer import AnthropicMessagesWriter
from domain.dialects.passthrough.json_edit import with_cost
from domain.dialects.sse import sse
from domain.errors import GatewayError
from domain.limits import LimitStatus
from domain.tokens import TokenUsage

_FORWARDED = ("anthropic-version", "anthropic-beta")


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/messages", status_code=200)
    async def messages(request: HttpRequest) -> Response[bytes]:
        """Answer a message."""
        return await handle(request, _MESSAGES)

    @post("/messages/count_tokens", status_code=200)
    async def count_tokens(request: HttpRequest) -> Response[bytes]:
        """Have its provider count a message's tokens."""
        return await handle(request, _COUNT_TOKENS)

    return [messages, count_tokens]


def _read_chat(body: bytes) -> TranslatedRequest:
    return TranslatedRequest(
        request=anthropic_served.read_chat(body),
        write=lambda answer: anthropic_served.write_chat(chat_in(answer), answer.receipt.usage),
    )


def _replay_translated(
    answer: ChatResponse, usage: TokenUsage, cost_usd: Decimal | None, _with_usage: bool
) -> Iterable[bytes]:
    return render_stream(AnthropicMessagesWriter(), answer, usage, cost_usd)


def _stream_error(error: GatewayError, request_id: str, _sent: bytes) -> bytes:
    return sse(anthropic_error(error, request_id).body, "error")


def _limit_headers(limit_status: LimitStatus) -> dict[str, str]:
    return anthropic_limit_headers(limit_status, datetime.now(UTC))


_MESSAGES = Endpoint(
    surface="anthropic",
    dialect="anthropic",
    operation="chat",
    translated=_read_chat,
    replay_wire=lambda body, cost_usd, _: replay_anthropic(with_cost(body, cost_usd)),
    replay_translated=_replay_translated,
    error=_stream_error,
    limit_headers=_limit_headers,
    forwarded=_FORWARDED,
    forwards_query=True,
    request_id_header=REQUEST_ID_HEADER,
)
_COUNT_TOKENS = Endpoint(
    surface="anthropic",
    dialect="anthropic",
    operation="count_tokens",
    translated=None,
    error=_stream_error,
    limit_headers=_limit_headers,
    forwarded=_FORWARDED,
    forwards_query=True,
    request_id_header=REQUEST_ID_HEADER,
)
