"""Which table has the sums of a question in the fewest rows, and the statements that read them.

A question has groups and a scope. `usage_totals` has all usage of a project by day, `usage_months` that of a
key or a project by month, `usage_rollups` usage by key, or by operation, provider and model, by hour or day; both at
once are in `usage_daily` alone, by day. What callers say is in `usage_attributes`, by day and key.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

from msgspec import Struct, structs
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Label,
    Select,
    Table,
    and_,
    any_,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from domain.budget import day_of
from domain.call_origin import Origin
from domain.errors import InvalidRequest
from infra.database import Pool
from infra.statements import fetch
from projections.attributes import KEPT, METADATA_PREFIX
from projections.reports.months import PARTS, parts_of, usage_of_keys, usage_of_projects
from projections.reports.scope import Window
from projections.reports.tables import (
    of_scope,
    usage_attribute_values,
    usage_attributes,
    usage_daily,
    usage_durations,
    usage_rollups,
    usage_total_durations,
    usage_totals,
)
from projections.rollups import Period
from projections.scope import Scope
from projections.sums import SUMS

GROUPS = ("model", "provider", "key", "day", "hour", "operation", "project")
"""What usage can be grouped by. `ORIGINS` and `metadata.NAME` are possible too."""
ORIGINS: tuple[str, ...] = Origin.__struct_fields__
MAX_GROUPS = 2
MAX_HOURLY_DAYS = 8
"""The longest window by hour."""

_FIELD = "groupBy"
_ASKED = frozenset({"model", "provider", "operation"})
_TIMES = frozenset({"day", "hour"})
_BESIDE_ATTRIBUTES = frozenset({"day", "key", "project"})
_COLUMNS = {"key": "key_id", "project": "project_id", "day": "starts_at", "hour": "starts_at"}
"""The columns of groups; the others have their groups' names."""
_ALL: ColumnElement[str] = literal_column("''")
"""A constant in the text, so that the indexes of one kind of row are used."""


def _sum(name: str) -> ColumnElement[Any]:
    """The sum of a column as a constant text, since a report has many. Money may leave bigint, and stays numeric."""
    kind = "numeric" if name.endswith("_nano_usd") else "bigint"
    return literal_column(f"coalesce(sum({name}), 0)::{kind}").label(name)


_AMOUNTS: dict[tuple[str, ...], tuple[ColumnElement[Any], ...]] = {
    names: tuple(map(_sum, names)) for names in (SUMS, KEPT)
}
_COST: Label[Any] = literal_column("sum(cost_nano_usd)::numeric").label("cost")
_REQUESTS: Label[Any] = literal_column("sum(completed_requests + cached_requests + failed_requests)").label("requests")
_MAY_FALL = ("cost_nano_usd", "assumed_nano_usd", "saved_nano_usd", "unpriced_requests")
_HAS_USAGE: ColumnElement[bool] = literal_column(
    f"(sum({' + '.join(name for name in SUMS if name not in _MAY_FALL)}), "
    f"{', '.join(f'sum({name})' for name in _MAY_FALL)}) <> (0{', 0' * len(_MAY_FALL)})"
)
"""Of sums in which days are taken from months. What never falls is added up row by row: one sum for each would take
PostgreSQL two to three times as long for 4,000 keys.
"""
_IS_DEAREST: ColumnElement[Any] = literal_column("cost_nano_usd").desc()
_IS_BUSIEST: ColumnElement[Any] = literal_column("completed_requests + cached_requests + failed_requests").desc()

Group: TypeAlias = tuple[Any, ...]
"""The values of the groups. Of an attribute: its value as JSON, None for the others."""


class Found(Struct, frozen=True):
    """The sums of the first groups in an order, and of all."""

    groups: dict[Group, dict[str, Any]]
    total: dict[str, Any]
    count: int
    """Of all groups."""


