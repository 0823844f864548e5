"""OpenAI's surface, `/v1`: chat completions, embeddings, responses. https://platform.openai.com/docs/api-reference"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from api.limit_headers import limit_headers
from api.requests import HttpRequest
from api.vendors.errors import openai_error
from api.vendors.surface import Endpoint, TranslatedRequest, chat_in, embeddings_in, handle, render_stream
from domain.canonical.chat import ChatResponse
from domain.dialects import openai_served, responses_writer
from domain.dialects.openai_replay import replay_openai
from domain.dialects.openai_writer import OpenAiChatWriter
from domain.dialects.passthrough.json_edit import with_cost
from domain.dialects.responses_replay import replay_responses
from domain.dialects.sse import sse
from domain.errors import GatewayError
from domain.tokens import TokenUsage


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

    return [chat, embeddings, responses]


def _read_chat(body: bytes) -> TranslatedRequest:
    return TranslatedRequest(
        request=openai_served.read_chat(body),
        write=lambda answer: openai_served.write_chat(chat_in(answer), answer.receipt.usage, created_s=_seconds()),
    )


def _read_embeddings(body: bytes) -> TranslatedRequest:
    served = openai_served.read_embeddings(body)
    return TranslatedRequest(
        request=served.request,
        write=lambda answer: openai_served.write_embeddings(
            embeddings_in(answer), answer.receipt.usage, served.encoding_format
        ),
    )


def _replay_translated(
    answer: ChatResponse, usage: TokenUsage, cost_usd: Decimal | None, with_usage: bool
) -> Iterable[bytes]:
    return render_stream(OpenAiChatWriter(created_s=_seconds(), include_usage=with_usage), answer, usage, cost_usd)


def _stream_error(error: GatewayError, _request_id: str, _sent: bytes) -> bytes:
    return sse(openai_error(error).body)


def _responses_error(error: GatewayError, _request_id: str, sent: bytes) -> bytes:
    number = responses_writer.next_sequence_number(sent)
    return responses_writer.error(error.message, error.code.lower(), number)


def _seconds() -> int:
    return int(datetime.now(UTC).timestamp())


_CHAT = Endpoint(
    surface="openai",
    dialect="openai",
    operation="chat",
    translated=_read_chat,
    replay_wire=lambda body, cost_usd, with_usage: replay_openai(with_cost(body, cost_usd), include_usage=with_usage),
    replay_translated=_replay_translated,
    error=_stream_error,
    limit_headers=limit_headers,
)
_EMBEDDINGS = Endpoint(
    surface="openai",
    dialect="openai",
    operation="embeddings",
    translated=_read_embeddings,
    error=_stream_error,
    limit_headers=limit_headers,
)
_RESPONSES = Endpoint(
    surface="responses",
    dialect="openai",
    operation="responses",
    translated=None,
    replay_wire=lambda body, cost_usd, _: replay_responses(with_cost(body, cost_usd)),
    error=_responses_error,
    limit_headers=limit_headers,
)
