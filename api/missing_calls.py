"""Remembers which providers by configuration do not have a call of their dialect, as their answers said.

A provider that speaks OpenAI's dialect has chat completions; many have no Responses API, and answer 404
or 405 there. For an hour after such an answer the requests are translated to the call that the provider has.
"""

import time
from collections.abc import Callable

from cachetools import TTLCache

from domain.errors import ProviderRejected
from domain.events import Operation
from domain.routing import Route

MAX_CALLS = 4_096
REMEMBERED_S = 3_600.0
_LACKING = frozenset({404, 405})


class MissingCalls:
    """The calls that providers of one process are known to lack."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls: TTLCache[tuple[str, Operation], None] = TTLCache(MAX_CALLS, REMEMBERED_S, timer=clock)

    def has(self, route: Route, operation: Operation) -> bool:
        """Return False if the provider of a route lacks an operation."""
        return route.base_url is None or (route.base_url, operation) not in self._calls

    def add(self, route: Route, operation: Operation) -> None:
        """Remember that the provider of a route lacks an operation."""
        assert route.base_url is not None, "a built-in provider has every call of its dialect"
        self._calls[route.base_url, operation] = None


def may_lack_call(route: Route, error: ProviderRejected) -> bool:
    """Return True if a provider's refusal may mean that it does not have the call."""
    return route.base_url is not None and error.status in _LACKING
