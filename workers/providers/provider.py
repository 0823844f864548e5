"""What every provider does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from domain.canonical.chat import ChatRequest
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.provider_response import ProviderResponse
from domain.dialects.sse import SseEvent
from domain.request_identity import RequestIdentity

ProviderPayload = ChatRequest | EmbeddingsRequest | bytes
"""A canonical request, or the body of one in the provider's own dialect."""


class Credential(Struct, frozen=True):
    """How a provider is reached: a key, and an address where it is not the vendor's own."""

    api_key: str
    base_url: str | None = None
    is_callers: bool = False
    """The address is one that callers gave: it is called only where it leads to a public machine."""

    def __repr__(self) -> str:
        """Shows no key."""
        return f"Credential(base_url={self.base_url!r})"


async def no_turn() -> None:
    """Wait for nothing."""


class ProviderCall(Struct, frozen=True, kw_only=True):
    """How a request is to be asked."""

    identity: RequestIdentity
    credential: Credential | None
    """None: there is none for this provider."""
    timeout_s: float
    headers: Mapping[str, str] = {}
    query: str | None = None
    """What the caller wants its provider to be told besides."""
    request_bytes: int = 0
    """The size of the request, for what runs in a thread if it is large."""
    take_turn: Callable[[], Awaitable[None]] = no_turn
    """Waits until a large answer may be in memory; to be called before more than `LARGE_ANSWER_BYTES` are read."""


class Provider(Protocol):
    """Calls the providers of one kind."""

    async def ask(self, request: ProviderPayload, call: ProviderCall) -> ProviderResponse:
        """Ask once.

        Raises:
            ProviderError: the class says what came of it.

        """
        ...

    def stream(
        self, request: ProviderPayload, call: ProviderCall
    ) -> AbstractAsyncContextManager[AsyncIterator[list[SseEvent]]]:
        """Ask once, for a stream: its events as they come, several at a time where they came together.

        Raises:
            ProviderError: on entering, where there is no stream; while reading, where it breaks.

        """
        ...
