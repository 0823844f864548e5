"""The event log: appends and reads events.

An append is one call of the SQL function `append_batch`. The log's head row serialises appends, so they are fast only
in batches: appends that arrive while a batch runs go out together in the next one. There is no timer: a single append
goes out at once.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from domain.errors import Unavailable
from domain.events import EVENT_TYPES, Event, RequestFailed, StoredEvent, request_stream
from domain.log_head import LogPosition
from infra.batching import Batcher
from infra.database import REHEARSED, Connection, HeldConnection, OutcomeUnknown, Pool, database_errors
from infra.log_selection import UP_TO_HEAD, Bounds, Selection, bounds_of, condition_of

MAX_COMMITS_PER_BATCH = 256
MAX_WAITING_COMMITS = 20_000
READ_BATCH_EVENTS = 1_000

_APPEND = "SELECT positions, head, digest FROM append_batch($1::appended_event[], $2::appended_blob[])"
_COLUMNS = "position, stream, version, type, project_id, at, data::text AS data"

log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder(decimal_format="string")
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()
}


class Blob(Struct, frozen=True, kw_only=True):
    """A sealed body that an event names by id. It is stored until it expires."""

    blob_id: str
    project_id: str
    body: bytes
    expires_at: datetime


class Commit(Struct, frozen=True, kw_only=True):
    """Events of one stream, with the blobs that they name. They are appended together or not at all."""

    stream: str
    expected_version: int
    """The number of events that the stream has before this commit."""
    project_id: str
    at: datetime
    events: tuple[Event, ...]
    blobs: tuple[Blob, ...] = ()


class LogBatch(Struct, frozen=True, kw_only=True):
    """Consecutive events of the log, without those of the projects that are left out."""

    events: list[StoredEvent]
    left_out: list[str]
    """The streams of the events that were left out."""
    last_position: int


class UnreadableEvent(Exception):
    """The data of an event cannot be decoded."""

    def __init__(self, project_id: str, position: int, reason: Exception) -> None:
        super().__init__(f"event {position} cannot be read: {type(reason).__name__}: {reason}")
        self.project_id = project_id
        self.position = position


class Conflict(Exception):
    """The stream has changed since its version was read. Read it again, then decide."""

    def __init__(self, stream: str, expected_version: int) -> None:
        super().__init__(f"stream {stream} is no longer at version {expected_version}")
        self.stream = stream
        self.expected_version = expected_version


class EventLog:
    """The log in one PostgreSQL database, as one process sees it."""

    def __init__(
        self, pool: Pool, appender: HeldConnection, *, on_append: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Read through `pool`. Append through `appender`, a connection that nothing else uses.

        Each batch calls `on_append` with the newest position: a hint for the projector, no more.
        """
        self._pool = pool
        self._appender = appender
        self._on_append = on_append
        self.newest_position: str | None = None
        """The newest head that this process knows of, as answers carry it (`domain/log_head.py`)."""
        self._newest = 0
        self.unknown_outcomes = 0
        """The number of batches whose connection was lost before the result arrived."""
        self.batcher: Batcher[Commit, int | None] = Batcher(
            self._append_batch,
            name="appends",
            max_batch=MAX_COMMITS_PER_BATCH,
            max_waiting=MAX_WAITING_COMMITS,
            isolate=(asyncpg.PostgresError, asyncpg.DataError, UnicodeEncodeError),
        )

    async def prepare(self) -> None:
        """Have the database ready for the first append, by one that is rolled back."""
        failed = RequestFailed(
            request_id=REHEARSED,
            key_id=REHEARSED,
            operation="chat",
            model="",
            provider="",
            code="",
            message="",
            latency_ms=0,
        )
        commit = Commit(
            stream=request_stream(REHEARSED),
            expected_version=0,
            project_id=REHEARSED,
            at=datetime.now(UTC),
            events=(failed,),
        )
        await self._appender.rehearse(_APPEND, *_arguments([commit]))

    async def append(self, commit: Commit) -> int:
        """Append a commit and return the position of its last event, once it is durable.

        Raises:
            Conflict: the stream is not at the expected version.
            OutcomeUnknown: the connection died during the append; read the stream, then decide.
            Unavailable: the database cannot be reached; nothing was appended.

        """
        position = await self.batcher.submit(commit)
        if position is None:
            raise Conflict(commit.stream, commit.expected_version)
        return position

    async def append_with(self, commits: Sequence[Commit], apply: Callable[[Connection], Awaitable[None]]) -> int:
        """Append commits and run `apply` in one transaction, so that both are visible once the call returns.

        Raises:
            Conflict, OutcomeUnknown, Unavailable: as `append`. An error of `apply` rolls the append back.

        """
        is_committing = False
        try:
            async with database_errors(), self._pool.acquire() as connection, connection.transaction():
                positions, *head = await connection.fetchrow(_APPEND, *_arguments(commits))
                for commit, position in zip(commits, positions, strict=True):
                    if position is None:
                        raise Conflict(commit.stream, commit.expected_version)
                await apply(connection)
                is_committing = True
        except Unavailable as error:
            if is_committing:
                raise OutcomeUnknown(error.message, retry_after_s=error.retry_after_s) from error
            raise
        self._note(LogPosition(*head))
        if self._on_append is not None:
            await self._on_append(positions[-1])
        return int(positions[-1])

    async def head(self) -> int:
        """Return the position of the newest event; 0 if the log is empty."""
        async with database_errors():
            head = LogPosition(*await self._pool.fetchrow("SELECT position, digest FROM log_head"))
        self._note(head)
        return head.position

    def note_position(self, written: str | None) -> None:
        """Take a head that another process has sent. None: it has sent none."""
        if written is not None and (position := int(written.partition(":")[0])) > self._newest:
            self._newest, self.newest_position = position, written

    def _note(self, head: LogPosition) -> None:
        if head.position > self._newest:
            self._newest, self.newest_position = head.position, str(head)

    async def read_stream(self, stream: str) -> list[StoredEvent]:
        """Return every event of a stream, in order; an empty list if there is no such stream."""
        return await self._read("stream = $1 ORDER BY version", stream)

    async def read_streams(self, streams: Sequence[str], types: Sequence[str]) -> list[StoredEvent]:
        """Return the events of some types in several streams, each in order. Skips events that it cannot decode."""
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE stream = ANY ($1) AND type = ANY ($2) AND {UP_TO_HEAD} "  # noqa: S608 - constants
                "ORDER BY stream, version",
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
        """Return the next events after `position`, at most `limit`, in log order."""
        return await self._read("position > $1 ORDER BY position LIMIT $2", position, limit)

    async def read_batch(self, position: int, *, limit: int, leave_out: Mapping[str, int]) -> LogBatch | None:
        """Return the next events after `position`; None at the end of the log.

        `leave_out` maps a project to a position: its events from that position on are not decoded.

        Raises:
            UnreadableEvent: an event cannot be decoded.

        """
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE position > $1 AND {UP_TO_HEAD} ORDER BY position LIMIT $2",  # noqa: S608 - constants
                position,
                limit,
            )
        return _batch(rows, leave_out, rows[-1]["position"]) if rows else None

    async def read_kinds(
        self, position: int, *, limit: int, leave_out: Mapping[str, int], kinds: Collection[type[Event]]
    ) -> LogBatch | None:
        """Return those of the next `limit` events after `position` that are of some kinds; None at the end of the log.

        The others are neither sent nor decoded. Otherwise as `read_batch`.
        """
        last = min(position + limit, await self.head())
        if last <= position:
            return None
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE position > $1 AND position <= $2 AND type = ANY ($3) "  # noqa: S608 - constants
                "ORDER BY position",
                position,
                last,
                [kind.__name__ for kind in kinds],
            )
        return _batch(rows, leave_out, last)

    async def read_selected(
        self, selection: Selection, *, after: int, limit: int, bounds: Bounds | None = None
    ) -> list[StoredEvent]:
        """Return the next events of a selection after the position `after`, at most `limit`, in log order.

        `bounds`: what `bounds_of` has found, once for all pages; None: it is asked.
        """
        async with database_errors():
            found = bounds or await bounds_of(self._pool, selection)
            condition = condition_of(selection, found, after=after, limit=limit)
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE {condition.text}",  # noqa: S608 - constants
                *condition.arguments,
            )
        return [stored_event(row) for row in rows]

    async def read_blob(self, blob_id: str) -> bytes | None:
        """Return a sealed body; None if it has expired and was removed."""
        async with database_errors():
            body: bytes | None = await self._pool.fetchval("SELECT body FROM blobs WHERE blob_id = $1", blob_id)
        return body

    async def write_blob(self, blob: Blob) -> None:
        """Store a body that no event names: a prompt that is too large for a message."""
        async with database_errors():
            await self._pool.execute(
                "SELECT store_blob($1, $2, $3, $4)",
                blob.blob_id,
                blob.project_id,
                blob.body,
                blob.expires_at,
            )

    async def write_blobs(self, blobs: Sequence[Blob]) -> None:
        """Store bodies of one project that expire together, before the events that name them."""
        async with database_errors():
            await self._pool.execute(
                "SELECT store_blobs($1, $2, $3, $4)",
                [blob.blob_id for blob in blobs],
                blobs[0].project_id,
                [blob.body for blob in blobs],
                blobs[0].expires_at,
            )

    async def close(self) -> None:
        """Append the commits that wait, then close."""
        await self.batcher.close()
        await self._appender.close()

    async def _read(self, condition: str, *arguments: object) -> list[StoredEvent]:
        async with database_errors():
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM events WHERE {UP_TO_HEAD} AND {condition}",  # noqa: S608 - constants of this module
                *arguments,
            )
        return [stored_event(row) for row in rows]

    async def _append_batch(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        positions: list[int | None]
        try:
            ((positions, *head),) = await self._appender.fetch(_APPEND, *_arguments(commits))
        except OutcomeUnknown:
            self.unknown_outcomes += 1
            log.warning("append_outcome_unknown", commits=len(commits))
            raise
        self._note(LogPosition(*head))
        appended = [position for position in positions if position is not None]
        if appended and self._on_append is not None:
            await self._on_append(appended[-1])
        return positions


def event_digest(stream: str, version: int, kind: str, project_id: str, at: datetime, data: bytes) -> bytes:
    """Return the SHA-256 of an event's envelope and data.

    No part before the data contains a line break, so no two events have the same text.
    """
    return _digest(stream, version, kind, project_id, at.astimezone(UTC).isoformat(), data)


def _digest(stream: str, version: int, kind: str, project_id: str, at: str, data: bytes) -> bytes:
    envelope = f"{stream}\n{version}\n{kind}\n{project_id}\n{at}\n"
    return hashlib.sha256(envelope.encode() + data).digest()


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


def _batch(rows: Sequence[asyncpg.Record], leave_out: Mapping[str, int], last_position: int) -> LogBatch:
    events, left_out = [], []
    for row in rows:
        if leave_out and row["position"] >= leave_out.get(row["project_id"], row["position"] + 1):
            left_out.append(row["stream"])
            continue
        try:
            events.append(stored_event(row))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise UnreadableEvent(row["project_id"], row["position"], error) from error
    return LogBatch(events=events, left_out=left_out, last_position=last_position)


def sealed_events(commit: Commit) -> list[tuple[Any, ...]]:
    """Return a commit's events as rows: stream, version, type, project, time, JSON data, digest."""
    sealed, written_at = [], commit.at.astimezone(UTC).isoformat()
    for version, event in enumerate(commit.events, start=commit.expected_version + 1):
        data = _encoder.encode(event)
        kind = type(event).__name__
        digest = _digest(commit.stream, version, kind, commit.project_id, written_at, data)
        sealed.append((commit.stream, version, kind, commit.project_id, commit.at, data.decode(), digest))
    return sealed


def _arguments(commits: Sequence[Commit]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows for `append_batch`: of the events, and of the blobs."""
    events: list[tuple[Any, ...]] = []
    blobs: list[tuple[Any, ...]] = []
    for number, commit in enumerate(commits, start=1):
        events += [(number, *event) for event in sealed_events(commit)]
        blobs += [(number, blob.blob_id, blob.project_id, blob.body, blob.expires_at) for blob in commit.blobs]
    return events, blobs
