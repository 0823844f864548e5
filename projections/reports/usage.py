"""Usage over days: totals, days, and any two groups of `sources.py`, beside the window before."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from infra.database import Pool
from projections.reports.costs import Named, named_sums, shown
from projections.reports.figures import NO_DURATIONS, Durations, Figures, figures
from projections.reports.labels import labels_of
from projections.reports.scope import Window
from projections.reports.sources import NOTHING, day_or_hour, read_durations, read_sums, source_of
from projections.rollups import Measure
from projections.scope import Scope

MAX_LINES = 1_000
_TIMES = ("day", "hour")
_MEASURES: tuple[Measure, ...] = ("answer", "first_token")


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
    previous: Figures | None
    """The same group's in the window before, hours and days by their place in it. Null: it was not there."""


class UsageReport(Struct, kw_only=True, rename="camel"):
    """Usage over a span of days by groups, and over the span of the same length before it."""

    period: Span
    totals: Figures
    previous_period: Span
    previous_totals: Figures
    lines: list[UsageLine]
    """At most 1,000, those with the highest costs, or by time if that is the first group."""
    lines_left_out: int
    labels: dict[str, str]
    """The names of the keys and projects of these lines, by their ids."""


async def usage_stats(pool: Pool, scope: Scope, window: Window) -> UsageStats:
    """Return the totals and the days. Days without a request are left out. Raises as `infra.statements.fetch`."""
    source = source_of(scope, window, ("day",))
    days, durations = await read_sums(pool, source), await read_durations(pool, source)
    daily = [
        figures(DailyFigures, sums, durations.get(group, NO_DURATIONS), date=_date(group[0]))
        for group, sums in sorted(days.items())
    ]
    return UsageStats(period=span(window), totals=_total(days.values(), durations.values()), daily=daily)


async def totals(pool: Pool, scope: Scope, window: Window) -> Figures:
    """Return the totals of a window. Raises as `infra.statements.fetch`."""
    source = source_of(scope, window, ())
    sums, durations = await read_sums(pool, source), await read_durations(pool, source)
    return figures(Figures, sums[()], durations.get((), NO_DURATIONS))


async def usage_report(
    pool: Pool, scope: Scope, window: Window, groups: Sequence[str], *, most: int = MAX_LINES
) -> UsageReport:
    """Return usage by one or two groups.

    Raises:
        InvalidRequest: these groups cannot be told apart together.
        Unavailable: the database is away.

    """
    lines = await named_sums(pool, scope, window, groups)
    durations = await _durations(pool, scope, window, groups)
    before = await named_sums(pool, scope, window.before(), groups)
    earlier = {_moved(groups, line.values, window.days): line for line in before}
    if groups[0] in _TIMES:
        lines.sort(key=lambda line: str(line.values[0]))
    made = [
        figures(
            UsageLine,
            line.sums,
            durations.get(_key(line.values), NO_DURATIONS),
            group=dict(zip(groups, line.values, strict=True)),
            is_rest=line.is_rest,
            previous=_previous(earlier.get(_key(line.values))),
        )
        for line in lines[:most]
    ]
    return UsageReport(
        period=span(window),
        totals=await totals(pool, scope, window),
        previous_period=span(window.before()),
        previous_totals=await totals(pool, scope, window.before()),
        lines=made,
        lines_left_out=max(0, len(lines) - most),
        labels=await labels_of(
            pool,
            keys=(line.group["key"] for line in made if "key" in line.group),
            project_ids=(line.group["project"] for line in made if "project" in line.group),
        ),
    )


async def usage_over_time(pool: Pool, scope: Scope, window: Window, time: str) -> list[UsageLine]:
    """Return usage by `day` or `hour`, in the order of time, without the time before. Raises as `usage_report`."""
    source = source_of(scope, window, (time,))
    found, durations = await read_sums(pool, source), await read_durations(pool, source)
    return [
        figures(
            UsageLine,
            sums,
            durations.get(group, NO_DURATIONS),
            group={time: day_or_hour(group[0], time)},
            is_rest=False,
            previous=None,
        )
        for group, sums in sorted(found.items())
    ]


def span(window: Window) -> Span:
    """A window as it is shown."""
    return Span(from_=window.first, to=window.last)


async def _durations(pool: Pool, scope: Scope, window: Window, groups: Sequence[str]) -> dict[str, Durations]:
    found = await read_durations(pool, source_of(scope, window, groups))
    return {_key(shown(groups, group)): durations for group, durations in found.items()}


def _key(values: Iterable[Any]) -> str:
    """Values that callers say may be of any kind: they are compared as JSON."""
    return msgspec.json.encode(tuple(values)).decode()


def _moved(groups: Sequence[str], values: Sequence[Any], days: int) -> str:
    """The key that a group of the window before has in this one: its days and hours are so many days later."""
    return _key(
        _later(value, group, days) if group in _TIMES else value for group, value in zip(groups, values, strict=True)
    )


def _later(shown_time: str, group: str, days: int) -> str:
    return day_or_hour(datetime.fromisoformat(shown_time) + timedelta(days=days), group)


def _previous(line: Named | None) -> Figures | None:
    return figures(Figures, line.sums) if line is not None else None


def _date(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


def _total(sums: Iterable[Mapping[str, Any]], durations: Iterable[Durations]) -> Figures:
    """Add up sums and histograms."""
    total = dict(NOTHING)
    for one in sums:
        for name, amount in one.items():
            total[name] += amount
    histograms: dict[Measure, Counter[int]] = {measure: Counter() for measure in _MEASURES}
    for found in durations:
        for measure, answers in found.items():
            histograms[measure].update(answers)
    return figures(Figures, total, histograms)
