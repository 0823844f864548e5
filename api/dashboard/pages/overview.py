"""The first page: what is spent and will be, how full every cap is, and whether something is wrong."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template

from api.dashboard.csv_files import MAX_ROWS_AT_ONCE, CsvTable
from api.dashboard.forms import filters_of
from api.dashboard.lateness import lateness
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import page
from api.dashboard.report_filters import ReportFilters, choices, filtered_scope
from api.dashboard.usage_charts import chart_over_time, day_or_week
from api.dashboard.usage_metrics import METRICS
from api.dashboard.viewer import Viewer
from api.overview import overview_of, overview_over_time
from api.requests import HttpRequest
from api.services import Services
from api.vendors.paths import HOME_PATH
from projections.freshness import wait_until_folded
from projections.reports.alerts import Alert, ErrorCount, errors_by_code, last_alerts
from projections.reports.labels import labels_of
from projections.reports.money import Cap, caps
from projections.reports.usage import READ_BY, Time, UsageLine

NAVIGATION = NavigationEntry(path=HOME_PATH, label="Overview")
_HOURLY_DAYS = 2
_FOLDED = ("rollups", "totals", "budgets", "alerts")
_SAVED_CAPS = CsvTable[Cap](
    "caps.csv",
    {
        "of": lambda one: one.scope,
        "id": lambda one: one.id,
        "name": lambda one: one.name,
        "project": lambda one: one.project_id,
        "window": lambda one: one.window,
        "limit USD": lambda one: one.limit,
        "spent USD": lambda one: one.spent,
        "assumed USD": lambda one: one.assumed,
        "held USD": lambda one: one.held,
        "resets at": lambda one: one.resets_at,
    },
)
_SAVED_ERRORS = CsvTable[ErrorCount]("errors.csv", {"code": lambda one: one.code, "requests": lambda one: one.requests})
_SAVED_ALERTS = CsvTable[Alert](
    "alerts.csv",
    {
        "of": lambda one: one.scope,
        "id": lambda one: one.id,
        "project": lambda one: one.project_id,
        "period": lambda one: one.period,
        "starts on": lambda one: one.starts_on,
        "reached percent": lambda one: one.threshold_percent,
        "limit USD": lambda one: one.limit,
        "taken USD": lambda one: one.taken,
        "raised at": lambda one: one.raised_at,
        "told": lambda one: one.told,
    },
)


@get(HOME_PATH)
async def show_overview(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show the state of what the viewer may see. The page says itself if the figures lag behind.

    While it is open, its script asks for the figures again: for that piece alone.
    """
    asked = filters_of(request, ReportFilters)
    scope, window = await filtered_scope(services, viewer, asked), asked.window()
    is_piece = "hx-request" in request.headers
    time: Time = "hour" if window.days <= _HOURLY_DAYS else day_or_week(window)
    lines: list[UsageLine] = []
    if is_piece:
        overview = await overview_of(services, scope, window)
    else:
        overview, lines = await overview_over_time(services, scope, window, time)
    of_alerts = [one.id for one in overview.alerts]
    live: dict[str, Any] = {
        "overview": overview,
        "names": await labels_of(services.pool, keys=of_alerts, project_ids=of_alerts),
        "late": await lateness(services.pool, scope, *_FOLDED),
        "asked": asked,
        "query": asked.query(),
        "csv_query": urlencode(asked.query()),
    }
    if is_piece:
        return page(request, "overview_live.html", title="Overview", **live)
    charts = [
        (
            chart_over_time(lines, METRICS[name], time, window, f"{METRICS[name].label} by {time}"),
            f"/usage.csv?{urlencode(asked.query() | {'metric': name, 'group': READ_BY[time]})}",
        )
        for name in ("cost", "requests", "latency")
    ]
    return page(
        request,
        "overview.html",
        title="Overview",
        path=NAVIGATION.path,  # whichever of its two addresses was asked for
        charts=charts,
        **live | await choices(services, viewer, asked),
    )


@get("/caps.csv")
async def save_caps(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """Every cap as CSV, at most `MAX_ROWS_AT_ONCE`."""
    scope = await filtered_scope(services, viewer, filters_of(request, ReportFilters))
    await wait_until_folded(services.pool, "budgets", project_id=scope.project_id)
    return _SAVED_CAPS.download(await caps(services.pool, scope, datetime.now(UTC), most=MAX_ROWS_AT_ONCE))


@get("/errors.csv")
async def save_errors(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The errors of the range as CSV, those that the overview of the API has."""
    asked = filters_of(request, ReportFilters)
    scope = await filtered_scope(services, viewer, asked)
    await wait_until_folded(services.pool, "rollups", project_id=scope.project_id)
    return _SAVED_ERRORS.download(await errors_by_code(services.pool, scope, asked.window()))


@get("/alerts.csv")
async def save_alerts(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The budget alerts since the range began as CSV, those that the overview of the API has."""
    asked = filters_of(request, ReportFilters)
    scope = await filtered_scope(services, viewer, asked)
    await wait_until_folded(services.pool, "alerts", project_id=scope.project_id)
    since, _ = asked.window().moments()
    return _SAVED_ALERTS.download(await last_alerts(services.pool, scope, since))


HANDLERS = (show_overview, save_caps, save_errors, save_alerts)
