"""What every route does with a request: who is calling, what is in its body and query, typed or clearly refused.

Bodies are decoded by msgspec straight from the bytes, strictly: `"3"` is no number.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException

from api.authentication import Caller
from api.operator import Peer, authorize_new_project, require_metrics_access, require_operator
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from api.services import Services
from domain.decoding import decoded, invalid
from domain.errors import Forbidden, InvalidRequest, NotFound, Unauthorized
from domain.events import INSTALLATION
from infra.byte_budget import BytesInHand

HttpRequest = Request[Any, Any, Any]
Shape = TypeVar("Shape")
Who = TypeVar("Who")

_NUL = "\x00"
"""No text of PostgreSQL's has it."""


def services_of(request: HttpRequest) -> Services:
    """The process's parts."""
    services = request.app.state.services
    assert isinstance(services, Services), "put there by the composition root"
    return services


def request_id_of(scope: Any) -> str:
    """The request's id, made when it came in."""
    return str(scope[REQUEST_ID_SCOPE])


async def caller_of(request: HttpRequest) -> Caller:
    """Who is calling: what the request has in hand counts for its project. Raises as `Authenticator.authenticate`."""
    caller = await services_of(request).authenticator.authenticate(request.headers)
    _count_bytes(request, caller.project_id)
    return caller


async def admin_of(request: HttpRequest) -> Caller:
    """Who is calling, with a key of role admin.

    Raises:
        Forbidden: the key has another role.
        Unauthorized, Unavailable: as `Authenticator.authenticate`.

    """
    caller = await caller_of(request)
    caller.require_admin()
    return caller


def http_message(request: HttpRequest, error: HTTPException) -> str:
    """What is said of a refusal of the framework's own."""
    match error.status_code:
        case 404:
            return (
                f"there is no {request.method} {request.url.path} here: the base URL for OpenAI's clients ends in /v1, "
                "for Anthropic's in the port, and /schema describes the native API"
            )
        case 413:
            return f"the body may have {services_of(request).settings.max_body_bytes} bytes (GATEWAY_MAX_BODY_BYTES)"
        case _:
            return error.detail


async def check_operator(request: HttpRequest) -> None:
    """Require the master key. Raises as `require_operator`."""
    require_operator(request.headers, master_key=services_of(request).settings.master_key)
    _count_bytes(request, INSTALLATION)


async def check_new_project(request: HttpRequest) -> bool:
    """Require access to the creation of projects; True: the request has the master key. Raises as
    `authorize_new_project`.
    """
    settings = services_of(request).settings
    is_operator = authorize_new_project(
        _peer(request), master_key=settings.master_key, keyless=settings.keyless_projects
    )
    _count_bytes(request, INSTALLATION)
    return is_operator


def check_metrics(request: HttpRequest) -> None:
    """Require access to metrics and health details. Raises as `require_metrics_access`."""
    require_metrics_access(_peer(request), token=services_of(request).settings.metrics_token)


def may_read_metrics(request: HttpRequest) -> bool:
    """Whether `check_metrics` passes."""
    try:
        check_metrics(request)
    except (Unauthorized, Forbidden):
        return False
    return True


def _count_bytes(request: HttpRequest, project_id: str) -> None:
    """Open the account of what the request has in hand, once."""
    if BYTES_SCOPE not in request.scope:
        budget = services_of(request).byte_budget
        request.scope[BYTES_SCOPE] = BytesInHand(budget, project_id)  # type: ignore[literal-required]  # ours, as the id


def bytes_in_hand(request: HttpRequest) -> BytesInHand:
    """The account of what a request has in hand; there is none before its key, or its operator, has been checked."""
    in_hand = request.scope[BYTES_SCOPE]  # type: ignore[literal-required]
    assert isinstance(in_hand, BytesInHand), "put there above"
    return in_hand


async def read_body(request: HttpRequest) -> bytes:
    """The body, counted against the process's budget: before it is read if its length is announced, else as it comes.

    Raises:
        Overloaded: the process, or the caller's project, has too many bytes in hand. The rest is not read.
        HTTPException: 413, the body is above the limit.

    """
    in_hand, announced = bytes_in_hand(request), request.content_length
    if announced is None:
        pieces = []
        async for piece in request.stream():
            in_hand.take(len(piece))
            pieces.append(piece)
        return b"".join(pieces)
    if announced <= services_of(request).settings.max_body_bytes:
        in_hand.take(announced)
    return await request.body()


async def caller_and_body(request: HttpRequest) -> tuple[Caller, bytes]:
    """Who is calling, and the body. The key is looked at before the body is read, and again when all of it is there.

    Raises:
        Unauthorized, Unavailable: as `Authenticator.authenticate`.
        RateLimited: the key is known to be over its rate limit; the body was not read.
        Overloaded: as `read_body`.

    """
    services = services_of(request)
    caller = await caller_of(request)
    services.rate_refusals.check(caller)
    body = await read_body(request)
    return await services.authenticator.check_again(caller), body


async def body_for(
    request: HttpRequest, decoder: "msgspec.json.Decoder[Shape]", who: Callable[[HttpRequest], Awaitable[Who]]
) -> tuple[Who, Shape]:
    """Who is calling, and the body as the decoder's type. `who` (`admin_of`, …) decides before the body is read, and
    again when all of it is there: a body may take as long as its sender likes, and a key may be revoked meanwhile.

    Raises:
        InvalidRequest: names the field and what is wrong with it.
        GatewayError: as `who`.
        Overloaded: as `read_body`.

    """
    await who(request)
    body = await read_body(request)
    services_of(request).authenticator.forget_key(request.headers)  # else a key revoked a moment ago passes
    return await who(request), decoded(body, decoder)


def query_of(request: HttpRequest, shape: type[Shape]) -> Shape:
    """The query's parameters as a struct; each may come once.

    Raises:
        InvalidRequest: names the parameter and what is wrong with it.

    """
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise InvalidRequest(f"`{name}` may be given once", field=name)
        if _NUL in value:
            raise InvalidRequest(f"`{name}` may not contain the character U+0000", field=name)
        values[name] = value
    return convert(values, shape)


def convert(values: Mapping[str, Any], shape: type[Shape]) -> Shape:
    """Texts as typed values.

    Raises:
        InvalidRequest: names the value and what is wrong with it.

    """
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None


def id_in_path(text: str) -> str:
    """An id as a path has it.

    Raises:
        NotFound: nothing can have it.

    """
    if _NUL in text:
        raise NotFound("there is no such thing here")
    return text


def in_utc(moment: datetime, field: str) -> datetime:
    """A moment with a time zone, in UTC.

    Raises:
        InvalidRequest: there it lies before the year 1 or after the year 9999.

    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(f"`{field}` must lie in the years 1 to 9999 of UTC", field=field) from None


def _peer(request: HttpRequest) -> Peer:
    return Peer(
        headers=request.headers,
        client_host=request.client.host if request.client else None,
        http_version=request.scope["http_version"],
    )
