"""`/projects/api-keys`: issue, list, change and revoke keys."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from api.native.budgets import Dollars, dollars_of, in_nano_usd
from api.native.envelope import Described, Description, success
from api.native.projects import ProjectName
from api.requests import HttpRequest, admin_of, body_for, id_in_path, in_utc, services_of
from domain.canonical.chat import Name
from domain.errors import InvalidRequest
from domain.events import (
    DEFAULT_BUDGET_WAIT_MS,
    DEFAULT_CONCURRENCY_LIMIT,
    DEFAULT_RATE_LIMIT_PER_MINUTE,
    KeySettings,
    Role,
)
from projections import keys
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
BudgetWait = Annotated[int, Meta(ge=0, le=MAX_BUDGET_WAIT_MS)]


class NewKeyCall(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
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


class KeyChange(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
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


class ShownKey(Struct, kw_only=True, rename="camel"):
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
    created_at: datetime
    revoked_at: datetime | None


class IssuedKey(ShownKey, kw_only=True, rename="camel"):
    """A new key, whose text is shown this once."""

    api_key: str


class RevokedKey(Struct, kw_only=True):
    """A key that works no longer."""

    id: str
    revoked: bool = True


_new_decoder = msgspec.json.Decoder(NewKeyCall)
_change_decoder = msgspec.json.Decoder(KeyChange)


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The routes of keys."""

    @post(
        "/projects/api-keys",
        summary="Issue a key",
        operation_class=described.operation(Description(body=NewKeyCall, answer=IssuedKey, status=201)),
    )
    async def issue(request: HttpRequest) -> Response[bytes]:
        """Issue a key of the caller's project."""
        caller, call = await body_for(request, _new_decoder, admin_of)
        settings = KeySettings(**key_settings({name: getattr(call, name) for name in call.__struct_fields__}))
        key = await services_of(request).accounts.issue_key(caller.project_id, settings)
        shown = _shown(key.key_id, key.text[-4:], settings, key.created_at, None)
        return success(IssuedKey(**shown, api_key=key.text), status=201)

    @get(
        "/projects/api-keys",
        summary="The project's keys",
        operation_class=described.operation(Description(answer=list[ShownKey])),
    )
    async def every(request: HttpRequest) -> Response[bytes]:
        """List the project's keys, revoked ones too, oldest first."""
        caller = await admin_of(request)
        records = await keys.keys_of_project(services_of(request).pool, caller.project_id)
        return success([_shown_record(record) for record in records])

    @get(
        "/projects/api-keys/{key_id:str}",
        summary="One key",
        operation_class=described.operation(Description(answer=ShownKey)),
    )
    async def one(request: HttpRequest, key_id: str) -> Response[bytes]:
        """Show a key of the project."""
        caller = await admin_of(request)
        return success(_shown_record(await services_of(request).accounts.key(caller.project_id, id_in_path(key_id))))

    @patch(
        "/projects/api-keys/{key_id:str}",
        summary="Change a key",
        operation_class=described.operation(Description(body=KeyChange, answer=ShownKey)),
    )
    async def change(request: HttpRequest, key_id: str) -> Response[bytes]:
        """Change a key, from its next request on."""
        caller, call = await body_for(request, _change_decoder, admin_of)
        accounts = services_of(request).accounts
        record = await accounts.key(caller.project_id, id_in_path(key_id))
        given = {name: value for name in call.__struct_fields__ if (value := getattr(call, name)) is not UNSET}
        return success(
            _shown_record(await accounts.change_key(record, replace(record.settings, **key_settings(given))))
        )

    @delete(
        "/projects/api-keys/{key_id:str}",
        summary="Revoke a key",
        operation_class=described.operation(Description(answer=RevokedKey)),
        status_code=200,
    )
    async def revoke(request: HttpRequest, key_id: str) -> Response[bytes]:
        """Revoke a key; on every replica it stops working within a second."""
        caller = await admin_of(request)
        accounts = services_of(request).accounts
        await accounts.revoke_key(await accounts.key(caller.project_id, id_in_path(key_id)))
        return success(RevokedKey(id=key_id))

    return [issue, every, one, change, revoke]


def key_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a call as those of `KeySettings`: dollars become nano-dollars, times are checked."""
    settings = in_nano_usd(given)
    if settings.get("expires_at") is not None:
        settings["expires_at"] = expires_at = in_utc(settings["expires_at"], "expiresAt")
        if expires_at <= datetime.now(UTC):
            raise InvalidRequest("`expiresAt` must lie in the future", field="expiresAt")
    return settings


def _shown_record(record: KeyRecord) -> ShownKey:
    return ShownKey(**_shown(record.key_id, record.hint, record.settings, record.created_at, record.revoked_at))


def _shown(
    key_id: str, hint: str, settings: KeySettings, created_at: datetime, revoked_at: datetime | None
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
        "created_at": created_at,
        "revoked_at": revoked_at,
    }
