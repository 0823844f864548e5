"""Which provider speaks which dialect, and what it can do: what the API asks before it admits a request."""

from collections.abc import Callable

from msgspec import Struct

from domain.chat import ChatRequest
from domain.dialects import anthropic, openai
from domain.embeddings import EmbeddingsRequest
from domain.errors import InvalidRequest
from domain.events import Operation
from domain.routing import ANTHROPIC, ECHO, OPENAI, Route
from domain.wire import WireDialect, WireRequest


class Dialect(Struct, frozen=True, kw_only=True):
    """What can be asked of a provider."""

    wire: WireDialect
    """What it speaks; the built-in one streams as OpenAI does."""
    passes_on: bool = True
    """Whether a request in its own dialect can be passed on as it came."""
    operations: frozenset[Operation]
    check_chat: Callable[[ChatRequest, str], None]


DIALECTS: dict[str, Dialect] = {
    OPENAI: Dialect(
        wire="openai", operations=frozenset({"chat", "embeddings", "responses"}), check_chat=openai.check_chat
    ),
    ANTHROPIC: Dialect(
        wire="anthropic", operations=frozenset({"chat", "count_tokens"}), check_chat=anthropic.check_chat
    ),
    ECHO: Dialect(
        wire="openai", passes_on=False, operations=frozenset({"chat", "embeddings"}), check_chat=openai.check_chat
    ),
}


def dialect_of(provider: str) -> WireDialect:
    """What a provider speaks."""
    return DIALECTS[provider].wire


def passes_on(provider: str, dialect: WireDialect) -> bool:
    """Whether a request in this dialect is the provider's own."""
    found = DIALECTS[provider]
    return found.passes_on and found.wire == dialect


def check(request: ChatRequest | EmbeddingsRequest | WireRequest, route: Route, operation: Operation) -> None:
    """Refuse, before anything is held, what the request's provider cannot be asked.

    Raises:
        InvalidRequest: names the field and what is allowed.

    """
    dialect = DIALECTS[route.provider]
    if operation not in dialect.operations:
        able = sorted(name for name, other in DIALECTS.items() if operation in other.operations)
        raise InvalidRequest(
            f"`model` {route.model!r} does no {operation}; models of these providers do: {', '.join(able)}",
            field="model",
        )
    if isinstance(request, ChatRequest):
        dialect.check_chat(request, route.upstream_model)
