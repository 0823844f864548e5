"""Creates, changes and revokes projects and keys. Used by the routes and by the shell commands.

Each call is one append with its projection and its secrets in one transaction; then every process is notified.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from api.inline_append import append_and_project
from domain.api_key import SECRET_BYTES, format_api_key, hint
from domain.errors import NotFound
from domain.events import (
    DEFAULT_BUDGET_WAIT_MS,
    DEFAULT_CONCURRENCY_LIMIT,
    ApiKeyChanged,
    ApiKeyIssued,
    ApiKeyRevoked,
    Event,
    KeySettings,
    ProjectCreated,
    ProjectSettingsChanged,
    ProviderKeySet,
    WebhookSecretRotated,
    key_stream,
    project_stream,
)
from domain.money import NanoUsd, from_usd
from infra.database import Connection, HeldConnection, Pool, open_pool
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from infra.provider_keys import store_provider_key
from infra.settings import Settings
from infra.vault import Vault
from projections import keys
from projections.keys import KeyRecord, Keys, ProjectRecord

FIRST_PROJECT_LOCK = 0x6761746577617946
DEFAULT_INSTALLATION_DAILY_BUDGET = from_usd(Decimal(5))
"""In nano-dollars. Of a project that is created without the master key: the most that its requests under the
installation's credentials may take of a day.
"""
_keys = Keys()


class NewKey(Struct, frozen=True, kw_only=True):
    """A key that was just issued; `text` is stored nowhere."""

    key_id: str
    text: str
    settings: KeySettings
    created_at: datetime

    def __repr__(self) -> str:
        """Shows no secret."""
        return f"NewKey(key_id={self.key_id!r})"


class NewProject(Struct, frozen=True, kw_only=True):
    """A project that was just created, with its first key."""

    project_id: str
    name: str
    key: NewKey


class Accounts:
    """Changes projects and keys."""

    def __init__(
        self, pool: Pool, log: EventLog, vault: Vault, announce: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        """`announce` tells every process that a project's keys are different."""
        self._pool = pool
        self._log = log
        self._vault = vault
        self._announce = announce

    async def create_project(
        self, name: str, provider_keys: dict[str, str], *, installation_daily_budget_nano_usd: NanoUsd | None = None
    ) -> NewProject:
        """Create a project with its first key, of role admin, and the provider keys that it brings."""
        project_id, now = new_id("prj"), datetime.now(UTC)
        key, issued = self._new_key(first_key_settings(), now)
        created = (
            ProjectCreated(name=name, installation_daily_budget_nano_usd=installation_daily_budget_nano_usd),
            *_provider_keys_set(provider_keys),
        )

        async def store(connection: Connection) -> None:
            await connection.execute(
                "SELECT store_project_secret($1, $2)",
                project_id,
                self._vault.new_project_key(project_id),
            )
            await self._store_provider_keys(connection, project_id, provider_keys)

        await self._append(
            project_id, now, [(project_stream(project_id), 0, created), (key_stream(key.key_id), 0, (issued,))], store
        )
        return NewProject(project_id=project_id, name=name, key=key)

    async def change_project(
        self, project_id: str, *, settings: dict[str, Any], provider_keys: dict[str, str | None]
    ) -> ProjectRecord:
        """Change these fields of a project's settings (those of `ProjectSettingsChanged`), set or remove (None) its
        provider keys.
        """
        stream = project_stream(project_id)
        version = len(await self._log.read_stream(stream))  # before what is decided on
        current = await self.project(project_id)
        events: tuple[Event, ...] = _provider_keys_set(provider_keys)
        before = ProjectSettingsChanged(
            name=current.name,
            daily_budget_nano_usd=current.daily_budget_nano_usd,
            monthly_budget_nano_usd=current.monthly_budget_nano_usd,
            alert_url=current.alert_url,
            installation_daily_budget_nano_usd=current.installation_daily_budget_nano_usd,
            cancel_on_disconnect=current.cancel_on_disconnect,
        )
        after = replace(before, **settings)
        if after != before:
            events = (after, *events)
        if events:

            async def store(connection: Connection) -> None:
                await self._store_provider_keys(connection, project_id, provider_keys)

            await self._append(project_id, datetime.now(UTC), [(stream, version, events)], store)
        return await self.project(project_id)

    async def rotate_webhook_secret(self, project_id: str) -> int:
        """Have a project's webhooks signed with another secret. Return how often that was done.

        Raises:
            NotFound: there is no such project.

        """
        stream = project_stream(project_id)
        version = len(await self._log.read_stream(stream))
        current = await self.project(project_id)
        rotated = WebhookSecretRotated(rotation=current.webhook_rotation + 1)
        await self._append(project_id, datetime.now(UTC), [(stream, version, (rotated,))])
        return rotated.rotation

    async def project(self, project_id: str) -> ProjectRecord:
        """A project.

        Raises:
            NotFound: there is no such project.

        """
        record = await keys.project(self._pool, project_id)
        if record is None:
            raise NotFound("there is no such project")
        return record

    async def issue_key(self, project_id: str, settings: KeySettings) -> NewKey:
        """Issue a key of a project."""
        now = datetime.now(UTC)
        key, issued = self._new_key(settings, now)
        await self._append(project_id, now, [(key_stream(key.key_id), 0, (issued,))])
        return key

    async def change_key(self, record: KeyRecord, settings: KeySettings) -> KeyRecord:
        """Give a key other settings, from its next request on. `record`: the key as it was when that was decided.

        Raises:
            Unavailable: another call has changed the key since.

        """
        if settings != record.settings:
            event = ApiKeyChanged(key_id=record.key_id, settings=settings)
            await self._append_to_key(record, record.version, event)
        return await self.key(record.project_id, record.key_id)

    async def revoke_key(self, record: KeyRecord) -> None:
        """Revoke a key for good, even if it was changed meanwhile. Revoking it again changes nothing."""
        if record.revoked_at is None:
            version = len(await self._log.read_stream(key_stream(record.key_id)))
            await self._append_to_key(record, version, ApiKeyRevoked(key_id=record.key_id))

    async def key(self, project_id: str, key_id: str) -> KeyRecord:
        """A key of a project.

        Raises:
            NotFound: the project has no such key.

        """
        record = await keys.key_of_project(self._pool, project_id, key_id)
        if record is None:
            raise NotFound("there is no such key in this project")
        return record

    def _new_key(self, settings: KeySettings, now: datetime) -> tuple[NewKey, ApiKeyIssued]:
        text = format_api_key(os.urandom(SECRET_BYTES))
        key = NewKey(key_id=new_id("key"), text=text, settings=settings, created_at=now)
        secret_hash = self._vault.api_key_hash(text).hex()
        return key, ApiKeyIssued(key_id=key.key_id, secret_hash=secret_hash, hint=hint(text), settings=settings)

    async def _append_to_key(self, record: KeyRecord, version: int, event: Event) -> None:
        await self._append(record.project_id, datetime.now(UTC), [(key_stream(record.key_id), version, (event,))])

    async def _append(
        self,
        project_id: str,
        now: datetime,
        streams: list[tuple[str, int, tuple[Event, ...]]],
        store: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        commits = [
            Commit(stream=stream, expected_version=version, project_id=project_id, at=now, events=events)
            for stream, version, events in streams
        ]
        await append_and_project(self._log, _keys, commits, store)
        if self._announce is not None:
            await self._announce(project_id)

    async def _store_provider_keys(
        self, connection: Connection, project_id: str, provider_keys: dict[str, str] | dict[str, str | None]
    ) -> None:
        for provider, key in provider_keys.items():
            await store_provider_key(
                connection,
                self._vault,
                project_id=project_id,
                provider=provider,
                key=key,
                hint=hint(key) if key is not None else None,
            )


def first_key_settings() -> KeySettings:
    """The settings of a project's first key."""
    return KeySettings(
        name="first key",
        role="admin",
        concurrency_limit=DEFAULT_CONCURRENCY_LIMIT,
        budget_wait_ms=DEFAULT_BUDGET_WAIT_MS,
    )


async def create_first_project(settings: Settings) -> str | None:
    """Create a project with an admin key, and return the key's text. Return None if there is a project already."""
    assert settings.database_url is not None, "checked by the command"
    assert settings.encryption_key is not None, "checked by the command"
    pool = await open_pool(settings.database_url, name="gateway first start", size=2)
    log = EventLog(pool, HeldConnection(settings.database_url, name="gateway first start"))
    try:
        async with pool.acquire() as session, session.transaction():
            await session.execute("SELECT pg_advisory_xact_lock($1)", FIRST_PROJECT_LOCK)
            if await session.fetchval("SELECT EXISTS (SELECT 1 FROM projects)"):
                return None
            project = await Accounts(pool, log, Vault(settings.encryption_key)).create_project("default", {})
            return project.key.text
    finally:
        await log.close()
        await pool.close()


def _provider_keys_set(provider_keys: dict[str, str] | dict[str, str | None]) -> tuple[Event, ...]:
    return tuple(
        ProviderKeySet(provider=provider, hint=hint(key) if key is not None else None)
        for provider, key in provider_keys.items()
    )
