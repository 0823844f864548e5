"""Readiness of this process to serve requests, with the state of each part; looked up at most once a second."""

import asyncio
import time
from typing import Literal

from msgspec import Struct

from api.provider_health import ProviderHealth
from domain.errors import Unavailable
from infra.broker import Broker
from infra.database import Pool, brief, database_errors, newest_revision
from infra.jobs import JobQueue, Replicas
from projections.freshness import oldest_unfolded_s
from projections.quarantine import quarantined_projects
from projections.registry import FOLDED
from projections.runner import is_led

State = Literal["ok", "away", "outdated"]
ProjectorState = Literal["ok", "away", "behind"]
MAX_AGE_S = 1.0
LOOK_TIMEOUT_S = 3.0
REPLICAS_TIMEOUT_S = 0.5
MAX_UNFOLDED_S = 30.0
"""The greatest age of an event that is not yet folded. A fold normally takes a fraction of a second."""


class Findings(Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of what this process needs."""

    postgresql: State
    nats: State
    migrations: State
    projector: ProjectorState
    """`away`: no process has the lead. `behind`: it folds nothing, or too slowly."""
    quarantined_projects: int
    """Projects whose events cannot be folded; others are not concerned, so the process is ready."""
    queue_replicas: Replicas | None
    """On how many servers jobs are kept. Null while the queue has no leader: jobs go past it then."""
    open_circuits: tuple[str, ...]
    """The installation's models that are not called at the moment, as `provider/model`; others are, so the process is
    ready.
    """

    @property
    def is_ready(self) -> bool:
        """True if requests can be served."""
        return (self.postgresql, self.nats, self.migrations, self.projector) == ("ok", "ok", "ok", "ok")


class Readiness:
    """Checks for one process."""

    def __init__(self, pool: Pool, broker: Broker, queue: JobQueue, health: ProviderHealth) -> None:
        self._pool = pool
        self._broker = broker
        self._queue = queue
        self._health = health
        self._newest_revision = newest_revision()
        self._looking = asyncio.Lock()
        self._known: Findings | None = None
        self._known_at_s = 0.0

    async def findings(self) -> Findings:
        """The state, at most `MAX_AGE_S` old: the call needs no key, so it may not cost the servers one look each."""
        async with self._looking:
            if self._known is None or time.monotonic() - self._known_at_s > MAX_AGE_S:
                self._known = await self._look_in_time()
                self._known_at_s = time.monotonic()
            return self._known

    async def _look_in_time(self) -> Findings:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                return await self._look()
        except TimeoutError:  # of the two only PostgreSQL is waited for
            nats: State = "ok" if self._broker.is_connected else "away"
            return Findings(
                postgresql="away",
                nats=nats,
                migrations="away",
                projector="away",
                quarantined_projects=0,
                queue_replicas=None,
                open_circuits=self._health.open_circuits(),
            )

    async def _look(self) -> Findings:
        postgresql, migrations = await self._database()
        projector, quarantined = await self._projector() if migrations == "ok" else ("away", 0)
        return Findings(
            postgresql=postgresql,
            nats="ok" if self._broker.is_connected else "away",
            migrations=migrations,
            projector=projector,
            quarantined_projects=quarantined,
            queue_replicas=await self._replicas(),
            open_circuits=self._health.open_circuits(),
        )

    async def _database(self) -> tuple[State, State]:
        try:
            async with database_errors(), brief(self._pool, LOOK_TIMEOUT_S) as connection:
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        except Unavailable:
            return "away", "away"
        return "ok", "ok" if revision == self._newest_revision else "outdated"

    async def _projector(self) -> tuple[ProjectorState, int]:
        try:
            quarantined = len(await quarantined_projects(self._pool))
            if not await is_led(self._pool):
                return "away", quarantined
            unfolded_s = await oldest_unfolded_s(self._pool, [projection.name for projection in FOLDED])
        except Unavailable:
            return "away", 0
        return "behind" if unfolded_s is not None and unfolded_s > MAX_UNFOLDED_S else "ok", quarantined

    async def _replicas(self) -> Replicas | None:
        if not self._broker.is_connected:
            return None
        try:
            async with asyncio.timeout(REPLICAS_TIMEOUT_S):
                return await self._queue.replicas()
        except (Unavailable, TimeoutError):
            return None
