"""`/routes`: with a project's key those that the project may use, of which an admin changes the project's own; with the
master key the installation's.
"""

from datetime import datetime
from typing import Annotated, Literal

from litestar import delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from api.authentication import Caller
from api.guards import requires_admin_or_operator, requires_key_or_operator
from api.native.envelope import Success
from api.native.openapi import KEY_OR_MASTER_KEY
from api.requests import HttpRequest, id_in_path
from api.services import Services
from api.target_planner import is_allowed
from domain.errors import InvalidRequest, NotFound
from domain.events import INSTALLATION
from domain.names import Name
from domain.routes import (
    DEFAULT_ATTEMPTS,
    DEFAULT_CAUSES,
    Attempts,
    FailoverCause,
    RouteName,
    RouteSettings,
    RouteTarget,
    TimeoutS,
    Weight,
)
from projections.routes import RouteRecord


class TargetBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A target of a route."""

    model: Name
    """As in a request: `gpt-4o`, `mine/llama`. Not the name of a route."""
    weight: Weight = 1
    """The share of the requests that it is tried first for, within its group. 0: only after the others."""
    timeout_s: TimeoutS | None = None
    """For one attempt, in seconds. Null: what is left of the request's time, shared with the targets after it."""
    first_byte_timeout_s: TimeoutS | None = None
    """Until the first byte of an answer. Null: as long as the attempt may take."""
    idle_timeout_s: TimeoutS | None = None
    """Between two pieces of an answer. Null: as long as the attempt may take."""
    credential: Name | None = None
    """One of the provider's credentials. Null: spread over all of them by their weights."""


Group = Annotated[tuple[TargetBody | Name, ...], Meta(min_length=1)]
"""A name stands for a target with nothing else set."""
Groups = Annotated[tuple[Group, ...], Meta(min_length=1)]
Causes = tuple[FailoverCause, ...]


class NewRouteBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A route: a name that requests give as their model, and the models that answer."""

    name: RouteName
    """It may be that of a model: the route then stands for it, and `provider/model` names the model itself."""
    groups: Groups | None = None
    """Tried one after the other; within a group by weight. Either these or `targets`."""
    targets: Group | None = None
    """One group."""
    fail_over_on: Causes = DEFAULT_CAUSES
    """Why the next target is tried."""
    attempts: Attempts = DEFAULT_ATTEMPTS
    """At one target, before the next is tried."""


class RouteChangeBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change."""

    groups: Groups | UnsetType = UNSET
    targets: Group | UnsetType = UNSET
    fail_over_on: Causes | UnsetType = UNSET
    attempts: Attempts | UnsetType = UNSET


class TargetOut(Struct, kw_only=True, rename="camel"):
    """A target of a route."""

    model: str
    weight: int
    timeout_s: float | None
    first_byte_timeout_s: float | None
    idle_timeout_s: float | None
    credential: str | None


class RouteOut(Struct, kw_only=True, rename="camel"):
    """A route."""

    name: str
    scope: Literal["project", "installation"]
    """Whose it is. A project's goes before the installation's of the same name."""
    groups: list[list[TargetOut]]
    fail_over_on: Causes
    attempts: int
    set_at: datetime


class RemovedRouteOut(Struct, kw_only=True):
    """A removed route."""

    name: str


def owner_of(request: HttpRequest) -> str:
    """Whose routes a request is about: its project's, or the installation's if it has the master key."""
    return request.user.project_id if isinstance(request.user, Caller) else INSTALLATION


_OWNER = {"owner": Provide(owner_of, sync_to_thread=False)}


