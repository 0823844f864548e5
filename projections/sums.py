"""What an event adds to sums of usage, and how sums are added to a table. Shared by the projections of usage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Groups have the days or hours since then. A number is hashed ten times as fast as a datetime."""

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
_AT = {name: number for number, name in enumerate(SUMS)}
_COMPLETED, _CACHED, _FAILED = (_AT[f"{name}_requests"] for name in ("completed", "cached", "failed"))
_REJECTED, _UNPRICED, _ESTIMATED = (_AT[f"{name}_requests"] for name in ("rejected", "unpriced", "estimated"))
_LOWER_BOUND, _LATENCY = _AT["lower_bound_requests"], _AT["latency_sum_ms"]
_NUMBERS = ("bigint", "numeric")
_COST, _ASSUMED, _SAVED = (_AT[f"{name}_nano_usd"] for name in ("cost", "assumed", "saved"))
_PROMPT, _COMPLETION, _CACHE_READ = (_AT[f"{name}_tokens"] for name in ("prompt", "completion", "cached_prompt"))
_CACHE_WRITE, _REASONING = _AT["cache_write_tokens"], _AT["reasoning_tokens"]


def _completed(amounts: Amounts, event: RequestCompleted) -> None:
    amounts[_COMPLETED] += 1
    amounts[_LATENCY] += event.latency_ms
    _add_tokens(amounts, event.usage)


def _served(amounts: Amounts, event: RequestServedFromCache) -> None:
    amounts[_CACHED] += 1
    amounts[_LATENCY] += event.latency_ms
    amounts[_SAVED] += event.saved_nano_usd or 0
    _add_tokens(amounts, event.usage)


def _failed(amounts: Amounts, _event: RequestFailed) -> None:
    amounts[_FAILED] += 1


def _rejected(amounts: Amounts, _event: RequestRejected) -> None:
    amounts[_REJECTED] += 1


def _incurred(amounts: Amounts, event: CostIncurred) -> None:
    if event.cost_nano_usd is None:
        amounts[_UNPRICED] += 1
    else:
        amounts[_COST] += event.cost_nano_usd
    amounts[_ASSUMED] -= event.replaces_assumed_nano_usd
    amounts[_ESTIMATED] += event.estimated
    amounts[_LOWER_BOUND] += event.is_lower_bound
    if event.usage is not None:
        _add_tokens(amounts, event.usage)


def _reconciled(amounts: Amounts, event: CostReconciled) -> None:
    amounts[_COST] += event.cost_nano_usd
    amounts[_UNPRICED] -= event.was_unknown
    amounts[_ASSUMED] -= event.replaces_assumed_nano_usd
    if event.usage is not None:
        _add_tokens(amounts, event.usage)


def _lost(amounts: Amounts, event: AttemptLost) -> None:
    amounts[_ASSUMED] += event.assumed_nano_usd


def _add_tokens(amounts: Amounts, usage: TokenUsage) -> None:
    amounts[_PROMPT] += usage.prompt_tokens
    amounts[_COMPLETION] += usage.completion_tokens
    amounts[_CACHE_READ] += usage.cached_prompt_tokens
    amounts[_CACHE_WRITE] += usage.cache_write + usage.cache_write_1h
    amounts[_REASONING] += usage.reasoning


_ADD: Mapping[type[Event], Callable[[Amounts, Any], None]] = {
    RequestCompleted: _completed,
    RequestServedFromCache: _served,
    RequestFailed: _failed,
    RequestRejected: _rejected,
    CostIncurred: _incurred,
    CostReconciled: _reconciled,
    AttemptLost: _lost,
}
"""What adds an event to amounts."""

USAGE_EVENTS: frozenset[type[Event]] = frozenset(_ADD)
"""The kinds of `UsageEvent`."""


class Sums(dict[tuple[Any, ...], Amounts]):
    """Amounts by group."""

    def __missing__(self, group: tuple[Any, ...]) -> Amounts:
        amounts = self[group] = [0] * len(SUMS)
        return amounts

    def add(self, group: tuple[Any, ...], event: UsageEvent) -> None:
        """Add what an event adds to its group."""
        _ADD[type(event)](self[group], event)

    def add_all(self, group: tuple[Any, ...], amounts: Iterable[int]) -> None:
        """Add amounts to a group."""
        self[group] = list(map(add, self[group], amounts))


def usage_events(events: Sequence[StoredEvent]) -> Iterable[tuple[StoredEvent, UsageEvent]]:
    """The events that add something, each with its envelope."""
    return [(stored, stored.event) for stored in events if type(stored.event) in _ADD]  # type: ignore[misc]  # by the table


def day_after_epoch(days: int) -> date:
    """The UTC day that is so many days after `EPOCH`."""
    return EPOCH.date() + timedelta(days)


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
    sums = [name for name, kind in row_type.columns.items() if name not in keys and kind in _NUMBERS]
    added = ", ".join([f"{name} = t.{name} + excluded.{name}" for name in sums])
    await connection.execute(
        f"INSERT INTO {table} AS t ({row_type.names}) SELECT * FROM {row_type.source} "  # noqa: S608 - constants
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}",
        ordered,
    )
