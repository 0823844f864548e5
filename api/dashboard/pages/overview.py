"""The first page: what is spent and will be, how full every cap is, and whether something is wrong."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template

from api.dashboard.csv_files import CSV, MAX_ROWS_AT_ONCE, csv_text
from api.dashboard.forms import filters_of
from api.dashboard.lateness import lateness
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import download, page
from api.dashboard.report_filters import ReportFilters, choices, filtered_scope
from api.dashboard.usage_charts import chart_over_time
from api.dashboard.usage_metrics import METRICS
from api.dashboard.viewer import Viewer
from api.overview import overview_of
from api.requests import HttpRequest
from api.services import Services
from api.vendors.paths import HOME_PATH
from projections.freshness import wait_until_folded
from projections.reports.labels import labels_of
from projections.reports.money import caps
from projections.reports.usage import usage_over_time

NAVIGATION = NavigationEntry(path=HOME_PATH, label="Overview")
_HOURLY_DAYS = 2
_FOLDED = ("rollups", "budgets", "alerts")
_CAPS_HEADER = (
    "of",
    "id",
    "name",
    "project",
    "window",
    "limit USD",
    "spent USD",
    "assumed USD",
    "held USD",
    "resets at",
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
    overview = await overview_of(services, scope, window)
    of_alerts = [one.id for one in overview.alerts]
    live: dict[str, Any] = {
        "overview": overview,
        "names": await labels_of(services.pool, keys=of_alerts, project_ids=of_alerts),
        "late": await lateness(services.pool, scope, *_FOLDED),
        "asked": asked,
        "query": asked.query(),
        "caps_csv": f"/caps.csv?{urlencode(asked.query())}",
    }
    if "hx-request" in request.headers:
        return page(request, "overview_live.html", title="Overview", **live)
    time = "hour" if window.days <= _HOURLY_DAYS else "day"
    lines = await usage_over_time(services.pool, scope, window, time)
    charts = [
        chart_over_time(lines, METRICS[name], time, window, f"{METRICS[name].label} by {time}")
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
    rows = [
        (
            cap.scope,
            cap.id,
            cap.name,
            cap.project_id,
            cap.window,
            cap.limit,
            cap.spent,
            cap.assumed,
            cap.held,
            cap.resets_at,
        )
        for cap in await caps(services.pool, scope, datetime.now(UTC), most=MAX_ROWS_AT_ONCE)
    ]
    return download(csv_text(_CAPS_HEADER, rows), media_type=CSV, file_name="caps.csv")


HANDLERS = (show_overview, save_caps)
