"""Providers by configuration. They are folded in the append of their own events, so the next request can use them."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from domain.events import Event, ProviderConfigured, ProviderRemoved, StoredEvent
from domain.routing import NamedProvider
from infra.database import Connection, Pool, database_errors
from projections.projection import fold_streams


class ProviderRecord(Struct, frozen=True, kw_only=True):
    """A provider as the database stores it, with its project and the last four characters of its key."""

    project_id: str
    provider: NamedProvider
    hint: str
    configured_at: datetime


class Providers:
    """Folds `ProviderConfigured` and `ProviderRemoved`."""

    name = "providers"
    tables = ("providers",)
    reads: frozenset[type[Event]] = frozenset({ProviderConfigured, ProviderRemoved})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Make the rows what their streams in the log say."""
        await fold_streams(connection, "fold_providers", events, (ProviderConfigured, ProviderRemoved), suffix)


async def providers_of(pool: Pool, project_id: str) -> list[ProviderRecord]:
    """Return the providers of a project, or of `INSTALLATION`, in the order of their names."""
    async with database_errors():
        rows = await pool.fetch("SELECT * FROM providers WHERE project_id = $1 ORDER BY name", project_id)
    return [
        ProviderRecord(
            project_id=row["project_id"],
            provider=NamedProvider(
                name=row["name"],
                kind=row["kind"],
                base_url=row["base_url"],
                models=tuple(row["models"]) if row["models"] is not None else None,
                replaces_builtin=row["replaces_builtin"],
            ),
            hint=row["hint"],
            configured_at=row["configured_at"],
        )
        for row in rows
    ]


async def is_configured(pool: Pool, name: str) -> bool:
    """Return whether any project, or the installation, has a provider of this name."""
    async with database_errors():
        return bool(await pool.fetchval("SELECT true FROM providers WHERE name = $1 LIMIT 1", name))
