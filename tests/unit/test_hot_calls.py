"""Hot calls are answered as Litestar answers them, without its way to their handlers."""

from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.types import ExceptionHandlersMap

from api.delivery import JSON
from api.hot_calls import HOT_PATHS, HotCalls
from api.requests import CountedRequest, HttpRequest
from domain.errors import GatewayError, RateLimited, Unavailable

PATH = HOT_PATHS[0]
Answer = Callable[[HttpRequest], Response[bytes]]


def whole(_request: HttpRequest) -> Response[bytes]:
    return Response(b'{"a":1}', media_type=JSON, headers={"X-Gateway-Model": "é", "x-gateway-cache": "HIT"})


def refused(_request: HttpRequest) -> Response[bytes]:
    raise RateLimited("too many", retry_after_s=2)


def without_a_class_of_its_own(_request: HttpRequest) -> Response[bytes]:
    raise Unavailable("away")


def too_large(_request: HttpRequest) -> Response[bytes]:
    raise HTTPException(detail="too large", status_code=413)


def crashed(_request: HttpRequest) -> Response[bytes]:
    raise ZeroDivisionError("no")


def told_of_its_handler(request: HttpRequest) -> Response[bytes]:
    limit = request.route_handler.resolve_request_max_body_size()
    return Response(f"{limit} {request.app.state.word}".encode(), media_type=JSON)


def with_a_cookie(_request: HttpRequest) -> Response[bytes]:
    class Own(Response[bytes]):
        pass

    return Own(b"{}", media_type=JSON, cookies={"a": "b"})


HANDLERS: ExceptionHandlersMap = {
    RateLimited: lambda _request, error: Response(
        b"limited", status_code=429, media_type=JSON, headers={"Retry-After": str(error)}
    ),
    GatewayError: lambda _request, error: Response(error.code, status_code=503, media_type="text/plain"),
    HTTPException: lambda _request, error: Response(b"http", status_code=error.status_code, media_type=JSON),
    Exception: lambda _request, _error: Response(b"crash", status_code=500, media_type=JSON),
}


def application(answer: Answer, *, noted: list[str] | None = None) -> Litestar:
    """An application that answers all hot calls in this way."""

    def handler(path: str) -> Any:
        @post(path, status_code=200)
        async def call(request: HttpRequest) -> Response[bytes]:
            return answer(request)

        return call

    @get("/elsewhere")
    async def elsewhere() -> str:
        return "elsewhere"

    async def note(error: Exception, _scope: Any) -> None:
        if noted is not None:
            noted.append(type(error).__name__)

    calls = Router("/", route_handlers=[handler(path) for path in HOT_PATHS], exception_handlers=HANDLERS)
    app = Litestar(
        [calls, elsewhere],
        after_exception=[note],
        request_class=CountedRequest,
        request_max_body_size=77,
        logging_config=None,
    )
    app.state.word = "state"
    return app


async def sent_by(app: Any, path: str = PATH, *, method: str = "POST", host: bytes = b"x") -> list[Any]:
    """Return the messages of an answer, without the order of headers."""
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        if "headers" in message:
            message = message | {"headers": sorted(message["headers"])}
        messages.append(message)

    scope: Any = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", host)],
    }
    await app(scope, receive, send)
    return messages


@pytest.mark.parametrize(
    "answer",
    [whole, refused, without_a_class_of_its_own, too_large, crashed, told_of_its_handler, with_a_cookie],
    ids=lambda answer: answer.__name__,
)
async def test_a_hot_call_is_answered_as_litestar_answers_it(answer: Answer) -> None:
    app = application(answer)
    assert await sent_by(HotCalls(app)) == await sent_by(app)


async def test_the_error_that_a_hot_call_ends_with_is_noted() -> None:
    noted: list[str] = []
    await sent_by(HotCalls(application(refused, noted=noted)))
    assert noted == ["RateLimited"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"path": "/elsewhere", "method": "GET"}, 200),
        ({"method": "GET"}, 405),
        ({"method": "OPTIONS"}, 204),
        ({"path": f"{PATH}/nothing"}, 404),
        ({"host": b"a b"}, 400),
        ({"host": b"[::1]:80"}, 200),
    ],
    ids=str,
)
async def test_every_other_call_is_litestars(asked: dict[str, Any], status: int) -> None:
    app = application(whole)
    messages = await sent_by(HotCalls(app), **asked)
    assert (messages[0]["status"], messages) == (status, await sent_by(app, **asked))


def test_a_call_with_guards_cannot_be_a_hot_one() -> None:
    def guard(_connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        return None

    app = application(whole)
    guarded = Litestar([Router("/", route_handlers=[_calls_of(app)], guards=[guard])], logging_config=None)
    with pytest.raises(AssertionError, match="guards"):
        HotCalls(guarded)


def _calls_of(app: Litestar) -> Router:
    calls = Router("/", route_handlers=[])
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if route.path in HOT_PATHS and "POST" in handler.http_methods:
                calls.register(post(route.path, status_code=200)(handler.fn))
    return calls
