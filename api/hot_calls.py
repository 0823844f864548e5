"""Answers the calls that a provider answers without Litestar's way to a handler. All others go on to Litestar.

Their handlers take the raw request and nothing else (docs/decisions/0021-litestars-own-handlers.md), so that routing,
guards, dependencies, signatures and the conversion of the response have nothing to do for them. They are Litestar's own
handlers all the same: found in the application by their paths, described by its OpenAPI document, with the error
handlers of their layers. docs/decisions/0049-the-hot-calls.md has what it saves.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from litestar import Litestar, Response
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from api.delivery import JSON, JsonAnswer, send_whole
from api.requests import CountedRequest, HttpRequest

HOT_PATHS = (
    "/api/v1/completions/chat",
    "/api/v1/completions/embeddings",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
)
_METHOD: Literal["POST"] = "POST"
_PLAIN_HOST = re.compile(rb"[0-9A-Za-z.:-]*")
"""A request with another host goes on to Litestar, which refuses those that are none."""


@dataclass(frozen=True, slots=True)
class _HotCall:
    path: str
    handler: HTTPRouteHandler
    answer: Callable[[HttpRequest], Awaitable[Response[bytes]]]
    error_handlers: ExceptionHandlersMap

    @classmethod
    def of(cls, path: str, handler: HTTPRouteHandler) -> "_HotCall":
        assert not handler.resolve_guards(), f"{path}: its guards would not be asked"
        assert set(handler.parsed_fn_signature.parameters) == {"request"}, f"{path} takes more than the request"
        return cls(path, handler, handler.fn, handler.resolve_exception_handlers())

    def render(self, request: HttpRequest, error: Exception) -> Response[Any]:
        kind = next(kind for kind in type(error).__mro__ if kind in self.error_handlers)
        return self.error_handlers[kind](request, error)


class HotCalls:
    """Stands in front of an application, and answers its hot calls."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._calls = {path: _HotCall.of(path, handler) for path, handler in _handlers_at(app, HOT_PATHS)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a hot call, pass any other on."""
        call = self._calls.get(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        if call is None or scope["method"] != _METHOD or not _has_plain_host(scope["headers"]):  # type: ignore[typeddict-item]  # HTTP has one
            await self._app(scope, receive, send)
            return
        scope["app"] = scope["litestar_app"] = self._app
        scope["route_handler"] = call.handler
        scope["path_template"] = call.path
        request = CountedRequest(scope, receive, send)
        try:
            response = await call.answer(request)
        except Exception as error:  # noqa: BLE001 - as Litestar does; the last of the handlers logs what nobody expected
            for note in self._app.after_exception:
                await note(error, scope)
            response = call.render(request, error)
        is_answer = type(response) is JsonAnswer
        if is_answer or (type(response) is Response and response.media_type == JSON):
            await send_whole(response, send)
        else:
            await response.to_asgi_response(app=None, request=request)(scope, receive, send)


def _handlers_at(app: Litestar, paths: Iterable[str]) -> Iterable[tuple[str, HTTPRouteHandler]]:
    routes = {route.path: route for route in app.routes if isinstance(route, HTTPRoute)}
    for path in paths:
        handler, _ = routes[path].route_handler_map[_METHOD]
        yield path, handler


def _has_plain_host(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"host":
            return _PLAIN_HOST.fullmatch(value) is not None
    return True