class Ranked(Struct, frozen=True):
    """A group and what its place is by."""

    group: Group
    cost_nano_usd: int
    requests: int
    """The completed, cached and failed ones."""


class Ranking(Struct, frozen=True):
    """The first groups in an order."""

    first: list[Ranked]
    count: int
    """Of all groups."""

    def groups(self) -> list[Group]:
        """Return the first groups."""
        return [one.group for one in self.first]


class Source(Struct, frozen=True):
    """A table with conditions and the columns of the groups; `durations` likewise, None if it has none."""

    table: FromClause
    conditions: tuple[ColumnElement[bool], ...]
    columns: tuple[ColumnElement[Any], ...]
    sums: tuple[str, ...] = SUMS
    having: tuple[ColumnElement[bool], ...] = ()
    durations: "Source | None" = None


def is_attribute(group: str) -> bool:
    """True for what callers say of their requests."""
    return group in ORIGINS or (group.startswith(METADATA_PREFIX) and len(group) > len(METADATA_PREFIX))


def is_group(group: str) -> bool:
    """True for what usage can be grouped by."""
    return group in GROUPS or is_attribute(group)


def check_groups(groups: Sequence[str], window: Window) -> None:
    """Check that usage can be grouped so.

    Raises:
        InvalidRequest: why not.

    """
    for group in groups:
        if not is_group(group):
            allowed = ", ".join([*GROUPS, *ORIGINS])
            raise InvalidRequest(f"`{_FIELD}` is {group!r}: allowed are {allowed} and metadata.NAME", field=_FIELD)
    if len(set(groups)) < len(groups) or set(groups) >= _TIMES or len(groups) > MAX_GROUPS:
        raise InvalidRequest(f"`{_FIELD}`: usage is grouped by one or two groups, and by time once", field=_FIELD)
    said = [group for group in groups if is_attribute(group)]
    if (said and not set(groups) - set(said) <= _BESIDE_ATTRIBUTES) or len(said) > 1:
        raise InvalidRequest(
            f"`{_FIELD}`: {said[0]} can be grouped further by {', '.join(sorted(_BESIDE_ATTRIBUTES))}", field=_FIELD
        )
    if "hour" in groups and window.days > MAX_HOURLY_DAYS:
        raise InvalidRequest(f"`{_FIELD}`: by hour, at most {MAX_HOURLY_DAYS} days can be shown", field=_FIELD)


def source_of(scope: Scope, window: Window, groups: Sequence[str]) -> Source:
    """Return where the sums of these groups are.

    Raises:
        InvalidRequest: nowhere.

    """
    check_groups(groups, window)
    said = next((group for group in groups if is_attribute(group)), None)
    if said is not None:
        return source_of_said(scope, window, said, groups)
    is_by_key = scope.key_id is not None or "key" in groups
    if is_by_key and _ASKED & set(groups):
        if "hour" in groups:
            raise InvalidRequest(f"`{_FIELD}`: by hour, usage of keys is not told apart further", field=_FIELD)
        return _daily(scope, window, groups)
    is_by_project = scope.project_id is None and tuple(groups) == ("project",)
    if (is_by_key and not _TIMES & set(groups)) or is_by_project:
        return _months(scope, window, groups)
    if not is_by_key and not {*_ASKED, "hour"} & set(groups):
        return _totals(scope, window, groups)
    return _rollups(scope, window, groups, is_by_key=is_by_key)


def _daily(scope: Scope, window: Window, groups: Sequence[str]) -> Source:
    table = usage_daily.c
    conditions = [table.day.between(window.first, window.last), *of_scope(usage_daily, scope)]
    names = _COLUMNS | {"day": "day"}
    return Source(usage_daily, tuple(conditions), tuple(table[names.get(group, group)] for group in groups))


