"""Projects and API keys. This projection is folded in the append of its own events.

So a key works once the call that issued it has returned, and stops working once the call that revoked it has returned.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from domain.credentials import DEFAULT_CREDENTIAL
from domain.events import (
    INSTALLATION,
    ApiKeyChanged,
    ApiKeyIssued,
    ApiKeyRevoked,
    Event,
    KeySettings,
    ProjectCreated,
    ProjectSettingsChanged,
    StoredEvent,
    WebhookSecretRotated,
)
from domain.money import NanoUsd
from domain.routes import RouteSettings
from domain.routing import NamedProvider
from infra.database import Connection, Pool, database_errors
from projections.projection import fold_streams

_decode_settings = msgspec.json.Decoder(KeySettings).decode
_decode_routes = msgspec.json.Decoder(dict[str, RouteSettings]).decode
_decode_providers = msgspec.json.Decoder(tuple[NamedProvider, ...]).decode

_KEY = (
    "SELECT k.key_id, k.project_id, k.secret_hash, k.version, k.hint, k.settings::text AS settings, k.created_at, "  # noqa: S608 - a constant
    "k.revoked_at, p.name AS project_name, coalesce(p.daily_budget_nano_usd, p.monthly_budget_nano_usd, "
    "p.installation_daily_budget_nano_usd) IS NOT NULL AS project_has_budget, p.cancel_on_disconnect, "
    "ARRAY(SELECT c.provider FROM provider_keys c WHERE c.project_id = k.project_id) AS own_credentials, "
    "(SELECT json_agg(json_build_object('name', n.name, 'kind', n.kind, 'base_url', n.base_url, "
    "'models', n.models, 'replaces_builtin', n.replaces_builtin) "
    f"ORDER BY n.project_id = '{INSTALLATION}', n.name) FROM providers n "
    f"WHERE n.project_id IN (k.project_id, '{INSTALLATION}'))::text AS providers, "
    "(SELECT json_object_agg(r.name, r.settings) FROM (SELECT DISTINCT ON (t.name) t.name, t.settings FROM routes t "
    f"WHERE t.project_id IN (k.project_id, '{INSTALLATION}') "
    f"ORDER BY t.name, t.project_id = '{INSTALLATION}') AS r)::text AS routes "
    "FROM api_keys k JOIN projects p USING (project_id) "
)
_OF_KEYS = (ApiKeyIssued, ApiKeyChanged, ApiKeyRevoked)
_OF_PROJECTS = (ProjectCreated, ProjectSettingsChanged, WebhookSecretRotated)
_PROJECT = (
    "SELECT project_id, name, created_at, daily_budget_nano_usd, monthly_budget_nano_usd, alert_url, "
    "installation_daily_budget_nano_usd, cancel_on_disconnect, webhook_rotation FROM projects "
)


class KeyRecord(Struct, frozen=True, kw_only=True):
    """An API key as the database stores it."""

    key_id: str
    project_id: str
    secret_hash: bytes
    version: int
    """The version of the key's stream."""
    project_name: str
    project_has_budget: bool
    cancel_on_disconnect: bool
    hint: str
    settings: KeySettings
    created_at: datetime
    revoked_at: datetime | None
    providers: tuple[NamedProvider, ...]
    """The providers by configuration that the key may use: the project's own, then the installation's."""
    routes: Mapping[str, RouteSettings] = {}
    """The routes that the key may ask for, by name: the project's own before the installation's."""
    own_credentials: frozenset[str]
    """The providers for which the project has its own key."""


class ProjectRecord(Struct, frozen=True, kw_only=True):
    """A project, with the hints of its provider keys."""

    project_id: str
    name: str
    created_at: datetime
    daily_budget_nano_usd: NanoUsd | None
    monthly_budget_nano_usd: NanoUsd | None
    alert_url: str | None
    installation_daily_budget_nano_usd: NanoUsd | None
    """The daily budget for requests under the installation's credentials."""
    cancel_on_disconnect: bool
    webhook_rotation: int
    """How often the secret of its webhooks was rotated."""
    provider_hints: dict[str, str]


