"""`/audit`: the events of the log as they are stored, an export of them, and verifications of the whole log.

An admin key sees its project, the master key everything. No event has content, or a key: it names a sealed body by its
id.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter, RequestBody
from litestar.response import Stream
from msgspec import Struct

from api.authentication import Caller
from api.guards import requires_admin_or_operator, requires_operator
from api.native.envelope import NativeResponse, RawResponse, Success
from api.native.openapi import KEY_OR_MASTER_KEY, NEEDS_MASTER_KEY
from api.native.requests import Moment, moment_of
from api.native.validation import declared_query
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.errors import Forbidden, InvalidRequest, NotFound
from domain.events import EVENT_TYPES
from infra.ids import new_id
from infra.log_selection import Selection
from infra.raw_events import RawEvent, selected_raw_events
from projections.audit_runs import AuditKind, AuditRun, Verdict, ask_run, newest_runs, run_of

MAX_EVENTS_PAGE = 1_000
MAX_POSITION = 2**62
SHOWN_RUNS = 20
EventType = Annotated[str | None, QueryParameter(schema_extra={"enum": [*EVENT_TYPES, None]})]


class SelectionQuery(Struct, frozen=True, kw_only=True):
    """Selects events; `after` is the last position of the previous page."""

    after: Annotated[int, QueryParameter(ge=0, le=MAX_POSITION)] = 0
    stream: FromQuery[str | None] = None
    type: EventType = None
    project_id: Annotated[str | None, QueryParameter(name="projectId")] = None
    since: Moment = None
    until: Moment = None


class EventsQuery(SelectionQuery, frozen=True, kw_only=True):
    """Adds the page: with `before` the events come newest first, those before that position."""

    before: Annotated[int | None, QueryParameter(ge=1, le=MAX_POSITION)] = None
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_EVENTS_PAGE)] = 100


class EventOut(Struct, frozen=True, kw_only=True, rename="camel"):
    """An event as it is stored."""

    position: int
    stream: str
    version: int
    type: str
    project_id: str
    at: datetime
    data: msgspec.Raw
    """JSON, byte for byte."""
    digest: str
    """SHA-256 of the envelope and the data, hexadecimal."""
    chain: str | None
    """On the last event of a batch: the digest of the whole log up to here, hexadecimal."""


class EventPageOut(Struct, kw_only=True):
    """Events; `next` goes into `after`, or into `before` if the page was asked for with it."""

    events: list[EventOut]
    next: int


class VerificationBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Asks for a verification: `verify` the log, or the `balance` of the read models with the log."""

    kind: AuditKind = "verify"


class VerificationOut(Struct, kw_only=True, rename="camel"):
    """A verification that was asked for."""

    id: str
    kind: AuditKind
    asked_at: datetime
    started_at: datetime | None
    """Null: it waits for a projector, which makes one at a time."""
    ended_at: datetime | None
    done: int
    """Events, of `total`."""
    total: int
    """0: it is not known yet."""
    verdict: Verdict | None
    """Null until it has ended. Of `verify`: `intact`, `broken`, `unsigned`; of `balance`: `agrees`, `differs`; or
    `failed`.
    """
    lines: list[str]
    """What it found, in words."""


@get(
    "/audit/events",
    summary="The events of the log",
    operation_id="ApiV1AuditEventsEvents",
    response_class=RawResponse,
    guards=[requires_admin_or_operator, declared_query],
    security=KEY_OR_MASTER_KEY,
    dependencies={"wanted": Provide(EventsQuery, sync_to_thread=False)},
)
async def list_events(
    wanted: NamedDependency[EventsQuery], request: HttpRequest, services: NamedDependency[Services]
) -> Success[EventPageOut]:
    """List events, oldest first. An admin key sees its project's, the master key all."""
    page = await selected_raw_events(
        services.pool,
        selection_of(wanted, request.user),
        after=wanted.after,
        before=wanted.before,
        limit=wanted.limit,
    )
    following = page[-1].position if page else wanted.before if wanted.before is not None else wanted.after
    return Success(data=EventPageOut(events=list(map(event_out, page)), next=following))


