"""Projects and API keys: the one projection that is folded in the append of its own events.

A key works, and stops working, the moment the call that issued or revoked it returns.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from domain.events import (
    INSTALLATION,
    ApiKeyChanged,
    ApiKeyIssued,
    ApiKeyRevoked,
    KeySettings,
    ProjectCreated,
    ProjectSettingsChanged,
    StoredEvent,
)
from domain.money import NanoUsd
from domain.routing import NamedProvider
from infra.database import Connection, Pool, database_errors

_encode = msgspec.json.Encoder().encode
_decode_settings = msgspec.json.Decoder(KeySettings).decode
_decode_providers = msgspec.json.Decoder(tuple[NamedProvider, ...]).decode

_KEY = (
    "SELECT k.key_id, k.project_id, k.secret_hash, k.version, k.hint, k.settings::text AS settings, k.created_at, "  # noqa: S608 - a constant
    "k.revoked_at, p.name AS project_name, coalesce(p.daily_budget_nano_usd, p.monthly_budget_nano_usd, "
    "p.installation_daily_budget_nano_usd) IS NOT NULL AS project_has_budget, p.cancel_on_disconnect, "
    "ARRAY(SELECT c.provider FROM provider_keys c WHERE c.project_id = k.project_id) AS own_credentials, "
    "(SELECT json_agg(json_build_object('name', n.name, 'kind', n.kind, 'base_url', n.base_url, "
    "'models', n.models, 'replaces_builtin', n.replaces_builtin) "
    f"ORDER BY n.project_id = '{INSTALLATION}', n.name) FROM providers n "
    f"WHERE n.project_id IN (k.project_id, '{INSTALLATION}'))::text AS providers "
    "FROM api_keys k JOIN projects p USING (project_id) "
)
_PROJECT = (
    "SELECT project_id, name, created_at, daily_budget_nano_usd, monthly_budget_nano_usd, alert_url, "
    "installation_daily_budget_nano_usd, cancel_on_disconnect FROM projects "
)


class KeyRecord(Struct, frozen=True, kw_only=True):
    """An API key as the database knows it."""

    key_id: str
    project_id: str
    secret_hash: bytes
    version: int
    """Of the key's stream."""
    project_name: str
    project_has_budget: bool
    cancel_on_disconnect: bool
    hint: str
    settings: KeySettings
    created_at: datetime
    revoked_at: datetime | None
    providers: tuple[NamedProvider, ...]
    """Those by configuration that it may ask: the project's own, then the installation's."""
    own_credentials: frozenset[str]
    """The providers that the project brings a key of its own for."""


class ProjectRecord(Struct, frozen=True, kw_only=True):
    """A project, and the hints of the provider keys that it brings."""

    project_id: str
    name: str
    created_at: datetime
    daily_budget_nano_usd: NanoUsd | None
    monthly_budget_nano_usd: NanoUsd | None
    alert_url: str | None
    installation_daily_budget_nano_usd: NanoUsd | None
    """For its requests under the installation's credentials."""
    cancel_on_disconnect: bool
    provider_hints: dict[str, str]


