"""Routes: what requests may name beside models, with a dry run of each; making, changing and removing them.

A member sees the routes that its key may ask for, an admin its project's and the installation's.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import quote

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import Struct

from api.authentication import Caller
from api.dashboard.chosen_keys import caller_with, keys_to_choose, likely_key
from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of, form_values, is_outdated, mark_of
from api.dashboard.navigation import ADMINS, EVERYBODY, NavigationEntry
from api.dashboard.owners import OwnerPage, owner_choices, requested_owner, visible_owner
from api.dashboard.rendering import page, see
from api.dashboard.route_forms import MORE_FIELD, NEW_ROUTE, in_rows, route_of, rows_of, values_of
from api.dashboard.viewer import Viewer
from api.native.routes import is_shown
from api.requests import HttpRequest, id_in_path
from api.route_plan import LeftOut, PlannedCall, plan_route
from api.services import Services
from domain.errors import InvalidRequest, NotFound
from domain.events import INSTALLATION
from domain.routes import MAX_ATTEMPTS_PER_TARGET, MAX_GROUPS, MAX_TARGETS, RouteTarget
from projections.key_lists import ListedKey
from projections.providers import providers_of
from projections.routes import RouteRecord

NAVIGATION = NavigationEntry(path="/routes", label="Routes")
PATH = f"{NAVIGATION.path}/{{owner:str}}/{{name:str}}"
MAX_MODELS_SHOWN = 1_000
CAUSE_WORDS = {
    "connection": "it cannot be reached",
    "timeout": "it takes too long",
    "rate_limit": "its rate limit is used up",
    "server_error": "it fails (HTTP 5xx)",
    "credentials": "it refuses the key",
    "context_length": "the prompt is too long for it",
    "content_filter": "its filter refuses the content",
}
"""Why the next target is tried, as a page says it."""
TURN_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
assert len(TURN_WORDS) == MAX_GROUPS
_Placed: TypeAlias = tuple[RouteRecord, int, RouteTarget]
"""A target with its route, and its group: from 1."""
_Outcome: TypeAlias = tuple[int | None, PlannedCall | LeftOut]
"""A line of a plan, with its turn; None: it is left out."""
_SAVED = CsvTable[_Placed](
    "routes.csv",
    {
        "route": lambda one: one[0].name,
        "of": lambda one: _scope_of(one[0]),
        "tried": lambda one: one[1],
        "model": lambda one: one[2].model,
        "weight": lambda one: one[2].weight,
        "timeout s": lambda one: one[2].timeout_s,
        "first byte timeout s": lambda one: one[2].first_byte_timeout_s,
        "idle timeout s": lambda one: one[2].idle_timeout_s,
        "credential": lambda one: one[2].credential,
        "next target if": lambda one: "; ".join(CAUSE_WORDS[cause] for cause in one[0].settings.fail_over_on),
        "attempts": lambda one: one[0].settings.attempts,
        "set": lambda one: one[0].set_at,
    },
)
_SAVED_PLAN = CsvTable[_Outcome](
    "plan.csv",
    {
        "turn": lambda one: one[0],
        "target": lambda one: _model_of(one[1]),
        "provider": lambda one: one[1].planned.target.provider if isinstance(one[1], PlannedCall) else None,
        "model there": lambda one: one[1].planned.target.upstream_model if isinstance(one[1], PlannedCall) else None,
        "weight": lambda one: one[1].planned.asked.weight if isinstance(one[1], PlannedCall) else None,
        "share of its weight now": lambda one: one[1].share if isinstance(one[1], PlannedCall) else None,
        "left out because": lambda one: one[1].message if isinstance(one[1], LeftOut) else None,
    },
)


class NewRoutePage(OwnerPage, frozen=True, kw_only=True):
    """The owner of the new route, and the name that its form begins with."""

    name: str | None = None


class RoutePage(Struct, frozen=True, kw_only=True):
    """The key whose request is planned: the operator's filter."""

    key: str | None = None


