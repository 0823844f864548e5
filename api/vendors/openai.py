"""OpenAI's surface, `/v1`: chat completions, embeddings, responses. https://platform.openai.com/docs/api-reference"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from api.limit_headers import limit_headers
from api.requests import HttpRequest
from api.vendors.errors import openai_error
from api.vendors.surface import Call, Read, chat_in, embeddings_in, serve, told
from domain.chat import ChatAnswer
from domain.dialects import openai_served, responses_writer
from domain.dialects.openai_replay import replay_openai
from domain.dialects.openai_writer import OpenAiChatWriter
from domain.dialects.passthrough import with_cost
from domain.dialects.responses_replay import replay_responses
from domain.errors import GatewayError
from domain.sse import sse
from domain.tokens import TokenUsage


def routes() -> list[HTTPRouteHandler]:
    """The routes."""

    @post("/chat/completions", status_code=200)
    async def chat(request: HttpRequest) -> Response[bytes]:
        """InferenceResponse a chat completion."""
        return await serve(request, _CHAT)

    @post("/embeddings", status_code=200)
    async def embeddings(request: HttpRequest) -> Response[bytes]:
        """Turn texts into vectors."""
        return await serve(request, _EMBEDDINGS)

    @post("/responses", status_code=200)
    async def responses(request: HttpRequest) -> Response[bytes]:
        """Make a response."""
        return await serve(request, _RESPONSES)

    return [chat, embeddings, responses]


def _read_chat(body: bytes) -> Read:
    return Read(
        request=openai_served.read_chat(body),
        write=lambda answer: openai_served.write_chat(chat_in(answer), answer.receipt.usage, created_s=_seconds()),
    )


def _read_embeddings(body: bytes) -> Read:
    served = openai_served.read_embeddings(body)
    return Read(
        request=served.request,
        write=lambda answer: openai_served.write_embeddings(
            embeddings_in(answer), answer.receipt.usage, served.encoding_format
        ),
    )


def _replay_told(answer: ChatAnswer, usage: TokenUsage, cost_usd: Decimal | None, with_usage: bool) -> Iterable[bytes]:
    return told(OpenAiChatWriter(created_s=_seconds(), include_usage=with_usage), answer, usage, cost_usd)


def _stream_error(error: GatewayError, _request_id: str, _sent: bytes) -> bytes:
    return sse(openai_error(error).body)


def _responses_error(error: GatewayError, _request_id: str, sent: bytes) -> bytes:
    number = responses_writer.next_sequence_number(sent)
    return responses_writer.error(error.message, error.code.lower(), number)


def _seconds() -> int:
    return int(datetime.now(UTC).timestamp())


_CHAT = Call(
    surface="openai",
    dialect="openai",
    operation="chat",
    read=_read_chat,
    replay_wire=lambda body, cost_usd, with_usage: replay_openai(with_cost(body, cost_usd), include_usage=with_usage),
    replay_told=_replay_told,
    error=_stream_error,
    limit_headers=limit_headers,
)
_EMBEDDINGS = Call(
    surface="openai",
    dialect="openai",
    operation="embeddings",
    read=_read_embeddings,
    error=_stream_error,
    limit_headers=limit_headers,
)
_RESPONSES = Call(
    surface="responses",
    dialect="openai",
    operation="responses",
    read=None,
    replay_wire=lambda body, cost_usd, _: replay_responses(with_cost(body, cost_usd)),
    error=_responses_error,
    limit_headers=limit_headers,
)
