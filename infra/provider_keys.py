"""The keys with which providers are called: a project's own, sealed in the database, else the installation's."""

import time
from collections import OrderedDict
from collections.abc import Mapping

from infra.database import Connection, Pool, database_errors
from infra.vault import Vault

MAX_CACHED_KEYS = 10_000
MAX_AGE_S = 0.9
"""How long a process may go on with a key that has been replaced, should the news not arrive."""


class ProviderKeys:
    """Looks up providers' keys for one process."""

    def __init__(self, pool: Pool, vault: Vault, installation: Mapping[str, str]) -> None:
        """`installation` has the keys, by provider, of projects that bring none."""
        self._pool = pool
        self._vault = vault
        self._installation = installation
        self._known: OrderedDict[tuple[str, str], tuple[float, str | None]] = OrderedDict()

    async def key_for(self, project_id: str, provider: str) -> str | None:
        """The key; None where neither the project nor the installation has one.

        Raises:
            Unavailable: the database is away.

        """
        slot = (project_id, provider)
        known = self._known.get(slot)
        if known is None or time.monotonic() - known[0] > MAX_AGE_S:
            read_at = time.monotonic()
            known = self._known[slot] = (read_at, await self._read(project_id, provider))
            self._known.move_to_end(slot)
            if len(self._known) > MAX_CACHED_KEYS:
                self._known.popitem(last=False)
        return known[1] or self._installation.get(provider)

    def forget(self, project_id: str) -> None:
        """Drop what is remembered of a project."""
        for slot in [slot for slot in self._known if slot[0] == project_id]:
            del self._known[slot]

    async def _read(self, project_id: str, provider: str) -> str | None:
        async with database_errors():
            sealed = await self._pool.fetchval(
                "SELECT sealed FROM provider_keys WHERE project_id = $1 AND provider = $2", project_id, provider
            )
        if sealed is None:
            return None
        return self._vault.open(sealed, tenant=project_id, row=f"provider-key/{provider}").decode()


async def store_provider_key(
    connection: Connection, vault: Vault, *, project_id: str, provider: str, key: str | None, hint: str | None
) -> None:
    """Write a project's key for a provider, sealed, or remove it (None), in the caller's transaction."""
    if key is None:
        await connection.execute(
            "DELETE FROM provider_keys WHERE project_id = $1 AND provider = $2", project_id, provider
        )
        return
    sealed = vault.seal(key.encode(), tenant=project_id, row=f"provider-key/{provider}")
    await connection.execute(
        "INSERT INTO provider_keys VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (project_id, provider) DO UPDATE SET sealed = excluded.sealed, hint = excluded.hint",
        project_id,
        provider,
        sealed,
        hint,
    )