def _months(scope: Scope, window: Window, groups: Sequence[str]) -> Source:
    today, is_by_key = day_of(datetime.now(UTC)), scope.key_id is not None or "key" in groups
    parts = parts_of(window, today)
    rows = usage_of_keys(scope, parts) if is_by_key else usage_of_projects(parts)
    daily = _rollups(scope, window, groups, is_by_key=True) if is_by_key else _totals(scope, window, groups)
    having = (_HAS_USAGE,) if groups and parts.take_away(today) else ()
    columns = tuple(PARTS[group] for group in groups)
    return Source(rows, (), columns, having=having, durations=daily.durations)


def _totals(scope: Scope, window: Window, groups: Sequence[str]) -> Source:
    def of(table: Table) -> Source:
        conditions = _during(table, window)
        if scope.project_id is not None:
            conditions.append(table.c.project_id == scope.project_id)
        else:
            conditions.append(table.c.project_id != _ALL if "project" in groups else table.c.project_id == _ALL)
        return Source(table, tuple(conditions), _columns(table, groups))

    return structs.replace(of(usage_totals), durations=of(usage_total_durations))


def _rollups(scope: Scope, window: Window, groups: Sequence[str], *, is_by_key: bool) -> Source:
    period: Period = "hour" if "hour" in groups else "day"

    def of(table: Table) -> Source:
        c = table.c
        conditions = [c.period == literal_column(f"'{period}'"), *_during(table, window)]
        conditions += [c.key_id != _ALL if is_by_key else c.key_id == _ALL]
        if scope.key_id is not None:
            conditions.append(c.key_id == scope.key_id)
        if scope.project_id is not None:
            conditions.append(c.project_id == scope.project_id)
        else:
            conditions.append(c.project_id != _ALL if is_by_key or "project" in groups else c.project_id == _ALL)
        return Source(table, tuple(conditions), _columns(table, groups))

    return structs.replace(of(usage_rollups), durations=of(usage_durations))


def _during(table: Table, window: Window) -> list[ColumnElement[bool]]:
    begins, ends = window.moments()
    return [table.c.starts_at >= begins, table.c.starts_at < ends]


def _columns(table: FromClause, groups: Sequence[str]) -> tuple[ColumnElement[Any], ...]:
    return tuple(table.c[_COLUMNS.get(group, group)] for group in groups)


def source_of_said(scope: Scope, window: Window, said: str, groups: Sequence[str]) -> Source:
    """Return where the sums of the requests are that say an attribute, by it, by days, keys or projects."""
    a, v = usage_attributes.c, usage_attribute_values.c
    joined = usage_attributes.outerjoin(
        usage_attribute_values,
        and_(v.project_id == a.project_id, v.name == a.name, v.day == a.day, v.number == a.number),
    )
    conditions = [a.name == said, a.day.between(window.first, window.last), *of_scope(usage_attributes, scope)]
    columns = {said: v.value, "key": a.key_id, "project": a.project_id, "day": a.day}
    return Source(joined, tuple(conditions), tuple(columns[group] for group in groups), sums=KEPT)


def narrowed(source: Source, wanted: Sequence[Group], at: int = 0) -> Source:
    """Return the source of those groups alone whose values, from the number `at` on, are in `wanted`: not empty."""
    columns, arrays, types = [], [], []
    for column, values in zip(source.columns[at:], zip(*wanted, strict=True), strict=False):
        is_any_null = None in values  # the others of an attribute: no JSON text is empty
        columns.append(func.coalesce(column, literal_column("''")) if is_any_null else column)
        arrays.append(["" if value is None else value for value in values])
        types.append(ARRAY(column.type))
    conditions = [
        column == any_(literal(sorted(set(values)), kind))
        for column, values, kind in zip(columns, arrays, types, strict=True)
    ]
    if len(arrays) > 1:  # the ones above find the rows by an index, some of which are of other groups
        names = [f"w{number}" for number in range(len(arrays))]
        each = func.unnest(*map(literal, arrays, types)).table_valued(*names).render_derived(name="wanted")
        # not a join, for which the rows of a day, or of a project, were read for each group that is wanted
        conditions.append(tuple_(*columns).in_(select(*(each.c[name] for name in names))).is_(true()))
    durations = narrowed(source.durations, wanted, at) if source.durations is not None else None
    return structs.replace(source, conditions=(*source.conditions, *conditions), durations=durations)


