"""What an event adds to sums of usage, and how sums are added to a table. Shared by the projections of usage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add
from typing import Any, TypeAlias

from domain.events import (
    AttemptLost,
    CostIncurred,
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    StoredEvent,
)
from domain.tokens import TokenUsage
from infra.database import Connection
from projections.rows import RowType

SUMS = (
    "completed_requests",
    "cached_requests",
    "failed_requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_prompt_tokens",
    "cost_nano_usd",
    "assumed_nano_usd",
    "saved_nano_usd",
    "latency_sum_ms",
    "unpriced_requests",
    "estimated_requests",
    "lower_bound_requests",
    "cache_write_tokens",
    "reasoning_tokens",
    "rejected_requests",
)
"""The sums of usage, in the order of their amounts."""

Amounts: TypeAlias = list[int]
"""One amount for each of `SUMS`."""
UsageEvent: TypeAlias = (
    RequestCompleted
    | RequestServedFromCache
    | RequestFailed
    | RequestRejected
    | CostIncurred
    | CostReconciled
    | AttemptLost
)
"""The events that add something."""
_Added: TypeAlias = tuple[tuple[int, int], ...]
"""Numbers of sums with what is added to each."""

_AT = {name: number for number, name in enumerate(SUMS)}
_COMPLETED, _CACHED, _FAILED = (_AT[f"{name}_requests"] for name in ("completed", "cached", "failed"))
_REJECTED, _UNPRICED, _ESTIMATED = (_AT[f"{name}_requests"] for name in ("rejected", "unpriced", "estimated"))
_LOWER_BOUND, _LATENCY = _AT["lower_bound_requests"], _AT["latency_sum_ms"]
_NUMBERS = ("bigint", "numeric")
_COST, _ASSUMED, _SAVED = (_AT[f"{name}_nano_usd"] for name in ("cost", "assumed", "saved"))
_PROMPT, _COMPLETION, _CACHE_READ = (_AT[f"{name}_tokens"] for name in ("prompt", "completion", "cached_prompt"))
_CACHE_WRITE, _REASONING = _AT["cache_write_tokens"], _AT["reasoning_tokens"]


def _completed(event: RequestCompleted) -> _Added:
    return ((_COMPLETED, 1), (_LATENCY, event.latency_ms), *_tokens(event.usage))


def _served(event: RequestServedFromCache) -> _Added:
    return (
        (_CACHED, 1),
        (_LATENCY, event.latency_ms),
        (_SAVED, event.saved_nano_usd or 0),
        *_tokens(event.usage),
    )


def _incurred(event: CostIncurred) -> _Added:
    cost = event.cost_nano_usd
    return (
        (_UNPRICED, 1) if cost is None else (_COST, cost),
        (_ASSUMED, -event.replaces_assumed_nano_usd),
        (_ESTIMATED, int(event.estimated)),
        (_LOWER_BOUND, int(event.is_lower_bound)),
        *(_tokens(event.usage) if event.usage is not None else ()),
    )


def _reconciled(event: CostReconciled) -> _Added:
    return (
        (_COST, event.cost_nano_usd),
        (_UNPRICED, -int(event.was_unknown)),
        (_ASSUMED, -event.replaces_assumed_nano_usd),
        *(_tokens(event.usage) if event.usage is not None else ()),
    )


def _tokens(usage: TokenUsage) -> _Added:
    return (
        (_PROMPT, usage.prompt_tokens),
        (_COMPLETION, usage.completion_tokens),
        (_CACHE_READ, usage.cached_prompt_tokens),
        (_CACHE_WRITE, usage.cache_write + usage.cache_write_1h),
        (_REASONING, usage.reasoning),
    )


_ADDED: Mapping[type[Event], Callable[[Any], _Added]] = {
    RequestCompleted: _completed,
    RequestServedFromCache: _served,
    RequestFailed: lambda _: ((_FAILED, 1),),
    RequestRejected: lambda _: ((_REJECTED, 1),),
    CostIncurred: _incurred,
    CostReconciled: _reconciled,
    AttemptLost: lambda event: ((_ASSUMED, event.assumed_nano_usd),),
}


USAGE_EVENTS: frozenset[type[Event]] = frozenset(_ADDED)
"""The kinds of `UsageEvent`."""


class Sums(dict[tuple[Any, ...], Amounts]):
    """Amounts by group."""

    def __missing__(self, group: tuple[Any, ...]) -> Amounts:
        amounts = self[group] = [0] * len(SUMS)
        return amounts

    def add(self, group: tuple[Any, ...], event: UsageEvent) -> None:
        """Add what an event adds to its group."""
        amounts = self[group]
        for number, added in _ADDED[type(event)](event):
            amounts[number] += added

    def add_all(self, group: tuple[Any, ...], amounts: Iterable[int]) -> None:
        """Add amounts to a group."""
        self[group] = list(map(add, self[group], amounts))


def usage_events(events: Sequence[StoredEvent]) -> Iterable[tuple[StoredEvent, UsageEvent]]:
    """The events that add something, each with its envelope."""
    return ((stored, stored.event) for stored in events if type(stored.event) in _ADDED)  # type: ignore[misc]  # by the table


async def add_to(
    connection: Connection, table: str, row_type: RowType, keys: Mapping[str, str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Add rows to those of a table in one statement, in the order of their keys.

    `keys`: the columns of its primary key, which are the first of the rows; the other numbers are sums. All of them
    are constants of the caller's.
    """
    ordered = sorted(rows)
    if not ordered:
        return
    sums = (name for name, kind in row_type.columns.items() if name not in keys and kind in _NUMBERS)
    added = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in sums)
    await connection.execute(
        f"INSERT INTO {table} AS t ({row_type.names}) SELECT * FROM {row_type.source} "  # noqa: S608 - constants
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}",
        ordered,
    )
