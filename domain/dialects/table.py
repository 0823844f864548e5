"""Which kind of provider speaks which dialect, and what it can do: what the API asks before it admits a request."""

from collections.abc import Callable

from msgspec import Struct

from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects import anthropic, openai
from domain.dialects.passthrough.inspect import PassthroughRequest, WireDialect
from domain.errors import InvalidRequest
from domain.events import Operation
from domain.routing import ANTHROPIC, ECHO, OPENAI, Kind, Route


class Dialect(Struct, frozen=True, kw_only=True):
    """What can be asked of a kind of provider."""

    wire: WireDialect
    """What it speaks; the built-in one streams as OpenAI does."""
    passes_on: bool = True
    """Whether a request in its own dialect can be passed on as it came."""
    operations: frozenset[Operation]
    check_chat: Callable[[ChatRequest, str], None]


DIALECTS: dict[Kind, Dialect] = {
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


def dialect_of(kind: Kind) -> WireDialect:
    """What a kind of provider speaks."""
    return DIALECTS[kind].wire


def passes_on(kind: Kind, dialect: WireDialect) -> bool:
    """Whether a request in this dialect is such a provider's own."""
    found = DIALECTS[kind]
    return found.passes_on and found.wire == dialect


def check(request: ChatRequest | EmbeddingsRequest | PassthroughRequest, route: Route, operation: Operation) -> None:
    """Refuse, before anything is held, what the request's provider cannot be asked.

    Raises:
        InvalidRequest: names the field and what is allowed.

    """
    dialect = DIALECTS[route.kind]
    if operation not in dialect.operations:
        able = sorted(kind for kind, other in DIALECTS.items() if operation in other.operations)
        raise InvalidRequest(
            f"`model` {route.model!r} does no {operation}; models of providers of these kinds do: {', '.join(able)}",
            field="model",
        )
    if isinstance(request, ChatRequest):
        dialect.check_chat(request, route.upstream_model)
