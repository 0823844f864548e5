"""Looks up a provider's keys and address. A project's own setting comes before the installation's.

The database has the keys, sealed. The environment may have the installation's keys of the built-in providers.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from domain.credentials import DEFAULT_CREDENTIAL
from domain.events import INSTALLATION
from domain.routing import Kind
from infra.database import REHEARSED, Connection, Pool, database_errors, rehearsing
from infra.newest import Newest
from infra.settings import NamedKey
from infra.vault import Vault

MAX_CACHED = 10_000
MAX_AGE_S = 0.9
"""For so long a process may go on using a replaced key if the notification is lost."""


class Access(Struct, frozen=True):
    """One of a provider's keys. `kind` and `base_url` are set for a provider by configuration, None: it is built in."""

    key: str
    kind: Kind | None = None
    base_url: str | None = None
    is_own: bool = False
    """True if the key is the project's, not the installation's."""
    name: str = DEFAULT_CREDENTIAL
    weight: int = 1

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"Access(kind={self.kind!r}, base_url={self.base_url!r}, name={self.name!r})"


class StoredCredential(Struct, frozen=True, kw_only=True):
    """One of a provider's keys, as it is shown: without the key."""

    name: str
    hint: str
    """The last four characters of the key."""
    weight: int


class _LookUp(Struct, frozen=True):
    began_at: float
    """The start of the look-up: a change during the look-up is then missed for at most `MAX_AGE_S`."""
    accesses: tuple[Access, ...]
    """Empty: the database has no key for the provider."""


class ProviderKeys:
    """Looks up and caches the keys and addresses of providers, for one process."""

    def __init__(
        self,
        pool: Pool,
        vault: Vault,
        installation: Mapping[str, str],
        further: Mapping[str, Sequence[NamedKey]] = {},
    ) -> None:
        """`installation` has the keys of built-in providers for projects without a key of their own; not empty ones.
        `further` has those with a name.
        """
        self._pool = pool
        self._vault = vault
        self._installation = {
            provider: (
                *((Access(installation[provider]),) if installation.get(provider) else ()),
                *(Access(one.key, name=one.name, weight=one.weight) for one in further.get(provider, ())),
            )
            for provider in (*installation, *further)
        }
        self._looked_up: Newest[tuple[str, str], _LookUp] = Newest(MAX_CACHED)
        self._looking_up: dict[tuple[str, str], tuple[float, asyncio.Task[_LookUp]]] = {}
        """The last look-up of each that is under way, and when it began: requests that need the same one share it, and
        its error.
        """

    async def prepare(self) -> None:
        """Look up what there is not, so that the database is ready for the first caller. A failure is only logged."""
        with rehearsing():
            await self._read(time.monotonic(), REHEARSED, "")

    async def accesses(self, project_id: str, provider: str) -> tuple[Access, ...]:
        """Return the keys of a project's provider, with its address; empty if there is none.

        Raises:
            Unavailable: the database cannot be reached.

        """
        slot, valid_from = (project_id, provider), time.monotonic() - MAX_AGE_S
        looked_up = self._looked_up.get(slot)
        if looked_up is None or looked_up.began_at <= valid_from:
            looked_up = await asyncio.shield(self._look_up(slot, valid_from))
        return looked_up.accesses or self._installation.get(provider, ())

    def _look_up(self, slot: tuple[str, str], valid_from: float) -> asyncio.Task[_LookUp]:
        """Return the look-up that is under way, or begin one if there is none or it is too old."""
        under_way = self._looking_up.get(slot)
        if under_way is not None and under_way[0] > valid_from:
            return under_way[1]
        began_at = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._read(began_at, *slot))
        self._looking_up[slot] = (began_at, task)
        task.add_done_callback(lambda ended: self._keep(slot, ended))
        return task

    def _keep(self, slot: tuple[str, str], ended: asyncio.Task[_LookUp]) -> None:
        """Keep what a look-up has found, unless a later one has begun or what it saw was to be forgotten meanwhile."""
        _, under_way = self._looking_up.get(slot, (None, None))
        if under_way is not ended:
            return
        del self._looking_up[slot]
        if not ended.cancelled() and ended.exception() is None:
            self._looked_up[slot] = ended.result()

    async def access(self, project_id: str, provider: str) -> Access | None:
        """Return the first of the keys; None if there is none. Raises as `accesses`."""
        return next(iter(await self.accesses(project_id, provider)), None)

    def forget(self, project_id: str) -> None:
        """Drop the cached look-ups of a project, or of every project if it is `INSTALLATION`."""
        for known in (self._looked_up, self._looking_up):
            for slot in [slot for slot in known if project_id in (slot[0], INSTALLATION)]:
                del known[slot]

    async def _read(self, began_at: float, project_id: str, provider: str) -> _LookUp:
        """Read keys and address in one statement, so that a key is sent only to its own provider's address."""
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT k.project_id, k.sealed, k.name, k.weight, n.kind, n.base_url FROM provider_keys k "
                "LEFT JOIN providers n ON n.project_id = k.project_id AND n.name = k.provider "
                "WHERE k.provider = $2 AND k.project_id IN ($1, $3) ORDER BY k.project_id = $3, k.name <> $4, k.name",
                project_id,
                provider,
                INSTALLATION,
                DEFAULT_CREDENTIAL,
            )
        owner = rows[0]["project_id"] if rows else None
        accesses = tuple(
            Access(
                self._vault.open(row["sealed"], tenant=owner, row=_sealed_row(provider, row["name"])).decode(),
                row["kind"],
                row["base_url"],
                is_own=owner == project_id,
                name=row["name"],
                weight=row["weight"],
            )
            for row in rows
            if row["project_id"] == owner
        )
        return _LookUp(began_at, accesses)


