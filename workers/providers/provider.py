"""The protocol of a provider adapter: it sends and receives bytes of one dialect. Does not parse them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from domain.credentials import DEFAULT_CREDENTIAL
from domain.dialects.sse import SseEvent
from domain.errors import TimeLimit
from domain.request_identity import RequestIdentity


class Credential(Struct, frozen=True):
    """A key for a provider, and its address if that is not the vendor's own."""

    api_key: str
    base_url: str | None = None
    is_callers: bool = False
    """Callers gave the address: it is called only if it leads to a public machine."""
    is_own: bool = False
    """The key is the project's, not the installation's."""
    name: str | None = None
    """Which of the provider's credentials it is; None: there is no other."""
    stored_as: str = DEFAULT_CREDENTIAL
    """Its name, also if there is no other."""
    other_keys: tuple[str, ...] = ()
    """The keys of the others: the provider's answers are searched for them too."""

    def __repr__(self) -> str:
        """Shows no key."""
        return f"Credential(base_url={self.base_url!r}, name={self.name!r})"


async def no_turn() -> None:
    """Wait for nothing."""


def not_heard(_headers: Mapping[str, str]) -> None:
    """Take nothing from a response's headers."""


class ProviderCall(Struct, frozen=True, kw_only=True):
    """The parameters of one call of a provider."""

    identity: RequestIdentity
    path: str
    """Behind the base address."""
    method: str = "POST"
    credential: Credential | None
    """None: there is none for this provider."""
    timeout_s: float
    first_byte_s: float | None = None
    idle_s: float | None = None
    """As `CallLimits` has them."""
    callers_limits_s: Mapping[TimeLimit, float] = {}
    """Those that the caller's target sets; the deadline may come sooner."""
    headers: Mapping[str, str] = {}
    query: str | None = None
    """Of the client's request: they are forwarded."""
    keeps_error_body: bool = False
    """The client gets a refusal in the provider's own bytes."""
    take_turn: Callable[[], Awaitable[None]] = no_turn
    """Waits until a large answer may be in memory; to be called before more than `LARGE_ANSWER_BYTES` are read."""
    heard: Callable[[Mapping[str, str]], None] = not_heard
    """Takes the headers of each response, whatever its status."""


class Provider(Protocol):
    """Calls the providers of one kind."""

    async def send(self, content: bytes, call: ProviderCall) -> bytes:
        """Send a request once; the body of its response.

        Raises:
            ProviderError: there is none; the class says why.

        """
        ...

    def stream(self, content: bytes, call: ProviderCall) -> AbstractAsyncContextManager[AsyncIterator[list[SseEvent]]]:
        """Send a request for a stream once; its events as they come, several at a time if they came together.

        Raises:
            ProviderError: on entering if there is no stream, while reading if it breaks.

        """
        ...
