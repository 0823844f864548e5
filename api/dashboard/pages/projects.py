"""Projects: all of them for the operator, its own for an admin; creating and changing one."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import UNSET, Meta, Struct, UnsetType

from api.dashboard.amounts import dollars
from api.dashboard.csv_files import MAX_ROWS_AT_ONCE, CsvTable
from api.dashboard.figures import plain_dollars
from api.dashboard.forms import FieldKinds, filters_of, form_of, form_values, is_outdated, mark_of
from api.dashboard.navigation import ADMINS, NavigationEntry
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.native.projects import (
    NewProjectBody,
    OperatorsProjectChangeBody,
    ProviderKey,
    changed_project,
    new_project,
    new_webhook_secret,
)
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.budget import Period, day_of
from domain.errors import InvalidRequest, NotFound
from projections import keys
from projections.budgets import Balance, balances_of
from projections.keys import ProjectRecord

NAVIGATION = NavigationEntry(path="/projects", label="Projects", roles=ADMINS)
PROJECTS_OF_PAGE = 50
MAX_SAVED = MAX_ROWS_AT_ONCE
_FIELDS = FieldKinds(nullable=("dailyBudget", "monthlyBudget", "alertUrl", "installationDailyBudget"))
_Listed: TypeAlias = tuple[ProjectRecord, dict[Period, Balance]]
_SAVED = CsvTable[_Listed](
    "projects.csv",
    {
        "project": lambda one: one[0].project_id,
        "name": lambda one: one[0].name,
        "created": lambda one: one[0].created_at,
        "daily budget USD": lambda one: dollars(one[0].daily_budget_nano_usd),
        "monthly budget USD": lambda one: dollars(one[0].monthly_budget_nano_usd),
        "spent this month USD": lambda one: dollars(one[1]["month"].spent_nano_usd),
    },
)


class ProjectForm(OperatorsProjectChangeBody, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A project's settings as its form sends them: an empty provider key stays, and is removed by its box."""

    openai_key: ProviderKey | UnsetType = UNSET
    anthropic_key: ProviderKey | UnsetType = UNSET
    remove_openai_key: bool = False
    remove_anthropic_key: bool = False


class ProjectsPage(Struct, frozen=True, kw_only=True):
    """The filters of the list."""

    search: Annotated[str, Meta(max_length=200)] | None = None
    before: str | None = None


