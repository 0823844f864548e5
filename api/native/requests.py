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
from api.guards import requires_key, requires_key_or_operator
from api.native.envelope import Success
from api.native.openapi import KEY_OR_MASTER_KEY
from api.native.validation import declared_query
from api.report_scope import DOLLARS_PATTERN, METADATA_PATTERN, parse_dollars, parse_metadata, visible_scope
from api.requests import HttpRequest, in_utc
from api.services import Services
from api.stored_answers import request_with_events, stored_answer
from domain.errors import InvalidRequest, NotFound
from domain.events import StoredEvent
from projections.freshness import wait_until_folded
from projections.reports.charges import Charge, charges_of
from projections.reports.requests import MAX_PAGE, RequestView, Search, search
from projections.request_attempts import AttemptView, attempts_of, targets_of
from projections.requests import Status

Moment = Annotated[str | None, QueryParameter(format="date-time")]
"""RFC 3339. A text here: in a query msgspec would take `0.5` for half a second after 1970."""


class RequestsQuery(Struct, frozen=True, kw_only=True):
    """Selects requests; `before` is the last id of the previous page, `after` an id that they are newer than."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    project_id: Annotated[str | None, QueryParameter(name="projectId")] = None
    status: FromQuery[Status | None] = None
    model: FromQuery[str | None] = None
    """As the caller named it: a route, or a model."""
    served: FromQuery[str | None] = None
    """The model of the target that answered, or at which the request ended."""
    provider: FromQuery[str | None] = None
    operation: FromQuery[str | None] = None
    session: FromQuery[str | None] = None
    error_code: Annotated[str | None, QueryParameter(name="errorCode")] = None
    min_cost: Annotated[str | None, QueryParameter(name="minCost", schema_extra={"pattern": DOLLARS_PATTERN})] = None
    """In US dollars."""
    min_latency_ms: Annotated[int | None, QueryParameter(name="minLatencyMs", ge=0, le=2**53)] = None
    metadata: Annotated[str | None, QueryParameter(schema_extra={"pattern": METADATA_PATTERN})] = None
    """`NAME=VALUE`."""
    since: Moment = None
    until: Moment = None
    before: FromQuery[str | None] = None
    after: FromQuery[str | None] = None
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
    charges: list[Charge]
    """What it cost, line by line: of each attempt that was charged."""
    events: list[Any]


class AnswerOut(Struct, kw_only=True, rename="camel"):
    """A stored answer."""

    request_id: str
    bytes: int
    body: str
    """As it is stored: JSON of the dialect in which it was asked for."""


class RequestPageOut(Struct, kw_only=True):
    """Requests, newest first; `next` goes into `before` for the page after, null at the end.

    A page may have fewer requests than `limit`, or none, and a `next` all the same: a look for what few requests have
    ends after a while.
    """

    requests: list[RequestView]
    next: str | None


@get(
    "/requests",
    summary="What was asked",
    operation_id="ApiV1RequestsPage",
    guards=[requires_key_or_operator, declared_query],
    dependencies={"wanted": Provide(RequestsQuery, sync_to_thread=False)},
    security=KEY_OR_MASTER_KEY,
)
async def list_requests(
    request: HttpRequest, wanted: NamedDependency[RequestsQuery], services: NamedDependency[Services]
) -> Success[RequestPageOut]:
    """List requests, newest first; a member sees its own key's, the operator those of every project."""
    scope = visible_scope(_caller(request), wanted.project_id, wanted.key_id)
    await wait_until_folded(services.pool, "requests", project_id=scope.project_id)
    found = await search(
        services.pool,
        Search(
            scope=scope,
            status=wanted.status,
            model=wanted.model,
            served=wanted.served,
            provider=wanted.provider,
            operation=wanted.operation,
            session=wanted.session,
            error_code=wanted.error_code,
            since=moment_of(wanted.since, "since"),
            until=moment_of(wanted.until, "until"),
            min_cost_nano_usd=parse_dollars(wanted.min_cost, "minCost"),
            min_latency_ms=wanted.min_latency_ms,
            metadata=parse_metadata(wanted.metadata),
            before=wanted.before,
            after=wanted.after,
            limit=wanted.limit,
        ),
    )
    return Success(data=RequestPageOut(requests=found.requests, next=found.next))


@get(
    "/requests/{request_id:str}",
    summary="One request, event by event",
    operation_id="ApiV1RequestsRequestIdOne",
    guards=[requires_key_or_operator],
    security=KEY_OR_MASTER_KEY,
)
async def get_one_request(
    request: HttpRequest, request_id: FromPath[str], services: NamedDependency[Services]
) -> Success[RequestDetailOut]:
    """Show a request, its charges line by line, and every event of it."""
    scope = visible_scope(_caller(request), None, None)
    view, events = await request_with_events(services, scope, request_id)
    fields = {name: getattr(view, name) for name in RequestView.__struct_fields__}
    targets = [TargetOut(**asdict(fate)) for fate in targets_of(events)]
    return Success(
        data=RequestDetailOut(
            **fields,
            targets=targets,
            tries=attempts_of(events),
            charges=charges_of(events),
            events=[_event_out(stored) for stored in events],
        )
    )


@get(
    "/requests/{request_id:str}/answer",
    summary="The answer of a request, if it is stored",
    operation_id="ApiV1RequestsRequestIdAnswer",
    guards=[requires_key],
)
async def get_answer(
    request_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[AnswerOut]:
    """Show an answer to its own project's keys, a member's to its own key: as long as the cache, or a job, keeps it."""
    scope = visible_scope(caller, None, None)
    _, events = await request_with_events(services, scope, request_id)
    body = await stored_answer(services, caller.project_id, events)
    if body is None:
        raise NotFound("the answer of this request is not stored")
    return Success(data=AnswerOut(request_id=request_id, bytes=len(body), body=body.decode(errors="replace")))


HANDLERS = (list_requests, get_one_request, get_answer)


def _caller(request: HttpRequest) -> Caller | None:
    """None is the operator."""
    return request.user if isinstance(request.user, Caller) else None


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