class Keys:
    """Folds the events of projects and keys."""

    name = "keys"
    tables = ("projects", "api_keys")
    reads: frozenset[type[Event]] = frozenset({*_OF_PROJECTS, *_OF_KEYS})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Make the rows what their streams in the log say."""
        await fold_streams(connection, "fold_projects", events, _OF_PROJECTS, suffix)
        await fold_streams(connection, "fold_keys", events, _OF_KEYS, suffix)


async def keys_by_hash(pool: Pool, secret_hashes: Sequence[bytes]) -> dict[bytes, KeyRecord]:
    """Return the keys that have one of these HMACs, revoked or not, by theirs."""
    async with database_errors():
        rows = await pool.fetch(_KEY + "WHERE k.secret_hash = ANY ($1)", secret_hashes)
    return {record.secret_hash: record for record in map(_record, rows)}


async def key_of_project(pool: Pool, project_id: str, key_id: str) -> KeyRecord | None:
    """Return a key of a project; None if the project has no such key."""
    async with database_errors():
        row = await pool.fetchrow(_KEY + "WHERE k.project_id = $1 AND k.key_id = $2", project_id, key_id)
    return _record(row) if row is not None else None


async def key_with_id(pool: Pool, key_id: str) -> KeyRecord | None:
    """Return a key of any project; None if there is none."""
    async with database_errors():
        row = await pool.fetchrow(_KEY + "WHERE k.key_id = $1", key_id)
    return _record(row) if row is not None else None


async def keys_of_project(pool: Pool, project_id: str) -> list[KeyRecord]:
    """Return every key of a project, oldest first, including revoked ones."""
    async with database_errors():
        rows = await pool.fetch(_KEY + "WHERE k.project_id = $1 ORDER BY k.key_id", project_id)
    return [_record(row) for row in rows]


async def project(pool: Pool, project_id: str) -> ProjectRecord | None:
    """Return a project by its id; None if there is none."""
    async with database_errors():
        row = await pool.fetchrow(_PROJECT + "WHERE project_id = $1", project_id)
        hints = await pool.fetch(
            "SELECT provider, hint FROM provider_keys WHERE project_id = $1 AND name = $2",
            project_id,
            DEFAULT_CREDENTIAL,
        )
    if row is None:
        return None
    return ProjectRecord(**row, provider_hints={hint["provider"]: hint["hint"] for hint in hints})


async def projects(
    pool: Pool, *, search: str | None = None, before: str | None = None, limit: int | None = None
) -> list[ProjectRecord]:
    """Return the newest projects, oldest of them first, with the hints of their provider keys.

    `search`: a part of the name, or the id; `before`: older than the project with this id; None: all.
    """
    async with database_errors():
        rows = await pool.fetch(
            _PROJECT + "WHERE ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR project_id = $1) "
            "AND ($2::text IS NULL OR project_id < $2) ORDER BY project_id DESC LIMIT $3",
            search,
            before,
            limit,
        )
        hints = await pool.fetch(
            "SELECT project_id, provider, hint FROM provider_keys WHERE name = $1 AND project_id = ANY ($2)",
            DEFAULT_CREDENTIAL,
            [row["project_id"] for row in rows],
        )
    hints_of: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for hint in hints:
        hints_of[hint["project_id"]][hint["provider"]] = hint["hint"]
    return [ProjectRecord(**row, provider_hints=hints_of[row["project_id"]]) for row in reversed(rows)]


def _record(row: asyncpg.Record) -> KeyRecord:
    return KeyRecord(
        **{
            **row,
            "settings": _decode_settings(row["settings"]),
            "providers": _decode_providers(row["providers"] or "[]"),
            "routes": _decode_routes(row["routes"] or "{}"),
            "own_credentials": frozenset(row["own_credentials"]),
        }
    )