@post(
    "/routes",
    summary="Make a route",
    operation_id="ApiV1RoutesAdd",
    guards=[requires_admin_or_operator],
    dependencies=_OWNER,
    security=KEY_OR_MASTER_KEY,
)
async def add_route(
    data: RequestBody[NewRouteBody], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[RouteOut]:
    """Make a route; requests can ask for it as soon as this call has returned."""
    record = await services.route_admin.set_route(
        owner, data.name, settings_of(data), is_new=True, is_flat=data.groups is None
    )
    return Success(data=route_out(record))


@get(
    "/routes",
    summary="The routes that the key may use",
    operation_id="ApiV1RoutesEvery",
    guards=[requires_key_or_operator],
    dependencies=_OWNER,
    security=KEY_OR_MASTER_KEY,
)
async def list_routes(
    request: HttpRequest, owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[list[RouteOut]]:
    """List the routes, by name: the project's own, and the installation's of other names. A member key that is limited
    to certain models sees those that it may ask for.
    """
    usable = await services.route_admin.list_usable(owner)
    return Success(data=[route_out(record) for record in usable if is_shown(_caller_of(request), record)])


@get(
    "/routes/{name:str}",
    summary="One route",
    operation_id="ApiV1RoutesNameOne",
    guards=[requires_key_or_operator],
    dependencies=_OWNER,
    security=KEY_OR_MASTER_KEY,
)
async def get_route(
    name: FromPath[str], request: HttpRequest, owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[RouteOut]:
    """Show a route that the key may use."""
    for record in await services.route_admin.list_usable(owner):
        if record.name == name and is_shown(_caller_of(request), record):
            return Success(data=route_out(record))
    raise NotFound(f"there is no route {name!r} here")


@patch(
    "/routes/{name:str}",
    summary="Change a route",
    operation_id="ApiV1RoutesNameChange",
    guards=[requires_admin_or_operator],
    dependencies=_OWNER,
    security=KEY_OR_MASTER_KEY,
)
async def change_route(
    name: FromPath[str],
    data: RequestBody[RouteChangeBody],
    owner: NamedDependency[str],
    services: NamedDependency[Services],
) -> Success[RouteOut]:
    """Change its targets, why it moves on, or its attempts, from the next request on."""
    settings = (await services.route_admin.get(owner, id_in_path(name))).settings
    if data.groups is not UNSET or data.targets is not UNSET:
        settings = replace(settings, groups=_groups(data.groups or None, data.targets or None))
    if data.fail_over_on is not UNSET:
        settings = replace(settings, fail_over_on=_once(data.fail_over_on))
    if data.attempts is not UNSET:
        settings = replace(settings, attempts=data.attempts)
    is_flat = data.targets is not UNSET
    return Success(data=route_out(await services.route_admin.set_route(owner, name, settings, is_flat=is_flat)))


@delete(
    "/routes/{name:str}",
    summary="Remove a route",
    operation_id="ApiV1RoutesNameRemove",
    status_code=200,
    guards=[requires_admin_or_operator],
    dependencies=_OWNER,
    security=KEY_OR_MASTER_KEY,
)
async def remove_route(
    name: FromPath[str], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[RemovedRouteOut]:
    """Remove a route. If its name is a model's, or the installation has a route of it, requests for it go there."""
    await services.route_admin.remove(owner, id_in_path(name))
    return Success(data=RemovedRouteOut(name=name))


HANDLERS = (add_route, list_routes, get_route, change_route, remove_route)


def _caller_of(request: HttpRequest) -> Caller | None:
    """The project's key; None: the master key."""
    return request.user if isinstance(request.user, Caller) else None


def is_shown(caller: Caller | None, record: RouteRecord) -> bool:
    """True for every route, but to a member key that may use neither the route nor one of its targets. `caller` None:
    the operator.
    """
    if caller is None or caller.settings.role == "admin":
        return True
    names = (record.name, *(target.model for group in record.settings.groups for target in group))
    return any(is_allowed(caller, name) for name in names)


def settings_of(route: NewRouteBody) -> RouteSettings:
    """What a new route does.

    Raises:
        InvalidRequest: it has `groups` and `targets`, or neither.

    """
    return RouteSettings(
        groups=_groups(route.groups, route.targets), fail_over_on=_once(route.fail_over_on), attempts=route.attempts
    )


def _groups(groups: Groups | None, targets: Group | None) -> tuple[tuple[RouteTarget, ...], ...]:
    """The groups of a body.

    Raises:
        InvalidRequest: it has both forms, or neither.

    """
    if (groups is None) == (targets is None):
        raise InvalidRequest("a route takes either `groups` or `targets`, which is one group", field="groups")
    given = groups if groups is not None else (targets or (),)
    return tuple(tuple(_target(target) for target in group) for group in given)


def _target(target: TargetBody | str) -> RouteTarget:
    if isinstance(target, str):
        return RouteTarget(model=target)
    return RouteTarget(**{name: getattr(target, name) for name in RouteTarget.__struct_fields__})


def _once(causes: Causes) -> Causes:
    return tuple(dict.fromkeys(causes))


def route_out(record: RouteRecord) -> RouteOut:
    """A route as it is shown."""
    settings = record.settings
    return RouteOut(
        name=record.name,
        scope="installation" if record.project_id == INSTALLATION else "project",
        groups=[[target_out(target) for target in group] for group in settings.groups],
        fail_over_on=settings.fail_over_on,
        attempts=settings.attempts,
        set_at=record.set_at,
    )


def target_out(target: RouteTarget) -> TargetOut:
    """A target as it is shown."""
    return TargetOut(**{name: getattr(target, name) for name in TargetOut.__struct_fields__})
