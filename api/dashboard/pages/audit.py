"""The audit page lists the log's events, exports them, and shows verifications with their progress."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect, Stream, Template
from msgspec import Meta, Struct
from msgspec.structs import asdict

from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of, form_of, moment_of
from api.dashboard.navigation import ADMINS, NavigationEntry
from api.dashboard.project_choices import projects_to_choose
from api.dashboard.rendering import download_in_pieces, page, see
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from domain.events import EVENT_TYPES, INSTALLATION
from infra.ids import new_id
from infra.log_selection import Selection
from infra.raw_events import RawEvent, selected_raw_events
from projections.audit_runs import MAX_RUNS, AuditKind, AuditRun, ask_run, newest_runs

NAVIGATION = NavigationEntry(path="/audit", label="Audit", roles=ADMINS)
SHOWN = 50
MAX_SAVED = 2_000
"""Events of a CSV file. It is written at once, while nobody else is served; the export has them all."""
SHOWN_RUNS = 6
NEWEST = 2**62
"""A position beyond every event."""
MAX_POSITION_DIGITS = 18
VERDICT_KINDS = {
    "intact": "good",
    "agrees": "good",
    "unsigned": "warn",
    "broken": "bad",
    "differs": "bad",
    "failed": "bad",
}
_SAVED_EVENTS = CsvTable[RawEvent](
    "events.csv",
    {
        "position": lambda one: one.position,
        "at": lambda one: one.at,
        "type": lambda one: one.type,
        "stream": lambda one: one.stream,
        "version": lambda one: one.version,
        "project": lambda one: one.project_id,
        "data": lambda one: one.data.decode(),
        "digest": lambda one: one.digest.hex(),
        "chain": lambda one: one.chain.hex() if one.chain is not None else None,
    },
)
_SAVED_RUNS = CsvTable[AuditRun](
    "verifications.csv",
    {
        "what": lambda one: one.kind,
        "asked": lambda one: one.asked_at,
        "started": lambda one: one.started_at,
        "ended": lambda one: one.ended_at,
        "events": lambda one: one.done,
        "of": lambda one: one.total,
        "result": lambda one: one.verdict,
        "found": lambda one: "\n".join(one.lines),
    },
)
Text = Annotated[str, Meta(max_length=256)]


class AuditPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filters of the list. Times without a zone are UTC."""

    type: Literal[tuple(EVENT_TYPES)] | None = None  # type: ignore[valid-type]  # one of the events that there are
    stream: Text | None = None
    project: Text | None = None
    """The operator's; others see their own."""
    since: Text | None = None
    until: Text | None = None
    before: Annotated[str, Meta(pattern=rf"^[0-9]{{1,{MAX_POSITION_DIGITS}}}$")] | None = None
    """Events before this position."""


class VerificationForm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which verification is asked for."""

    kind: AuditKind


@get(NAVIGATION.path)
async def show_audit(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List events of what the viewer may see."""
    viewer.require_role(*ADMINS)
    viewer.require_sign_in()
    asked = filters_of(request, AuditPage)
    found = await _matching_events(services, viewer, asked, SHOWN + 1)
    events = found[:SHOWN]
    return page(
        request,
        "audit.html",
        title="Audit",
        asked=asked,
        events=events,
        pretty=_pretty,
        projects=await _projects(services, viewer, asked.project),
        types=[("", "Any"), *((name, name) for name in sorted(EVENT_TYPES))],
        runs=await _runs(services, viewer),
        verdict_kinds=VERDICT_KINDS,
        of_stream=lambda stream: _address(NAVIGATION.path, AuditPage(stream=stream, project=asked.project)),
        older=_address(NAVIGATION.path, asked, before=events[-1].position) if len(found) > SHOWN else None,
        newest=_address(NAVIGATION.path, asked, before=None) if asked.before else None,
        csv=_address(f"{NAVIGATION.path}.csv", asked),
        export=_address(f"{NAVIGATION.path}/export", asked, before=None),
    )


@get(f"{NAVIGATION.path}.csv")
async def save_audit(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV, at most `MAX_SAVED` events."""
    viewer.require_role(*ADMINS)
    viewer.require_sign_in()
    asked = filters_of(request, AuditPage)
    return _SAVED_EVENTS.download(await _matching_events(services, viewer, asked, MAX_SAVED))


@get(f"{NAVIGATION.path}/export")
async def export_audit(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Stream:
    """All events that the filters select, oldest first, as `gateway audit export` prints them."""
    viewer.require_role(*ADMINS)
    viewer.require_sign_in()
    selection = _selection(viewer, filters_of(request, AuditPage))
    lines = services.exports.lines(selection, after=0, head=await services.log.head())
    return download_in_pieces(lines, media_type="application/jsonl", file_name="events.jsonl")


@get(f"{NAVIGATION.path}/verifications")
async def show_runs(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """The verifications alone: a piece of the page, which asks for it while one is open."""
    viewer.require_role("operator")
    viewer.require_sign_in()
    runs = await _runs(services, viewer)
    return page(request, "audit_runs.html", title="Verifications", runs=runs, verdict_kinds=VERDICT_KINDS)


@get(f"{NAVIGATION.path}/verifications.csv")
async def save_runs(viewer: NamedDependency[Viewer], services: NamedDependency[Services]) -> Response[bytes]:
    """The verifications as CSV, all that are kept."""
    viewer.require_role("operator")
    viewer.require_sign_in()
    return _SAVED_RUNS.download(await newest_runs(services.pool, MAX_RUNS))


@post(f"{NAVIGATION.path}/verifications")
async def request_verification(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Redirect:
    """Ask for a verification."""
    viewer.require_role("operator")
    await ask_run(services.pool, (await form_of(request, VerificationForm)).kind, new_id("run"))
    return see(NAVIGATION.path)


HANDLERS = (show_audit, save_audit, export_audit, show_runs, save_runs, request_verification)


async def _matching_events(services: Services, viewer: Viewer, asked: AuditPage, limit: int) -> list[RawEvent]:
    before = int(asked.before) if asked.before is not None else NEWEST
    return await selected_raw_events(services.pool, _selection(viewer, asked), after=0, before=before, limit=limit)


async def _projects(services: Services, viewer: Viewer, chosen: str | None) -> list[tuple[str, str]]:
    """What the operator may choose from. What belongs to no project is the installation's."""
    if viewer.role != "operator":
        return []
    named = [(one.project_id, one.name) for one in await projects_to_choose(services, chosen)]
    return [("", "All projects"), (INSTALLATION, "The installation"), *named]


async def _runs(services: Services, viewer: Viewer) -> list[AuditRun]:
    """The newest verifications; they are of the whole log, hence for the operator."""
    return await newest_runs(services.pool, SHOWN_RUNS) if viewer.role == "operator" else []


def _selection(viewer: Viewer, asked: AuditPage) -> Selection:
    """Return the events that the page's filters select, among those that the viewer may see.

    Raises:
        InvalidRequest: names the filter.

    """
    return Selection(
        project_id=viewer.scope(project_id=asked.project).project_id,
        stream=asked.stream,
        type=asked.type,
        since=moment_of(asked.since, "since"),
        until=moment_of(asked.until, "until"),
    )


def _address(path: str, asked: AuditPage, **changed: Any) -> str:
    """The address of a page with the filters as they are, but those that are changed."""
    kept = {name: value for name, value in (asdict(asked) | changed).items() if value is not None}
    return f"{path}?{urlencode(kept)}" if kept else path


def _pretty(data: bytes) -> str:
    return msgspec.json.format(data, indent=2).decode()
