"""Folds the log into the projections, in log order. One transaction writes a batch's rows and the checkpoints.

One process leads; the others wait for its advisory lock. If two processes ever fold at once, only one of them can move
the checkpoints from their expected positions; the other one's transaction is rolled back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import asyncpg
import structlog

from domain.events import AttemptFailed, AttemptLost, CostIncurred, StoredEvent, request_of
from infra.crash_points import reach
from infra.database import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, Connection, Pool, database_errors
from infra.event_log import EventLog, LogBatch, UnreadableEvent
from infra.log_selection import Selection
from projections.outage import OUTAGES, Outage
from projections.projection import Projection
from projections.quarantine import (
    MAX_ERROR_CHARS,
    QuarantineChangedError,
    by_project,
    encode_positions,
    folded_positions,
    is_caused_by_data,
    quarantine,
    quarantined_positions,
)
from projections.rows import RowType

LEADER_LOCK = 0x676174657761794C
BATCH_EVENTS = 2_000
MIN_REST_S = 0.02
MAX_REST_S = 0.15
REST_FACTOR = 8
"""A fold makes a few round trips, whether its batch is small or large. The pause after a fold is this many times as
long as the fold took, within the bounds above. So folding takes a ninth of the time at most, and reads stay fresh.
"""
BUSY_EVENTS = 8
"""After a fold of as many events others come at once: the pause is the longest, so that more share the round trips."""
POLL_INTERVAL_S = 0.5
"""Each append wakes the leader. This finds what it was not told of, for example while NATS is away. A notification of
what was folded already may stand for what was appended right after it: then the next look comes soon.
"""
RETRY_S = 1.0
FOLD = "fold"
"""The name of this work, in what is told of outages."""
LEAD_TIMEOUT_S = 30.0
"""A leader that hangs, or whose machine stands still, is replaced after so long. When it wakes up it does no harm: the
checkpoints have moved."""
VOUCHES_PER_TIMEOUT = 6
UNKNOWN_TOKENS = -1
_ENDED = RowType("ended_attempt", {"request_id": "text", "attempt": "integer", "key_id": "text", "tokens": "bigint"})
_SETTLE = (
    "SELECT settle(array_agg(request_id), array_agg(attempt), array_agg(key_id), array_agg(tokens)) "  # noqa: S608 - constants
    f"FROM {_ENDED.source}"
)

log = structlog.get_logger(__name__)


class LostLeadershipError(Exception):
    """A checkpoint was moved by another process, which is now the leader."""


Fold = Callable[[Connection, Mapping[str, int], Sequence[StoredEvent]], Awaitable[None]]


class Runner:
    """Folds the log into `projections`."""

    def __init__(
        self,
        pool: Pool,
        event_log: EventLog,
        projections: Sequence[Projection],
        *,
        on_fold: Callable[[Sequence[StoredEvent], float], None] = lambda _events, _took_s: None,
        batch_events: int = BATCH_EVENTS,
    ) -> None:
        """`on_fold` is called after each batch with the events that no projection had folded before it, and the seconds
        that it took. Each event is among them once, however many projectors there are.
        """
        self._pool = pool
        self._on_fold = on_fold
        self._log = event_log
        self._projections = projections
        self._batch_events = batch_events
        self._appended = asyncio.Event()
        self.turned_at_s: float | None = None
        """When, on the monotonic clock, the leader last turned to the log. None: this process does not lead."""
        self._quarantined: dict[str, int] = {}
        """The quarantine at the last batch: by project, the position from which on it is left out."""

    def appended(self, _payload: str = "") -> None:
        """Wake the leader: the log has new events."""
        self._appended.set()

    async def lead(self, stop: asyncio.Event, vouch: Callable[[], Awaitable[None]] | None = None) -> None:
        """Fold as the leader until `stop`. `vouch` is called before each batch, for those that wait for the lead.

        Raises:
            LostLeadershipError: another process folds.
            asyncpg.PostgresError, OSError: the database cannot be reached, or an error is not caused by an event.

        """
        positions = await self._positions()
        while not stop.is_set():
            started = self.turned_at_s = time.monotonic()
            if vouch is not None:
                await vouch()
            is_told = self._appended.is_set()
            self._appended.clear()
            if folded := await self.fold_next(positions):
                await asyncio.sleep(rest_s(folded, self._batch_events, time.monotonic() - started))
            else:
                await _wait(self._appended, stop, MIN_REST_S if is_told else POLL_INTERVAL_S)

    async def fold_next(self, positions: dict[str, int]) -> int:
        """Fold the next batch and advance `positions`. Return its number of events; 0 at the end of the log.

        An event that cannot be folded puts its project into quarantine. The other projects' events are folded.
        """
        start, quarantined = min(positions.values()), self._quarantined
        furthest, began_s = max(positions.values()), time.monotonic()
        try:
            batch = await self._log.read_batch(start, limit=self._batch_events, leave_out=quarantined)
        except UnreadableEvent as error:
            await quarantine(self._pool, error.project_id, error.position, error, positions)
            self._quarantined = await quarantined_positions(self._pool)
            return 1
        if batch is None:
            return 0
        reached = {name: max(position, batch.last_position) for name, position in positions.items()}
        try:
            try:
                await self._fold_batch(batch, positions, reached, self._fold_together)
            except Exception as error:
                if not is_caused_by_data(error):
                    raise
                await self._fold_batch(batch, positions, reached, self._fold_apart)
        except QuarantineChangedError:
            return 1
        positions.update(reached)
        self._on_fold([event for event in batch.events if event.position > furthest], time.monotonic() - began_s)
        return len(batch.events) + len(batch.left_out)

    async def _fold_batch(
        self, batch: LogBatch, positions: dict[str, int], reached: dict[str, int], fold: Fold
    ) -> None:
        reach("projector.before_fold")
        async with self._pool.acquire() as connection, connection.transaction():
            await self._advance(connection, positions, reached)
            read_with, self._quarantined = self._quarantined, await quarantined_positions(connection)
            if read_with != self._quarantined:
                raise QuarantineChangedError
            await fold(connection, positions, batch.events)
            await hand_on_leads(connection, batch.left_out)
            reach("projector.during_fold")
        reach("projector.after_fold")

    async def _fold_together(
        self, connection: Connection, positions: Mapping[str, int], events: Sequence[StoredEvent]
    ) -> None:
        for projection in self._projections:
            if unfolded := events_for(projection, events, after=positions[projection.name]):
                await projection.fold(connection, unfolded)
        await settle(connection, events)

    async def _fold_apart(
        self, connection: Connection, positions: Mapping[str, int], events: Sequence[StoredEvent]
    ) -> None:
        """Fold each project by itself. Quarantine a project from its first event that cannot be folded on."""
        for project_id, its_events in by_project(events).items():
            if await self._failure(connection, positions, its_events) is None:
                continue
            for event in its_events:
                error = await self._failure(connection, positions, [event])
                if error is not None:
                    await quarantine(connection, project_id, event.position, error, positions)
                    await hand_on_leads(
                        connection, [left.stream for left in its_events if left.position >= event.position]
                    )
                    break

    async def _failure(
        self, connection: Connection, positions: Mapping[str, int], events: Sequence[StoredEvent]
    ) -> Exception | None:
        """Fold events. If they cannot be folded, undo everything and return the error."""
        try:
            async with connection.transaction():
                await self._fold_together(connection, positions, events)
        except Exception as error:
            if not is_caused_by_data(error):
                raise
            return error
        return None

    async def release(self, project_id: str) -> int | None:
        """Fold the events of a quarantined project that were left out, and end its quarantine.

        Works in batches; the leader folds other events between them. Returns the number of events folded; None if the
        project is not quarantined.

        Raises:
            UnreadableEvent, Exception: an event still cannot be folded; the batches before it stay folded.

        """
        await self._positions()
        released: int | None = None
        while (folded := await self._release_next(project_id)) is not None:
            released = (released or 0) + folded
        return released

    async def _release_next(self, project_id: str) -> int | None:
        """Fold the next batch that was left out. The last call ends the quarantine; None if there is none."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch("SELECT * FROM projection_checkpoints FOR UPDATE")
            checkpoints = {row["projection"]: row["position"] for row in rows}
            stored = await folded_positions(connection, project_id)
            if stored is None:
                return None
            start = (await quarantined_positions(connection))[project_id]
            folded = {
                name: max(stored.get(name, 0), min(checkpoint, start - 1)) for name, checkpoint in checkpoints.items()
            }
            after, end = min(folded.values()), max(checkpoints.values())
            selection = Selection(project_id=project_id)
            events = await self._log.read_selected(selection, after=after, limit=BATCH_EVENTS)
            events = [event for event in events if event.position <= end]
            if not events:
                await connection.execute("DELETE FROM quarantined_projects WHERE project_id = $1", project_id)
                return 0
            for projection in self._projections:
                start, checkpoint = folded[projection.name], checkpoints[projection.name]
                due = [event for event in events if event.position <= checkpoint]
                if unfolded := events_for(projection, due, after=start):
                    await projection.fold(connection, unfolded)
            await settle(connection, events)
            last = events[-1].position
            await connection.execute(
                "UPDATE quarantined_projects SET position = greatest(position, $2), folded = $3::text::json "
                "WHERE project_id = $1",
                project_id,
                last + 1,
                encode_positions({name: max(position, last) for name, position in folded.items()}),
            )
            return len(events)

    async def catch_up(self) -> int:
        """Fold up to the end of the log, and return the position."""
        positions = await self._positions()
        while await self.fold_next(positions):
            pass
        return min(positions.values())

    async def _positions(self) -> dict[str, int]:
        names = [projection.name for projection in self._projections]
        await self._pool.execute(
            "INSERT INTO projection_checkpoints (projection, position) "
            "SELECT name, 0 FROM unnest($1::text[]) AS n (name) ON CONFLICT DO NOTHING",
            names,
        )
        rows = await self._pool.fetch("SELECT * FROM projection_checkpoints WHERE projection = ANY ($1)", names)
        return {row["projection"]: row["position"] for row in rows}

    async def _advance(self, connection: Connection, expected: dict[str, int], reached: dict[str, int]) -> None:
        """Move the checkpoints. This comes first in the transaction: the row locks keep out a rebuild's swap."""
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


