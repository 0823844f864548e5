"""Usage by UTC day, key, operation, provider and model: counts, tokens, money, latencies. Read by `usage_reports.py`.

A response and its tokens count on the day of its event, whether a provider or the cache served it. A cost counts on the
day when it was incurred, which is the response's.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

from domain.budget import day_of
from domain.events import (
    AttemptLost,
    CostIncurred,
    CostReconciled,
    RequestCompleted,
    RequestFailed,
    RequestServedFromCache,
    StoredEvent,
)
from domain.latency import bucket_of
from domain.tokens import TokenUsage
from infra.database import Connection

_SUMS = (
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
)


class Usage:
    """Folds answers, costs and failures into daily sums and latency histograms."""

    name = "usage"
    tables = ("usage_daily", "usage_latency")

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add the figures up by day and dimension."""
        sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        latencies: Counter[tuple[str, date, str, int]] = Counter()
        for stored in events:
            added = _sums_of(stored)
            if added is None:
                continue
            event, day = stored.event, day_of(stored.at)
            assert isinstance(
                event,
                RequestCompleted | RequestServedFromCache | RequestFailed | CostIncurred | CostReconciled | AttemptLost,
            )
            sums[stored.project_id, day, event.key_id, event.operation, event.provider, event.model].update(added)
            if isinstance(event, RequestCompleted | RequestServedFromCache):
                latencies[stored.project_id, day, event.key_id, bucket_of(event.latency_ms)] += 1
        if sums:
            rows = sorted((*key, *(added[name] for name in _SUMS)) for key, added in sums.items())
            await connection.execute(
                f"INSERT INTO usage_daily{suffix} AS u "  # noqa: S608 - constants of this module
                f"(project_id, day, key_id, operation, provider, model, {', '.join(_SUMS)}) SELECT * FROM unnest("
                "$1::text[], $2::date[], $3::text[], $4::text[], $5::text[], $6::text[], "
                + ", ".join(f"${number}::bigint[]" for number in range(7, 7 + len(_SUMS)))
                + ") ON CONFLICT (project_id, day, key_id, operation, provider, model) DO UPDATE SET "
                + ", ".join(f"{name} = u.{name} + excluded.{name}" for name in _SUMS),
                *map(list, zip(*rows, strict=True)),
            )
        if latencies:
            counted = sorted((*key, answers) for key, answers in latencies.items())
            await connection.execute(
                f"INSERT INTO usage_latency{suffix} AS l (project_id, day, key_id, bucket, answers) "  # noqa: S608 - the suffix is a constant
                "SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::integer[], $5::bigint[]) "
                "ON CONFLICT (project_id, day, key_id, bucket) DO UPDATE SET answers = l.answers + excluded.answers",
                *map(list, zip(*counted, strict=True)),
            )


def _sums_of(stored: StoredEvent) -> dict[str, int] | None:
    """Return the amounts that an event adds to the sums; None if it adds nothing."""
    match stored.event:
        case RequestCompleted() as completed:
            answer = _tokens(completed.usage)
            return {"completed_requests": 1, "latency_sum_ms": completed.latency_ms, **answer}
        case RequestServedFromCache() as served:
            saved = served.saved_nano_usd or 0
            answer = _tokens(served.usage)
            return {"cached_requests": 1, "latency_sum_ms": served.latency_ms, "saved_nano_usd": saved, **answer}
        case CostReconciled() as event:
            return {"cost_nano_usd": event.cost_nano_usd, "assumed_nano_usd": -event.replaces_assumed_nano_usd}
        case CostIncurred() as cost:
            charge = {"unpriced_requests": 1} if cost.cost_nano_usd is None else {"cost_nano_usd": cost.cost_nano_usd}
            marks = {"estimated_requests": int(cost.estimated), "lower_bound_requests": int(cost.is_lower_bound)}
            tokens = _tokens(cost.usage) if cost.usage is not None else {}
            return {"assumed_nano_usd": -cost.replaces_assumed_nano_usd, **charge, **marks, **tokens}
        case AttemptLost() as lost:
            return {"assumed_nano_usd": lost.assumed_nano_usd}
        case RequestFailed():
            return {"failed_requests": 1}
        case _:
            return None


def _tokens(usage: TokenUsage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
    }
