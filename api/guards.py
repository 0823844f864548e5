"""Litestar's guards, which decide who may call a route, and the dependency that gives a handler its caller. The calls
that a provider answers check their key themselves (`caller_and_body`).

A body may take as long as its sender likes, and a key may be revoked meanwhile. So a guard checks the key before the
body is read and again when all of it has arrived, before Litestar decodes it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.authentication import Caller
from api.native.validation import decode_large
from api.operator import (
    Peer,
    authorize_new_project,
    presents_master_key,
    require_metrics_access,
    require_operator,
)
from api.requests import CountedRequest, HttpRequest, caller_of, count_bytes, services_of
from domain.errors import Forbidden, InvalidRequest, NotFound, Unauthorized
from domain.events import INSTALLATION

Connection = ASGIConnection[Any, Any, Any, Any]


async def requires_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require a key.

    Raises:
        Unauthorized, Unavailable: as `Authenticator.authenticate`.

    """
    await _check(connection, handler, caller_of)


async def requires_admin(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require a key of role admin.

    Raises:
        Forbidden: the key has another role.
        Unauthorized, Unavailable: as `Authenticator.authenticate`.

    """
    await _check(connection, handler, _admin)


async def requires_operator(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require the master key. Raises as `require_operator`."""
    await _check(connection, handler, _operator)


async def requires_admin_or_operator(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require the master key, or a key of role admin. Raises as `requires_admin`."""
    await _check(connection, handler, _operator_or(_admin))


async def requires_key_or_operator(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require the master key, or a key. Raises as `requires_key`."""
    await _check(connection, handler, _operator_or(caller_of))


async def may_create_project(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require the master key, or a request from this machine itself. Raises as `authorize_new_project`."""
    await _check(connection, handler, has_master_key)


async def requires_metrics_access(connection: Connection, _: BaseRouteHandler) -> None:
    """Require access to metrics and health details.

    Raises:
        NotFound: they are served elsewhere.
        Unauthorized, Forbidden: as `require_metrics_access`.

    """
    _check_metrics(connection)


def provide_caller(request: HttpRequest) -> Caller:
    """The caller, as the guard last saw it."""
    caller = request.user
    assert isinstance(caller, Caller), "the route has a guard that requires a key"
    return caller


async def has_master_key(request: HttpRequest) -> bool:
    """True if a request to create a project has the master key. Raises as `authorize_new_project`."""
    settings = services_of(request).settings
    is_operator = authorize_new_project(
        peer_of(request), master_key=settings.master_key, keyless=settings.keyless_projects
    )
    count_bytes(request, INSTALLATION)
    return is_operator


def may_read_metrics(request: HttpRequest) -> bool:
    """True if `requires_metrics_access` would pass."""
    try:
        _check_metrics(request)
    except (Unauthorized, Forbidden, NotFound):
        return False
    return True


async def _check(
    connection: Connection, handler: BaseRouteHandler, who: Callable[[HttpRequest], Awaitable[object]]
) -> None:
    assert isinstance(connection, CountedRequest), "the application's request class"
    user = await who(connection)
    if handler.parsed_data_field is not None:
        body = await connection.body()
        services_of(connection).authenticator.forget_key(connection.headers)  # else a key revoked a moment ago passes
        user = await who(connection)
        if not body:
            raise InvalidRequest("the body is empty: this call takes a JSON object")
        await decode_large(connection, handler, body)
    connection.scope["user"] = user


async def _admin(request: HttpRequest) -> Caller:
    caller = await caller_of(request)
    if caller.settings.role != "admin":
        raise Forbidden("this call needs a key with the role admin")
    return caller


async def _operator(request: HttpRequest) -> None:
    require_operator(request.headers, master_key=services_of(request).settings.master_key)
    count_bytes(request, INSTALLATION)


def _operator_or(
    who: Callable[[HttpRequest], Awaitable[Caller]],
) -> Callable[[HttpRequest], Awaitable[Caller | None]]:
    """None if a request has the master key, else its caller as `who` finds it."""

    async def find(request: HttpRequest) -> Caller | None:
        if presents_master_key(request.headers, master_key=services_of(request).settings.master_key):
            count_bytes(request, INSTALLATION)
            return None
        return await who(request)

    return find


def _check_metrics(connection: Connection) -> None:
    settings = services_of(connection).settings
    if settings.metrics_port is not None:
        raise NotFound("the metrics have an address of their own: GATEWAY_METRICS_PORT")
    require_metrics_access(peer_of(connection), token=settings.metrics_token)


def peer_of(connection: Connection) -> Peer:
    """A request's headers and the connection that it came over."""
    return Peer(
        headers=connection.headers,
        client_host=connection.client.host if connection.client else None,
        http_version=connection.scope["http_version"],
    )
