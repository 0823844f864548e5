"""Verifies the log: recomputes every digest and the hash chain, and reports the first position that does not match.

Reads in short transactions, so that the hot rows do not bloat meanwhile. Never writes.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg
from msgspec import Struct

from infra.database import Pool
from infra.event_log import event_digest

BATCH_EVENTS = 5_000
GENESIS = hashlib.sha256(b"").digest()


class RawEvent(Struct, frozen=True, kw_only=True):
    """A row of the log as it is stored, with its data as text."""

    position: int
    stream: str
    version: int
    type: str
    project_id: str
    at: datetime
    data: str
    digest: bytes
    chain: bytes | None


class Verification(Struct, frozen=True, kw_only=True):
    """The result of a verification. `first_bad` is None if the whole log is intact."""

    events: int
    batches: int
    head: bytes
    first_bad: int | None = None
    reason: str | None = None


async def raw_events(pool: Pool, *, after: int = 0) -> AsyncIterator[RawEvent]:
    """Yield every row after a position, in order."""
    while True:
        rows = await pool.fetch(
            "SELECT position, stream, version, type, project_id, at, data::text AS data, digest, chain FROM events "
            "WHERE position > $1 ORDER BY position LIMIT $2",
            after,
            BATCH_EVENTS,
        )
        for row in rows:
            yield RawEvent(**row)
        if len(rows) < BATCH_EVENTS:
            return
        after = rows[-1]["position"]


async def verify(pool: Pool) -> Verification:
    """Check positions, versions, digests, the chain and the head, up to the head at the time of the call."""
    head = await pool.fetchrow("SELECT position, digest FROM log_head")
    chain, batch, events, batches = GENESIS, hashlib.sha256(GENESIS), 0, 0
    batch_start = 1
    versions: dict[str, int] = {}
    async for event in raw_events(pool):
        if event.position > head["position"]:
            break
        reason = _mismatch(event, events + 1, versions.get(event.stream, 0) + 1)
        if reason is not None:
            return Verification(events=events, batches=batches, head=chain, first_bad=event.position, reason=reason)
        versions[event.stream] = event.version
        events += 1
        batch.update(event.digest)
        if event.chain is not None:
            chain = batch.digest()
            if chain != event.chain:
                reason = f"the chain over the batch {batch_start} to {event.position} does not fit"
                return Verification(events=events, batches=batches, head=chain, first_bad=batch_start, reason=reason)
            batches += 1
            batch, batch_start = hashlib.sha256(chain), event.position + 1
    return _at_head(head, Verification(events=events, batches=batches, head=chain))


def _mismatch(event: RawEvent, position: int, version: int) -> str | None:
    if event.position != position:
        return f"position {position} is missing"
    if event.version != version:
        return f"version {version} of stream {event.stream} is missing"
    digest = event_digest(event.stream, event.version, event.type, event.project_id, event.at, event.data)
    return None if digest == event.digest else "the event is not what its digest was made of"


def _at_head(head: asyncpg.Record, log: Verification) -> Verification:
    if log.events < head["position"]:
        first_bad, reason = log.events + 1, "events are missing at the end"
    elif log.head != head["digest"]:
        first_bad, reason = head["position"], "the head's digest does not fit"
    else:
        return log
    return Verification(events=log.events, batches=log.batches, head=log.head, first_bad=first_bad, reason=reason)
