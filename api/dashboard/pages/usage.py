"""Usage by groups, beside the time before."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template
from msgspec import Struct
from msgspec.structs import replace

from api.dashboard.amounts import dollars
from api.dashboard.charts import Chart
from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import page
from api.dashboard.report_filters import ReportFilters, Text, choices, filtered_scope
from api.dashboard.usage_charts import MAX_SERIES, chart_by_group, chart_over_time, day_or_week, shown_value
from api.dashboard.usage_metrics import DEFAULT_METRIC, METRICS, Column
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from domain.budget import day_of
from domain.errors import InvalidRequest
from domain.money import NanoUsd
from infra.database import Pool
from infra.snapshot import snapshot
from projections.freshness import wait_until_folded
from projections.reports.costs import highest_keys
from projections.reports.figures import Figures
from projections.reports.labels import metadata_names
from projections.reports.scope import Window
from projections.reports.sources import ORIGINS, is_group, source_of
from projections.reports.usage import (
    MAX_LINES,
    Time,
    UsageLine,
    UsageReport,
    usage_of_most,
    usage_over_time,
    usage_report,
)
from projections.scope import Scope

NAVIGATION = NavigationEntry(path="/usage", label="Usage")
MAX_SHOWN = 100
MAX_KEYS_WITH_DURATIONS = 20
"""A histogram of each is read for each day: fifty keys over a month are 1,500, a third of a second for PostgreSQL.
The CSV has up to a thousand lines.
"""
_GROUPS = ("model", "provider", "operation", "key", "day", "hour", *ORIGINS)
_TIMES = ("day", "hour")
_FILTERS = {"model": "served"} | {name: name for name in ("provider", "operation", "key", "project", "session")}
"""Groups with the filters that the list of requests has for them."""
_FOLDED = ("usage", "rollups", "totals", "attributes")
_CSV_UNITS = {"usd": "USD", "ms": "ms"}
"""The unit that a CSV file names in a column's heading. A column of another kind has none."""


