"""`/requests` and `/audit/events`: what happened, request by request and event by event."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.native.envelope import Described, Description, success
from api.native.usage import visible_key
from api.requests import HttpRequest, caller_of, id_in_path, in_utc, query_of, services_of
from domain.errors import InvalidRequest, NotFound
from domain.events import StoredEvent, request_stream
from infra.event_log import Selection
from projections.freshness import wait_until_folded
from projections.requests import MAX_PAGE, RequestView, Search, Status, get_request, search

MAX_EVENTS_PAGE = 1_000
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339. A text here: in a query msgspec would take `0.5` for half a second after 1970."""


class RequestsQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which requests; `before` is the last id of the page before."""

    key_id: str | None = None
    status: Status | None = None
    model: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    before: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50


class EventsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events; `after` is the last position of the page before."""

    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS_PAGE)] = 100
    stream: str | None = None
    type: str | None = None


class RequestDetail(RequestView, frozen=True, kw_only=True, rename="camel"):
    """A request, with every event of it."""

    events: list[Any]


class RequestPage(Struct, kw_only=True):
    """Requests, newest first; `next` goes into `before` for the page after, null at the end."""

    requests: list[RequestView]
    next: str | None


class EventPage(Struct, kw_only=True):
    """Events in log order; `next` goes into `after`."""

    events: list[Any]
    next: int


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The routes of requests and events."""

    @get(
        "/requests",
        summary="What was asked",
        operation_class=described.operation(Description(query=RequestsQuery, answer=RequestPage)),
    )
    async def page(request: HttpRequest) -> Response[bytes]:
        """List requests, newest first; a member sees its own key's."""
        caller = await caller_of(request)
        query = query_of(request, RequestsQuery)
        pool = services_of(request).pool
        await wait_until_folded(pool, "requests", project_id=caller.project_id)
        found = await search(
            pool,
            Search(
                project_id=caller.project_id,
                key_id=visible_key(caller, query.key_id),
                status=query.status,
                model=query.model,
                since=_moment(query.since, "since"),
                until=_moment(query.until, "until"),
                before=query.before,
                limit=query.limit,
            ),
        )
        following = found[-1].request_id if len(found) == query.limit else None
        return success(RequestPage(requests=found, next=following))

    @get(
        "/requests/{request_id:str}",
        summary="One request, event by event",
        operation_class=described.operation(Description(answer=RequestDetail)),
    )
    async def one(request: HttpRequest, request_id: str) -> Response[bytes]:
        """Show a request and every event of it."""
        caller = await caller_of(request)
        services = services_of(request)
        await wait_until_folded(services.pool, "requests", project_id=caller.project_id)
        view = await get_request(services.pool, caller.project_id, id_in_path(request_id))
        if view is None or visible_key(caller, None) not in (None, view.key_id):
            raise NotFound("there is no such request here")
        events = await services.log.read_stream(request_stream(request_id))
        fields = {name: getattr(view, name) for name in RequestView.__struct_fields__}
        return success(RequestDetail(**fields, events=[_shown(stored) for stored in events]))

    @get(
        "/audit/events",
        summary="The project's events, in log order",
        operation_class=described.operation(Description(query=EventsQuery, answer=EventPage)),
    )
    async def events(request: HttpRequest) -> Response[bytes]:
        """List the project's events, oldest first."""
        caller = await caller_of(request)
        caller.require_admin()
        query = query_of(request, EventsQuery)
        wanted = Selection(project_id=caller.project_id, stream=query.stream, type=query.type)
        found = await services_of(request).log.read_selected(wanted, after=query.after, limit=query.limit)
        following = found[-1].position if found else query.after
        return success(EventPage(events=[_shown(stored) for stored in found], next=following))

    return [page, one, events]


def _moment(text: str | None, field: str) -> datetime | None:
    if text is None:
        return None
    try:
        return in_utc(_as_moment(text), field)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"`{field}`: {error}", field=field) from None


def _as_moment(text: str) -> datetime:
    moment: datetime = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
    return moment


def _shown(stored: StoredEvent) -> dict[str, Any]:
    return {
        "position": stored.position,
        "stream": stored.stream,
        "version": stored.version,
        "type": stored.type,
        "at": stored.at,
        "data": stored.event,
    }
