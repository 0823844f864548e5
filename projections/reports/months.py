"""Usage of keys or projects over some days, from sums by month and by day: one row of a month, thirty of its days.

A month that lies half outside of the window counts whole, without the days that lie outside, if these are fewer than
those inside. So the sums are exact, and a window that ends today reads the running month as one row.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, Table, Text, literal_column, select, union_all

from domain.budget import resets_at, window_start
from projections.reports.scope import Window
from projections.reports.tables import of_scope, usage_months, usage_rollups, usage_totals
from projections.scope import Scope
from projections.sums import SUMS

_ID_COLUMNS = ("project_id", "key_id")
_ALL: ColumnElement[str] = literal_column("''")
_PLUS, _MINUS = ([literal_column(f"{sign}{name}", BigInteger).label(name) for name in SUMS] for sign in ("", "-"))


class Parts(Struct, frozen=True):
    """What adds up to a window: whole months and days, without some days. Each span is its first and its last day."""

    months: list[date]
    days: list[tuple[date, date]]
    without: list[tuple[date, date]]

    def take_away(self, today: date) -> bool:
        """Return True if days that may have usage are taken from months: what is left of some keys may be nothing."""
        return any(first <= today for first, _ in self.without)


def parts_of(window: Window, today: date) -> Parts:
    """Take a window apart so that few rows are read. No days after `today` are expected: they cost nothing."""
    parts = Parts([], [], [])
    for month, last_of_month in _months(window):
        first, last = max(month, window.first), min(last_of_month, window.last)
        outside = [span for span in ((month, first - _DAY), (last + _DAY, last_of_month)) if span[0] <= span[1]]
        too_many = sum((min(end, today) - begin).days + 1 for begin, end in outside if begin <= today)
        if (last - first).days < 1 + too_many:
            parts.days.append((first, last))
        else:
            parts.months.append(month)
            parts.without.extend(outside)
    return parts


_DAY = timedelta(days=1)


def _months(window: Window) -> Iterator[tuple[date, date]]:
    month = window_start(window.first, "month")
    while month <= window.last:
        following = resets_at(month, "month").date()
        yield month, following - _DAY
        month = following


def usage_of_keys(scope: Scope, parts: Parts) -> FromClause:
    """Return the rows that add up to the usage of the keys of a scope, as `PARTS`: columns of ids, and `SUMS`."""
    of_keys = [usage_rollups.c.period == literal_column("'day'"), usage_rollups.c.key_id != _ALL]
    return _added_up(usage_rollups, of_keys, usage_months.c.key_id != _ALL, scope, parts)


def usage_of_projects(parts: Parts) -> FromClause:
    """As `usage_of_keys`, of every project."""
    of_projects, everybody = [usage_totals.c.project_id != _ALL], Scope(project_id=None)
    return _added_up(usage_totals, of_projects, usage_months.c.key_id == _ALL, everybody, parts)


PARTS: Mapping[str, ColumnElement[str]] = {
    group: literal_column(f"parts.{group}_id", Text) for group in ("project", "key")
}
"""The columns of the ids by their groups. Those of projects have no keys."""


def _added_up(
    daily: Table, of_days: Sequence[ColumnElement[bool]], of_months: ColumnElement[bool], scope: Scope, parts: Parts
) -> FromClause:
    ids = [name for name in _ID_COLUMNS if name in daily.c]

    def days(first: date, last: date, amounts: Sequence[ColumnElement[int]]) -> Select[Any]:
        during = daily.c.starts_at >= _begins(first), daily.c.starts_at < _begins(last + _DAY)
        columns: list[ColumnElement[Any]] = [*(daily.c[name] for name in ids), *amounts]
        return select(*columns).where(*of_days, *during, *of_scope(daily, scope))

    selected = [days(*span, _PLUS) for span in parts.days] + [days(*span, _MINUS) for span in parts.without]
    if parts.months:
        months = usage_months.c
        columns: list[ColumnElement[Any]] = [*(months[name] for name in ids), *_PLUS]
        during = months.starts_at.between(_begins(parts.months[0]), _begins(parts.months[-1]))
        selected.append(select(*columns).where(of_months, during, *of_scope(usage_months, scope)))
    return union_all(*selected).subquery("parts")


def _begins(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
