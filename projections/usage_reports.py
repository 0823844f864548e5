"""Reports from the usage tables, in the shapes of the native API. Sums stay integers until they are shown."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from domain.call_origin import Origin
from domain.latency import percentile_ms
from domain.money import NanoUsd, to_usd
from infra.database import Pool, database_errors

GROUPS: dict[str, str] = {
    "model": "model",
    "provider": "provider",
    "key": "key_id",
    "day": "day::text",
    "operation": "operation",
}
"""The columns that costs can be grouped by, by their names in the API. `metadata.NAME` is possible too."""

ORIGINS: dict[str, str] = {name: f"CASE $5::text WHEN '{name}' THEN {name} END" for name in Origin.__struct_fields__}
"""The origins of requests that costs can be grouped by, see `domain/call_origin.py`."""
MAX_ORIGINS = 1_000
"""Lines of such a report; the rest is one line, `OTHERS`."""
OTHERS = "(others)"
"""No origin has parentheses."""
METADATA_PREFIX = "metadata."


class Figures(Struct, kw_only=True, rename="camel"):
    """The usage in a span of time."""

    requests: int
    """The completed, cached and failed requests."""
    cached_requests: int
    failed_requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    tokens_estimated: bool
    """The tokens of some requests are estimated: an answer was cut, or came without its usage."""
    cost: Decimal
    cost_is_lower_bound: bool
    """Some requests used something that has no known price, and the cost is without it."""
    assumed_cost: Decimal
    saved_cost: Decimal
    unpriced_requests: int
    """Requests whose cost is unknown. No sum of costs includes them."""
    avg_latency_ms: int | None
    """The mean over all responses, from a provider or the cache; None if there were none."""
    p50_latency_ms: int | None
    p95_latency_ms: int | None
    cache_hit_rate: float
    """The cached requests among all that got a response, 0 to 1."""


class DailyFigures(Figures, kw_only=True, rename="camel"):
    """The figures of one UTC day."""

    date: date


class Span(Struct, kw_only=True):
    """A range of UTC days, both ends included."""

    from_: date = msgspec.field(name="from")
    to: date


class UsageStats(Struct, kw_only=True):
    """Usage over a span of days."""

    period: Span
    totals: Figures
    daily: list[DailyFigures]


class CostLine(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The costs of one group. Only the field that the report is grouped by is present."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    provider: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
    day: str | msgspec.UnsetType = msgspec.UNSET
    operation: str | msgspec.UnsetType = msgspec.UNSET
    session: str | None | msgspec.UnsetType = msgspec.UNSET
    """As `agent` and `client`: null for requests that do not say it."""
    agent: str | None | msgspec.UnsetType = msgspec.UNSET
    client: str | None | msgspec.UnsetType = msgspec.UNSET
    metadata: Any = msgspec.UNSET
    """The metadata's value; null for requests without it."""
    requests: int
    cached_requests: int
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    cost: Decimal
    cost_is_lower_bound: bool
    assumed_cost: Decimal
    unpriced_requests: int


class CostReport(Struct, kw_only=True, rename="camel"):
    """Costs over a span of days. The costs of the lines add up exactly to the total."""

    total_cost: Decimal
    cost_is_lower_bound: bool
    """Some requests used something that has no known price, and the costs are without it."""
    assumed_cost: Decimal
    saved_cost: Decimal
    breakdown: list[CostLine]


_SUMS = (
    "sum(completed_requests)::bigint AS completed, sum(cached_requests)::bigint AS cached, "
    "sum(failed_requests)::bigint AS failed, sum(prompt_tokens)::bigint AS prompt, "
    "sum(completion_tokens)::bigint AS completion, sum(cost_nano_usd) AS cost, "
    "sum(assumed_nano_usd) AS assumed, sum(saved_nano_usd) AS saved, "
    "sum(latency_sum_ms)::bigint AS latency, sum(unpriced_requests)::bigint AS unpriced, "
    "sum(estimated_requests)::bigint AS estimated, sum(lower_bound_requests)::bigint AS lower_bound "
)
_WHERE = "WHERE project_id = $1 AND ($2::text IS NULL OR key_id = $2) AND day BETWEEN $3 AND $4 "


async def usage_stats(pool: Pool, project_id: str, key_id: str | None, first: date, last: date) -> UsageStats:
    """Return the totals and the days of a project or one of its keys. Days without a request are left out."""
    async with database_errors():
        days = await pool.fetch(
            f"SELECT day, {_SUMS} FROM usage_daily {_WHERE} GROUP BY day ORDER BY day",  # noqa: S608 - constants
            project_id,
            key_id,
            first,
            last,
        )
        answers = await pool.fetch(
            f"SELECT day, bucket, sum(answers)::bigint AS answers FROM usage_latency {_WHERE} GROUP BY day, bucket",  # noqa: S608 - constants
            project_id,
            key_id,
            first,
            last,
        )
    histograms: defaultdict[date, Counter[int]] = defaultdict(Counter)
    for row in answers:
        histograms[row["day"]][row["bucket"]] += row["answers"]
    totals: Counter[str] = Counter()
    for row in days:
        totals.update({name: value for name, value in row.items() if name != "day"})
    total_histogram = sum(histograms.values(), Counter())
    return UsageStats(
        period=Span(from_=first, to=last),
        totals=Figures(**_figures(totals, total_histogram)),
        daily=[DailyFigures(date=row["day"], **_figures(row, histograms[row["day"]])) for row in days],
    )


