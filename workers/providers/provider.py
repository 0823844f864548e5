"""What every provider does."""

from typing import Protocol

from msgspec import Struct

from domain.chat import ChatRequest
from domain.dialects.answered import Answered
from domain.embeddings import EmbeddingsRequest
from domain.events import Operation


class Credential(Struct, frozen=True):
    """How a provider is reached: a key, and an address where it is not the vendor's own."""

    api_key: str
    base_url: str | None = None

    def __repr__(self) -> str:
        """Shows no key."""
        return f"Credential(base_url={self.base_url!r})"


class ProviderCall(Struct, frozen=True, kw_only=True):
    """How a request is to be asked."""

    operation: Operation
    upstream_model: str
    credential: Credential | None
    """None: the installation has none for this provider."""
    timeout_s: float


class Provider(Protocol):
    """Calls one provider."""

    async def ask(self, request: ChatRequest | EmbeddingsRequest, call: ProviderCall) -> Answered:
        """Ask once.

        Raises:
            ProviderError: the class says what came of it.

        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