@get(NAVIGATION.path)
async def show_projects(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template | Redirect:
    """List all projects, or lead an admin to its own."""
    viewer.require_role(*ADMINS)
    if viewer.project_id is not None:
        return see(f"{NAVIGATION.path}/{viewer.project_id}")
    return await _list_page(request, services, filters_of(request, ProjectsPage), {}, None)


@get(f"{NAVIGATION.path}.csv")
async def save_projects(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV, at most `MAX_SAVED` projects."""
    viewer.require_role("operator")
    return _SAVED.download(await _listed(services, filters_of(request, ProjectsPage), limit=MAX_SAVED))


@post(NAVIGATION.path, opt={"open_view": True})
async def create_project(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Create a project, and show its first key, this once."""
    viewer.require_role("operator")
    try:
        body = await form_of(request, NewProjectBody)
    except InvalidRequest as error:
        return await _list_page(request, services, ProjectsPage(), await form_values(request), error)
    created = await new_project(services, body, is_operator=viewer.may_change)
    return page(
        request,
        "secret.html",
        title="The project's first key",
        secret=created.key.text,
        what=f"The project {created.name} exists. This is its first key, with the role admin.",
        onward=(f"{NAVIGATION.path}/{created.project_id}", "Its settings"),
    )


@get(f"{NAVIGATION.path}/{{project_id:str}}")
async def show_project(
    request: HttpRequest,
    project_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a project's settings, and what of its budgets is left."""
    return await _project_page(request, services, await _project(services, viewer, project_id))


@post(f"{NAVIGATION.path}/{{project_id:str}}")
async def change_project(
    request: HttpRequest,
    project_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Change a project's settings."""
    project = await _project(services, viewer, project_id)
    if is_outdated(await form_values(request), _values(project)):
        return await _project_page(request, services, project, was_changed=True)
    try:
        form = await form_of(request, ProjectForm, _FIELDS)
        changed = await changed_project(services, project.project_id, _change(form, viewer))
    except InvalidRequest as error:
        values = await form_values(request)
        return await _project_page(request, services, project, values=values, error=error)
    if isinstance(changed.alert_secret, str) and changed.alert_url != project.alert_url:
        return _secret(request, project, changed.alert_secret)
    return see(f"{NAVIGATION.path}/{project.project_id}?saved=yes")


@post(f"{NAVIGATION.path}/{{project_id:str}}/webhook-secret")
async def rotate_webhook_secret(
    request: HttpRequest,
    project_id: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Make a new secret for a project's webhooks, and show it, this once."""
    project = await _project(services, viewer, project_id)
    made = await new_webhook_secret(services, project.project_id)
    return _secret(request, project, made.webhook_secret)


HANDLERS = (show_projects, save_projects, create_project, show_project, change_project, rotate_webhook_secret)


async def _project(services: Services, viewer: Viewer, project_id: str) -> ProjectRecord:
    """The project, if the viewer may see it.

    Raises:
        Forbidden: the viewer is a member.
        NotFound: there is none, or it is another's.

    """
    viewer.require_role(*ADMINS)
    if viewer.project_id not in (None, project_id):
        raise NotFound("there is no such project")
    return await services.accounts.project(id_in_path(project_id))


def _change(form: ProjectForm, viewer: Viewer) -> OperatorsProjectChangeBody:
    """The change that a form asks for. An absent box is one that is not ticked."""
    openai_key = None if form.remove_openai_key else form.openai_key
    anthropic_key = None if form.remove_anthropic_key else form.anthropic_key
    return OperatorsProjectChangeBody(
        name=form.name,
        daily_budget=form.daily_budget,
        monthly_budget=form.monthly_budget,
        alert_url=form.alert_url,
        cancel_on_disconnect=form.cancel_on_disconnect is True,
        openai_key=openai_key,
        anthropic_key=anthropic_key,
        installation_daily_budget=form.installation_daily_budget if viewer.role == "operator" else UNSET,
    )


async def _list_page(
    request: HttpRequest,
    services: Services,
    asked: ProjectsPage,
    values: dict[str, str],
    error: InvalidRequest | None,
) -> Template:
    found = await _listed(services, asked, limit=PROJECTS_OF_PAGE + 1)
    shown = found[:PROJECTS_OF_PAGE]
    return page(
        request,
        "projects.html",
        title="Projects",
        status=200 if error is None else 400,
        projects=shown,
        older=shown[-1][0].project_id if len(found) > len(shown) else None,
        asked=asked,
        values=values,
        error=error,
    )


async def _listed(services: Services, asked: ProjectsPage, *, limit: int) -> list[_Listed]:
    """Projects with their balances, newest first."""
    projects = await keys.projects(services.pool, search=asked.search, before=asked.before, limit=limit)
    balances = await balances_of(
        services.pool, "project", [project.project_id for project in projects], day_of(datetime.now(UTC))
    )
    return [(project, balances[project.project_id]) for project in reversed(projects)]


async def _project_page(
    request: HttpRequest,
    services: Services,
    project: ProjectRecord,
    *,
    values: dict[str, str] | None = None,
    error: InvalidRequest | None = None,
    was_changed: bool = False,
) -> Template:
    balances = await balances_of(services.pool, "project", [project.project_id], day_of(datetime.now(UTC)))
    return page(
        request,
        "project.html",
        title=project.name,
        status=409 if was_changed else 200 if error is None else 400,
        was_changed=was_changed,
        seen=mark_of(_values(project)),
        project=project,
        balances=balances[project.project_id],
        values=values if values is not None else _values(project),
        error=error,
        saved="saved" in request.query_params,
    )


def _values(project: ProjectRecord) -> dict[str, str]:
    """The fields of the form as they are now."""
    return {
        "name": project.name,
        "dailyBudget": plain_dollars(project.daily_budget_nano_usd),
        "monthlyBudget": plain_dollars(project.monthly_budget_nano_usd),
        "installationDailyBudget": plain_dollars(project.installation_daily_budget_nano_usd),
        "alertUrl": project.alert_url or "",
        "cancelOnDisconnect": "true" if project.cancel_on_disconnect else "",
    }


def _secret(request: HttpRequest, project: ProjectRecord, secret: str) -> Template:
    return page(
        request,
        "secret.html",
        title="The secret of the webhooks",
        secret=secret,
        what="Alerts and the ends of jobs are signed with it, as Standard Webhooks says.",
        onward=(f"{NAVIGATION.path}/{project.project_id}", "Back to the project"),
    )