def rest_s(folded: int, batch_events: int, took_s: float) -> float:
    """How long to rest after a fold of so many events: not at all after a full batch, because the log has more."""
    if folded >= batch_events:
        return 0
    return MAX_REST_S if folded >= BUSY_EVENTS else min(MAX_REST_S, max(MIN_REST_S, REST_FACTOR * took_s))


def events_for(projection: Projection, events: Sequence[StoredEvent], *, after: int) -> list[StoredEvent]:
    """Return those of the events, which are in log order, that are after a position and that a projection reads."""
    reads = projection.reads
    if events and events[0].position > after:
        return [stored for stored in events if type(stored.event) in reads]
    return [stored for stored in events if stored.position > after and type(stored.event) in reads]


async def settle(connection: Connection, events: Sequence[StoredEvent]) -> None:
    """Release the holds of the attempts whose outcome has just been counted, and settle their tokens.

    Called last in the transaction, because admission waits for these rows. `inflight` is the live ledger, not a
    projection: a hold is released only by deleting its row, so no hold is released twice.
    """
    ended = [
        (event.request_id, event.attempt, event.key_id, _true_tokens(event))
        for stored in events
        if isinstance(event := stored.event, CostIncurred | AttemptFailed | AttemptLost)
    ]
    if ended:
        await connection.execute(_SETTLE, sorted(ended))