async def cost_report(
    pool: Pool, project_id: str, key_id: str | None, first: date, last: date, group_by: str
) -> CostReport:
    """Return the costs, grouped by one of `GROUPS` or `ORIGINS`, or by `metadata.NAME`, highest first."""
    if group_by.startswith(METADATA_PREFIX):
        group = ("(metadata -> $5)::text", group_by.removeprefix(METADATA_PREFIX))
        return _report(await _of_requests(pool, project_id, key_id, first, last, group), "metadata")
    if group_by in ORIGINS:
        group = (ORIGINS[group_by], group_by)
        return _report(_first_lines(await _of_requests(pool, project_id, key_id, first, last, group)), group_by)
    async with database_errors():
        rows = await pool.fetch(
            f"SELECT {GROUPS[group_by]} AS name, {_SUMS} FROM usage_daily {_WHERE} "  # noqa: S608 - from the table above
            "GROUP BY 1 ORDER BY cost DESC, 1",
            project_id,
            key_id,
            first,
            last,
        )
    return _report(rows, group_by)


async def _of_requests(
    pool: Pool, project_id: str, key_id: str | None, first: date, last: date, group: tuple[str, str]
) -> list[asyncpg.Record]:
    """The sums of requests by a group: an expression over $5, and the value of $5."""
    expression, value = group
    async with database_errors():
        return list(
            await pool.fetch(
                f"SELECT {expression} AS name, "  # noqa: S608 - a constant of this module
                "count(*) FILTER (WHERE status = 'completed') AS completed, "
                "count(*) FILTER (WHERE status = 'cached') AS cached, "
                "count(*) FILTER (WHERE status = 'failed') AS failed, sum(prompt_tokens)::bigint AS prompt, "
                "sum(completion_tokens)::bigint AS completion, coalesce(sum(cost_nano_usd), 0) AS cost, "
                "sum(assumed_nano_usd) AS assumed, sum(saved_nano_usd) AS saved, "
                "count(*) FILTER (WHERE status = 'completed' AND cost_nano_usd IS NULL) AS unpriced, "
                "count(*) FILTER (WHERE tokens_estimated) AS estimated, "
                "count(*) FILTER (WHERE cost_is_lower_bound) AS lower_bound "
                "FROM requests WHERE project_id = $1 AND ($2::text IS NULL OR key_id = $2) "
                "AND (at AT TIME ZONE 'UTC')::date BETWEEN $3 AND $4 GROUP BY 1 ORDER BY cost DESC, 1",
                project_id,
                key_id,
                first,
                last,
                value,
            )
        )


def _first_lines(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of a report that names may be invented for: the first `MAX_ORIGINS`, and the rest as one."""
    rest = rows[MAX_ORIGINS:]
    if not rest:
        return list(rows)
    sums = {name: sum(row[name] for row in rest) for name in rest[0].keys() - {"name"}}
    return [*rows[:MAX_ORIGINS], {**sums, "name": OTHERS}]


def _report(rows: Sequence[Mapping[str, Any]], field: str) -> CostReport:
    return CostReport(
        total_cost=_dollars(sum(row["cost"] for row in rows)),
        cost_is_lower_bound=any(map(_is_lower_bound, rows)),
        assumed_cost=_dollars(sum(row["assumed"] for row in rows)),
        saved_cost=_dollars(sum(row["saved"] for row in rows)),
        breakdown=[
            CostLine(
                **{field: _value(row["name"]) if field == "metadata" else row["name"]},
                requests=row["completed"] + row["cached"] + row["failed"],
                cached_requests=row["cached"],
                prompt_tokens=row["prompt"],
                completion_tokens=row["completion"],
                tokens_estimated=row["estimated"] > 0,
                cost=_dollars(row["cost"]),
                cost_is_lower_bound=_is_lower_bound(row),
                assumed_cost=_dollars(row["assumed"]),
                unpriced_requests=row["unpriced"],
            )
            for row in rows
        ],
    )


def _is_lower_bound(row: Any) -> bool:
    return bool(row["lower_bound"] or row["unpriced"])


def _value(text: str | None) -> Any:
    return msgspec.json.decode(text) if text is not None else None


def _dollars(nano_usd: int | Decimal) -> Decimal:
    """Convert a sum to dollars. PostgreSQL returns sums of bigints as exact numerics."""
    return to_usd(NanoUsd(int(nano_usd)))


def _figures(row: Any, histogram: Counter[int]) -> dict[str, Any]:
    answered = row["completed"] + row["cached"]
    return {
        "requests": answered + row["failed"],
        "cached_requests": row["cached"],
        "failed_requests": row["failed"],
        "prompt_tokens": row["prompt"],
        "completion_tokens": row["completion"],
        "total_tokens": row["prompt"] + row["completion"],
        "tokens_estimated": row["estimated"] > 0,
        "cost": _dollars(row["cost"]),
        "cost_is_lower_bound": _is_lower_bound(row),
        "assumed_cost": _dollars(row["assumed"]),
        "saved_cost": _dollars(row["saved"]),
        "unpriced_requests": row["unpriced"],
        "avg_latency_ms": round(row["latency"] / answered) if answered else None,
        "p50_latency_ms": percentile_ms(histogram, 50),
        "p95_latency_ms": percentile_ms(histogram, 95),
        "cache_hit_rate": round(row["cached"] / answered, 4) if answered else 0.0,
    }