async def read_sums(pool: Pool, source: Source) -> dict[Group, dict[str, Any]]:
    """Return the sums of each group. Raises as `infra.statements.fetch`."""
    count = len(source.columns)
    rows = await fetch(pool, _summed(source))
    return {tuple(row[:count]): dict(zip(source.sums, row[count:], strict=True)) for row in rows}


def _summed(source: Source) -> Select[Any]:
    labelled = [column.label(f"g{number}") for number, column in enumerate(source.columns)]
    statement = select(*labelled, *_AMOUNTS[source.sums]).select_from(source.table).where(*source.conditions)
    return statement.group_by(*source.columns).having(*source.having) if source.columns else statement


async def read_most(pool: Pool, source: Source, most: int, *, newest_first: bool = False) -> Found:
    """Return at most so many groups: those with the highest costs, or with the latest times of the first group.

    The values of an attribute that are not told apart come after all that are. One statement reads the groups and their
    total, so that they agree. Raises as `infra.statements.fetch`.
    """
    if not source.columns:
        sums = await read_sums(pool, source)
        return Found(sums, sums[()], 1)
    grouped = _summed(source).cte("grouped")
    names = [grouped.c[f"g{number}"] for number in range(len(source.columns))]
    amounts = [grouped.c[name] for name in source.sums]
    order: list[ColumnElement[Any]] = [_IS_DEAREST, _IS_BUSIEST, *(name.asc().nulls_last() for name in names)]
    order = [names[0].desc(), *order] if newest_first else [*(name.is_(None) for name in names), *order]
    first = (
        select(*names, *amounts, cast(null(), BigInteger).label("count")).order_by(*order).limit(most).subquery("first")
    )
    total = select(*(null() for _ in names), *_AMOUNTS[source.sums], func.count()).select_from(grouped)
    rows = await fetch(pool, union_all(select(first), total))
    count = len(names)
    made = [(tuple(row[:count]), dict(zip(source.sums, row[count:-1], strict=True))) for row in rows]
    last = next(number for number, row in enumerate(rows) if row[-1] is not None)
    _, all_sums = made.pop(last)
    return Found(dict(made), all_sums, rows[last][-1])


async def rank(pool: Pool, source: Source, most: int, *, newest_first: bool = False) -> Ranking:
    """Return at most so many groups in the order of `read_most`, of a source without what callers say.

    Of its rows, which may be very many, no other sums are added up than those that rank them. Raises as `read_most`.
    """
    labelled = [column.label(f"g{number}") for number, column in enumerate(source.columns)]
    order: list[ColumnElement[Any]] = [_COST.desc(), _REQUESTS.desc(), *labelled]
    order = [labelled[0].desc(), *order] if newest_first else order
    statement = (
        select(*labelled, _COST, _REQUESTS, func.count().over().label("count"))
        .select_from(source.table)
        .where(*source.conditions)
        .group_by(*source.columns)
        .having(*source.having)
        .order_by(*order)
        .limit(most)
    )
    rows = await fetch(pool, statement)
    first = [Ranked(tuple(group), int(cost), int(requests)) for *group, cost, requests, _ in rows]
    return Ranking(first, rows[0]["count"] if rows else 0)


def day_or_hour(value: date | datetime, group: str) -> str:
    """A day or an hour as it is shown."""
    return value.isoformat()[:10] if group == "day" else f"{value.isoformat()[:13]}:00:00Z"


NOTHING: dict[str, Any] = dict.fromkeys(SUMS, 0)
"""The sums of no request."""
