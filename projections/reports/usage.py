"""Usage over days: totals, days, and any two groups of `sources.py`, beside the window before."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from infra.database import Pool
from projections.histograms import Measure
from projections.reports.costs import UNSAID, breakdown, most_of, sums_of
from projections.reports.durations import MEASURES, added, read_durations
from projections.reports.figures import NO_DURATIONS, Durations, Figures, figures
from projections.reports.labels import labels_of
from projections.reports.scope import Window
from projections.reports.sources import (
    NOTHING,
    Group,
    Ranking,
    day_or_hour,
    narrowed,
    read_sums,
    source_of,
)
from projections.scope import Scope

MAX_LINES = 1_000
Time: TypeAlias = Literal["hour", "day", "week"]
"""A week is from Monday to Sunday, and has the days of it that are in the window."""
_TIMES = ("day", "hour")
READ_BY: Mapping[Time, str] = {"hour": "hour", "day": "day", "week": "day"}
"""The group of a report that has these times, or their days."""
AnyDay = TypeVar("AnyDay", date, datetime)
_Part = TypeVar("_Part")


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


class UsageLine(Figures, kw_only=True, rename="camel"):
    """The figures of one group."""

    group: dict[str, Any]
    """Its values by the names of the groups; of what callers say, null for requests that do not say it."""
    is_rest: bool
    """True for the line of all values that are not told apart."""
    is_unsaid: bool = False
    """True for requests that do not say it; a null that callers do say is theirs."""
    previous: Figures | None
    """The same group's in the window before, hours and days by their place in it. Null: it was not there."""


class UsageReport(Struct, kw_only=True, rename="camel"):
    """Usage over a span of days by groups, and over the span of the same length before it."""

    period: Span
    totals: Figures
    previous_period: Span
    previous_totals: Figures
    lines: list[UsageLine]
    """At most 1,000, those with the highest costs; or the newest, in the order of time, if that is the first group.
    After them is what is not told apart.
    """
    lines_left_out: int
    """How many groups are in it that the bound leaves out."""
    labels: dict[str, str]
    """The names of the keys and projects of these lines, by their ids."""


class UsageOverTime(Struct, kw_only=True):
    """Usage over time, and all of it."""

    lines: list[UsageLine]
    """Without times in which there was none."""
    totals: Figures


class MostOverTime(Struct, kw_only=True):
    """Usage over time of a few values of a group."""

    values: list[Any]
    """The highest costs first; null for requests that do not say it."""
    lines: list[list[UsageLine]]
    """Of each value."""
    is_all: bool
    """False if there are more values."""
    labels: dict[str, str]
    """The names of keys and projects, by their ids."""


async def usage_stats(pool: Pool, scope: Scope, window: Window) -> UsageStats:
    """Return the totals and the days. Days without a request are left out. Raises as `infra.statements.fetch`."""
    source = source_of(scope, window, ("day",))
    days, durations = await read_sums(pool, source), await read_durations(pool, source)
    daily = [
        figures(DailyFigures, sums, durations.get(group, NO_DURATIONS), date=_date(group[0]))
        for group, sums in sorted(days.items())
    ]
    return UsageStats(period=span(window), totals=_total(days.values(), durations.values()), daily=daily)


async def totals(pool: Pool, scope: Scope, window: Window, measures: Sequence[Measure] = MEASURES) -> Figures:
    """Return the totals of a window. Raises as `infra.statements.fetch`."""
    source = source_of(scope, window, ())
    sums, durations = await read_sums(pool, source), await read_durations(pool, source, measures)
    return figures(Figures, sums[()], durations.get((), NO_DURATIONS))


async def usage_report(
    pool: Pool,
    scope: Scope,
    window: Window,
    groups: Sequence[str],
    *,
    most: int = MAX_LINES,
    measures: Sequence[Measure] = MEASURES,
    all_of_it: Figures | None = None,
    keys: Ranking | None = None,
) -> UsageReport:
    """Return usage by one or two groups. Percentiles of other durations than `measures` are null.

    `all_of_it` and `keys`: the totals and the answer of `highest_keys`, if they are known; None: they are read.

    Raises:
        InvalidRequest: these groups cannot be told apart together.
        Unavailable: the database is away.

    """
    is_by_time = groups[0] in _TIMES
    found = await breakdown(pool, scope, window, groups, most=most, newest_first=is_by_time, keys=keys)
    told = found.lines[::-1] if is_by_time else found.lines
    durations = await _durations(pool, scope, window, groups, [line.group for line in told], measures)
    wanted = [_moved(line.group, -window.days) for line in [*told, *found.rest] if line.group]
    before = await sums_of(pool, scope, window.before(), groups, wanted) if wanted else {}
    made = [
        figures(
            UsageLine,
            line.sums,
            durations.get(line.group, NO_DURATIONS),
            group=dict(zip(groups, line.values, strict=True)),
            is_rest=line.is_rest,
            is_unsaid=UNSAID in line.group,
            previous=_previous(before.get(_moved(line.group, -window.days))),
        )
        for line in [*told, *found.rest]
    ]
    return UsageReport(
        period=span(window),
        totals=all_of_it or await totals(pool, scope, window, measures),
        previous_period=span(window.before()),
        previous_totals=await totals(pool, scope, window.before(), measures),
        lines=made,
        lines_left_out=found.left_out,
        labels=await labels_of(
            pool,
            keys=(line.group["key"] for line in made if "key" in line.group),
            project_ids=(line.group["project"] for line in made if "project" in line.group),
        ),
    )


