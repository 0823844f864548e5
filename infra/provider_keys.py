"""Looks up a provider's key and address. A project's own setting comes before the installation's.

The database has the keys, sealed. The environment may have the installation's keys of the built-in providers.
"""

import time
from collections.abc import Mapping

from cachetools import TLRUCache
from msgspec import Struct

from domain.events import INSTALLATION
from domain.routing import Kind
from infra.database import Connection, Pool, database_errors
from infra.vault import Vault

MAX_CACHED = 10_000
MAX_AGE_S = 0.9
"""For so long a process may go on using a replaced key if the notification is lost."""


class Access(Struct, frozen=True):
    """A provider's key. `kind` and `base_url` are set for a provider by configuration, None for a built-in one."""

    key: str
    kind: Kind | None = None
    base_url: str | None = None
    is_own: bool = False
    """True if the key is the project's, not the installation's."""

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Access(kind={self.kind!r}, base_url={self.base_url!r})"


class _LookUp(Struct, frozen=True):
    began_at: float
    """The start of the look-up: a change during the look-up is then missed for at most `MAX_AGE_S`."""
    access: Access | None
    """None: the database has no key for the provider."""


class ProviderKeys:
    """Looks up and caches the keys and addresses of providers, for one process."""

    def __init__(self, pool: Pool, vault: Vault, installation: Mapping[str, str]) -> None:
        """`installation` has the keys of built-in providers for projects without a key of their own; not empty ones."""
        self._pool = pool
        self._vault = vault
        self._installation = {provider: Access(key) for provider, key in installation.items() if key}
        self._looked_up: TLRUCache[tuple[str, str], _LookUp, float] = TLRUCache(
            MAX_CACHED, ttu=lambda _slot, look_up, _now: look_up.began_at + MAX_AGE_S, timer=time.monotonic
        )

    async def access(self, project_id: str, provider: str) -> Access | None:
        """Return the key and address of a project's provider; None if there is no key for it.

        Raises:
            Unavailable: the database cannot be reached.

        """
        slot = (project_id, provider)
        looked_up = self._looked_up.get(slot)
        if looked_up is None:
            looked_up = _LookUp(time.monotonic(), await self._read(project_id, provider))
            self._looked_up[slot] = looked_up
        return looked_up.access or self._installation.get(provider)

    def forget(self, project_id: str) -> None:
        """Drop the cached look-ups of a project, or of every project if it is `INSTALLATION`."""
        for slot in list(self._looked_up):
            if project_id in (slot[0], INSTALLATION):
                self._looked_up.pop(slot, None)  # it may expire meanwhile

    async def _read(self, project_id: str, provider: str) -> Access | None:
        """Read key and address from one row, so that a key is sent only to its own provider's address."""
        async with database_errors():
            row = await self._pool.fetchrow(
                "SELECT k.project_id, k.sealed, n.kind, n.base_url FROM provider_keys k "
                "LEFT JOIN providers n ON n.project_id = k.project_id AND n.name = k.provider "
                "WHERE k.provider = $2 AND k.project_id IN ($1, $3) ORDER BY k.project_id = $3 LIMIT 1",
                project_id,
                provider,
                INSTALLATION,
            )
        if row is None:
            return None
        key = self._vault.open(row["sealed"], tenant=row["project_id"], row=f"provider-key/{provider}").decode()
        return Access(key, row["kind"], row["base_url"], is_own=row["project_id"] == project_id)


async def store_provider_key(
    connection: Connection, vault: Vault, *, project_id: str, provider: str, key: str | None, hint: str | None
) -> None:
    """Seal and store a project's key for a provider, or remove it if `key` is None, in the caller's transaction."""
    sealed = vault.seal(key.encode(), tenant=project_id, row=f"provider-key/{provider}") if key is not None else None
    await connection.execute("SELECT store_provider_key($1, $2, $3, $4)", project_id, provider, sealed, hint)
