"""Charts of usage over time, from the lines of a report. Times without usage are shown as such."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.dashboard.charts import Chart, ChartKind, ChartPoint, Value
from api.dashboard.usage_metrics import Column, Metric
from projections.reports.figures import Figures
from projections.reports.scope import Window
from projections.reports.sources import day_or_hour
from projections.reports.usage import MostOverTime, UsageLine

MAX_SERIES = 6
MAX_POINTS = 400
_STEPS = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
_DURATIONS = "ms"


def chart_over_time(lines: Sequence[UsageLine], metric: Metric, time: str, window: Window, label: str) -> Chart:
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
        series=tuple(column.label for column in shown_columns),
        points=[
            ChartPoint(
                at=at, label=_label(at, time), values=tuple([_of(column, found.get(shown)) for column in shown_columns])
            )
            for at, shown in _times(window, time)
        ],
    )


def chart_by_group(found: MostOverTime, metric: Metric, time: str, window: Window, label: str) -> Chart:
    """The first column of a metric over time, for the groups with the highest costs."""
    figures = [{line.group[time]: line for line in lines} for lines in found.lines]
    return Chart(
        name="by-group",
        label=label if found.is_all else f"{label}: the {len(found.values)} with the highest costs",
        unit=metric.first.unit,
        kind="lines",
        series=tuple(
            shown_value(value, found.labels, is_unsaid=any(line.is_unsaid for line in lines))
            for value, lines in zip(found.values, found.lines, strict=True)
        ),
        points=[
            ChartPoint(
                at=at,
                label=_label(at, time),
                values=tuple(_of(metric.first, of_group.get(shown)) for of_group in figures),
            )
            for at, shown in _times(window, time)
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


def _times(window: Window, time: str) -> Iterator[tuple[datetime, str]]:
    """The days or hours of a window up to now, with their text in reports; at most `MAX_POINTS`, the last ones."""
    begins, ends = window.moments()
    ends = min(ends, datetime.now(UTC))
    step = _STEPS[time]
    begins = max(begins, begins + step * (int((ends - begins) / step) + 1 - MAX_POINTS))
    at = begins
    while at < ends:
        yield at, day_or_hour(at, time)
        at += step


def _label(at: datetime, time: str) -> str:
    shown = at.isoformat()
    return shown[:10] if time == "day" else f"{shown[5:10]} {shown[11:16]}"
