"""Charts of usage over time, from the lines of a report. Times without usage are shown as such."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.dashboard.charts import Chart, ChartKind, ChartPoint, Value
from api.dashboard.usage_metrics import Column, Metric
from projections.reports.figures import Figures
from projections.reports.scope import Window
from projections.reports.sources import day_or_hour
from projections.reports.usage import READ_BY, MostOverTime, Time, UsageLine, monday_of

MAX_SERIES = 6
MAX_POINTS = 400
MAX_DAYS_BY_DAY = 92
"""A longer window has a point for each week: a year by day would be longer than the rest of the page."""
_STEPS: Mapping[Time, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
_HEADS: Mapping[Time, str] = {"hour": "Hour (UTC)", "day": "Day (UTC)", "week": "Week from (UTC)"}
_WEEKS = "Weeks begin on Monday; the first and the last have only the days of the range."
_DURATIONS = "ms"


def day_or_week(window: Window) -> Time:
    """The time that a point of a chart stands for, if it is no hour."""
    return "day" if window.days <= MAX_DAYS_BY_DAY else "week"


def chart_over_time(lines: Sequence[UsageLine], metric: Metric, time: Time, window: Window, label: str) -> Chart:
    """The columns of a metric that have its unit, over time. `lines` are grouped by time alone."""
    unit = metric.first.unit
    columns = [column for column in metric.columns if column.unit == unit]
    kind: ChartKind = "lines" if unit in (_DURATIONS, "share") else "bars"
    shown_columns = columns if kind == "lines" else columns[:1]
    found = {line.group[time]: line for line in lines}
    return Chart(
        name=f"{metric.label.lower().replace(' ', '-')}-over-time",
        label=label,
        unit=unit,
        kind=kind,
        **of_time(time),
        series=tuple(column.label for column in shown_columns),
        points=[
            ChartPoint(
                at=at,
                label=label_of(at, time),
                values=tuple([_of(column, found.get(shown)) for column in shown_columns]),
            )
            for at, shown in times_of(window, time)
        ],
    )


def chart_by_group(found: MostOverTime, metric: Metric, time: Time, window: Window, label: str) -> Chart:
    """The first column of a metric over time, for the groups with the highest costs."""
    figures = [{line.group[time]: line for line in lines} for lines in found.lines]
    return Chart(
        name="by-group",
        label=label if found.is_all else f"{label}: the {len(found.values)} with the highest costs",
        unit=metric.first.unit,
        kind="lines",
        **of_time(time),
        series=tuple(
            shown_value(value, found.labels, is_unsaid=any(line.is_unsaid for line in lines))
            for value, lines in zip(found.values, found.lines, strict=True)
        ),
        points=[
            ChartPoint(
                at=at,
                label=label_of(at, time),
                values=tuple(_of(metric.first, of_group.get(shown)) for of_group in figures),
            )
            for at, shown in times_of(window, time)
        ],
    )


def shown_value(value: Any, labels: dict[str, str], *, is_unsaid: bool = False) -> str:
    """A value of a group as text: a key or project by its name, what callers say as it is, `null` included."""
    if is_unsaid:
        return "(not said)"
    if isinstance(value, str):
        return labels.get(value, value)
    return msgspec.json.encode(value).decode()


def _of(column: Column, figures: Figures | None) -> Value:
    if figures is None:
        return None if column.unit in (_DURATIONS, "share") else 0
    return column.value(figures)


def of_time(time: Time) -> dict[str, Any]:
    """The sentence under a chart about its points."""
    return {"time": _HEADS[time], "note": _WEEKS if time == "week" else None}


def times_of(window: Window, time: Time) -> Iterator[tuple[datetime, str]]:
    """The times of a window up to now, with their text in reports; at most `MAX_POINTS`, the last ones."""
    begins, ends = window.moments()
    ends = min(ends, datetime.now(UTC))
    if time == "week":
        begins = monday_of(begins)
    step = _STEPS[time]
    begins = max(begins, begins + step * (int((ends - begins) / step) + 1 - MAX_POINTS))
    at = begins
    while at < ends:
        yield at, day_or_hour(at, READ_BY[time])
        at += step


def label_of(at: datetime, time: Time) -> str:
    """A time as the table of a chart shows it."""
    shown = at.isoformat()
    return f"{shown[5:10]} {shown[11:16]}" if time == "hour" else shown[:10]