class Keys:
    """Folds the events of projects and keys."""

    name = "keys"
    tables = ("projects", "api_keys")

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write what each event says; they are few."""
        for stored in events:
            match stored.event:
                case ProjectCreated() as created:
                    await connection.execute(
                        f"INSERT INTO projects{suffix} (project_id, name, created_at, "  # noqa: S608 - a constant
                        "installation_daily_budget_nano_usd) VALUES ($1, $2, $3, $4)",
                        stored.project_id,
                        created.name,
                        stored.at,
                        created.installation_daily_budget_nano_usd,
                    )
                case ProjectSettingsChanged() as changed:
                    await connection.execute(
                        f"UPDATE projects{suffix} SET name = $2, daily_budget_nano_usd = $3, "  # noqa: S608 - a constant
                        "monthly_budget_nano_usd = $4, alert_url = $5, installation_daily_budget_nano_usd = $6, "
                        "cancel_on_disconnect = $7 WHERE project_id = $1",
                        stored.project_id,
                        changed.name,
                        changed.daily_budget_nano_usd,
                        changed.monthly_budget_nano_usd,
                        changed.alert_url,
                        changed.installation_daily_budget_nano_usd,
                        changed.cancel_on_disconnect,
                    )
                case ApiKeyIssued() as issued:
                    await connection.execute(
                        f"INSERT INTO api_keys{suffix} (key_id, project_id, secret_hash, hint, settings, "  # noqa: S608 - a constant
                        "created_at, version, expires_at, daily_budget_nano_usd, monthly_budget_nano_usd, rate_limit, "
                        "token_limit, concurrency_limit) "
                        "VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13)",
                        issued.key_id,
                        stored.project_id,
                        bytes.fromhex(issued.secret_hash),
                        issued.hint,
                        _encode(issued.settings).decode(),
                        stored.at,
                        stored.version,
                        issued.settings.expires_at,
                        *issued.settings.limits(),
                    )
                case ApiKeyChanged() as key:
                    await connection.execute(
                        f"UPDATE api_keys{suffix} SET settings = $2::text::json, version = $3, expires_at = $4, "  # noqa: S608 - a constant
                        "daily_budget_nano_usd = $5, monthly_budget_nano_usd = $6, rate_limit = $7, token_limit = $8, "
                        "concurrency_limit = $9 WHERE key_id = $1",
                        key.key_id,
                        _encode(key.settings).decode(),
                        stored.version,
                        key.settings.expires_at,
                        *key.settings.limits(),
                    )
                case ApiKeyRevoked() as revoked:
                    await connection.execute(
                        f"UPDATE api_keys{suffix} SET revoked_at = $2, version = $3 WHERE key_id = $1",  # noqa: S608 - a constant
                        revoked.key_id,
                        stored.at,
                        stored.version,
                    )
                case _:
                    continue


async def key_by_hash(pool: Pool, secret_hash: bytes) -> KeyRecord | None:
    """The key whose text has this HMAC, revoked or not."""
    async with database_errors():
        row = await pool.fetchrow(_KEY + "WHERE k.secret_hash = $1", secret_hash)
    return _record(row) if row is not None else None


async def key_of_project(pool: Pool, project_id: str, key_id: str) -> KeyRecord | None:
    """A key of a project; None where the project has no such key."""
    async with database_errors():
        row = await pool.fetchrow(_KEY + "WHERE k.project_id = $1 AND k.key_id = $2", project_id, key_id)
    return _record(row) if row is not None else None


async def keys_of_project(pool: Pool, project_id: str) -> list[KeyRecord]:
    """Every key of a project, revoked ones too, oldest first."""
    async with database_errors():
        rows = await pool.fetch(_KEY + "WHERE k.project_id = $1 ORDER BY k.key_id", project_id)
    return [_record(row) for row in rows]


async def project(pool: Pool, project_id: str) -> ProjectRecord | None:
    """A project by its id."""
    async with database_errors():
        row = await pool.fetchrow(_PROJECT + "WHERE project_id = $1", project_id)
        notifications = await pool.fetch("SELECT provider, hint FROM provider_keys WHERE project_id = $1", project_id)
    if row is None:
        return None
    return ProjectRecord(**row, provider_hints={hint["provider"]: hint["hint"] for hint in notifications})


async def projects(pool: Pool) -> list[ProjectRecord]:
    """Every project, oldest first, without its providers' hints."""
    async with database_errors():
        rows = await pool.fetch(_PROJECT + "ORDER BY project_id")
    return [ProjectRecord(**row, provider_hints={}) for row in rows]


def _record(row: asyncpg.Record) -> KeyRecord:
    return KeyRecord(
        **{
            **row,
            "settings": _decode_settings(row["settings"]),
            "providers": _decode_providers(row["providers"] or "[]"),
            "own_credentials": frozenset(row["own_credentials"]),
        }
    )
