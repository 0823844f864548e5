"""Proves the log: recomputes every digest and the hash chain over them, and names the first position that does not fit.

Reads in short transactions, so that the hot rows do not bloat meanwhile. Reads what is there; appends nothing.
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
    """A row of the log as it is, data as text."""

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
    """The result of a verification. `first_bad` None: the log fits from its first event to its head."""

    events: int
    batches: int
    head: bytes
    first_bad: int | None = None
    reason: str | None = None


async def raw_events(pool: Pool, *, after: int = 0) -> AsyncIterator[RawEvent]:
    """Every row after a position, in order."""
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
    """Check positions, versions, digests, the chain and the head, as far as the log reached when this began."""
    head = await pool.fetchrow("SELECT position, digest FROM log_head")
    chain, batch, events, batches = GENESIS, hashlib.sha256(GENESIS), 0, 0
    batch_start = 1
    versions: dict[str, int] = {}
    async for event in raw_events(pool):
        if event.position > head["position"]:
            break
        reason = _misfit(event, events + 1, versions.get(event.stream, 0) + 1)
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


def _misfit(event: RawEvent, position: int, version: int) -> str | None:
    if event.position != position:
        return f"position {position} is missing"
    if event.version != version:
        return f"version {version} of stream {event.stream} is missing"
    digest = event_digest(event.stream, event.version, event.type, event.project_id, event.at, event.data)
    return None if digest == event.digest else "the event is not what its digest was made of"


def _at_head(head: asyncpg.Record, found: Verification) -> Verification:
    if found.events < head["position"]:
        first_bad, reason = found.events + 1, "events are missing at the end"
    elif found.head != head["digest"]:
        first_bad, reason = head["position"], "the head's digest does not fit"
    else:
        return found
    return Verification(events=found.events, batches=found.batches, head=found.head, first_bad=first_bad, reason=reason)
