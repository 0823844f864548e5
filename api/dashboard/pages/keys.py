"""API keys: listing, issuing, changing and revoking them, with what each may spend and has spent."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import Meta, Struct

from api.dashboard.amounts import dollars
from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import filters_of, form_of, form_values, is_outdated, mark_of
from api.dashboard.key_forms import KEY_FIELDS, NEW_KEY_FIELDS, change_of, values_of
from api.dashboard.navigation import ADMINS, NavigationEntry
from api.dashboard.project_choices import projects_to_choose
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.native.keys import KeyChangeBody, NewKeyBody, changed_key_settings, new_key_settings
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.budget import Period, day_of
from domain.errors import Forbidden, InvalidRequest, NotFound
from domain.events import KeySettings
from projections import keys
from projections.budgets import Balance, balances_of
from projections.key_lists import MAX_LISTED, KeyFilter, KeyState, ListedKey, listed_keys
from projections.keys import KeyRecord, ProjectRecord

NAVIGATION = NavigationEntry(path="/keys", label="Keys")
KEYS_OF_PAGE = 50
_SavedKey: TypeAlias = tuple[ListedKey, Mapping[Period, Balance]]
_SAVED = CsvTable[_SavedKey](
    "keys.csv",
    {
        "key": lambda one: one[0].key_id,
        "name": lambda one: one[0].settings.name,
        "project": lambda one: one[0].project_id,
        "role": lambda one: one[0].settings.role,
        "ends in": lambda one: one[0].hint,
        "daily budget USD": lambda one: dollars(one[0].settings.daily_budget_nano_usd),
        "monthly budget USD": lambda one: dollars(one[0].settings.monthly_budget_nano_usd),
        "spent today USD": lambda one: dollars(one[1]["day"].spent_nano_usd),
        "spent this month USD": lambda one: dollars(one[1]["month"].spent_nano_usd),
        "created": lambda one: one[0].created_at,
        "last used": lambda one: one[0].last_used_at,
        "revoked": lambda one: one[0].revoked_at,
    },
)


class KeysPage(Struct, frozen=True, kw_only=True):
    """The filters of the list."""

    project: str | None = None
    search: Annotated[str, Meta(max_length=200)] | None = None
    state: KeyState = "working"
    before: str | None = None


class NewKeyPage(Struct, frozen=True, kw_only=True):
    """The project of a new key."""

    project: str | None = None


@get(NAVIGATION.path)
async def show_keys(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List the keys that the viewer may see."""
    asked = filters_of(request, KeysPage)
    found = await _listed(services, viewer, asked, limit=KEYS_OF_PAGE + 1)
    shown = found[:KEYS_OF_PAGE]
    balances = await balances_of(services.pool, "key", [one.key_id for one in shown], day_of(datetime.now(UTC)))
    return page(
        request,
        "keys.html",
        title="Keys",
        keys=shown,
        balances=balances,
        asked=asked,
        older=shown[-1].key_id if len(found) > len(shown) else None,
        projects=await _choices(services, viewer, asked.project),
        may_issue=viewer.may_change and viewer.role in ADMINS,
    )


