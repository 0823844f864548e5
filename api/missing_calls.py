"""Remembers which providers by configuration do not have a call of their dialect, as their answers said.

A provider that speaks OpenAI's dialect has chat completions; many have no Responses API, and answer 404
or 405 there. For an hour after such an answer the project's requests are translated to the call that the provider has.
Every API process is told of it: the first request of all stands in the log as failed, and as answered.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from cachetools import TTLCache
from msgspec import Struct

from domain.errors import ProviderRejected
from domain.events import Operation
from domain.routing import Target

MAX_CALLS = 4_096
REMEMBERED_S = 3_600.0
_LACKING = frozenset({404, 405})


class MissingCall(Struct, frozen=True, kw_only=True):
    """A call that a provider lacks for a model, as processes tell each other."""

    project_id: str
    base_url: str
    upstream_model: str
    operation: Operation


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(MissingCall).decode


class MissingCalls:
    """The calls that providers are known to lack, each for a model: some have a call for some of their models.

    Each project finds out by itself, since a 404 may have been its own request's.
    `announce` tells the other processes of one.
    """

    def __init__(
        self, announce: Callable[[bytes], Awaitable[None]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._announce = announce
        self._calls: TTLCache[tuple[str, str, str, Operation], None] = TTLCache(MAX_CALLS, REMEMBERED_S, timer=clock)

    def has(self, project_id: str, target: Target, operation: Operation) -> bool:
        """Return False if the provider of a target lacks an operation."""
        return (
            target.base_url is None
            or (project_id, target.base_url, target.upstream_model, operation) not in self._calls
        )

    async def add(self, project_id: str, target: Target, operation: Operation) -> None:
        """Remember that the provider of a target lacks an operation, and tell the other processes."""
        assert target.base_url is not None, "a built-in provider has every call of its dialect"
        found = MissingCall(
            project_id=project_id, base_url=target.base_url, upstream_model=target.upstream_model, operation=operation
        )
        self._keep(found)
        await self._announce(_encode(found))

    def take(self, announced: str) -> None:
        """Remember what another process has announced."""
        with suppress(msgspec.MsgspecError):  # of a newer version
            self._keep(_decode(announced))

    def _keep(self, found: MissingCall) -> None:
        self._calls[found.project_id, found.base_url, found.upstream_model, found.operation] = None


def may_lack_call(target: Target, error: ProviderRejected) -> bool:
    """Return True if a provider's refusal may mean that it does not have the call."""
    return target.base_url is not None and error.status in _LACKING
