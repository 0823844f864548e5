"""Reads events as they are stored, byte for byte and undecoded: to verify them, to show them, to hand them on."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from infra.database import Pool, database_errors
from infra.log_selection import Bounds, Condition, Selection, bounds_of, condition_of

BATCH_EVENTS = 5_000
_COLUMNS = (
    "position, stream, version, type, project_id, at, convert_to(data::text, 'UTF8') AS data, digest, chain FROM events"
)
_encode = msgspec.json.Encoder().encode


class RawEvent(NamedTuple):
    """A row of the log as it is stored."""

    position: int
    stream: str
    version: int
    type: str
    project_id: str
    at: datetime
    data: bytes
    """JSON, as it was appended."""
    digest: bytes
    chain: bytes | None
    """The head's digest after a batch, on its last event."""


async def raw_batches(pool: Pool, *, after: int = 0, limit: int = BATCH_EVENTS) -> AsyncIterator[list[RawEvent]]:
    """Yield every row after a position, in order, at most `limit` at a time.

    Raises:
        asyncpg.PostgresError, OSError: the database cannot serve.

    """
    while batch := await raw_batch(pool, after=after, limit=limit):
        yield batch
        if len(batch) < limit:
            return
        after = batch[-1].position


async def raw_batch(pool: Pool, *, after: int, limit: int) -> list[RawEvent]:
    """Return the next rows after a position, in order, at most `limit`. Raises as `raw_batches`."""
    return await _read(pool, Condition("position > $1 ORDER BY position LIMIT $2", (after, limit)))


async def selected_raw_events(
    pool: Pool,
    selection: Selection,
    *,
    after: int,
    limit: int,
    before: int | None = None,
    bounds: Bounds | None = None,
) -> list[RawEvent]:
    """Return the next events of a selection after the position `after`, at most `limit`, in log order.

    `before`: of those before that position, the newest first. `bounds`: what `bounds_of` has found, once for all pages;
    None: it is asked.

    Raises:
        Unavailable: the database is away.

    """
    async with database_errors():
        found = bounds or await bounds_of(pool, selection)
        return await _read(pool, condition_of(selection, found, after=after, limit=limit, before=before))


async def _read(pool: Pool, condition: Condition) -> list[RawEvent]:
    rows = await pool.fetch(f"SELECT {_COLUMNS} WHERE {condition.text}", *condition.arguments)
    return list(map(RawEvent._make, rows))


def export_line(event: RawEvent) -> bytes:
    """Write an event as a line of an export, without its end: JSON, with the digest and the chain in hexadecimal."""
    line: dict[str, Any] = event._asdict()
    line["data"] = msgspec.Raw(event.data)
    line["digest"] = event.digest.hex()
    line["chain"] = event.chain.hex() if event.chain is not None else None
    return _encode(line)