async def store_provider_key(
    connection: Connection,
    vault: Vault,
    *,
    project_id: str,
    provider: str,
    key: str | None,
    hint: str | None,
    name: str = DEFAULT_CREDENTIAL,
    weight: int | None = None,
) -> None:
    """Seal and store one of a project's keys for a provider, in the caller's transaction; remove it if `key` is None.

    `weight` None: it keeps the weight that it has, or gets 1.
    """
    row = _sealed_row(provider, name)
    sealed = vault.seal(key.encode(), tenant=project_id, row=row) if key is not None else None
    await connection.execute(
        "SELECT store_provider_key($1, $2, $3, $4, $5, $6)", project_id, provider, sealed, hint, name, weight
    )


async def weigh_provider_key(connection: Connection, project_id: str, provider: str, name: str, weight: int) -> None:
    """Change the weight of a key, in the caller's transaction."""
    await connection.execute("SELECT weigh_provider_key($1, $2, $3, $4)", project_id, provider, name, weight)


async def remove_provider_keys(connection: Connection, project_id: str, provider: str) -> None:
    """Remove every key of a project for a provider, in the caller's transaction."""
    await connection.execute("SELECT remove_provider_keys($1, $2)", project_id, provider)


async def credentials_of(pool: Pool, project_id: str, provider: str) -> list[StoredCredential]:
    """Return a project's credentials for a provider, the default one first.

    Raises:
        Unavailable: the database cannot be reached.

    """
    async with database_errors():
        rows = await pool.fetch(
            "SELECT name, hint, weight FROM provider_keys WHERE project_id = $1 AND provider = $2 "
            "ORDER BY name <> $3, name",
            project_id,
            provider,
            DEFAULT_CREDENTIAL,
        )
    return [StoredCredential(**row) for row in rows]


async def credentials_by_provider(pool: Pool, project_id: str) -> dict[str, list[StoredCredential]]:
    """Return all credentials of a project, by provider, the default one first. Raises as `credentials_of`."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT provider, name, hint, weight FROM provider_keys WHERE project_id = $1 "
            "ORDER BY provider, name <> $2, name",
            project_id,
            DEFAULT_CREDENTIAL,
        )
    found: dict[str, list[StoredCredential]] = {}
    for row in rows:
        one = StoredCredential(name=row["name"], hint=row["hint"], weight=row["weight"])
        found.setdefault(row["provider"], []).append(one)
    return found


def _sealed_row(provider: str, name: str) -> str:
    """What a sealed key is bound to. Keys from before there were several are the default ones."""
    return f"provider-key/{provider}" if name == DEFAULT_CREDENTIAL else f"provider-key/{provider}/{name}"
