"""Costs by one or two groups: what `GET /usage/costs` shows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from infra.database import Pool
from projections.attributes import KEPT, METADATA_PREFIX
from projections.reports.figures import dollars, is_lower_bound
from projections.reports.scope import Window
from projections.reports.sources import (
    Found,
    Group,
    Ranked,
    Ranking,
    day_or_hour,
    is_attribute,
    narrowed,
    rank,
    read_most,
    read_sums,
    source_of,
    source_of_said,
)
from projections.scope import Scope

MAX_LINES = 5_000
"""The rest is summed up."""
MAX_SAID = 1_000
"""Of a report by what callers say."""
MAX_KEYS = 100
"""So many keys, those with the highest costs, are told apart by something else too: by model, day, hour."""
OTHERS = "(others)"
"""In the place of a value: all that are not told apart."""
UNSAID = "unsaid"
"""Marks the requests without the attribute in a `Group`. It is not valid JSON, so no value equals it."""
_TIMES = ("day", "hour")
_NOTHING = dict.fromkeys(KEPT, 0)


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
    is_unsaid: bool = False
    """True for requests that do not say it; a null that callers do say is theirs."""
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
    """The sums of one group. `is_rest`: of all the others."""

    group: Group
    """As it was read, days as such; empty for what is left over."""
    values: tuple[Any, ...]
    """As they are shown."""
    sums: Mapping[str, Any]
    is_rest: bool = False


class Breakdown(Struct, frozen=True):
    """The groups of a report. All sums of `lines` and `rest` are those of the scope."""

    lines: list[Named]
    """Sorted."""
    rest: list[Named]
    """What is not told apart: values beyond the bound, and the groups that are left out."""
    left_out: int
    """How many groups are. Of the keys beyond `MAX_KEYS`, each is one."""


async def cost_report(pool: Pool, scope: Scope, window: Window, groups: Sequence[str]) -> CostReport:
    """Return the costs by `GROUPS`, `ORIGINS` or `metadata.NAME`, highest first.

    Raises:
        InvalidRequest: these groups cannot be told apart together.
        Unavailable: the database is away.

    """
    found = await breakdown(pool, scope, window, groups, most=MAX_LINES)
    lines = [*found.lines, *found.rest]
    sums = [line.sums for line in lines]
    return CostReport(
        total_cost=dollars(sum(one["cost_nano_usd"] for one in sums)),
        cost_is_lower_bound=any(map(is_lower_bound, sums)),
        assumed_cost=dollars(sum(one["assumed_nano_usd"] for one in sums)),
        saved_cost=dollars(sum(one["saved_nano_usd"] for one in sums)),
        breakdown=[_line(groups, line) for line in lines],
    )


async def highest_keys(pool: Pool, scope: Scope, window: Window) -> Ranking:
    """Return the keys that are told apart by something else too. Raises as `cost_report`."""
    return await rank(pool, source_of(scope, window, ("key",)), MAX_KEYS)


async def breakdown(
    pool: Pool,
    scope: Scope,
    window: Window,
    groups: Sequence[str],
    *,
    most: int,
    newest_first: bool = False,
    keys: Ranking | None = None,
) -> Breakdown:
    """Return at most so many groups: those with the highest costs, or the newest if time is the first of the groups.

    However many groups there are, the process holds no more than some thousands of them. Of keys, which may be many,
    the two sums that rank them are read first, then all sums of those that come first. `keys`: the answer of
    `highest_keys`, if it is known; None: it is read if it is needed. Raises as `cost_report`.
    """
    said = _attribute_in(groups)
    if said is not None:
        most = min(most, MAX_SAID)
        return await _breakdown_of_said(pool, scope, window, groups, said, most, newest_first=newest_first)
    source = ranked = source_of(scope, window, groups)
    if scope.key_id is not None or "key" not in groups:
        found = await read_most(pool, source, most, newest_first=newest_first)
        return _of_groups(groups, found.groups, found.count, found.total, newest_first=newest_first)
    beyond = 0
    if set(groups) - {"key", "project"}:
        keys = keys or await highest_keys(pool, scope, window)
        beyond = keys.count - len(keys.first)
        if beyond:
            ranked = narrowed(source, keys.groups(), groups.index("key"))
    ranking = await rank(pool, ranked, most, newest_first=newest_first)
    sums = await read_sums(pool, narrowed(source, ranking.groups())) if ranking.first else {}
    count, total = ranking.count + beyond, {}
    if count > len(sums):  # the total comes last, so that it is no less than its groups
        total = (await read_sums(pool, source_of(scope, window, ())))[()]
    return _of_groups(groups, sums, count, total, newest_first=newest_first)


def _of_groups(
    groups: Sequence[str],
    found: Mapping[Group, Mapping[str, Any]],
    count: int,
    total: Mapping[str, Any],
    *,
    newest_first: bool,
) -> Breakdown:
    """Return some of `count` groups, and what is left of the total if there are more."""
    lines = [Named(group, shown(groups, group), sums) for group, sums in found.items()]
    left_out = count - len(lines)
    rest = [_rest((OTHERS,) * len(groups), total, lines)] if left_out else []
    return Breakdown(_sorted(lines, newest_first=newest_first), rest, left_out)


async def highest(pool: Pool, scope: Scope, window: Window, group: str, *, most: int) -> list[Ranked]:
    """Return the groups with the highest costs, highest first. Raises as `cost_report`."""
    return (await rank(pool, source_of(scope, window, (group,)), most)).first


async def most_of(
    pool: Pool, scope: Scope, window: Window, group: str, *, most: int, keys: Ranking | None = None
) -> tuple[dict[Any, Any], bool]:
    """Return the values of a group with the highest costs, each with what is shown of it; and whether these are all.

    `keys` as in `breakdown`. Raises as `cost_report`.
    """
    if is_attribute(group):
        found = await breakdown(pool, scope, window, (group,), most=most)
        return {line.group[0]: line.values[0] for line in found.lines}, not found.rest
    ranking = (
        keys if group == "key" and keys is not None else await rank(pool, source_of(scope, window, (group,)), most)
    )
    first = sorted(ranking.first[:most], key=lambda one: (-one.cost_nano_usd, one.group[0]))
    return {one.group[0]: one.group[0] for one in first}, ranking.count <= most


async def _breakdown_of_said(
    pool: Pool, scope: Scope, window: Window, groups: Sequence[str], at: int, most: int, *, newest_first: bool
) -> Breakdown:
    found = await read_most(pool, source_of(scope, window, groups), most + 1, newest_first=newest_first)
    told = [Named(group, shown(groups, group), sums) for group, sums in found.groups.items() if group[at] is not None]
    everything, unsaid = await _unsaid(pool, scope, window, groups, at)
    lines = _sorted([*told, *unsaid], newest_first=newest_first)
    left_out = len(lines[most:]) + found.count - len(found.groups)
    if not left_out and everything.count == len(everything.groups):
        beyond = [(group, sums) for group, sums in found.groups.items() if group[at] is None]
        return Breakdown(lines, _sorted([Named(g, shown(groups, g), sums, is_rest=True) for g, sums in beyond]), 0)
    lines, rest = lines[:most], []
    by_other: defaultdict[Group, list[Named]] = defaultdict(list)
    for line in lines:
        by_other[_without(line.group, at)].append(line)
    for other, sums in everything.groups.items():
        values = _with(shown(_without(groups, at), other), at, OTHERS)
        rest.append(_rest(values, sums, by_other[other]))
    rest.append(_rest((OTHERS,) * len(groups), everything.total, [*lines, *rest]))
    return Breakdown(lines, _sorted([line for line in rest if any(line.sums.values())]), left_out)


async def sums_of(
    pool: Pool, scope: Scope, window: Window, groups: Sequence[str], wanted: Sequence[Group]
) -> dict[Group, Mapping[str, Any]]:
    """Return the sums of the groups that begin with one of `wanted`, as in `Named`. Raises as `cost_report`."""
    at = _attribute_in(groups)
    read = [group for group in wanted if UNSAID not in group]
    found: dict[Group, Mapping[str, Any]] = {}
    if read:
        found |= await read_sums(pool, narrowed(source_of(scope, window, groups), read))
    if at is not None and len(read) < len(wanted):
        _, unsaid = await _unsaid(pool, scope, window, groups, at)
        found |= {line.group: line.sums for line in unsaid}
    return found


async def _unsaid(
    pool: Pool, scope: Scope, window: Window, groups: Sequence[str], at: int
) -> tuple[Found, list[Named]]:
    """Read all requests by the other group, those with the highest costs; and what of these does not say it."""
    others = _without(groups, at)
    everything = await read_most(pool, source_of(scope, window, others), MAX_LINES)
    by_other = {_of_days(group): {name: sums[name] for name in KEPT} for group, sums in everything.groups.items()}
    everything = Found(by_other, {name: everything.total[name] for name in KEPT}, everything.count)
    source = source_of_said(scope, window, groups[at], others)
    said = await read_sums(pool, narrowed(source, list(by_other)) if others and by_other else source)
    lines = []
    for other, sums in by_other.items():
        left = _less(sums, said.get(other, _NOTHING))
        if any(left.values()):
            lines.append(Named(_with(other, at, UNSAID), _with(shown(others, other), at, None), left))
    return everything, lines


def _attribute_in(groups: Sequence[str]) -> int | None:
    return next((at for at, group in enumerate(groups) if is_attribute(group)), None)


def _without(values: Sequence[Any], at: int) -> tuple[Any, ...]:
    return (*values[:at], *values[at + 1 :])


def _with(values: Sequence[Any], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at:])


def _rest(values: tuple[Any, ...], total: Mapping[str, Any], lines: Sequence[Named]) -> Named:
    """What is left of a total beside these lines."""
    sums = dict(total)
    for line in lines:
        sums = _less(sums, line.sums)
    return Named((), values, sums, is_rest=True)


def _less(sums: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: amount - other[name] for name, amount in sums.items()}


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


def _sorted(lines: list[Named], *, newest_first: bool = False) -> list[Named]:
    by_costs = sorted(lines, key=lambda line: (-line.sums["cost_nano_usd"], *map(str, line.values)))
    return sorted(by_costs, key=lambda line: str(line.values[0]), reverse=True) if newest_first else by_costs


def _line(groups: Sequence[str], line: Named) -> CostLine:
    sums = line.sums
    fields = ("metadata" if group.startswith(METADATA_PREFIX) else group for group in groups)
    return CostLine(
        **dict(zip(fields, line.values, strict=True)),
        is_rest=line.is_rest,
        is_unsaid=UNSAID in line.group,
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
