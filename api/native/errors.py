"""Errors as the native surface shows them: `{"success": false, "error": {…}}`, and the HTTP status of each."""

import math
from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from api.delivery import REPLAYED, failure_headers, limit_headers
from api.native.validation import invalid_parameter
from api.requests import HttpRequest, http_message, request_id_of
from domain.errors import (
    AnswerNotKept,
    BodyTooLarge,
    BudgetExceeded,
    ClientDisconnected,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidRequest,
    JobExpired,
    NotFound,
    Overloaded,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
    UnknownModel,
    UnsupportedEncoding,
)
from domain.json_numbers import encode
from domain.limits import LimitStatus
from domain.provider_refusals import Reason

STATUSES: dict[type[GatewayError], int] = {
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    InvalidRequest: 400,
    UnknownModel: 404,
    IdempotencyMismatch: 422,
    AnswerNotKept: 410,
    BodyTooLarge: 413,
    UnsupportedEncoding: 415,
    RateLimited: 429,
    BudgetExceeded: 402,
    ProviderRejected: 400,  # or the provider's own
    ProviderCredentials: 502,
    ProviderRateLimited: 429,
    ProviderUnavailable: 502,
    ProviderLost: 502,
    ProviderTimeout: 504,
    JobExpired: 504,
    ResultLost: 502,
    ClientDisconnected: 499,  # the client has gone, so it is only counted
    Overloaded: 503,
    Unavailable: 503,
}

_STATUS_OF_REASON: dict[Reason, int] = {"billing": 402}
"""Some providers answer 429 for an empty account, which no waiting fills."""
_CODES = {400: InvalidRequest.code, 404: NotFound.code, 405: "METHOD_NOT_ALLOWED", 413: BodyTooLarge.code}
DEFAULT_RETRY_AFTER_S = 1.0
_RETRY_STATUSES = frozenset({429, 503})

log = structlog.get_logger(__name__)


def status_of(error: GatewayError) -> int:
    """The HTTP status of an error: its class's, or that of the nearest class above it."""
    if isinstance(error, ProviderRejected):
        if error.refusal is not None and error.refusal.reason in _STATUS_OF_REASON:
            return _STATUS_OF_REASON[error.refusal.reason]
        if error.status is not None and 400 <= error.status < 500:
            return error.status  # a redirection is no answer to give to a caller
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _render(
    request: HttpRequest,
    status: int,
    error: dict[str, Any],
    *,
    retry_after_s: float | None = None,
    limit_status: LimitStatus | None = None,
    more_headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    if status in _RETRY_STATUSES and retry_after_s is None:
        retry_after_s = DEFAULT_RETRY_AFTER_S
    shown = {name: value for name, value in error.items() if value is not None}
    content = encode({"success": False, "error": shown | {"requestId": request_id_of(request.scope)}})
    headers = {"Retry-After": str(math.ceil(retry_after_s))} if retry_after_s is not None else {}
    if limit_status is not None:
        headers |= limit_headers(limit_status)
    headers |= more_headers or {}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


def _gateway_error(request: HttpRequest, error: GatewayError) -> Response[bytes]:
    details = error.details
    if isinstance(error, ProviderError) and error.refusal is not None:
        details = (details or {}) | {"reason": error.refusal.reason}
    shown = {"code": error.code, "message": error.message, "details": details}
    return _render(
        request,
        status_of(error),
        shown,
        retry_after_s=error.retry_after_s,
        limit_status=error.limit_status,
        more_headers=failure_headers(error) | (REPLAYED if error.is_replayed else {}),
    )


def _invalid_parameter(request: HttpRequest, error: ValidationException) -> Response[bytes]:
    return _gateway_error(request, invalid_parameter(request.route_handler, error))


def _http_error(request: HttpRequest, error: HTTPException) -> Response[bytes]:
    """Render Litestar's own refusals: no such route, no such method, a body above the limit."""
    code = _CODES.get(error.status_code, "INTERNAL" if error.status_code >= 500 else InvalidRequest.code)
    shown = {"code": code, "message": http_message(request, error)}
    return _render(request, error.status_code, shown, more_headers=error.headers)


def _unexpected(request: HttpRequest, error: Exception) -> Response[bytes]:
    log.error("request_crashed", request_id=request_id_of(request.scope), exc_info=error)
    return _render(request, 500, {"code": "INTERNAL", "message": "something went wrong here; the log says what"})


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    GatewayError: _gateway_error,
    ValidationException: _invalid_parameter,
    HTTPException: _http_error,
    Exception: _unexpected,
}