@get(
    "/audit/export",
    summary="The events of the log as JSON lines",
    operation_id="ApiV1AuditExport",
    guards=[requires_admin_or_operator, declared_query],
    security=KEY_OR_MASTER_KEY,
    media_type="application/jsonl",
    dependencies={"wanted": Provide(SelectionQuery, sync_to_thread=False)},
)
async def export_events(
    wanted: NamedDependency[SelectionQuery], request: HttpRequest, services: NamedDependency[Services]
) -> Response[Any]:
    """Send events as `gateway audit export` prints them, oldest first, up to the newest of this moment.

    With the whole log, the signed heads and the public key, others can verify it.
    """
    lines = services.exports.lines(
        selection_of(wanted, request.user), after=wanted.after, head=await services.log.head()
    )
    disposition = {"content-disposition": 'attachment; filename="events.jsonl"'}
    return Stream(lines, media_type="application/jsonl", headers=disposition)


@post(
    "/audit/verifications",
    summary="Verify the log, or the read models",
    operation_id="ApiV1AuditVerificationsAsk",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
    status_code=202,
)
async def request_verification(
    data: RequestBody[VerificationBody], services: NamedDependency[Services]
) -> Response[Success[VerificationOut]]:
    """Ask for a verification. A projector makes it in a process of its own. If one of its kind is open, that is it."""
    run = await ask_run(services.pool, data.kind, new_id("run"))
    return NativeResponse(Success(data=verification_out(run)), status_code=202)


@get(
    "/audit/verifications",
    summary="Verifications of late",
    operation_id="ApiV1AuditVerificationsPage",
    guards=[requires_operator, declared_query],
    security=NEEDS_MASTER_KEY,
)
async def list_verifications(services: NamedDependency[Services]) -> Success[list[VerificationOut]]:
    """List the newest verifications, the newest first."""
    return Success(data=list(map(verification_out, await newest_runs(services.pool, SHOWN_RUNS))))


@get(
    "/audit/verifications/{run_id:str}",
    summary="One verification, and how far it is",
    operation_id="ApiV1AuditVerificationsOne",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def get_verification(run_id: FromPath[str], services: NamedDependency[Services]) -> Success[VerificationOut]:
    """Show a verification."""
    run = await run_of(services.pool, id_in_path(run_id))
    if run is None:
        raise NotFound("there is no such verification here")
    return Success(data=verification_out(run))


HANDLERS = (list_events, export_events, request_verification, list_verifications, get_verification)


def selection_of(wanted: SelectionQuery, user: Caller | None) -> Selection:
    """The events that a query selects of those that a caller may see; None is the operator.

    Raises:
        Forbidden: it asks for another project.
        InvalidRequest: a time is none, or there is no such type of events.

    """
    project_id = wanted.project_id
    if isinstance(user, Caller):
        if project_id not in (None, user.project_id):
            raise Forbidden("`projectId`: a key sees its own project only")
        project_id = user.project_id
    if wanted.type is not None and wanted.type not in EVENT_TYPES:
        raise InvalidRequest(f"`type`: there are no events {wanted.type!r}", field="type")
    return Selection(
        project_id=project_id,
        stream=wanted.stream,
        type=wanted.type,
        since=moment_of(wanted.since, "since"),
        until=moment_of(wanted.until, "until"),
    )


def event_out(event: RawEvent) -> EventOut:
    """An event as it is shown."""
    return EventOut(
        position=event.position,
        stream=event.stream,
        version=event.version,
        type=event.type,
        project_id=event.project_id,
        at=event.at,
        data=msgspec.Raw(event.data),
        digest=event.digest.hex(),
        chain=event.chain.hex() if event.chain is not None else None,
    )


def verification_out(run: AuditRun) -> VerificationOut:
    """A verification as it is shown."""
    return VerificationOut(
        id=run.run_id,
        kind=run.kind,
        asked_at=run.asked_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        done=run.done,
        total=run.total,
        verdict=run.verdict,
        lines=run.lines,
    )
