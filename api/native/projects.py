"""`/projects`: create a project, show and change the caller's own."""

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from litestar import get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType

from api.accounts import DEFAULT_INSTALLATION_DAILY_BUDGET, NewProject
from api.authentication import Caller
from api.guards import has_master_key, may_create_project, requires_admin, requires_operator
from api.native.budgets import Dollars, dollars_of, in_nano_usd
from api.native.envelope import Success
from api.native.openapi import NEEDS_MASTER_KEY
from api.requests import id_in_path
from api.services import Services
from domain.names import HTTP_URL_PATTERN, NAME_PATTERN, TOKEN_PATTERN
from domain.routing import ANTHROPIC, OPENAI
from infra.outbound import check_url
from projections import keys
from projections.keys import ProjectRecord
from projections.webhook_secrets import FORMER_VALID

_SETTINGS = (
    "name",
    "daily_budget",
    "monthly_budget",
    "alert_url",
    "cancel_on_disconnect",
    "installation_daily_budget",
)
"""The fields of a change that are settings; the others are provider keys."""
WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - as Standard Webhooks writes one
ProjectName = Annotated[str, Meta(min_length=1, max_length=200, pattern=NAME_PATTERN)]
AlertUrl = Annotated[str, Meta(max_length=2_000, pattern=HTTP_URL_PATTERN)]
ProviderKey = Annotated[str, Meta(min_length=8, max_length=1_000, pattern=TOKEN_PATTERN)]


class NewProjectBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A project to be created."""

    name: ProjectName
    openai_key: ProviderKey | None = None
    anthropic_key: ProviderKey | None = None


class ProjectChangeBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change; null removes a provider key, a budget, or the address of alerts."""

    name: ProjectName | UnsetType = UNSET
    daily_budget: Dollars | None | UnsetType = UNSET
    monthly_budget: Dollars | None | UnsetType = UNSET
    alert_url: AlertUrl | None | UnsetType = UNSET
    cancel_on_disconnect: bool | UnsetType = UNSET
    openai_key: ProviderKey | None | UnsetType = UNSET
    anthropic_key: ProviderKey | None | UnsetType = UNSET


