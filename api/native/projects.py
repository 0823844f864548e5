"""`/projects`: create one, look at one's own, change it."""

import base64
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import Response, get, patch, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, Struct, UnsetType

from api.accounts import DEFAULT_INSTALLATION_DAILY_BUDGET
from api.native.budgets import Dollars, dollars_of, in_nano_usd
from api.native.envelope import Described, Description, success
from api.requests import HttpRequest, admin_of, body_for, check_new_project, check_operator, id_in_path, services_of
from domain.errors import NotFound
from domain.routing import ANTHROPIC, OPENAI
from infra.outbound import check_url
from projections import keys
from projections.keys import ProjectRecord

WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - as Standard Webhooks writes one
ProjectName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
AlertUrl = Annotated[str, Meta(max_length=2_000, pattern=r"^https?://[\x21-\x7e]+$")]
ProviderKey = Annotated[str, Meta(min_length=8, max_length=1_000, pattern=r"^[\x21-\x7e]+$")]


class NewProjectCall(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A project to be created."""

    name: ProjectName
    openai_key: ProviderKey | None = None
    anthropic_key: ProviderKey | None = None


class ProjectChange(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change; null removes a provider key, a budget, or the address of alerts."""

    name: ProjectName | UnsetType = UNSET
    daily_budget: Dollars | None | UnsetType = UNSET
    monthly_budget: Dollars | None | UnsetType = UNSET
    alert_url: AlertUrl | None | UnsetType = UNSET
    cancel_on_disconnect: bool | UnsetType = UNSET
    openai_key: ProviderKey | None | UnsetType = UNSET
    anthropic_key: ProviderKey | None | UnsetType = UNSET


class InstallationBudgetChange(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What a project may take of a day under the installation's credentials; null is no limit, 0 refuses."""

    installation_daily_budget: Dollars | None


class CreatedProject(Struct, kw_only=True, rename="camel"):
    """A new project; its first key is shown this once."""

    id: str
    name: str
    api_key: str
    api_key_id: str
    created_at: datetime


class ShownProject(Struct, kw_only=True, rename="camel"):
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
    """What alerts are signed with (Standard Webhooks); shown where `alertUrl` is set."""


_new_decoder = msgspec.json.Decoder(NewProjectCall)
_change_decoder = msgspec.json.Decoder(ProjectChange)
_budget_decoder = msgspec.json.Decoder(InstallationBudgetChange)


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The routes of projects."""

    @post(
        "/projects",
        summary="Create a project",
        operation_class=described.operation(
            Description(body=NewProjectCall, answer=CreatedProject, status=201, is_operators=True, without_key=True)
        ),
    )
    async def create(request: HttpRequest) -> Response[bytes]:
        """Create a project with its first key. Without the master key its daily budget for requests under the
        installation's credentials is the default.
        """
        is_operator, call = await body_for(request, _new_decoder, check_new_project)
        given = {OPENAI: call.openai_key, ANTHROPIC: call.anthropic_key}
        project = await services_of(request).accounts.create_project(
            call.name,
            {name: key for name, key in given.items() if key},
            installation_daily_budget_nano_usd=None if is_operator else DEFAULT_INSTALLATION_DAILY_BUDGET,
        )
        created = CreatedProject(
            id=project.project_id,
            name=project.name,
            api_key=project.key.text,
            api_key_id=project.key.key_id,
            created_at=project.key.created_at,
        )
        return success(created, status=201)

    @get(
        "/projects/me",
        summary="The key's project",
        operation_class=described.operation(Description(answer=ShownProject)),
    )
    async def mine(request: HttpRequest) -> Response[bytes]:
        """Show the caller's project."""
        caller = await admin_of(request)
        record = await keys.project(services_of(request).pool, caller.project_id)
        if record is None:
            raise NotFound("there is no such project")
        return success(_shown(record))

    @patch(
        "/projects/me",
        summary="Change the key's project",
        operation_class=described.operation(Description(body=ProjectChange, answer=ShownProject)),
    )
    async def change(request: HttpRequest) -> Response[bytes]:
        """Rename the caller's project, set or remove its budgets and provider keys."""
        caller, call = await body_for(request, _change_decoder, admin_of)
        given = {OPENAI: call.openai_key, ANTHROPIC: call.anthropic_key}
        fields = ("name", "daily_budget", "monthly_budget", "alert_url", "cancel_on_disconnect")
        settings = {name: value for name in fields if (value := getattr(call, name)) is not UNSET}
        services = services_of(request)
        if isinstance(call.alert_url, str):
            check_url(call.alert_url, field="alertUrl", allow_loopback=services.settings.allow_loopback_urls)
        record = await services.accounts.change_project(
            caller.project_id,
            settings=in_nano_usd(settings),
            provider_keys={name: key for name, key in given.items() if key is not UNSET},
        )
        shown = _shown(record)
        if isinstance(call.alert_url, str):
            secret = base64.b64encode(services.vault.webhook_secret(record.project_id)).decode()
            shown.alert_secret = f"{WEBHOOK_SECRET_PREFIX}{secret}"
        return success(shown)

    @patch(
        "/projects/{project_id:str}",
        summary="Change what a project may spend of the installation's credentials",
        operation_class=described.operation(
            Description(body=InstallationBudgetChange, answer=ShownProject, is_operators=True)
        ),
    )
    async def change_installation_budget(request: HttpRequest, project_id: str) -> Response[bytes]:
        """Set or remove a project's daily budget for requests under the installation's credentials."""
        _, call = await body_for(request, _budget_decoder, check_operator)
        record = await services_of(request).accounts.change_project(
            id_in_path(project_id),
            settings=in_nano_usd({"installation_daily_budget": call.installation_daily_budget}),
            provider_keys={},
        )
        return success(_shown(record))

    return [create, mine, change, change_installation_budget]


def _shown(record: ProjectRecord) -> ShownProject:
    hints = record.provider_hints
    return ShownProject(
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
