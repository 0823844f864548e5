"""Who is signed in; ending a session, one's own or another."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect, Template
from msgspec import Struct

from api.dashboard.access import session_cookie, sign_ins_of
from api.dashboard.csv_files import CsvTable
from api.dashboard.errors import SIGN_IN_PATH
from api.dashboard.forms import form_of
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.requests import HttpRequest
from domain.errors import NotFound
from infra.dashboard_sessions import SessionRecord

SESSIONS_PATH = "/sessions"
_SAVED = CsvTable[SessionRecord](
    "sessions.csv",
    {
        "key": lambda one: one.key_id or "operator",
        "browser": lambda one: one.client,
        "since": lambda one: one.opened_at,
        "until": lambda one: one.expires_at,
    },
)


class EndedSession(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which session ends."""

    session_id: str


@get(SESSIONS_PATH)
async def show_sessions(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Template:
    """List the open sessions that the viewer may see."""
    sessions = await sign_ins_of(request).list_open(viewer)
    return page(request, "sessions.html", title="Sessions", sessions=sessions)


@get(f"{SESSIONS_PATH}.csv")
async def save_sessions(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Response[bytes]:
    """The list as CSV."""
    return _SAVED.download(await sign_ins_of(request).list_open(viewer))


@post(f"{SESSIONS_PATH}/end")
async def end_session(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Redirect:
    """End a session."""
    ended = (await form_of(request, EndedSession)).session_id
    if not await sign_ins_of(request).end(viewer, ended):
        raise NotFound("there is no such session: it has ended")
    return see(SIGN_IN_PATH if ended == viewer.session_id else SESSIONS_PATH)


@post("/sign-out", opt={"open_view": True})
async def sign_out(request: HttpRequest, viewer: NamedDependency[Viewer]) -> Redirect:
    """End the viewer's own session."""
    if viewer.session_id is not None:
        await sign_ins_of(request).end(viewer, viewer.session_id)
    answer = see(SIGN_IN_PATH)
    answer.set_cookie(session_cookie(request, None))
    return answer


HANDLERS = (show_sessions, save_sessions, end_session, sign_out)
