"""Litestar's guard for every page that is not public. It finds the viewer and checks that our own page sent the form.

A form counts only if this gateway's own page sent it: by the browser's word (`Origin`, `Sec-Fetch-Site`), by the token
that the page had, and by the cookie, which no other site's page can send (`SameSite=Strict`).
"""

import hmac
from typing import Any, Literal

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from api.dashboard.forms import CSRF_FIELD, form_values
from api.dashboard.sessions import SignIns
from api.dashboard.viewer import Viewer
from api.guards import peer_of
from api.operator import host_name, is_own_page
from api.requests import CountedRequest, HttpRequest, count_bytes, services_of
from domain.errors import Forbidden
from domain.events import INSTALLATION
from infra.dashboard_sessions import LIFETIME_S
from infra.settings import is_loopback

COOKIE = "gateway-session"
SECURE_COOKIE = "__Host-gateway-session"
"""Browsers take a cookie with this prefix only over https, from the host itself, for all its paths."""
SIGNED_IN_SUFFIX = "-was-open"
REMEMBERED_S = 7 * 86_400
"""For so long the sign-in page can say that a session has expired: the browser has dropped the session's cookie."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_OURS = "this form was not sent by a page of this gateway, or its page is too old: load the page again"


async def requires_viewer(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Require somebody who is signed in, and of a form that a page of ours sent it.

    In the open view no form is taken but those of handlers with the option `open_view`.

    Raises:
        Unauthorized, Unavailable, Overloaded: as `SignIns.viewer`.
        Forbidden: the form is not ours, or the view is the open one.

    """
    assert isinstance(connection, CountedRequest), "the application's request class"
    viewer = await find_viewer(connection)
    is_form = connection.method not in _SAFE_METHODS
    if is_form:
        require_own_page(connection)
        count_bytes(connection, viewer.project_id or INSTALLATION)
        sent = (await form_values(connection)).get(CSRF_FIELD, "")
        if not hmac.compare_digest(sent.encode(), viewer.csrf_token.encode()):
            raise Forbidden(_NOT_OURS)
        viewer = await find_viewer(connection, known=viewer)  # a body may take long, and a key be revoked meanwhile
    connection.scope["user"] = viewer
    if is_form and not handler.opt.get("open_view"):
        viewer.require_change()


async def find_viewer(request: HttpRequest, *, known: Viewer | None = None) -> Viewer:
    """Return the viewer. Raises as `requires_viewer`."""
    return await sign_ins_of(request).viewer(token_of(request), peer_of(request), known=known)


def provide_viewer(request: HttpRequest) -> Viewer:
    """The viewer, as the guard found it."""
    viewer = request.user
    assert isinstance(viewer, Viewer), "the page has the guard"
    return viewer


def require_own_page(request: HttpRequest) -> None:
    """Require that no other site's page sent a form.

    Raises:
        Forbidden: one did.

    """
    if not is_own_page(request.headers):
        raise Forbidden(_NOT_OURS)


def sign_ins_of(request: HttpRequest) -> SignIns:
    """The process's sessions."""
    return services_of(request).sign_ins


def token_of(request: HttpRequest) -> str | None:
    """The session's token that the browser sent; None: none."""
    return request.cookies.get(_cookie_name(request))


def was_signed_in(request: HttpRequest) -> bool:
    """True if the browser had a session, and did not sign out of it."""
    return bool(request.cookies.get(_cookie_name(request) + SIGNED_IN_SUFFIX))


def set_session(request: HttpRequest, answer: Response[Any], token: str | None) -> None:
    """Have the browser keep a session's token, or (None) drop it. Another cookie, which opens nothing, stays longer."""
    answer.set_cookie(session_cookie(request, token))
    answer.set_cookie(
        Cookie(
            key=_cookie_name(request) + SIGNED_IN_SUFFIX,
            value="1" if token else "",
            max_age=REMEMBERED_S if token else 0,
            path="/",
            secure=_is_secure(request),
            httponly=True,
            samesite=_STRICT,
        )
    )


def session_cookie(request: HttpRequest, token: str | None) -> Cookie:
    """The cookie that has the browser keep a session's token for its lifetime, or (None) drop it."""
    return Cookie(
        key=_cookie_name(request),
        value=token or "",
        max_age=LIFETIME_S if token else 0,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite=_STRICT,
    )


_STRICT: Literal["strict"] = "strict"


def _cookie_name(request: HttpRequest) -> str:
    """Ports share a host's cookies: on one machine each gateway has a name of its own."""
    if _is_secure(request):
        return SECURE_COOKIE
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isascii() and port.isdigit() else COOKIE


def _is_secure(request: HttpRequest) -> bool:
    """Off loopback a cookie travels over https only."""
    return not is_loopback(host_name(request.headers.get("host", "")))