class UsagePage(ReportFilters, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """The filters of the page."""

    metric: Text = DEFAULT_METRIC
    group: Text = "model"
    then: Text | None = None

    def groups(self) -> tuple[str, ...]:
        """The groups, one or two."""
        return (self.group, self.then) if self.then and self.then != self.group else (self.group,)

    def has_time(self) -> bool:
        """True if one of the groups is a time."""
        return any(group in _TIMES for group in self.groups())


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    before: Any
    change: float | None
    """The first value against that of the time before, as a share; None: there was nothing."""
    requests_query: str | None
    """The filter of the requests that it counts; None: the list has no such filter."""


@get(NAVIGATION.path)
async def show_usage(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show a metric by one or two groups."""
    asked, scope, window = await _asked(request, viewer, services)
    columns = METRICS[asked.metric].columns
    names = await metadata_names(services.pool, scope, window)
    groups = [*_GROUPS, *(["project"] if viewer.role == "operator" else []), *(f"metadata.{name}" for name in names)]
    shown = {
        "title": "Usage",
        "metrics": [(name, metric.label) for name, metric in METRICS.items()],
        "groups": sorted({*groups, *asked.groups()}, key=[*groups, *asked.groups()].index),
        "columns": columns,
        "window": window,
        **await choices(services, viewer, asked),
    }
    try:
        source = source_of(scope, window, asked.groups())
    except InvalidRequest as error:  # of groups that do not go together: the filters stay, to choose others
        return page(request, "usage.html", status=400, error=error, rows=(), chart=None, **shown)
    async with snapshot(services.pool) as pool:
        report, chart = await _read(pool, scope, window, asked)
    rest = [line for line in report.lines if line.is_rest]
    shown_lines = [line for line in report.lines if not line.is_rest][:MAX_SHOWN] + rest
    return page(
        request,
        "usage.html",
        error=None,
        rows=[_row(line, asked, window, columns, report) for line in shown_lines],
        left_out=report.lines_left_out + len(report.lines) - len(shown_lines),
        totals=tuple(column.value(report.totals) for column in columns),
        before=columns[0].value(report.previous_totals),
        chart=chart,
        csv=_csv_address(asked),
        chart_csv=_csv_address(asked if asked.has_time() else replace(asked, group="day", then=None)),
        caption=f"{METRICS[asked.metric].label} by {' and '.join(asked.groups())}",
        has_settled=any(line.assumed_cost < 0 for line in (report.totals, *report.lines)),
        has_no_durations=source.durations is None,
        ends_today=window.last == day_of(datetime.now(UTC)),
        **shown,
    )


@get(f"{NAVIGATION.path}.csv")
async def save_usage(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The lines as CSV, at most 1,000."""
    asked, scope, window = await _asked(request, viewer, services)
    async with snapshot(services.pool) as pool:
        measures = METRICS[asked.metric].measures
        report = await usage_report(pool, scope, window, asked.groups(), measures=measures)
    return _saved(asked).download(report.lines)


HANDLERS = (show_usage, save_usage)


def _most(asked: UsagePage) -> int:
    """Return how many lines are read."""
    if asked.group in _TIMES and asked.then is None:
        return MAX_LINES
    return MAX_KEYS_WITH_DURATIONS if METRICS[asked.metric].measures and "key" in asked.groups() else MAX_SHOWN


async def _asked(request: HttpRequest, viewer: Viewer, services: Services) -> tuple[UsagePage, Scope, Window]:
    """Return the filters, the scope and the window, once the projections have read as far as the log is now."""
    asked = filters_of(request, UsagePage)
    if asked.metric not in METRICS:
        raise InvalidRequest(f"`metric` is {asked.metric!r}: allowed are {', '.join(METRICS)}", field="metric")
    for name, group in (("group", asked.group), ("then", asked.then)):
        if group is not None and not is_group(group):
            raise InvalidRequest(f"`{name}` is {group!r}: usage cannot be grouped by that", field=name)
    scope, window = await filtered_scope(services, viewer, asked), asked.window()
    await wait_until_folded(services.pool, *_FOLDED, project_id=scope.project_id)
    return asked, scope, window


async def _read(pool: Pool, scope: Scope, window: Window, asked: UsagePage) -> tuple[UsageReport, Chart]:
    """Read the report and its chart over time: by the group that is a time, else by day, and by week if there are many
    days. What the chart has of everything has the report's totals too.
    """
    metric, groups = METRICS[asked.metric], asked.groups()
    time: Time = "hour" if "hour" in groups else day_or_week(window)
    others = [group for group in groups if group not in _TIMES]
    report_of = partial(usage_report, pool, scope, window, groups, most=_most(asked), measures=metric.measures)
    if others and len(others) < len(groups):
        keys = await highest_keys(pool, scope, window) if others[0] == "key" else None
        report = await report_of(keys=keys)
        figure = metric.label if metric.first.label == metric.label else f"{metric.label}, {metric.first.label},"
        found = await usage_of_most(
            pool, scope, window, others[0], time, most=MAX_SERIES, measures=metric.measures, keys=keys
        )
        return report, chart_by_group(found, metric, time, window, f"{figure} by {others[0]} and {time}")
    over_time = await usage_over_time(pool, scope, window, time, metric.measures)
    report = await report_of(all_of_it=over_time.totals)
    return report, chart_over_time(over_time.lines, metric, time, window, f"{metric.label} by {time}")


def _row(line: UsageLine, asked: UsagePage, window: Window, columns: Sequence[Column], report: UsageReport) -> Row:
    now = columns[0].value(line)
    before = columns[0].value(line.previous) if line.previous is not None else None
    return Row(
        names=tuple(
            shown_value(value, report.labels, is_unsaid=line.is_unsaid and value is None)
            for value in line.group.values()
        ),
        values=tuple(column.value(line) for column in columns),
        before=before,
        change=(now - before) / before if now is not None and before else None,
        requests_query=_requests_query(line, asked, window),
    )


def _csv_address(asked: UsagePage) -> str:
    return f"{NAVIGATION.path}.csv?{urlencode(asked.query())}"


def _requests_query(line: UsageLine, asked: UsagePage, window: Window) -> str | None:
    """The address of the requests of a line, if the list has filters for its groups."""
    query: dict[str, str] = {name: value for name, value in asked.query().items() if name in ("project", "key")}
    for group, value in line.group.items():
        if value is None or line.is_rest:
            return None
        if group.startswith("metadata."):
            query["metadata"] = f"{group.removeprefix('metadata.')}={_csv_group(value)}"
        elif group in _FILTERS:
            query[_FILTERS[group]] = value
        elif group == "day":
            query |= {"from": value, "to": value}
        else:
            return None
    if "day" not in line.group:
        query |= {"from": f"{window.first}", "to": f"{window.last}"}
    return urlencode(query)


def _saved(asked: UsagePage) -> CsvTable[UsageLine]:
    """The file of a metric by groups."""
    columns = METRICS[asked.metric].columns
    first = columns[0]
    return CsvTable(
        "usage.csv",
        {
            **{group: partial(_csv_group_of, group) for group in asked.groups()},
            **{_csv_name(column): partial(_csv_value, column) for column in columns},
            f"{_csv_name(first)} before": lambda line: _csv_value(first, line.previous),
        },
    )


def _csv_name(column: Column) -> str:
    return f"{column.label} {_CSV_UNITS[column.unit]}" if column.unit in _CSV_UNITS else column.label


def _csv_value(column: Column, figures: Figures | None) -> Any:
    value = column.value(figures) if figures is not None else None
    return dollars(NanoUsd(value)) if column.unit == "usd" and isinstance(value, int) else value


def _csv_group_of(group: str, line: UsageLine) -> str:
    return _csv_group(line.group[group], is_unsaid=line.is_unsaid)


def _csv_group(value: Any, *, is_unsaid: bool = False) -> str:
    return "" if value is None and is_unsaid else shown_value(value, {})