class OperatorsProjectChangeBody(
    ProjectChangeBody, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What the operator changes of a project: what its admins may change, and its part of the installation's
    credentials.
    """

    installation_daily_budget: Dollars | None | UnsetType = UNSET


class InstallationBudgetBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A project's daily budget for requests under the installation's credentials; null is no limit, 0 refuses."""

    installation_daily_budget: Dollars | None


class NewProjectOut(Struct, kw_only=True, rename="camel"):
    """A new project; its first key is shown this once."""

    id: str
    name: str
    api_key: str
    api_key_id: str
    created_at: datetime


class ProjectOut(Struct, kw_only=True, rename="camel"):
    """A project; provider keys are shown as their last four characters. Budgets are over all its keys."""

    id: str
    name: str
    daily_budget: Decimal | None
    monthly_budget: Decimal | None
    installation_daily_budget: Decimal | None
    """For requests under the installation's credentials; the operator alone changes it."""
    alert_url: str | None
    cancel_on_disconnect: bool
    """If true, a request that is not streamed ends when its caller disconnects, unless others wait for its answer."""
    openai_key: str | None
    anthropic_key: str | None
    created_at: datetime
    alert_secret: str | UnsetType = UNSET
    """The key that signs alerts (Standard Webhooks); shown when `alertUrl` is set."""


class WebhookSecretOut(Struct, kw_only=True, rename="camel"):
    """A new secret for a project's webhooks."""

    webhook_secret: str
    """As Standard Webhooks writes one."""
    former_valid_until: datetime
    """So long messages are signed with the secret before as well."""


@post(
    "/projects",
    summary="Create a project",
    operation_id="ApiV1ProjectsCreate",
    guards=[may_create_project],
    dependencies={"is_operator": Provide(has_master_key)},
    security=[*NEEDS_MASTER_KEY, {}],
)
async def create_project(
    data: RequestBody[NewProjectBody], is_operator: NamedDependency[bool], services: NamedDependency[Services]
) -> Success[NewProjectOut]:
    """Create a project with its first key. Without the master key its daily budget for requests under the
    installation's credentials is the default.
    """
    project = await new_project(services, data, is_operator=is_operator)
    created = NewProjectOut(
        id=project.project_id,
        name=project.name,
        api_key=project.key.text,
        api_key_id=project.key.key_id,
        created_at=project.key.created_at,
    )
    return Success(data=created)


@get(
    "/projects/me",
    summary="The key's project",
    operation_id="ApiV1ProjectsMeMine",
    guards=[requires_admin],
)
async def get_current_project(
    caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[ProjectOut]:
    """Show the caller's project."""
    return Success(data=project_out(await services.accounts.project(caller.project_id)))


@patch(
    "/projects/me",
    summary="Change the key's project",
    operation_id="ApiV1ProjectsMeChange",
    guards=[requires_admin],
)
async def change_current_project(
    data: RequestBody[ProjectChangeBody], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[ProjectOut]:
    """Rename the caller's project, set or remove its budgets and provider keys."""
    return Success(data=await changed_project(services, caller.project_id, data))


@post(
    "/projects/me/webhook-secret",
    summary="Make a new secret for the webhooks of the key's project",
    operation_id="ApiV1ProjectsMeWebhookSecretRotate",
    guards=[requires_admin],
    status_code=201,
)
async def rotate_webhook_secret(
    caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[WebhookSecretOut]:
    """Have alerts and the ends of jobs signed with a new secret, which is shown this once. For a day each message is
    signed with the one before as well.
    """
    return Success(data=await new_webhook_secret(services, caller.project_id))


@get(
    "/projects",
    summary="Every project",
    operation_id="ApiV1ProjectsEvery",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def list_projects(services: NamedDependency[Services]) -> Success[list[ProjectOut]]:
    """List all projects, oldest first."""
    return Success(data=[project_out(record) for record in await keys.projects(services.pool)])


@get(
    "/projects/{project_id:str}",
    summary="One project",
    operation_id="ApiV1ProjectsProjectIdOne",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def get_project(project_id: FromPath[str], services: NamedDependency[Services]) -> Success[ProjectOut]:
    """Show a project."""
    return Success(data=project_out(await services.accounts.project(id_in_path(project_id))))


@patch(
    "/projects/{project_id:str}",
    summary="Change a project",
    operation_id="ApiV1ProjectsProjectIdChange",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def change_project(
    project_id: FromPath[str], data: RequestBody[OperatorsProjectChangeBody], services: NamedDependency[Services]
) -> Success[ProjectOut]:
    """Change a project as its admins may, and its daily budget for requests under the installation's credentials."""
    return Success(data=await changed_project(services, id_in_path(project_id), data))


@post(
    "/projects/{project_id:str}/webhook-secret",
    summary="Make a new secret for the webhooks of a project",
    operation_id="ApiV1ProjectsProjectIdWebhookSecretRotate",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
    status_code=201,
)
async def rotate_projects_webhook_secret(
    project_id: FromPath[str], services: NamedDependency[Services]
) -> Success[WebhookSecretOut]:
    """Do for any project what `POST /projects/me/webhook-secret` does for the key's."""
    return Success(data=await new_webhook_secret(services, id_in_path(project_id)))


HANDLERS = (
    create_project,
    get_current_project,
    change_current_project,
    rotate_webhook_secret,
    list_projects,
    get_project,
    change_project,
    rotate_projects_webhook_secret,
)


async def new_project(services: Services, data: NewProjectBody, *, is_operator: bool) -> NewProject:
    """Create a project. Without the master key its budget for requests under the installation's credentials is the
    default.
    """
    given = {OPENAI: data.openai_key, ANTHROPIC: data.anthropic_key}
    return await services.accounts.create_project(
        data.name,
        {name: key for name, key in given.items() if key},
        installation_daily_budget_nano_usd=None if is_operator else DEFAULT_INSTALLATION_DAILY_BUDGET,
    )


async def changed_project(
    services: Services, project_id: str, data: ProjectChangeBody | OperatorsProjectChangeBody
) -> ProjectOut:
    """Change a project, and return it as it is then.

    Raises:
        InvalidRequest: a field is wrong.
        NotFound: there is no such project.

    """
    given = {OPENAI: data.openai_key, ANTHROPIC: data.anthropic_key}
    settings = {name: value for name in _SETTINGS if (value := getattr(data, name, UNSET)) is not UNSET}
    if isinstance(data.alert_url, str):
        check_url(data.alert_url, field="alertUrl", allow_loopback=services.settings.allow_loopback_urls)
    record = await services.accounts.change_project(
        project_id,
        settings=in_nano_usd(settings),
        provider_keys={name: key for name, key in given.items() if key is not UNSET},
    )
    changed = project_out(record)
    if isinstance(data.alert_url, str):
        changed.alert_secret = _secret_text(services, record.project_id, record.webhook_rotation)
    return changed


async def new_webhook_secret(services: Services, project_id: str) -> WebhookSecretOut:
    """Make a new secret for a project's webhooks."""
    rotation = await services.accounts.rotate_webhook_secret(project_id)
    secret = _secret_text(services, project_id, rotation)
    return WebhookSecretOut(webhook_secret=secret, former_valid_until=datetime.now(UTC) + FORMER_VALID)


def _secret_text(services: Services, project_id: str, rotation: int) -> str:
    secret = services.vault.webhook_secret(project_id, rotation)
    return f"{WEBHOOK_SECRET_PREFIX}{base64.b64encode(secret).decode()}"


def project_out(record: ProjectRecord) -> ProjectOut:
    """A project as it is shown."""
    hints = record.provider_hints
    return ProjectOut(
        id=record.project_id,
        name=record.name,
        daily_budget=dollars_of(record.daily_budget_nano_usd),
        monthly_budget=dollars_of(record.monthly_budget_nano_usd),
        installation_daily_budget=dollars_of(record.installation_daily_budget_nano_usd),
        alert_url=record.alert_url,
        cancel_on_disconnect=record.cancel_on_disconnect,
        openai_key=f"sk-…{hints[OPENAI]}" if OPENAI in hints else None,
        anthropic_key=f"sk-…{hints[ANTHROPIC]}" if ANTHROPIC in hints else None,
        created_at=record.created_at,
    )