@get(f"{NAVIGATION.path}.csv")
async def save_keys(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV, at most `MAX_LISTED` keys."""
    found = await _listed(services, viewer, filters_of(request, KeysPage), limit=MAX_LISTED)
    balances = await balances_of(services.pool, "key", [one.key_id for one in found], day_of(datetime.now(UTC)))
    return _SAVED.download((one, balances[one.key_id]) for one in found)


@get(f"{NAVIGATION.path}/new")
async def show_new_key(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """The form for a new key."""
    viewer.require_change()
    viewer.require_role(*ADMINS)
    asked = filters_of(request, NewKeyPage)
    values = values_of(new_key_settings(NewKeyBody(name="new"))) | {"name": "", "project": asked.project or ""}
    return await _form(request, services, viewer, values, None)


@post(NAVIGATION.path)
async def issue_key(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Issue a key, and show it, this once."""
    viewer.require_role(*ADMINS)
    values = await form_values(request)
    try:
        project = await services.accounts.project(_project_of_form(viewer, values))
        body = await form_of(request, NewKeyBody, NEW_KEY_FIELDS)
        settings = new_key_settings(body)
    except InvalidRequest as error:
        return await _form(request, services, viewer, values, error)
    key = await services.accounts.issue_key(project.project_id, settings)
    return page(
        request,
        "secret.html",
        title="The new key",
        secret=key.text,
        what=f"The key {settings.name} of the project {project.name} works from now on.",
        onward=(f"{NAVIGATION.path}/{key.key_id}", "Its settings"),
    )


@get(f"{NAVIGATION.path}/{{key_id:str}}")
async def show_key(
    request: HttpRequest,
    key_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a key: its settings, and what of its budgets is left."""
    record = await _record(services, viewer, key_id)
    return await _key_page(request, services, viewer, record, values_of(record.settings), None)


@post(f"{NAVIGATION.path}/{{key_id:str}}")
async def change_key(
    request: HttpRequest,
    key_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Change a key, from its next request on."""
    record = await _changeable(services, viewer, key_id)
    if is_outdated(await form_values(request), values_of(record.settings)):
        return await _key_page(request, services, viewer, record, values_of(record.settings), None, was_changed=True)
    try:
        body = await form_of(request, KeyChangeBody, KEY_FIELDS)
        settings = changed_key_settings(record, change_of(body, record.settings))
    except InvalidRequest as error:
        return await _key_page(request, services, viewer, record, await form_values(request), error)
    await services.accounts.change_key(record, settings)
    return see(f"{NAVIGATION.path}/{record.key_id}?saved=yes")


@post(f"{NAVIGATION.path}/{{key_id:str}}/revoke")
async def revoke_key(
    key_id: FromPath[str], viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Redirect:
    """Revoke a key, for good."""
    record = await _changeable(services, viewer, key_id)
    await services.accounts.revoke_key(record)
    return see(f"{NAVIGATION.path}/{record.key_id}")


HANDLERS = (show_keys, save_keys, show_new_key, issue_key, show_key, change_key, revoke_key)


async def _listed(services: Services, viewer: Viewer, asked: KeysPage, *, limit: int) -> list[ListedKey]:
    wanted = KeyFilter(search=asked.search, state=asked.state, before=asked.before)
    return await listed_keys(services.pool, viewer.scope(project_id=asked.project), wanted, limit=limit)


async def _record(services: Services, viewer: Viewer, key_id: str) -> KeyRecord:
    """A key, if the viewer may see it.

    Raises:
        NotFound: there is none, or it is another's.

    """
    scope = viewer.scope(key_id=id_in_path(key_id))
    record = await keys.key_with_id(services.pool, key_id) if scope.key_id == key_id else None
    if record is None or scope.project_id not in (None, record.project_id):
        raise NotFound("there is no such key")
    return record


async def _changeable(services: Services, viewer: Viewer, key_id: str) -> KeyRecord:
    """A key that the viewer may change. Raises as `_record`, and Forbidden."""
    viewer.require_role(*ADMINS)
    record = await _record(services, viewer, key_id)
    if record.revoked_at is not None:
        raise Forbidden("this key is revoked: nothing changes it")
    return record


async def _choices(services: Services, viewer: Viewer, chosen: str | None = None) -> list[ProjectRecord]:
    """The projects that the operator chooses from, newest first; nobody else has a choice."""
    if viewer.role != "operator":
        return []
    return await projects_to_choose(services, chosen)


def _project_of_form(viewer: Viewer, values: dict[str, str]) -> str:
    project_id = viewer.scope(project_id=values.get("project", "")).project_id
    if not project_id:
        raise InvalidRequest("`project`: choose one", field="project")
    return id_in_path(project_id)


async def _form(
    request: HttpRequest, services: Services, viewer: Viewer, values: dict[str, str], error: InvalidRequest | None
) -> Template:
    return page(
        request,
        "key_new.html",
        title="New key",
        status=200 if error is None else 400,
        projects=await _choices(services, viewer, values.get("project")),
        values={**values_of(KeySettings(name="")), **values},
        error=error,
    )


async def _key_page(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    record: KeyRecord,
    values: dict[str, str],
    error: InvalidRequest | None,
    *,
    was_changed: bool = False,
) -> Template:
    scope = viewer.scope(project_id=record.project_id, key_id=record.key_id)
    (listed,) = await listed_keys(services.pool, scope, KeyFilter(state="all"), limit=1)
    balances = await balances_of(services.pool, "key", [record.key_id], day_of(datetime.now(UTC)))
    return page(
        request,
        "key.html",
        title=record.settings.name,
        status=409 if was_changed else 200 if error is None else 400,
        was_changed=was_changed,
        seen=mark_of(values_of(record.settings)),
        key=listed,
        balances=balances[record.key_id],
        values={**values_of(record.settings), **values},
        error=error,
        saved="saved" in request.query_params,
        may_change=viewer.may_change and viewer.role in ADMINS and record.revoked_at is None,
    )
