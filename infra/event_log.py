"""The event log: append, read, tail, verify. Nothing else writes or reads `events`.

An append is one call of the SQL function `append_events`. Appends to one log are serialised by its head row, so they
are fast only in batches: appends that arrive while one is under way go out together in the next one. There is no
timer: a single append goes out at once.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from domain.errors import Unavailable
from domain.events import EVENT_TYPES, Event, StoredEvent
from infra.batching import Batcher
from infra.database import Connection, HeldConnection, OutcomeUnknown, Pool, database_errors

MAX_COMMITS_PER_BATCH = 256
MAX_WAITING_COMMITS = 20_000
READ_BATCH_EVENTS = 1_000

_APPEND = "SELECT append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_COLUMNS = "position, stream, version, type, project_id, at, data::text AS data"
_NO_BLOBS: tuple[list[Any], ...] = ([], [], [], [], [])

log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder(decimal_format="string")
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()
}


class Blob(Struct, frozen=True, kw_only=True):
    """A body that an event names, already sealed, kept until it expires."""

    blob_id: str
    project_id: str
    body: bytes
    expires_at: datetime


class Commit(Struct, frozen=True, kw_only=True):
    """Events of one stream that land together or not at all, and the blobs they name."""

    stream: str
    expected_version: int
    """How many events the stream has now; the new ones follow."""
    project_id: str
    at: datetime
    events: tuple[Event, ...]
    blobs: tuple[Blob, ...] = ()


class Selection(Struct, frozen=True, kw_only=True):
    """A filter for events. None means any."""

    project_id: str | None = None
    stream: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class LogBatch(Struct, frozen=True, kw_only=True):
    """Events that follow each other in the log, but for those of projects that are left out."""

    events: list[StoredEvent]
    left_out: list[str]
    """The streams of the others."""
    last_position: int


class UnreadableEvent(Exception):
    """The data of an event cannot be decoded."""

    def __init__(self, project_id: str, position: int, reason: Exception) -> None:
        super().__init__(f"event {position} cannot be read: {type(reason).__name__}: {reason}")
        self.project_id = project_id
        self.position = position


class Conflict(Exception):
    """The stream has moved on since its version was read: read it again, then decide."""

    def __init__(self, stream: str, expected_version: int) -> None:
        super().__init__(f"stream {stream} is no longer at version {expected_version}")
        self.stream = stream
        self.expected_version = expected_version


class EventLog:
    """The log in one PostgreSQL database, as one process sees it."""

    def __init__(
        self, pool: Pool, appender: HeldConnection, *, on_append: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Read through `pool`, append through `appender`, which is this log's alone.

        `on_append` is told the newest position after each batch: a hint to the projector, no more.
        """
        self._pool = pool
        self._appender = appender
        self._on_append = on_append
        self.unknown_outcomes = 0
        """Appends whose connection was lost before their result came."""
        self._batcher: Batcher[Commit, int | None] = Batcher(
            self._append_batch,
            name="appends",
            max_batch=MAX_COMMITS_PER_BATCH,
            max_waiting=MAX_WAITING_COMMITS,
            isolate=(asyncpg.PostgresError, asyncpg.DataError, UnicodeEncodeError),
        )

    async def append(self, commit: Commit) -> int:
        """Append a commit and return the position of its last event, once it is durable.

        Raises:
            Conflict: the stream is not at the expected version.
            OutcomeUnknown: the connection died under way; read the stream, then decide.
            Unavailable: the database is away; nothing was appended.

        """
        position = await self._batcher.submit(commit)
        if position is None:
            raise Conflict(commit.stream, commit.expected_version)
        return position

    async def append_with(self, commits: Sequence[Commit], apply: Callable[[Connection], Awaitable[None]]) -> int:
        """Append commits and run `apply` in one transaction: for what must hold the moment the call returns.

        Raises:
            Conflict, OutcomeUnknown, Unavailable: as `append`. An error of `apply` undoes the append.

        """
        is_committing = False
        try:
            async with database_errors(), self._pool.acquire() as connection, connection.transaction():
                positions = await connection.fetchval(_APPEND, *_arguments(commits))
                for commit, position in zip(commits, positions, strict=True):
                    if position is None:
                        raise Conflict(commit.stream, commit.expected_version)
                await apply(connection)
                is_committing = True
        except Unavailable as error:
            if is_committing:
                raise OutcomeUnknown(error.message, retry_after_s=error.retry_after_s) from error
            raise
        await self._announce(positions[-1])
        return int(positions[-1])

    async def head(self) -> int:
        """The position of the newest event; 0 where there is none."""
        async with database_errors():
            return int(await self._pool.fetchval("SELECT position FROM log_head"))

    async def read_stream(self, stream: str) -> list[StoredEvent]:
        """Every event of a stream, in order; empty where there is no such stream."""
        return await self._read("WHERE stream = $1 ORDER BY version", stream)

    async def read_streams(self, streams: Sequence[str], types: Sequence[str]) -> list[StoredEvent]:
        """The events of these types in several streams, each in order, but for those that cannot be decoded."""
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE stream = ANY ($1) AND type = ANY ($2) ORDER BY stream, version",  # noqa: S608 - a constant
                streams,
                types,
            )
        events = []
        for row in rows:
            try:
                events.append(stored_event(row))
            except (msgspec.MsgspecError, RecursionError) as error:
                log.error("event_unreadable", position=row["position"], error=str(error))  # noqa: TRY400 - no trace needed
        return events

    async def read_after(self, position: int, *, limit: int = READ_BATCH_EVENTS) -> list[StoredEvent]:
        """The next events after `position`, at most `limit`, in log order."""
        return await self._read("WHERE position > $1 ORDER BY position LIMIT $2", position, limit)

    async def read_batch(self, position: int, *, limit: int, leave_out: Mapping[str, int]) -> LogBatch | None:
        """The next events after `position`; None at the end of the log. Of each project in `leave_out`, the events from
        that position on are not decoded.

        Raises:
            UnreadableEvent: one of them cannot be decoded.

        """
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE position > $1 ORDER BY position LIMIT $2",  # noqa: S608 - a constant
                position,
                limit,
            )
        if not rows:
            return None
        events, left_out = [], []
        for row in rows:
            if row["position"] >= leave_out.get(row["project_id"], row["position"] + 1):
                left_out.append(row["stream"])
                continue
            try:
                events.append(stored_event(row))
            except (msgspec.MsgspecError, RecursionError) as error:
                raise UnreadableEvent(row["project_id"], row["position"], error) from error
        return LogBatch(events=events, left_out=left_out, last_position=rows[-1]["position"])

    async def read_selected(self, selection: Selection, *, after: int, limit: int) -> list[StoredEvent]:
        """The next events of a selection after `position`, at most `limit`, in log order."""
        return await self._read(
            "WHERE position > $1 AND ($3::text IS NULL OR project_id = $3) AND ($4::text IS NULL OR stream = $4) "
            "AND ($5::text IS NULL OR type = $5) AND ($6::timestamptz IS NULL OR at >= $6) "
            "AND ($7::timestamptz IS NULL OR at < $7) ORDER BY position LIMIT $2",
            after,
            limit,
            selection.project_id,
            selection.stream,
            selection.type,
            selection.since,
            selection.until,
        )

    async def read_blob(self, blob_id: str) -> bytes | None:
        """A sealed body; None where it has expired and was removed."""
        async with database_errors():
            body: bytes | None = await self._pool.fetchval("SELECT body FROM blobs WHERE blob_id = $1", blob_id)
        return body

    async def write_blob(self, blob: Blob) -> None:
        """Keep a body that no event names: a prompt too large for a message."""
        async with database_errors():
            await self._pool.execute(
                "INSERT INTO blobs (blob_id, project_id, body, expires_at) VALUES ($1, $2, $3, $4)",
                blob.blob_id,
                blob.project_id,
                blob.body,
                blob.expires_at,
            )

    async def close(self) -> None:
        """Send what is waiting, then stop."""
        await self._batcher.close()
        await self._appender.close()

    async def _read(self, condition: str, *arguments: object) -> list[StoredEvent]:
        async with database_errors():
            rows = await self._pool.fetch(f"SELECT {_COLUMNS} FROM events {condition}", *arguments)  # noqa: S608 - constants of this module
        return [stored_event(row) for row in rows]

    async def _append_batch(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        try:
            row = await self._appender.fetchrow(_APPEND, *_arguments(commits))
        except OutcomeUnknown:
            self.unknown_outcomes += 1
            log.warning("append_outcome_unknown", commits=len(commits))
            raise
        assert row is not None, "a function returns a row"
        positions: list[int | None] = row[0]
        landed = [position for position in positions if position is not None]
        if landed:
            await self._announce(landed[-1])
        return positions

    async def _announce(self, position: int) -> None:
        if self._on_append is not None:
            await self._on_append(position)


def event_digest(stream: str, version: int, kind: str, project_id: str, at: datetime, data: str) -> bytes:
    """SHA-256 of an event's envelope and data. No part before the data holds a line break, so none can be shifted."""
    envelope = f"{stream}\n{version}\n{kind}\n{project_id}\n{at.astimezone(UTC).isoformat()}\n"
    return hashlib.sha256((envelope + data).encode()).digest()


def stored_event(row: asyncpg.Record) -> StoredEvent:
    """Read a row of `events`."""
    return StoredEvent(
        position=row["position"],
        stream=row["stream"],
        version=row["version"],
        type=row["type"],
        project_id=row["project_id"],
        at=row["at"],
        event=_decoders[row["type"]].decode(row["data"]),
    )


def sealed_events(commit: Commit) -> list[tuple[Any, ...]]:
    """A commit's events as `append_events` takes them: stream, version, type, project, time, data as JSON, digest."""
    sealed = []
    for version, event in enumerate(commit.events, start=commit.expected_version + 1):
        data = _encoder.encode(event).decode()
        envelope = (commit.stream, version, type(event).__name__, commit.project_id, commit.at, data)
        sealed.append((*envelope, event_digest(*envelope)))
    return sealed


def _arguments(commits: Sequence[Commit]) -> tuple[list[Any], ...]:
    """The arrays that `append_events` takes: one element for each event, then one for each blob."""
    events: list[tuple[Any, ...]] = []
    blobs: list[tuple[Any, ...]] = []
    for number, commit in enumerate(commits, start=1):
        events.extend((number, *event) for event in sealed_events(commit))
        blobs.extend((number, blob.blob_id, blob.project_id, blob.body, blob.expires_at) for blob in commit.blobs)
    return (*map(list, zip(*events, strict=True)), *(map(list, zip(*blobs, strict=True)) if blobs else _NO_BLOBS))
