"""`/projects/api-keys`: issue, list, change and revoke keys."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from api.accounts import NewKey
from api.authentication import Caller
from api.guards import requires_admin
from api.native.budgets import Dollars, dollars_of, in_nano_usd
from api.native.envelope import Success
from api.native.projects import ProjectName
from api.requests import id_in_path, in_utc
from api.services import Services
from domain.errors import InvalidRequest
from domain.events import (
    DEFAULT_BUDGET_WAIT_MS,
    DEFAULT_CONCURRENCY_LIMIT,
    DEFAULT_RATE_LIMIT_PER_MINUTE,
    KeySettings,
    Role,
)
from domain.names import Name
from projections import keys
from projections.key_lists import last_uses
from projections.keys import KeyRecord

MAX_LIMIT = 1_000_000_000
MAX_CONCURRENCY = 1_000_000
MAX_MODELS = 100
MAX_BUDGET_WAIT_MS = 60_000

Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
Concurrency = Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)]
Models = Annotated[list[Name], Meta(min_length=1, max_length=MAX_MODELS)]
Moment = Annotated[datetime, Meta(tz=True)]
OutputCap = Literal["lower", "refuse"]
Translation = Literal["lenient", "strict"]
IdempotencyMode = Literal["off", "auto"]
BudgetWait = Annotated[int, Meta(ge=0, le=MAX_BUDGET_WAIT_MS)]


class NewKeyBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A key to be issued. null is no limit."""

    name: ProjectName
    role: Role = "member"
    daily_budget: Dollars | None = None
    monthly_budget: Dollars | None = None
    rate_limit: Limit | None = DEFAULT_RATE_LIMIT_PER_MINUTE
    token_limit: Limit | None = None
    concurrency_limit: Concurrency | None = DEFAULT_CONCURRENCY_LIMIT
    models: Models | None = None
    expires_at: Moment | None = None
    output_cap: OutputCap = "lower"
    budget_wait_ms: BudgetWait = DEFAULT_BUDGET_WAIT_MS
    translation: Translation = "lenient"
    idempotency: IdempotencyMode = "off"


class KeyChangeBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change; null removes a limit."""

    name: ProjectName | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    daily_budget: Dollars | None | UnsetType = UNSET
    monthly_budget: Dollars | None | UnsetType = UNSET
    rate_limit: Limit | None | UnsetType = UNSET
    token_limit: Limit | None | UnsetType = UNSET
    concurrency_limit: Concurrency | None | UnsetType = UNSET
    models: Models | None | UnsetType = UNSET
    expires_at: Moment | None | UnsetType = UNSET
    output_cap: OutputCap | UnsetType = UNSET
    budget_wait_ms: BudgetWait | UnsetType = UNSET
    translation: Translation | UnsetType = UNSET
    idempotency: IdempotencyMode | UnsetType = UNSET


class KeyOut(Struct, kw_only=True, rename="camel"):
    """A key without its secret: `hint` is its last four characters."""

    id: str
    name: str
    hint: str
    role: Role
    daily_budget: Decimal | None
    monthly_budget: Decimal | None
    rate_limit: int | None
    token_limit: int | None
    concurrency_limit: int | None
    models: list[str] | None
    expires_at: datetime | None
    output_cap: OutputCap
    budget_wait_ms: int
    translation: Translation
    idempotency: IdempotencyMode
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When its newest request came; null: it has none."""


class IssuedKeyOut(KeyOut, kw_only=True, rename="camel"):
    """A new key, whose text is shown this once."""

    api_key: str


class RevokedKeyOut(Struct, kw_only=True):
    """A key that works no longer."""

    id: str
    revoked: bool = True


