"""Shows errors as pages, on the dashboard's paths only."""

from typing import Any

import structlog
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Template
from litestar.types import ExceptionHandlersMap

from api.dashboard.rendering import page, see
from api.native.errors import status_of
from api.requests import HttpRequest, http_message, request_id_of
from domain.errors import GatewayError, InvalidRequest, Unauthorized

SIGN_IN_PATH = "/sign-in"
_TITLES = {
    400: "This cannot be shown",
    401: "Sign in first",
    402: "This does not fit the budget",
    403: "This is not yours to see",
    404: "There is no such page",
    409: "This has changed meanwhile",
    413: "This is too large",
    429: "This is more than the key may ask",
    503: "The gateway cannot answer at the moment",
}
_OTHERWISE = "Something went wrong"
_ELSEWHERE = frozenset({"cross-site", "same-site"})
_UNEXPECTED = "something went wrong here; the log says what"

log = structlog.get_logger(__name__)


def error_page(
    request: HttpRequest, status: int, message: str, *, field: str | None = None, headers: Any = None
) -> Template:
    """A page that says what is wrong."""
    return page(
        request,
        "error.html",
        title=_TITLES.get(status, _OTHERWISE),
        status=status,
        headers=headers,
        message=message,
        field=field,
        request_id=request_id_of(request.scope),
    )


def _unauthorized(request: HttpRequest, error: Unauthorized) -> Template | Redirect:
    """Lead to the sign-in. A page that another site linked to is loaded once more: only then does the browser send the
    cookie of a session (`SameSite=Strict`).
    """
    if request.headers.get("hx-request") is not None:
        return error_page(request, 401, error.message, headers={"hx-redirect": SIGN_IN_PATH})
    if request.method != "GET":
        return error_page(request, 401, error.message)
    if request.headers.get("sec-fetch-site") in _ELSEWHERE and request.headers.get("sec-fetch-mode") == "navigate":
        return page(request, "again.html", title="One moment")
    asked = request.scope["raw_path"].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return see(SIGN_IN_PATH, {"next": f"{asked}?{query}" if query else asked})


def _gateway_error(request: HttpRequest, error: GatewayError) -> Template:
    headers = {"retry-after": str(int(error.retry_after_s) + 1)} if error.retry_after_s is not None else None
    field = error.field if isinstance(error, InvalidRequest) else None
    return error_page(request, status_of(error), error.message, field=field, headers=headers)


def _http_error(request: HttpRequest, error: HTTPException) -> Template:
    return error_page(request, error.status_code, http_message(request, error))


def _unexpected(request: HttpRequest, error: Exception) -> Template:
    log.error("page_crashed", request_id=request_id_of(request.scope), exc_info=error)
    return error_page(request, 500, _UNEXPECTED)


PAGE_HANDLERS: ExceptionHandlersMap = {
    Unauthorized: _unauthorized,
    GatewayError: _gateway_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}
