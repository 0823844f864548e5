"""Shows errors as pages: on the dashboard's paths, and to browsers on paths that nothing is served at."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import structlog
from litestar import Response
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Template
from litestar.types import ExceptionHandlersMap, Scope

from api.dashboard.access import find_viewer, was_signed_in
from api.dashboard.field_words import in_words
from api.dashboard.rendering import page, see
from api.dashboard.sessions import END_REASONS, SessionEnded
from api.native.errors import status_of
from api.requests import CountedRequest, HttpRequest, http_message, request_id_of
from api.vendors.paths import is_browser, is_vendors
from domain.errors import GatewayError, Unauthorized

SIGN_IN_PATH = "/sign-in"
_TITLES = {
    400: "This cannot be shown",
    401: "Sign in first",
    402: "This does not fit the budget",
    403: "This is not yours to see",
    404: "There is no such page",
    405: "This is no page to open",
    409: "This has changed meanwhile",
    413: "This is too large",
    429: "This is more than the key may ask",
    503: "The gateway cannot answer at the moment",
}
_OTHERWISE = "Something went wrong"
_OF_PROGRAMS = ("/api/", "/health/", "/metrics", "/schema")
_ELSEWHERE = frozenset({"cross-site", "same-site"})
_UNEXPECTED = "something went wrong here; the log says what"

log = structlog.get_logger(__name__)


def error_page(request: HttpRequest, status: int, message: str, *, headers: Any = None) -> Template:
    """A page that says what is wrong."""
    return page(
        request,
        "error.html",
        title=_TITLES.get(status, _OTHERWISE),
        status=status,
        headers=headers,
        message=message,
        request_id=request_id_of(request.scope),
    )


def _unauthorized(request: HttpRequest, error: Unauthorized) -> Template | Redirect:
    """Lead to the sign-in. A page that another site linked to is loaded once more: only then does the browser send the
    cookie of a session (`SameSite=Strict`).
    """
    reason = error.reason if isinstance(error, SessionEnded) else "expired" if was_signed_in(request) else None
    why = {"why": reason} if reason is not None else {}
    message = END_REASONS[reason] if reason is not None else error.message
    if request.headers.get("hx-request") is not None:  # of a piece of a page: the whole page is left
        asked_with = urlencode(_next(request.headers.get("hx-current-url", "")) | why)
        leads_to = f"{SIGN_IN_PATH}?{asked_with}" if asked_with else SIGN_IN_PATH
        return error_page(request, 401, message, headers={"hx-redirect": leads_to})
    if request.method != "GET":
        return error_page(request, 401, message)
    if request.headers.get("sec-fetch-site") in _ELSEWHERE and request.headers.get("sec-fetch-mode") == "navigate":
        return page(request, "again.html", title="One moment")
    asked = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return see(SIGN_IN_PATH, {"next": f"{asked}?{query}" if query else asked, **why})


def _next(url: str) -> dict[str, str]:
    """Return the query that has the sign-in page lead back to a page; empty if its address cannot be read."""
    try:
        shown = urlsplit(url)
    except ValueError:
        return {}
    return {"next": urlunsplit(("", "", shown.path, shown.query, ""))}


def _gateway_error(request: HttpRequest, error: GatewayError) -> Template:
    headers = {"retry-after": str(int(error.retry_after_s) + 1)} if error.retry_after_s is not None else None
    return error_page(request, status_of(error), in_words(error.message), headers=headers)


def _http_error(request: HttpRequest, error: HTTPException) -> Template:
    called = request.scope["raw_path"].decode("latin-1")
    match error.status_code:
        case 404:
            message = f"Nothing is served at {called}."
        case 405:
            is_opened = request.method in ("GET", "HEAD")
            message = f"{called} is where a form is sent, no page." if is_opened else f"{called} takes no form."
        case _:
            message = http_message(request, error)
    return error_page(request, error.status_code, message, headers=error.headers)


def _unexpected(request: HttpRequest, error: Exception) -> Template:
    log.error("page_crashed", request_id=request_id_of(request.scope), exc_info=error)
    return error_page(request, 500, _UNEXPECTED)


PAGE_HANDLERS: ExceptionHandlersMap = {
    Unauthorized: _unauthorized,
    GatewayError: _gateway_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}


def with_pages_for_browsers(elsewhere: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """The application's handlers: pages for browsers on paths without a route, as `elsewhere` for everybody else."""

    def choose(kind: type[Exception] | int) -> Callable[[HttpRequest, Any], Response[Any]]:
        def render(request: HttpRequest, error: Any) -> Response[Any]:
            handlers: Any = PAGE_HANDLERS if _is_for_a_person(request.scope) else elsewhere
            answer: Response[Any] = handlers[kind](request, error)
            return answer

        return render

    return {kind: choose(kind) for kind in elsewhere}


async def find_reader(_: Exception, scope: Scope) -> None:
    """Find out who reads the page of an error, which has the menu then. Litestar's `after_exception`."""
    if scope["type"] == ScopeType.HTTP and scope.get("user") is None and _is_for_a_person(scope):
        with suppress(GatewayError):
            scope["user"] = await find_viewer(CountedRequest(scope))


def _is_for_a_person(scope: Scope) -> bool:
    """True for a browser at a path without a route. What serves programs tells browsers what it tells programs."""
    path: str = scope["path"]
    if path.startswith(_OF_PROGRAMS) or scope.get("route_handler") is not None:
        return False
    return is_browser(scope["headers"]) and not is_vendors(path, scope["headers"])
