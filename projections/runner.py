"""Folds the log into the projections: one leader, one transaction for rows and checkpoints, in log order.

A standby waits for the leader's advisory lock. Should two ever think that they lead, the checkpoints' expected
positions let only one of them write.
"""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
import structlog

from domain.events import AttemptFailed, AttemptLost, CostIncurred, StoredEvent
from infra.database import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, Connection, Pool
from infra.event_log import EventLog
from projections.projection import Projection

LEADER_LOCK = 0x676174657761794C
BATCH_EVENTS = 2_000
MIN_REST_S = 0.02
MAX_REST_S = 0.1
REST_FACTOR = 8
"""A fold costs a handful of round trips, however many events it takes along: after one, the next waits this many times
as long as it took, within the bounds above. So folding stays a ninth of the time at most, and reads stay fresh.
"""
POLL_INTERVAL_S = 0.25
RETRY_S = 1.0
UNKNOWN_TOKENS = -1

log = structlog.get_logger(__name__)


class LostLeadershipError(Exception):
    """A checkpoint is not where this leader left it: another one folds."""


class Runner:
    """Folds `projections` from one process."""

    def __init__(self, pool: Pool, event_log: EventLog, projections: Sequence[Projection]) -> None:
        self._pool = pool
        self._log = event_log
        self._projections = projections
        self._appended = asyncio.Event()

    def appended(self, _payload: str = "") -> None:
        """Note that the log is longer."""
        self._appended.set()

    async def lead(self, stop: asyncio.Event) -> None:
        """Fold as the leader until `stop`.

        Raises:
            LostLeadershipError: another one folds.
            asyncpg.PostgresError, OSError: the database is away, or an event cannot be folded.

        """
        positions = await self._positions()
        while not stop.is_set():
            started = time.monotonic()
            self._appended.clear()
            if await self.fold_next(positions):
                took_s = time.monotonic() - started
                await asyncio.sleep(min(MAX_REST_S, max(MIN_REST_S, REST_FACTOR * took_s)))
            else:
                await _wait(self._appended, stop, POLL_INTERVAL_S)

    async def fold_next(self, positions: dict[str, int]) -> int:
        """Fold the next batch, and move `positions` on; returns how many events it had."""
        start = min(positions.values())
        events = await self._log.read_after(start, limit=BATCH_EVENTS)
        if not events:
            return 0
        reached = {name: max(position, events[-1].position) for name, position in positions.items()}
        async with self._pool.acquire() as connection, connection.transaction():
            await self._advance(connection, positions, reached)
            for projection in self._projections:
                news = [event for event in events if event.position > positions[projection.name]]
                await projection.fold(connection, news)
            await settle(connection, events)
        positions.update(reached)
        return len(events)

    async def catch_up(self) -> int:
        """Fold everything there is, once; returns the position reached."""
        positions = await self._positions()
        while await self.fold_next(positions):
            pass
        return min(positions.values())

    async def _positions(self) -> dict[str, int]:
        names = [projection.name for projection in self._projections]
        await self._pool.execute(
            "INSERT INTO projection_checkpoints SELECT name, 0 FROM unnest($1::text[]) AS n (name) "
            "ON CONFLICT DO NOTHING",
            names,
        )
        rows = await self._pool.fetch("SELECT * FROM projection_checkpoints WHERE projection = ANY ($1)", names)
        return {row["projection"]: row["position"] for row in rows}

    async def _advance(self, connection: Connection, expected: dict[str, int], reached: dict[str, int]) -> None:
        """Move the checkpoints first: their row locks keep a rebuild's swap and this fold apart."""
        moved = await connection.fetch(
            "UPDATE projection_checkpoints c SET position = n.reached "
            "FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n (name, expected, reached) "
            "WHERE c.projection = n.name AND c.position = n.expected RETURNING 1",
            list(expected),
            list(expected.values()),
            [reached[name] for name in expected],
        )
        if len(moved) != len(expected):
            raise LostLeadershipError


async def settle(connection: Connection, events: Sequence[StoredEvent]) -> None:
    """Release the holds of the attempts whose outcome has just been counted, and settle their tokens.

    Last in the transaction, because admission waits for these rows. Not a projection: `inflight` is the live ledger,
    and only the deletion of a row lowers what is held, so nothing is released twice.
    """
    ended = sorted(
        (stored.event.request_id, stored.event.attempt, stored.event.key_id, _true_tokens(stored.event))
        for stored in events
        if isinstance(stored.event, CostIncurred | AttemptFailed | AttemptLost)
    )
    if ended:
        await connection.execute("SELECT settle($1, $2, $3, $4)", *map(list, zip(*ended, strict=True)))


def _true_tokens(event: CostIncurred | AttemptFailed | AttemptLost) -> int:
    """How many tokens an attempt took; `UNKNOWN_TOKENS` leaves what admission assumed."""
    match event:
        case CostIncurred(breakdown=breakdown) if breakdown is not None:
            return sum(item.tokens for item in breakdown.items)
        case AttemptFailed():
            return 0
        case _:
            return UNKNOWN_TOKENS


async def run_as_leader(runner: Runner, database_url: str, stop: asyncio.Event) -> None:
    """Wait for the lead, then fold, over and over, until `stop`; whatever ends a lead is logged and tried again."""
    while not stop.is_set():
        try:
            await _lead_once(runner, database_url, stop)
        except (OSError, TimeoutError, LostLeadershipError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.error("fold_failed", error=type(error).__name__, message=str(error)[:500])  # noqa: TRY400 - no trace needed
        await _wait(stop, stop, RETRY_S)


async def _lead_once(runner: Runner, database_url: str, stop: asyncio.Event) -> None:
    session = await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={"application_name": "gateway projector lead", "tcp_keepalives_idle": "5"},
    )
    try:
        if not await session.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
            return
        log.info("projector_leads")
        await runner.lead(stop)
    finally:
        session.terminate()


async def _wait(first: asyncio.Event, second: asyncio.Event, timeout_s: float) -> None:
    """Wait until one of two events is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in {first, second}]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
