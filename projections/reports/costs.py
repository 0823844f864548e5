"""Costs by one or two groups: what `GET /usage/costs` shows."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from infra.database import Pool
from projections.attributes import KEPT, METADATA_PREFIX
from projections.reports.figures import dollars, is_lower_bound
from projections.reports.scope import Window
from projections.reports.sources import Group, day_or_hour, is_attribute, read_sums, source_of
from projections.scope import Scope

MAX_LINES = 1_000
"""Of a report by what callers say; the rest is one line."""
OTHERS = "(others)"
_TIMES = ("day", "hour")


class CostLine(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The costs of one group. Only the fields that the report is grouped by are present."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    provider: str | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
    project: str | msgspec.UnsetType = msgspec.UNSET
    day: str | msgspec.UnsetType = msgspec.UNSET
    hour: str | msgspec.UnsetType = msgspec.UNSET
    operation: str | msgspec.UnsetType = msgspec.UNSET
    session: str | None | msgspec.UnsetType = msgspec.UNSET
    """As `agent` and `client`: null for requests that do not say it."""
    agent: str | None | msgspec.UnsetType = msgspec.UNSET
    client: str | None | msgspec.UnsetType = msgspec.UNSET
    metadata: Any = msgspec.UNSET
    """The metadata's value; null for requests without it."""
    is_rest: bool = False
    """True for the line of all values that are not told apart."""
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


class Named(Struct, frozen=True):
    """The sums of one group by its values, which are as they are shown. `is_rest`: of all the others."""

    values: tuple[Any, ...]
    sums: Mapping[str, Any]
    is_rest: bool = False


async def cost_report(pool: Pool, scope: Scope, window: Window, groups: Sequence[str]) -> CostReport:
    """Return the costs by `GROUPS`, `ORIGINS` or `metadata.NAME`, highest first.

    Raises:
        InvalidRequest: these groups cannot be told apart together.
        Unavailable: the database is away.

    """
    lines = await named_sums(pool, scope, window, groups)
    sums = [line.sums for line in lines]
    return CostReport(
        total_cost=dollars(sum(one["cost_nano_usd"] for one in sums)),
        cost_is_lower_bound=any(map(is_lower_bound, sums)),
        assumed_cost=dollars(sum(one["assumed_nano_usd"] for one in sums)),
        saved_cost=dollars(sum(one["saved_nano_usd"] for one in sums)),
        breakdown=[_line(groups, line) for line in lines],
    )


async def named_sums(pool: Pool, scope: Scope, window: Window, groups: Sequence[str]) -> list[Named]:
    """Return the sums of each group, the highest costs first. Raises as `cost_report`."""
    found = await read_sums(pool, source_of(scope, window, groups))
    said = next((at for at, group in enumerate(groups) if is_attribute(group)), None)
    if said is None:
        return _sorted([Named(shown(groups, values), sums) for values, sums in found.items()])
    others = [group for group in groups if not is_attribute(group)]
    everything = await read_sums(pool, source_of(scope, window, others))
    lines = [Named(shown(groups, values), sums, is_rest=values[said] is None) for values, sums in found.items()]
    lines += [
        Named(shown(groups, (*group[:said], "null", *group[said:])), sums)
        for group, sums in _without(everything, found, said).items()
        if any(sums.values())
    ]
    return _first(_sorted(lines), said)


def _without(
    everything: Mapping[Group, Mapping[str, Any]], found: Mapping[Group, Mapping[str, Any]], said: int
) -> dict[Group, dict[str, Any]]:
    """The sums of the requests that do not say the attribute: what is left of all."""
    left = {_of_days(group): {name: sums[name] for name in KEPT} for group, sums in everything.items()}
    for values, sums in found.items():
        group = _of_days((*values[:said], *values[said + 1 :]))
        rest = left.setdefault(group, dict.fromkeys(KEPT, 0))
        for name in KEPT:
            rest[name] -= sums[name]
    return left


def _of_days(group: Group) -> Group:
    """The group with moments as days: one table has these, another those."""
    return tuple(value.date() if hasattr(value, "date") else value for value in group)


def shown(groups: Sequence[str], values: Group) -> tuple[Any, ...]:
    """The values of a group as they are shown: a day or hour as text, what callers say as it is."""
    return tuple(
        day_or_hour(value, group)
        if group in _TIMES
        else (OTHERS if value is None else msgspec.json.decode(value))
        if is_attribute(group)
        else value
        for group, value in zip(groups, values, strict=True)
    )


def _sorted(lines: list[Named]) -> list[Named]:
    return sorted(lines, key=lambda line: (line.is_rest, -line.sums["cost_nano_usd"], *map(str, line.values)))


def _first(lines: list[Named], said: int) -> list[Named]:
    """The first `MAX_LINES`; what comes after them is added to the rest, by the values of the other group."""
    rest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines[MAX_LINES:]:
        values = (*line.values[:said], OTHERS, *line.values[said + 1 :])
        sums = rest.setdefault(values, dict.fromkeys(KEPT, 0))
        for name in KEPT:
            sums[name] += line.sums[name]
    return [*lines[:MAX_LINES], *(Named(values, sums, is_rest=True) for values, sums in rest.items())]


def _line(groups: Sequence[str], line: Named) -> CostLine:
    sums = line.sums
    fields = ("metadata" if group.startswith(METADATA_PREFIX) else group for group in groups)
    return CostLine(
        **dict(zip(fields, line.values, strict=True)),
        is_rest=line.is_rest,
        requests=sums["completed_requests"] + sums["cached_requests"] + sums["failed_requests"],
        cached_requests=sums["cached_requests"],
        prompt_tokens=sums["prompt_tokens"],
        completion_tokens=sums["completion_tokens"],
        tokens_estimated=sums["estimated_requests"] > 0,
        cost=dollars(sums["cost_nano_usd"]),
        cost_is_lower_bound=is_lower_bound(sums),
        assumed_cost=dollars(sums["assumed_nano_usd"]),
        unpriced_requests=sums["unpriced_requests"],
    )