async def usage_over_time(
    pool: Pool, scope: Scope, window: Window, time: Time, measures: Sequence[Measure] = MEASURES
) -> UsageOverTime:
    """Return usage by time, in the order of time, without the time before, and the totals. As `usage_report`."""
    source = source_of(scope, window, (READ_BY[time],))
    found: Mapping[Group, Mapping[str, Any]] = await read_sums(pool, source)
    durations = await read_durations(pool, source, measures)
    if time == "week":
        found, durations = _by_week(found, _added_sums), _by_week(durations, added)
    return UsageOverTime(
        lines=[
            figures(
                UsageLine,
                sums,
                durations.get(group, NO_DURATIONS),
                group={time: day_or_hour(group[0], READ_BY[time])},
                is_rest=False,
                previous=None,
            )
            for group, sums in sorted(found.items())
        ],
        totals=_total(found.values(), durations.values()),
    )


def monday_of(day: AnyDay) -> AnyDay:
    """The first day of a day's week."""
    return day - timedelta(days=day.weekday())


def span(window: Window) -> Span:
    """A window as it is shown."""
    return Span(from_=window.first, to=window.last)


async def usage_of_most(
    pool: Pool,
    scope: Scope,
    window: Window,
    group: str,
    time: Time,
    *,
    most: int,
    measures: Sequence[Measure] = MEASURES,
    keys: Ranking | None = None,
) -> MostOverTime:
    """Return usage by time of the values of a group with the highest costs. As `usage_report`."""
    names, is_all = await most_of(pool, scope, window, group, most=most, keys=keys)
    groups, wanted = (group, READ_BY[time]), [(raw,) for raw in names]
    sums = await sums_of(pool, scope, window, groups, wanted) if wanted else {}
    durations = await _durations(pool, scope, window, groups, wanted, measures)
    if time == "week":
        sums, durations = _by_week(sums, _added_sums), _by_week(durations, added)
    return MostOverTime(
        values=list(names.values()),
        is_all=is_all,
        lines=[
            [
                figures(
                    UsageLine,
                    one,
                    durations.get(key, NO_DURATIONS),
                    group={group: name, time: day_or_hour(key[1], READ_BY[time])},
                    is_rest=False,
                    is_unsaid=raw == UNSAID,
                    previous=None,
                )
                for key, one in sums.items()
                if key[0] == raw
            ]
            for raw, name in names.items()
        ],
        labels=await labels_of(
            pool,
            keys=names.values() if group == "key" else (),
            project_ids=names.values() if group == "project" else (),
        ),
    )


async def _durations(
    pool: Pool,
    scope: Scope,
    window: Window,
    groups: Sequence[str],
    wanted: Sequence[Group],
    measures: Sequence[Measure],
) -> dict[Group, Durations]:
    """Return the histograms of groups that begin with one of `wanted`; empty if there are none by these groups."""
    if not wanted or not measures:
        return {}
    source = source_of(scope, window, groups)
    return await read_durations(pool, narrowed(source, wanted), measures) if source.durations is not None else {}


def _moved(group: Group, days: int) -> Group:
    """Return the group with its days and hours moved by this many days."""
    return tuple(value + timedelta(days=days) if isinstance(value, date) else value for value in group)


def _previous(sums: Mapping[str, Any] | None) -> Figures | None:
    return figures(Figures, sums) if sums is not None else None


def _date(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


def _by_week(days: Mapping[Group, _Part], add_up: Callable[[Sequence[_Part]], _Part]) -> dict[Group, _Part]:
    """Add up the days of each week. The day is the last of a group's values; that of a week is its Monday."""
    weeks: defaultdict[Group, list[_Part]] = defaultdict(list)
    for group, part in days.items():
        weeks[(*group[:-1], monday_of(group[-1]))].append(part)
    return {week: add_up(parts) for week, parts in weeks.items()}


def _added_sums(sums: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Add up sums by their names."""
    total: dict[str, Any] = {}
    for one in sums:
        for name, amount in one.items():
            total[name] = total.get(name, 0) + amount
    return total


def _total(sums: Iterable[Mapping[str, Any]], durations: Iterable[Durations]) -> Figures:
    """Add up sums and histograms."""
    return figures(Figures, {**NOTHING, **_added_sums(sums)}, added(list(durations)))
