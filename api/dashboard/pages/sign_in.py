"""Signing in with the master key or an API key. Everybody may load this page, so it shows nothing of the gateway."""

import re
from contextlib import suppress

from litestar import get, post
from litestar.response import Redirect, Template
from msgspec import Struct

from api.dashboard.access import find_viewer, require_own_page, set_session, sign_ins_of
from api.dashboard.errors import SIGN_IN_PATH
from api.dashboard.forms import filters_of, form_of_a_stranger
from api.dashboard.rendering import page, see
from api.dashboard.sessions import END_REASONS
from api.guards import peer_of
from api.native.errors import status_of
from api.requests import HttpRequest
from domain.errors import RateLimited, Unauthorized

MAX_SIGN_IN_BYTES = 8 * 1024
MAX_NEXT_CHARS = 2_000
HOME = "/"
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this gateway, in printable ASCII: `//host` and `/\\host` are other addresses to a browser."""
_NOT_KEPT = (
    "The key works, but the browser did not keep the session. On any address but this machine's own that takes https: "
    "open the gateway through its https address, or as http://localhost."
)


class SignInPage(Struct, frozen=True, kw_only=True):
    """Where the viewer wanted to go."""

    next: str = HOME
    opened: bool = False
    """The session was opened: the browser should have it by now."""
    anew: bool = False
    """Ask for a key although the viewer needs none."""
    why: str | None = None
    """Why the viewer is signed in no longer: one of `END_REASONS`. Any other text is not shown."""


@get(SIGN_IN_PATH)
async def show_sign_in(request: HttpRequest) -> Template | Redirect:
    """Ask for a key, or lead on whoever is signed in."""
    asked = filters_of(request, SignInPage)
    with suppress(Unauthorized):
        if (await find_viewer(request)).may_change or not asked.anew:
            return see(own_path(asked.next))
    reason = END_REASONS.get(asked.why or "")
    return _sign_in(request, asked.next, message=_NOT_KEPT if asked.opened else None, reason=reason, status=200)


@post(SIGN_IN_PATH)
async def sign_in(request: HttpRequest) -> Template | Redirect:
    """Exchange a key for a session."""
    require_own_page(request)
    given = await form_of_a_stranger(request, max_bytes=MAX_SIGN_IN_BYTES)
    wanted = own_path(given.get("next", HOME))
    try:
        client = request.headers.get("user-agent", "")
        address = peer_of(request).client_host or ""
        token = await sign_ins_of(request).sign_in(given.get("key", "").strip(), client=client, address=address)
    except (Unauthorized, RateLimited) as error:
        return _sign_in(request, wanted, message=error.message, status=status_of(error))
    answer = see(SIGN_IN_PATH, {"next": wanted, "opened": "1"})
    set_session(request, answer, token)
    return answer


HANDLERS = (show_sign_in, sign_in)


def own_path(text: str) -> str:
    """A path of this gateway, with its query; the home page's if the text is something else."""
    return text if len(text) <= MAX_NEXT_CHARS and _OWN_PATH.fullmatch(text) else HOME


def _sign_in(
    request: HttpRequest, wanted: str, *, message: str | None, reason: str | None = None, status: int
) -> Template:
    return page(
        request,
        "sign_in.html",
        title="Sign in",
        status=status,
        next=own_path(wanted),
        message=message,
        reason=reason,
    )
