"""Requests, newest first: a table that stands still. New ones are counted, and shown when they are asked for."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated
from urllib.parse import urlencode

from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream, Template
from msgspec import Meta
from msgspec.structs import replace

from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import page
from api.dashboard.report_filters import ReportFilters, Text, choices, filtered_scope
from api.dashboard.viewer import Viewer
from api.report_scope import parse_dollars, parse_metadata
from api.requests import HttpRequest
from api.services import Services
from projections.freshness import wait_until_folded
from projections.reports.labels import labels_of
from projections.reports.requests import MAX_COUNTED, RequestView, Search, count_newer, newest_id, search
from projections.requests import Status

NAVIGATION = NavigationEntry(path="/requests", label="Requests")
SHOWN = 50
MAX_SAVED = 10_000
SAVED_AT_ONCE = 250
"""Reading and writing them takes a few milliseconds, in which nobody else is served."""
STATUSES: tuple[Status, ...] = ("completed", "cached", "failed", "rejected", "running")
_SAVED = CsvTable[RequestView](
    "requests.csv",
    {
        "request": lambda one: one.request_id,
        "at": lambda one: one.at,
        "project": lambda one: one.project_id,
        "key": lambda one: one.key_id,
        "operation": lambda one: one.operation,
        "model": lambda one: one.model,
        "provider": lambda one: one.provider,
        "status": lambda one: one.status,
        "attempts": lambda one: one.attempts,
        "latency ms": lambda one: one.latency_ms,
        "first token ms": lambda one: one.first_token_ms,
        "tokens in": lambda one: one.prompt_tokens,
        "tokens out": lambda one: one.completion_tokens,
        "cost USD": lambda one: one.cost,
        "assumed USD": lambda one: one.assumed_cost,
        "error": lambda one: one.error_code,
        "message": lambda one: one.error_message,
        "session": lambda one: one.session,
    },
)


class RequestsPage(ReportFilters, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """The filters of the list."""

    status: Status | None = None
    model: Text | None = None
    provider: Text | None = None
    operation: Text | None = None
    session: Text | None = None
    error: Text | None = None
    cost: Text | None = None
    """At least so many US dollars."""
    latency: Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")] | None = None
    """At least so many milliseconds."""
    metadata: Text | None = None
    """`NAME=VALUE`."""
    before: Text | None = None
    after: Text | None = None


@get(NAVIGATION.path)
async def show_requests(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List requests of what the viewer may see."""
    asked = filters_of(request, RequestsPage)
    wanted = await _wanted(services, viewer, asked)
    await wait_until_folded(services.pool, "requests", project_id=wanted.scope.project_id)
    newest = await newest_id(services.pool, wanted.scope)  # those after it are looked through for new ones, no others
    found = await search(services.pool, replace(wanted, limit=SHOWN + 1))
    shown = found[:SHOWN]
    newest = max([newest, *(one.request_id for one in shown[:1])])
    return page(
        request,
        "requests.html",
        title="Requests",
        requests=shown,
        names=await _names(services, shown),
        statuses=[("", "Any"), *((status, status) for status in STATUSES)],
        counts_new=asked.before is None,
        new_address=_address(f"{NAVIGATION.path}/new", asked, after=newest or None, before=None),
        older=_address(NAVIGATION.path, asked, before=shown[-1].request_id) if len(found) > SHOWN else None,
        first=_address(NAVIGATION.path, asked, before=None) if asked.before else None,
        csv=_address(f"{NAVIGATION.path}.csv", asked),
        **await choices(services, viewer, asked),
    )


@get(f"{NAVIGATION.path}/new")
async def show_new(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """How many requests have come since the first of a list: a piece of the page, which asks for it now and then."""
    asked = filters_of(request, RequestsPage)
    new = await count_newer(services.pool, await _wanted(services, viewer, asked))
    return page(
        request,
        "requests_new.html",
        title="New requests",
        new=new,
        is_more=new >= MAX_COUNTED,
        address=_address(NAVIGATION.path, asked, after=None),
    )


@get(f"{NAVIGATION.path}.csv")
async def save_requests(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Stream:
    """The list as CSV, at most `MAX_SAVED` requests."""
    wanted = await _wanted(services, viewer, filters_of(request, RequestsPage))
    await wait_until_folded(services.pool, "requests", project_id=wanted.scope.project_id)
    first = await search(services.pool, replace(wanted, limit=SAVED_AT_ONCE))  # what is refused is, before it begins
    return _SAVED.download_in_pieces(pages_of(services, wanted, first))


HANDLERS = (show_requests, show_new, save_requests)


async def _wanted(services: Services, viewer: Viewer, asked: RequestsPage) -> Search:
    """What is asked for, within what the viewer may see. Without days, requests of any day.

    Raises:
        InvalidRequest: names the filter.

    """
    begins = ends = None
    if asked.range or asked.first or asked.last:
        begins, ends = asked.window().moments()
    return Search(
        scope=await filtered_scope(services, viewer, asked),
        status=asked.status,
        model=asked.model,
        provider=asked.provider,
        operation=asked.operation,
        session=asked.session,
        error_code=asked.error,
        since=begins,
        until=ends,
        min_cost_nano_usd=parse_dollars(asked.cost, "cost"),
        min_latency_ms=int(asked.latency) if asked.latency else None,
        metadata=parse_metadata(asked.metadata),
        before=asked.before,
        after=asked.after,
    )


async def _names(services: Services, shown: Sequence[RequestView]) -> dict[str, str]:
    return await labels_of(
        services.pool, keys=(one.key_id for one in shown), project_ids=(one.project_id for one in shown)
    )


async def pages_of(
    services: Services, wanted: Search, page: Sequence[RequestView]
) -> AsyncIterator[Sequence[RequestView]]:
    """A page of the list and those after it, at most `MAX_SAVED` requests."""
    yield page
    for _ in range(MAX_SAVED // SAVED_AT_ONCE - 1):
        if len(page) < SAVED_AT_ONCE:
            return
        page = await search(services.pool, replace(wanted, limit=SAVED_AT_ONCE, before=page[-1].request_id))
        yield page


def _address(path: str, asked: RequestsPage, **changed: str | None) -> str:
    """A page with the same filters but for some."""
    query = asked.query() | {name: value for name, value in changed.items() if value is not None}
    kept = {name: value for name, value in query.items() if changed.get(name, value) is not None}
    return f"{path}?{urlencode(kept)}" if kept else path
