"""Budgets and limits: how full every window is, what is in use now, who holds it, and what was refused."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template
from msgspec import Struct

from api.dashboard.charts import Chart, ChartPoint
from api.dashboard.csv_files import CSV, MAX_ROWS_AT_ONCE, csv_text
from api.dashboard.forms import filters_of
from api.dashboard.lateness import lateness
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import download, page
from api.dashboard.report_filters import ReportFilters, choices, filtered_scope
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from projections.freshness import wait_until_folded
from projections.reports.holds import Hold, holds
from projections.reports.limits import KeyLimits, Use, limits_in_use
from projections.reports.money import caps
from projections.reports.refusals import RefusalReport, Refused, refusal_report
from projections.reports.scope import Window

NAVIGATION = NavigationEntry(path="/budgets", label="Budgets")
SHOWN = 50
MAX_SAVED = MAX_ROWS_AT_ONCE
MAX_CHART_DAYS = 400
WINDOWS = {
    "daily": "day",
    "monthly": "month",
    "installationDaily": "day, under the installation's credentials",
}
REASONS = {
    "daily": "the key's day",
    "monthly": "the key's month",
    "project's daily": "the project's day",
    "project's monthly": "the project's month",
    "installation's daily": "the project's day under the installation's credentials",
}
"""The windows as events name them."""
_HOLDS_HEADER = (
    "request",
    "attempt",
    "project",
    "key",
    "key name",
    "model",
    "provider",
    "held USD",
    "admitted",
    "claimed",
)
_LIMITS_HEADER = (
    "key",
    "name",
    "project",
    "requests in use",
    "requests a minute",
    "tokens in use",
    "tokens a minute",
    "requests in flight",
    "requests at a time",
)
_REFUSALS_HEADER = (
    "day",
    "project",
    "key",
    "key name",
    "window",
    "requests",
    "last at",
    "last request",
    "limit USD",
    "taken USD",
    "held USD",
    "asked USD",
)


class _Csv(Struct, frozen=True):
    """The addresses of the tables as CSV."""

    caps: str
    limits: str
    holds: str
    refusals: str


@get(NAVIGATION.path)
async def show_budgets(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show every window, every limit in use, every hold and every refusal of what the viewer may see.

    While the page is open, its script asks again for what changes by the second: for that piece alone.
    """
    asked = filters_of(request, ReportFilters)
    scope, window, now = await filtered_scope(services, viewer, asked), asked.window(), datetime.now(UTC)
    query = urlencode(asked.query())
    live: dict[str, Any] = {
        "caps": await caps(services.pool, scope, now, most=SHOWN),
        "limits": await limits_in_use(services.pool, scope, now, most=SHOWN),
        "holds": await holds(services.pool, scope, now, most=SHOWN),
        "late": await lateness(services.pool, scope, "budgets", "refusals"),
        "windows": WINDOWS,
        "query": query,
        "csv": _Csv(
            f"/caps.csv?{query}", *(f"{NAVIGATION.path}/{name}.csv?{query}" for name in ("limits", "holds", "refusals"))
        ),
    }
    if "hx-request" in request.headers:
        return page(request, "budgets_live.html", title="Budgets and limits", **live)
    refusals = await refusal_report(services.pool, scope, window, most=SHOWN)
    return page(
        request,
        "budgets.html",
        title="Budgets and limits",
        refusals=refusals,
        chart=refusal_chart(refusals, window) if refusals.days else None,
        reasons=REASONS,
        **live,
        **await choices(services, viewer, asked),
    )


@get(f"{NAVIGATION.path}/holds.csv")
async def save_holds(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The attempts in flight as CSV, at most `MAX_SAVED`."""
    scope = await filtered_scope(services, viewer, filters_of(request, ReportFilters))
    found = await holds(services.pool, scope, datetime.now(UTC), most=MAX_SAVED)
    return _saved("holds.csv", _HOLDS_HEADER, map(_hold_row, found.holds))


@get(f"{NAVIGATION.path}/limits.csv")
async def save_limits(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The keys whose limits are in use as CSV."""
    scope = await filtered_scope(services, viewer, filters_of(request, ReportFilters))
    found = await limits_in_use(services.pool, scope, datetime.now(UTC), most=MAX_SAVED)
    return _saved("limits.csv", _LIMITS_HEADER, map(_limit_row, found))


@get(f"{NAVIGATION.path}/refusals.csv")
async def save_refusals(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The refusals as CSV, a line for each day, key and window, at most `MAX_SAVED`."""
    asked = filters_of(request, ReportFilters)
    scope = await filtered_scope(services, viewer, asked)
    await wait_until_folded(services.pool, "refusals", project_id=scope.project_id)
    found = await refusal_report(services.pool, scope, asked.window(), most=MAX_SAVED)
    return _saved("refusals.csv", _REFUSALS_HEADER, map(_refusal_row, found.last))


HANDLERS = (show_budgets, save_holds, save_limits, save_refusals)


def refusal_chart(report: RefusalReport, window: Window) -> Chart:
    """Refusals by day, a series for each window that refused; of more days than `MAX_CHART_DAYS` the last.

    Days without any are shown as such.
    """
    counts = {(day.day, day.window): day.requests for day in report.days}
    names = sorted({name for _, name in counts})
    begins, _ = window.moments()
    days = [begins + timedelta(days=number) for number in range(max(0, window.days - MAX_CHART_DAYS), window.days)]
    return Chart(
        name="refusals",
        label="Requests that a budget refused, by day",
        unit="count",
        kind="bars" if len(names) == 1 else "lines",
        series=tuple(REASONS.get(name, name) for name in names),
        points=[
            ChartPoint(at=at, label=f"{at:%Y-%m-%d}", values=tuple(counts.get((at.date(), name), 0) for name in names))
            for at in days
        ],
    )


def _saved(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response[bytes]:
    return download(csv_text(header, rows), media_type=CSV, file_name=name)


def _hold_row(one: Hold) -> Sequence[Any]:
    return (
        one.request_id,
        one.attempt,
        one.project_id,
        one.key_id,
        one.key_name,
        one.model,
        one.provider,
        one.held,
        one.admitted_at,
        "yes" if one.is_claimed else "no",
    )


def _limit_row(one: KeyLimits) -> Sequence[Any]:
    return (
        one.key_id,
        one.name,
        one.project_id,
        *_use(one.requests_per_minute),
        *_use(one.tokens_per_minute),
        one.requests_in_flight,
        one.in_flight.limit if one.in_flight is not None else None,
    )


def _use(use: Use | None) -> tuple[int | None, int | None]:
    return (None, None) if use is None else (use.used, use.limit)


def _refusal_row(one: Refused) -> Sequence[Any]:
    return (
        one.day,
        one.project_id,
        one.key_id,
        one.key_name,
        one.window,
        one.requests,
        one.last_at,
        one.last_request_id,
        one.limit,
        one.taken,
        one.held,
        one.asked,
    )
