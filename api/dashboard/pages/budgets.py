"""Budgets and limits: how full every window is, what is in use now, who holds it, and what was refused."""

from collections import Counter
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.response import Template
from msgspec import Struct

from api.dashboard.charts import Chart, ChartPoint
from api.dashboard.csv_files import MAX_ROWS_AT_ONCE, CsvTable
from api.dashboard.forms import filters_of
from api.dashboard.lateness import lateness
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import page
from api.dashboard.report_filters import ReportFilters, choices, filtered_scope
from api.dashboard.usage_charts import day_or_week, label_of, of_time, times_of
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from projections.freshness import wait_until_folded
from projections.reports.holds import Hold, holds
from projections.reports.limits import KeyLimits, Use, limits_in_use
from projections.reports.money import caps
from projections.reports.refusals import RefusalReport, Refused, refusal_report
from projections.reports.scope import Window
from projections.reports.usage import monday_of

NAVIGATION = NavigationEntry(path="/budgets", label="Budgets")
SHOWN = 50
MAX_SAVED = MAX_ROWS_AT_ONCE
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
_SAVED_HOLDS = CsvTable[Hold](
    "holds.csv",
    {
        "request": lambda one: one.request_id,
        "attempt": lambda one: one.attempt,
        "project": lambda one: one.project_id,
        "key": lambda one: one.key_id,
        "key name": lambda one: one.key_name,
        "model": lambda one: one.model,
        "provider": lambda one: one.provider,
        "held USD": lambda one: one.held,
        "admitted": lambda one: one.admitted_at,
        "claimed": lambda one: "yes" if one.is_claimed else "no",
    },
)
_SAVED_LIMITS = CsvTable[KeyLimits](
    "limits.csv",
    {
        "key": lambda one: one.key_id,
        "name": lambda one: one.name,
        "project": lambda one: one.project_id,
        "requests in use": lambda one: _used(one.requests_per_minute),
        "requests a minute": lambda one: _limit(one.requests_per_minute),
        "tokens in use": lambda one: _used(one.tokens_per_minute),
        "tokens a minute": lambda one: _limit(one.tokens_per_minute),
        "requests in flight": lambda one: one.requests_in_flight,
        "requests at a time": lambda one: _limit(one.in_flight),
    },
)
_SAVED_REFUSALS = CsvTable[Refused](
    "refusals.csv",
    {
        "day": lambda one: one.day,
        "project": lambda one: one.project_id,
        "key": lambda one: one.key_id,
        "key name": lambda one: one.key_name,
        "window": lambda one: one.window,
        "requests": lambda one: one.requests,
        "last at": lambda one: one.last_at,
        "last request": lambda one: one.last_request_id,
        "limit USD": lambda one: one.limit,
        "taken USD": lambda one: one.taken,
        "held USD": lambda one: one.held,
        "asked USD": lambda one: one.asked,
    },
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
    return _SAVED_HOLDS.download(found.holds)


@get(f"{NAVIGATION.path}/limits.csv")
async def save_limits(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The keys whose limits are in use as CSV."""
    scope = await filtered_scope(services, viewer, filters_of(request, ReportFilters))
    return _SAVED_LIMITS.download(await limits_in_use(services.pool, scope, datetime.now(UTC), most=MAX_SAVED))


@get(f"{NAVIGATION.path}/refusals.csv")
async def save_refusals(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The refusals as CSV, a line for each day, key and window, at most `MAX_SAVED`."""
    asked = filters_of(request, ReportFilters)
    scope = await filtered_scope(services, viewer, asked)
    await wait_until_folded(services.pool, "refusals", project_id=scope.project_id)
    found = await refusal_report(services.pool, scope, asked.window(), most=MAX_SAVED)
    return _SAVED_REFUSALS.download(found.last)


HANDLERS = (show_budgets, save_holds, save_limits, save_refusals)


def refusal_chart(report: RefusalReport, window: Window) -> Chart:
    """Refusals over time, a series for each window that refused. Times without any are shown as such."""
    time, counts = day_or_week(window), Counter[tuple[date, str]]()
    for day in report.days:
        counts[monday_of(day.day) if time == "week" else day.day, day.window] += day.requests
    names = sorted({name for _, name in counts})
    return Chart(
        name="refusals",
        label=f"Requests that a budget refused, by {time}",
        unit="count",
        kind="bars" if len(names) == 1 else "lines",
        **of_time(time),
        series=tuple(REASONS.get(name, name) for name in names),
        points=[
            ChartPoint(at=at, label=label_of(at, time), values=tuple(counts[at.date(), name] for name in names))
            for at, _ in times_of(window, time)
        ],
    )


def _used(use: Use | None) -> int | None:
    return use.used if use is not None else None


def _limit(use: Use | None) -> int | None:
    return use.limit if use is not None else None
