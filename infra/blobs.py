"""Bodies that are stored outside the log: responses for the cache, and prompts that are too large for a message.

Each body is compressed and sealed under its project's key. If that key is erased, the content is gone, but every sum
can still be proved. Does not decide which bodies are stored, or for how long.
"""

import time
from datetime import datetime

from cachetools import TLRUCache

from domain.errors import Unavailable
from infra.database import Pool, database_errors
from infra.event_log import Blob, EventLog
from infra.offload import offload
from infra.vault import Vault, VaultError

MAX_CACHED_PROJECT_KEYS = 10_000
EXPECTED_RATIO = 64
"""Assumed compression: a small blob may hold a large, repetitive body, so 4 KiB open in a thread, as 256 KiB do."""
PROJECT_KEY_MAX_AGE_S = 30.0
"""For so long a process may go on using a project's key after the key was erased."""


class Blobs:
    """Seals and opens bodies for one process."""

    def __init__(self, pool: Pool, log: EventLog, vault: Vault) -> None:
        self._pool = pool
        self._log = log
        self._vault = vault
        self._keys: TLRUCache[str, tuple[float, bytes], float] = TLRUCache(
            MAX_CACHED_PROJECT_KEYS,
            ttu=lambda _project, read, _now: read[0] + PROJECT_KEY_MAX_AGE_S,
            timer=time.monotonic,
        )
        """By project: when the look-up of the key began, and the key."""

    async def seal(self, project_id: str, blob_id: str, body: bytes, expires_at: datetime) -> Blob:
        """Seal a body as a blob. The append of the event that names the blob stores it.

        Raises:
            Unavailable: the database cannot be reached, or the project's key was erased.

        """
        key = await self._project_key(project_id)
        sealed = await offload(len(body), self._vault.seal_blob, key, blob_id, body)
        return Blob(blob_id=blob_id, project_id=project_id, body=sealed, expires_at=expires_at)

    async def write(self, project_id: str, blob_id: str, body: bytes, expires_at: datetime) -> None:
        """Store a body that no event names."""
        await self._log.write_blob(await self.seal(project_id, blob_id, body, expires_at))

    async def read(self, project_id: str, blob_id: str) -> bytes | None:
        """Return the body; None if it has expired, belongs to another project, or can no longer be opened."""
        sealed = await self._log.read_blob(blob_id)
        if sealed is None:
            return None
        try:
            key = await self._project_key(project_id)
            return await offload(len(sealed) * EXPECTED_RATIO, self._vault.open_blob, key, blob_id, sealed)
        except VaultError:
            return None

    async def _project_key(self, project_id: str) -> bytes:
        cached = self._keys.get(project_id)
        if cached is not None:
            return cached[1]
        read_at = time.monotonic()
        async with database_errors():
            sealed = await self._pool.fetchval("SELECT sealed FROM project_secrets WHERE project_id = $1", project_id)
        if sealed is None:
            raise Unavailable(f"the content key of project {project_id} was erased")
        key = self._vault.open_project_key(sealed, project_id)
        self._keys[project_id] = (read_at, key)
        return key
