"""Renders errors in the vendor's form, on the routes of its surface."""

from collections.abc import Callable
from typing import Any

import structlog
from litestar import Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap
from msgspec.structs import replace

from api.delivery import JSON
from api.requests import HttpRequest, http_message, request_id_of
from api.vendors.errors import (
    UNEXPECTED,
    VendorError,
    anthropic_error,
    anthropic_http_error,
    openai_error,
    openai_http_error,
)
from api.vendors.paths import is_vendors
from domain.call_origin import origin_of
from domain.errors import BodyTooLarge, GatewayError

TOO_LARGE = 413

log = structlog.get_logger(__name__)

ErrorRenderer = Callable[[GatewayError, HttpRequest], VendorError]
StatusRenderer = Callable[[int, str, str], VendorError]


def _handlers(render: ErrorRenderer, render_status: StatusRenderer) -> ExceptionHandlersMap:
    def gateway_error(request: HttpRequest, error: GatewayError) -> Response[bytes]:
        return _response(render(error, request))

    def http_error(request: HttpRequest, error: HTTPException) -> Response[bytes]:
        request_id = request_id_of(request.scope)
        if error.status_code == TOO_LARGE:
            return _response(render(BodyTooLarge(http_message(request, error)), request))
        rendered = render_status(error.status_code, http_message(request, error), request_id)
        return _response(replace(rendered, headers=rendered.headers | (error.headers or {})))

    def unexpected(request: HttpRequest, error: Exception) -> Response[bytes]:
        request_id = request_id_of(request.scope)
        log.error("request_crashed", request_id=request_id, exc_info=error)
        return _response(render_status(500, UNEXPECTED, request_id))

    return {GatewayError: gateway_error, HTTPException: http_error, Exception: unexpected}


def _response(error: VendorError) -> Response[Any]:
    return Response(error.body, status_code=error.status, media_type=JSON, headers=error.headers)


def _openai(error: GatewayError, request: HttpRequest) -> VendorError:
    origin = origin_of(request.scope["headers"])
    return openai_error(error, origin.client if origin is not None else None)


OPENAI_HANDLERS = _handlers(
    _openai,
    lambda status, message, _request_id: openai_http_error(status, message),
)
ANTHROPIC_HANDLERS = _handlers(
    lambda error, request: anthropic_error(error, request_id_of(request.scope)), anthropic_http_error
)


def _either(kind: type[Exception]) -> Callable[[HttpRequest, Any], Response[bytes]]:
    def render(request: HttpRequest, error: Any) -> Response[bytes]:
        handlers: Any = ANTHROPIC_HANDLERS if "anthropic-version" in request.headers else OPENAI_HANDLERS
        answer: Response[bytes] = handlers[kind](request, error)
        return answer

    return render


_KINDS = (GatewayError, HTTPException, Exception)

EITHER_HANDLERS: ExceptionHandlersMap = {kind: _either(kind) for kind in _KINDS}
"""Of routes that both vendors' clients call."""


def for_paths_without_a_route(elsewhere: ExceptionHandlersMap) -> ExceptionHandlersMap:
    """Handlers for paths without a route: in the vendors' form for their clients, as `elsewhere` for others."""

    def choose(kind: type[Exception]) -> Callable[[HttpRequest, Any], Response[bytes]]:
        def render(request: HttpRequest, error: Any) -> Response[bytes]:
            of_vendors = is_vendors(request.scope["path"], request.scope["headers"])
            handlers: Any = EITHER_HANDLERS if of_vendors else elsewhere
            answer: Response[bytes] = handlers[kind](request, error)
            return answer

        return render

    return {kind: choose(kind) for kind in _KINDS}