async def hand_on_leads(connection: Connection, streams: Sequence[str]) -> None:
    """Stop these requests from leading identical ones.

    Their project is quarantined, so their attempts stay in flight after they have ended. A new request must not follow
    them.
    """
    requests = [request_id for stream in streams if (request_id := request_of(stream)) is not None]
    if requests:
        await connection.execute("SELECT end_leads($1)", requests)


def _true_tokens(event: CostIncurred | AttemptFailed | AttemptLost) -> int:
    """Return the number of tokens that an attempt used; `UNKNOWN_TOKENS` if only admission's bound is known."""
    match event:
        case CostIncurred(breakdown=breakdown) if breakdown is not None:
            return sum([item.tokens for item in breakdown.items if item.unit == "token"])
        case AttemptFailed():
            return 0
        case _:
            return UNKNOWN_TOKENS


async def is_led(pool: Pool) -> bool:
    """Return whether a process leads at this moment."""
    async with database_errors():
        return bool(
            await pool.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND (classid::bigint << 32) | objid::bigint = $1)",
                LEADER_LOCK,
            )
        )


async def run_as_leader(
    runner: Runner,
    database_url: str,
    stop: asyncio.Event,
    *,
    lead_timeout_s: float = LEAD_TIMEOUT_S,
    outage: Outage | None = None,
) -> None:
    """Wait for the lead and fold, until `stop` is set. An error that ends the lead is logged; then it starts again.

    A leader that does not turn to the log for `lead_timeout_s` loses the lead: the server ends the session that has it.
    What is one `outage` with the process's other work is told once.
    """
    outage = outage or Outage()
    while not stop.is_set():
        try:
            await _lead_once(runner, database_url, stop, lead_timeout_s, lambda: outage.is_over(FOLD))
        except OUTAGES as error:
            outage.note(FOLD, error)
        except Exception as error:  # noqa: BLE001 - sweeper and alerts go on in this process, and the loop tries again
            reason = str(error)[:MAX_ERROR_CHARS]
            log.error("fold_failed", error=type(error).__name__, message=reason)  # noqa: TRY400 - no trace needed
        await _wait(stop, stop, RETRY_S)


async def _lead_once(
    runner: Runner, database_url: str, stop: asyncio.Event, lead_timeout_s: float, connected: Callable[[], None]
) -> None:
    session = await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={
            "application_name": "gateway projector lead",
            "tcp_keepalives_idle": "5",
            "idle_session_timeout": f"{lead_timeout_s * 1_000:.0f}",
        },
    )
    vouched_at_s = time.monotonic()

    async def vouch() -> None:
        """Keep the session that has the lead."""
        nonlocal vouched_at_s
        if time.monotonic() - vouched_at_s > lead_timeout_s / VOUCHES_PER_TIMEOUT:
            await session.execute("SELECT 1")
            vouched_at_s = time.monotonic()

    try:
        is_leader = await session.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK)
        connected()
        if not is_leader:
            return
        log.info("projector_leads")
        await runner.lead(stop, vouch)
    finally:
        runner.turned_at_s = None
        session.terminate()


async def _wait(first: asyncio.Event, second: asyncio.Event, timeout_s: float) -> None:
    """Wait until one of two events is set, or until the timeout."""
    waits = [asyncio.ensure_future(event.wait()) for event in {first, second}]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