@post(
    "/projects/api-keys",
    summary="Issue a key",
    operation_id="ApiV1ProjectsApiKeysIssue",
    guards=[requires_admin],
)
async def issue_key(
    data: RequestBody[NewKeyBody], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[IssuedKeyOut]:
    """Issue a key of the caller's project."""
    return Success(data=issued(await services.accounts.issue_key(caller.project_id, new_key_settings(data))))


@get(
    "/projects/api-keys",
    summary="The project's keys",
    operation_id="ApiV1ProjectsApiKeysEvery",
    guards=[requires_admin],
)
async def list_keys(caller: NamedDependency[Caller], services: NamedDependency[Services]) -> Success[list[KeyOut]]:
    """List the project's keys, revoked ones too, oldest first."""
    return Success(data=await keys_out(services, caller.project_id))


@get(
    "/projects/api-keys/{key_id:str}",
    summary="One key",
    operation_id="ApiV1ProjectsApiKeysKeyIdOne",
    guards=[requires_admin],
)
async def get_key(
    key_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[KeyOut]:
    """Show a key of the project."""
    return Success(data=await key_out(services, await services.accounts.key(caller.project_id, id_in_path(key_id))))


@patch(
    "/projects/api-keys/{key_id:str}",
    summary="Change a key",
    operation_id="ApiV1ProjectsApiKeysKeyIdChange",
    guards=[requires_admin],
)
async def change_key(
    key_id: FromPath[str],
    data: RequestBody[KeyChangeBody],
    caller: NamedDependency[Caller],
    services: NamedDependency[Services],
) -> Success[KeyOut]:
    """Change a key, from its next request on."""
    record = await services.accounts.key(caller.project_id, id_in_path(key_id))
    changed = await services.accounts.change_key(record, changed_key_settings(record, data))
    return Success(data=await key_out(services, changed))


@delete(
    "/projects/api-keys/{key_id:str}",
    summary="Revoke a key",
    operation_id="ApiV1ProjectsApiKeysKeyIdRevoke",
    guards=[requires_admin],
    status_code=200,
)
async def revoke_key(
    key_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[RevokedKeyOut]:
    """Revoke a key; on every replica it stops working within a second."""
    await services.accounts.revoke_key(await services.accounts.key(caller.project_id, id_in_path(key_id)))
    return Success(data=RevokedKeyOut(id=key_id))


HANDLERS = (issue_key, list_keys, get_key, change_key, revoke_key)


def key_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call as those of `KeySettings`: dollars become nano-dollars, times are checked."""
    settings = in_nano_usd(given)
    if settings.get("expires_at") is not None:
        settings["expires_at"] = expires_at = in_utc(settings["expires_at"], "expiresAt")
        if expires_at <= datetime.now(UTC):
            raise InvalidRequest("`expiresAt` must lie in the future", field="expiresAt")
    return settings


def new_key_settings(data: NewKeyBody) -> KeySettings:
    """The settings of a key to be issued. Raises as `key_settings`."""
    return KeySettings(**key_settings({name: getattr(data, name) for name in data.__struct_fields__}))


def changed_key_settings(record: KeyRecord, data: KeyChangeBody) -> KeySettings:
    """The settings of a key after a change. Raises as `key_settings`."""
    given = {name: value for name in data.__struct_fields__ if (value := getattr(data, name)) is not UNSET}
    return replace(record.settings, **key_settings(given))


def issued(key: NewKey) -> IssuedKeyOut:
    """A new key, with its text."""
    fields = _key_out(key.key_id, key.text[-4:], key.settings, key.created_at, None, None)
    return IssuedKeyOut(**fields, api_key=key.text)


async def keys_out(services: Services, project_id: str) -> list[KeyOut]:
    """The keys of a project, oldest first."""
    records = await keys.keys_of_project(services.pool, project_id)
    used = await last_uses(services.pool, [record.key_id for record in records])
    return [_of_record(record, used.get(record.key_id)) for record in records]


async def key_out(services: Services, record: KeyRecord) -> KeyOut:
    """A key as it is shown."""
    used = await last_uses(services.pool, [record.key_id])
    return _of_record(record, used.get(record.key_id))


def _of_record(record: KeyRecord, last_used_at: datetime | None) -> KeyOut:
    return KeyOut(
        **_key_out(record.key_id, record.hint, record.settings, record.created_at, record.revoked_at, last_used_at)
    )


def _key_out(
    key_id: str,
    hint: str,
    settings: KeySettings,
    created_at: datetime,
    revoked_at: datetime | None,
    last_used_at: datetime | None,
) -> dict[str, Any]:
    return {
        "id": key_id,
        "name": settings.name,
        "hint": hint,
        "role": settings.role,
        "daily_budget": dollars_of(settings.daily_budget_nano_usd),
        "monthly_budget": dollars_of(settings.monthly_budget_nano_usd),
        "rate_limit": settings.rate_limit,
        "token_limit": settings.token_limit,
        "concurrency_limit": settings.concurrency_limit,
        "models": settings.models,
        "expires_at": settings.expires_at,
        "output_cap": settings.output_cap,
        "budget_wait_ms": settings.budget_wait_ms,
        "translation": settings.translation,
        "idempotency": settings.idempotency,
        "created_at": created_at,
        "revoked_at": revoked_at,
        "last_used_at": last_used_at,
    }
