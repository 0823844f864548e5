"""Who is signed in; ending a session, one's own or another."""

from collections.abc import Mapping, Sequence

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect, Template
from msgspec import Struct

from api.dashboard.access import set_session, sign_ins_of
from api.dashboard.csv_files import CsvTable
from api.dashboard.errors import SIGN_IN_PATH
from api.dashboard.forms import form_of
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from api.services import Services
from domain.errors import NotFound
from infra.dashboard_sessions import SessionRecord
from projections.reports.labels import labels_of

SESSIONS_PATH = "/sessions"


class EndedSession(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which session ends."""

    session_id: str


@get(SESSIONS_PATH)
async def show_sessions(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List the open sessions that the viewer may see."""
    sessions = await sign_ins_of(request).list_open(viewer)
    return page(request, "sessions.html", title="Sessions", sessions=sessions, names=await _names(services, sessions))


@get(f"{SESSIONS_PATH}.csv")
async def save_sessions(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV."""
    sessions = await sign_ins_of(request).list_open(viewer)
    return _saved(await _names(services, sessions)).download(sessions)


@post(f"{SESSIONS_PATH}/end")
async def end_session(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Redirect:
    """End a session."""
    ended = (await form_of(request, EndedSession)).session_id
    if not await sign_ins_of(request).end(viewer, ended):
        raise NotFound("there is no such session: it has ended")
    if ended != viewer.session_id:
        return see(SESSIONS_PATH)
    answer = see(SIGN_IN_PATH)
    set_session(request, answer, None)
    return answer


@post("/sign-out", opt={"open_view": True})
async def sign_out(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Redirect:
    """End the viewer's own session."""
    if viewer.session_id is not None:
        await sign_ins_of(request).end(viewer, viewer.session_id)
    answer = see(SIGN_IN_PATH)
    set_session(request, answer, None)
    return answer


HANDLERS = (show_sessions, save_sessions, end_session, sign_out)


def _saved(names: Mapping[str, str]) -> CsvTable[SessionRecord]:
    return CsvTable(
        "sessions.csv",
        {
            "key": lambda one: one.key_id or "operator",
            "key name": lambda one: names.get(one.key_id or ""),
            "browser": lambda one: one.client,
            "since": lambda one: one.opened_at,
            "until": lambda one: one.expires_at,
        },
    )


async def _names(services: Services, sessions: Sequence[SessionRecord]) -> dict[str, str]:
    """The names of the keys that opened sessions, and of their projects."""
    return await labels_of(
        services.pool,
        keys=(one.key_id for one in sessions if one.key_id),
        project_ids=(one.project_id for one in sessions if one.project_id),
    )
