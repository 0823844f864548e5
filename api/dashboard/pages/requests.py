"""Requests, newest first: a table that stands still. New ones are counted, and shown when they are asked for."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, get_args
from urllib.parse import urlencode

from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream, Template
from msgspec import Meta
from msgspec.structs import replace

from api.dashboard.csv_files import CsvTable
from api.dashboard.figures import came_at
from api.dashboard.forms import LOCAL_TIME, filters_of, moment_of
from api.dashboard.navigation import NavigationEntry
from api.dashboard.rendering import page
from api.dashboard.report_filters import ReportFilters, Text, choices, filtered_scope
from api.dashboard.viewer import Viewer
from api.report_scope import parse_dollars, parse_metadata
from api.requests import HttpRequest
from api.services import Services
from domain.events import Operation
from projections.freshness import wait_until_folded
from projections.reports.labels import labels_of
from projections.reports.requests import Found, RequestView, Search, count_newer, newest_id, search
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
        "came": lambda one: came_at(one.request_id, one.at),
        "logged": lambda one: one.at,
        "project": lambda one: one.project_id,
        "key": lambda one: one.key_id,
        "operation": lambda one: one.operation,
        "model": lambda one: one.model,
        "served": lambda one: one.served_model,
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
    """As the caller named it: a route, or a model."""
    served: Text | None = None
    """The model that answered."""
    provider: Text | None = None
    operation: Operation | None = None
    session: Text | None = None
    error: Text | None = None
    cost: Text | None = None
    """At least so many US dollars."""
    latency: Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")] | None = None
    """At least so many milliseconds."""
    metadata: Text | None = None
    """`NAME=VALUE`."""
    since: Text | None = None
    until: Text | None = None
    """When the log first had them; without a zone these are UTC. Either takes the place of the range's."""
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
    shown = found.requests[:SHOWN]
    further = shown[-1].request_id if len(found.requests) > SHOWN else found.next
    newest = max([newest, *(one.request_id for one in shown[:1])])
    return page(
        request,
        "requests.html",
        title="Requests",
        requests=shown,
        names=await _names(services, shown),
        statuses=_any_of(STATUSES),
        operations=_any_of(get_args(Operation)),
        since=wanted.since.strftime(LOCAL_TIME) if wanted.since is not None else "",
        until=wanted.until.strftime(LOCAL_TIME) if wanted.until is not None else "",
        shows_logged=wanted.since is not None or wanted.until is not None,
        counts_new=asked.before is None,
        new_address=_address(f"{NAVIGATION.path}/new", asked, after=newest or None, before=None),
        older=_address(NAVIGATION.path, asked, before=further) if further is not None else None,
        is_whole=len(shown) == SHOWN or further is None,
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
        new=new.count,
        is_more=new.is_more,
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
    """Return the search of the page's filters among what the viewer may see. Without days it finds requests of any day.

    Raises:
        InvalidRequest: names the filter.

    """
    begins = ends = None
    if asked.range or asked.first or asked.last:
        begins, ends = asked.window().moments()
    begins, ends = moment_of(asked.since, "since") or begins, moment_of(asked.until, "until") or ends
    return Search(
        scope=await filtered_scope(services, viewer, asked),
        status=asked.status,
        model=asked.model,
        served=asked.served,
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


def _any_of(values: Sequence[str]) -> list[tuple[str, str]]:
    """The options of a filter."""
    return [("", "Any"), *((value, value) for value in values)]


async def _names(services: Services, shown: Sequence[RequestView]) -> dict[str, str]:
    return await labels_of(
        services.pool, keys=(one.key_id for one in shown), project_ids=(one.project_id for one in shown)
    )


async def pages_of(services: Services, wanted: Search, found: Found) -> AsyncIterator[Sequence[RequestView]]:
    """A page of the list and those after it, at most `MAX_SAVED` requests. A page may have none."""
    saved = len(found.requests)
    yield found.requests
    while found.next is not None and saved < MAX_SAVED:
        found = await search(services.pool, replace(wanted, limit=SAVED_AT_ONCE, before=found.next))
        saved += len(found.requests)
        yield found.requests


def _address(path: str, asked: RequestsPage, **changed: str | None) -> str:
    """A page with the same filters but for some."""
    query = asked.query() | {name: value for name, value in changed.items() if value is not None}
    kept = {name: value for name, value in query.items() if changed.get(name, value) is not None}
    return f"{path}?{urlencode(kept)}" if kept else path
