"""`/requests`: the history, by request."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta, Struct
from msgspec.structs import asdict

from api.authentication import Caller
from api.guards import requires_key
from api.native.envelope import Success
from api.native.usage import visible_key
from api.native.validation import declared_query
from api.requests import id_in_path, in_utc
from api.services import Services
from domain.errors import InvalidRequest, NotFound
from domain.events import StoredEvent, request_stream
from projections.freshness import wait_until_folded
from projections.request_attempts import AttemptView, attempts_of, targets_of
from projections.requests import MAX_PAGE, RequestView, Search, Status, get_request, search

Moment = Annotated[str | None, QueryParameter(format="date-time")]
"""RFC 3339. A text here: in a query msgspec would take `0.5` for half a second after 1970."""


class RequestsQuery(Struct, frozen=True, kw_only=True):
    """Selects requests; `before` is the last id of the previous page."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    status: FromQuery[Status | None] = None
    model: FromQuery[str | None] = None
    session: FromQuery[str | None] = None
    since: Moment = None
    until: Moment = None
    before: FromQuery[str | None] = None
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 50


class TargetOut(Struct, frozen=True, kw_only=True, rename="camel"):
    """A target of a request's plan, and what became of it."""

    model: str
    provider: str | None
    outcome: Literal["answered", "failed", "skipped", "dropped", "not_tried"]
    reason: str | None
    message: str


class RequestDetailOut(RequestView, frozen=True, kw_only=True, rename="camel"):
    """A request, with its plan, its attempts, and every event of it."""

    targets: list[TargetOut]
    """Its plan and what became of it; empty: it has one target, or it has not ended."""
    tries: list[AttemptView]
    """Its attempts that have ended."""
    events: list[Any]


class RequestPageOut(Struct, kw_only=True):
    """Requests, newest first; `next` goes into `before` for the page after, null at the end."""

    requests: list[RequestView]
    next: str | None


@get(
    "/requests",
    summary="What was asked",
    operation_id="ApiV1RequestsPage",
    guards=[requires_key, declared_query],
    dependencies={"wanted": Provide(RequestsQuery, sync_to_thread=False)},
)
async def list_requests(
    wanted: NamedDependency[RequestsQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[RequestPageOut]:
    """List requests, newest first; a member sees its own key's."""
    await wait_until_folded(services.pool, "requests", project_id=caller.project_id)
    page = await search(
        services.pool,
        Search(
            project_id=caller.project_id,
            key_id=visible_key(caller, wanted.key_id),
            status=wanted.status,
            model=wanted.model,
            session=wanted.session,
            since=moment_of(wanted.since, "since"),
            until=moment_of(wanted.until, "until"),
            before=wanted.before,
            limit=wanted.limit,
        ),
    )
    following = page[-1].request_id if len(page) == wanted.limit else None
    return Success(data=RequestPageOut(requests=page, next=following))


@get(
    "/requests/{request_id:str}",
    summary="One request, event by event",
    operation_id="ApiV1RequestsRequestIdOne",
    guards=[requires_key],
)
async def get_one_request(
    request_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[RequestDetailOut]:
    """Show a request and every event of it."""
    await wait_until_folded(services.pool, "requests", project_id=caller.project_id)
    view = await get_request(services.pool, caller.project_id, id_in_path(request_id))
    if view is None or visible_key(caller, None) not in (None, view.key_id):
        raise NotFound("there is no such request here")
    events = await services.log.read_stream(request_stream(request_id))
    fields = {name: getattr(view, name) for name in RequestView.__struct_fields__}
    targets = [TargetOut(**asdict(fate)) for fate in targets_of(events)]
    return Success(
        data=RequestDetailOut(
            **fields, targets=targets, tries=attempts_of(events), events=[_event_out(stored) for stored in events]
        )
    )


HANDLERS = (list_requests, get_one_request)


def moment_of(text: str | None, field: str) -> datetime | None:
    """A moment of a query, in UTC; None if there is none.

    Raises:
        InvalidRequest: it is no moment, or lies outside of time.

    """
    if text is None:
        return None
    try:
        return in_utc(_as_moment(text), field)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"`{field}`: {error}", field=field) from None


def _as_moment(text: str) -> datetime:
    moment: datetime = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
    return moment


def _event_out(stored: StoredEvent) -> dict[str, Any]:
    return {
        "position": stored.position,
        "stream": stored.stream,
        "version": stored.version,
        "type": stored.type,
        "at": stored.at,
        "data": stored.event,
    }