@get(NAVIGATION.path)
async def show_routes(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List the routes that an owner's requests may name."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner, EVERYBODY)
    return page(
        request,
        "routes.html",
        title="Routes",
        owner=owner,
        owners=await owner_choices(services, viewer, owner),
        routes=await _listed(services, viewer, owner),
        address_of=address_of,
        causes=CAUSE_WORDS,
        installation=INSTALLATION,
        may_change=_may_change(viewer),
        removed="removed" in request.query_params,
    )


@get(f"{NAVIGATION.path}.csv")
async def save_routes(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV: a line for each target."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner, EVERYBODY)
    return _SAVED.download(
        (route, turn, target)
        for route in await _listed(services, viewer, owner)
        for turn, group in enumerate(route.settings.groups, start=1)
        for target in group
    )


@get(f"{NAVIGATION.path}/new")
async def show_new_route(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """The form for a new route."""
    viewer.require_change()
    asked = filters_of(request, NewRoutePage)
    owner = await requested_owner(services, viewer, asked.owner)
    return await _new(request, services, viewer, owner, {**NEW_ROUTE, "name": asked.name or ""}, None)


@post(NAVIGATION.path)
async def add_route(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template | Redirect:
    """Make a route; requests can name it from then on."""
    values = await form_values(request)
    owner = await requested_owner(services, viewer, values.get("owner"))
    if MORE_FIELD in values:
        return await _new(request, services, viewer, owner, values, None)
    name = values.get("name", "").strip()
    try:
        await _set(services, owner, name, values, is_new=True)
    except InvalidRequest as error:
        return await _new(request, services, viewer, owner, values, error)
    return see(address_of(owner, name), {"saved": "yes"})


@get(PATH)
async def show_route(
    request: HttpRequest,
    owner: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a route, and what a request for it would do now."""
    route = await _usable(services, viewer, owner, name)
    return await _one(request, services, viewer, owner, route, values_of(route.settings))


@get(f"{PATH}/plan.csv")
async def save_plan(
    request: HttpRequest,
    owner: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Response[bytes]:
    """Return the plan of a request for a route at this moment, as CSV."""
    route = await _usable(services, viewer, owner, name)
    _, caller = await _planned_for(services, viewer, owner, filters_of(request, RoutePage).key)
    if caller is None:
        raise NotFound("there is no key whose request could be planned")
    return _SAVED_PLAN.download(await _outcomes(services, caller, route))


@post(PATH)
async def change_route(
    request: HttpRequest,
    owner: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Change a route, from the next request on."""
    owner = await visible_owner(services, viewer, owner)
    route = await services.route_admin.get(owner, id_in_path(name))
    values, now = await form_values(request), values_of(route.settings)
    if is_outdated(values, now):
        return await _one(request, services, viewer, owner, route, now, was_changed=True)
    if MORE_FIELD in values:
        return await _one(request, services, viewer, owner, route, values)
    try:
        await _set(services, owner, name, values, now)
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, route, values, error=error)
    return see(address_of(owner, name), {"saved": "yes"})


@post(f"{PATH}/remove")
async def remove_route(
    request: HttpRequest,
    owner: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Remove a route. If its name is a model's, requests for it go there."""
    owner = await visible_owner(services, viewer, owner)
    route = await services.route_admin.get(owner, id_in_path(name))
    now = values_of(route.settings)
    if is_outdated(await form_values(request), now):
        return await _one(request, services, viewer, owner, route, now, was_changed=True)
    await services.route_admin.remove(owner, name)
    return see(NAVIGATION.path, {"owner": owner, "removed": "yes"})


HANDLERS = (show_routes, save_routes, show_new_route, add_route, show_route, save_plan, change_route, remove_route)


def address_of(owner: str, name: str) -> str:
    """The address of a route's page."""
    return f"{NAVIGATION.path}/{quote(owner, safe='')}/{quote(name, safe='')}"


def _may_change(viewer: Viewer) -> bool:
    return viewer.may_change and viewer.role in ADMINS


def _scope_of(route: RouteRecord) -> str:
    return "installation" if route.project_id == INSTALLATION else "project"


async def _listed(services: Services, viewer: Viewer, owner: str) -> list[RouteRecord]:
    usable = await services.route_admin.list_usable(owner)
    return [route for route in usable if is_shown(viewer.caller, route)]


async def _usable(services: Services, viewer: Viewer, owner: str, name: str) -> RouteRecord:
    """A route that an owner's requests may name: its own, or the installation's.

    Raises:
        NotFound: there is none of the name, or the viewer may not see it.

    """
    owner = await visible_owner(services, viewer, owner, EVERYBODY)
    for route in await _listed(services, viewer, owner):
        if route.name == name:
            return route
    raise NotFound(f"there is no route {name!r} here")


async def _set(
    services: Services,
    owner: str,
    name: str,
    values: Mapping[str, str],
    shown: Mapping[str, str] = {},
    *,
    is_new: bool = False,
) -> None:
    """Set a route as its form says, which has shown it so.

    Raises:
        InvalidRequest: names the field of the form.

    """
    form = route_of(values, name, shown)
    try:
        await services.route_admin.set_route(owner, name, form.settings, is_new=is_new)
    except InvalidRequest as error:
        raise in_rows(error, form) from None


async def _planned_for(
    services: Services, viewer: Viewer, owner: str, wanted: str | None
) -> tuple[Sequence[ListedKey], Caller | None]:
    """The keys that the operator may plan a request of, and the chosen one; anybody else has the key of its session."""
    if viewer.caller is not None:
        return (), viewer.caller
    choices = await keys_to_choose(services, viewer, wanted, None if owner == INSTALLATION else owner)
    if not choices:
        return (), None
    chosen = next((key for key in choices if key.key_id == wanted), None) or likely_key(choices)
    return choices, await caller_with(services, chosen.key_id)


async def _outcomes(services: Services, caller: Caller, route: RouteRecord) -> list[_Outcome]:
    """The targets of a request that came now, in their order, and then those that it would do without."""
    plan = await plan_route(services, caller, route.name, route.settings, None)
    return [*enumerate(plan.calls, start=1), *((None, one) for one in plan.left_out)]


def _model_of(one: PlannedCall | LeftOut) -> str:
    return one.planned.asked.model if isinstance(one, PlannedCall) else one.model


async def _new(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    owner: str,
    values: Mapping[str, str],
    error: InvalidRequest | None,
) -> Template:
    return page(
        request,
        "route_new.html",
        title="New route",
        status=200 if error is None else 400,
        owner=owner,
        owners=await owner_choices(services, viewer, owner),
        error=error,
        **await _form(services, owner, values),
    )


async def _form(services: Services, owner: str, values: Mapping[str, str]) -> dict[str, Any]:
    """The context of the fields of a route."""
    owners = dict.fromkeys((owner, INSTALLATION))
    named = [record.provider for one in owners for record in await providers_of(services.pool, one)]
    listed, rows = services.prices.listed(datetime.now(UTC), named), rows_of(values)
    return {
        "values": values,
        "rows": rows,
        "models": sorted(one.name for one in listed if one.traits.serves in ("chat", "embeddings"))[:MAX_MODELS_SHOWN],
        "causes": CAUSE_WORDS,
        "turns": [(str(turn), words) for turn, words in enumerate(TURN_WORDS, start=1)],
        "max_attempts": MAX_ATTEMPTS_PER_TARGET,
        "may_have_more": len(rows) < MAX_TARGETS,
    }


async def _one(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    owner: str,
    route: RouteRecord,
    values: Mapping[str, str],
    *,
    error: InvalidRequest | None = None,
    was_changed: bool = False,
) -> Template:
    """The page of a route. `was_changed`: by another form, so that this one's is not saved."""
    wanted = filters_of(request, RoutePage).key
    keys, caller = await _planned_for(services, viewer, owner, wanted)
    is_own = route.project_id == owner
    return page(
        request,
        "route.html",
        title=route.name,
        status=409 if was_changed else 200 if error is None else 400,
        was_changed=was_changed,
        seen=mark_of(values_of(route.settings)),
        owner=owner,
        installation=INSTALLATION,
        route=route,
        keys=keys,
        asking=caller,
        is_hidden=owner == INSTALLATION and caller is not None and caller.route(route.name) != route.settings,
        is_drawn=any(len(group) > 1 for group in route.settings.groups),
        outcomes=await _outcomes(services, caller, route) if caller is not None else (),
        address=address_of(owner, route.name),
        of_installation=address_of(INSTALLATION, route.name),
        may_change=_may_change(viewer),
        is_own=is_own,
        saved="saved" in request.query_params,
        error=error,
        **(await _form(services, owner, values) if is_own and _may_change(viewer) else {"causes": CAUSE_WORDS}),
    )
