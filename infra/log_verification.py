"""Verifies the log: recomputes every digest and the hash chain, and compares them with what was signed and kept.

The chain alone shows that the log agrees with itself. Whoever owns the database can cut it and compute it anew; signed
heads, and their copies outside the database, show that (`infra/head_verification.py`).

Reads in short transactions, so that the hot rows do not bloat meanwhile. Never writes.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from domain.log_head import GENESIS, LogPosition
from infra.audit_keys import TrustedKeys
from infra.database import Pool
from infra.head_verification import Attested, Evidence, Fault, HeadReport, check_heads
from infra.progress import Progress, untold
from infra.signed_heads import log_position

NO_EVIDENCE = Evidence(keys=TrustedKeys(()))
BATCH_EVENTS = 5_000
_NEXT = """
    SELECT position, stream, version, at, convert_to(
               stream || E'\\n' || version || E'\\n' || type || E'\\n' || project_id || E'\\n'
               || replace(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '.000000', '')
               || E'+00:00\\n' || data::text, 'UTF8'), digest, chain
    FROM events WHERE position > $1 ORDER BY position LIMIT $2
"""
"""The server writes the text of each event as `event_digest` does, and the digest is computed here: that takes half the
time. Reading the text is as safe as reading the columns: a server that lies could falsify either."""

SealedRow: TypeAlias = tuple[int, str, int, datetime, bytes, bytes, bytes | None]
"""Position, stream, version, time, text of the digest, digest, and the chain if a batch ends there."""


class Verification(Struct, frozen=True, kw_only=True):
    """The result of a verification. `first_bad` is None if the whole log is intact."""

    events: int
    batches: int
    head: bytes
    first_bad: int | None = None
    reason: str | None = None
    report: HeadReport
    """Of the signed heads and their copies."""
    oldest_unsigned: datetime | None = None
    """The time of the first event after the newest signed head; None: all are signed, or the log is not intact.

    If nothing is signed, the earliest time of any event.
    """
    newest_unsigned: datetime | None = None
    """The latest time of an event after the newest signed head; None as above."""


async def verify(pool: Pool, evidence: Evidence = NO_EVIDENCE, progress: Progress = untold) -> Verification:
    """Check positions, versions, digests, the chain and the head, up to the head at the time of the call.

    Then compare them with the evidence, and look for rows that are beyond the head. The evidence has to be read before
    the call: what is signed meanwhile is not part of it. While a batch is checked, the server makes the next one.
    """
    head, report = await log_position(pool), check_heads(evidence)
    walk = _Walk(report.attested, report.signed)
    if head is None:
        return walk.result(report, Fault(1, "the head of the log is missing"))
    async for done, fault in _checked(pool, walk, head.position):
        progress(done, head.position)
        if fault is not None:
            return walk.result(report, fault)
    faults = [walk.fault_at_head(head), *walk.unmet(head), *report.faults, await _beyond_head(pool)]
    return walk.result(report, next((fault for fault in faults if fault is not None), None))


async def _checked(pool: Pool, walk: "_Walk", head: int) -> AsyncIterator[tuple[int, Fault | None]]:
    """Yield how far the walk is, after each batch, and what is wrong there."""
    batch = await _read(pool, 0, head) if head > 0 else []
    while batch:
        after = batch[-1][0]
        following = asyncio.ensure_future(_read(pool, after, head)) if after < head else None
        await asyncio.sleep(0)  # it is asked for before this one is checked
        fault = walk.take(batch, head)
        batch = await following if following is not None else []
        yield min(after, head), fault


async def _read(pool: Pool, after: int, head: int) -> list[SealedRow]:
    rows: list[SealedRow] = await pool.fetch(_NEXT, after, min(BATCH_EVENTS, head - after))
    return rows


class _Walk:
    """Recomputes the chain, event by event."""

    def __init__(self, attested: Mapping[int, Sequence[Attested]], signed: int) -> None:
        self._attested = attested
        self._signed = signed
        self._reached: dict[int, bytes] = {0: GENESIS}
        """The chain at the attested positions."""
        self._versions: dict[str, int] = {}
        self._events, self._batches, self._batch_start = 0, 0, 1
        self._chain = GENESIS
        self._batch = hashlib.sha256(GENESIS)
        self._oldest_unsigned: datetime | None = None
        self._newest_unsigned: datetime | None = None

    def take(self, rows: Sequence[SealedRow], head: int) -> Fault | None:
        """Take rows up to the head, as far as they are as they should be. One loop: there are millions of them."""
        versions, sha256 = self._versions, hashlib.sha256
        for position, stream, version, at, text, digest, chain in rows:
            if position > head:
                return None
            if position != self._events + 1:
                return Fault(position, f"position {self._events + 1} is missing")
            if version != versions.get(stream, 0) + 1:
                return Fault(position, f"version {versions.get(stream, 0) + 1} of stream {stream} is missing")
            if sha256(text).digest() != digest:
                return Fault(position, "the event is not what its digest was made of")
            versions[stream] = version
            self._events = position
            self._batch.update(digest)
            if position > self._signed:
                self._note_unsigned(at)
            if chain is not None and (fault := self._end_batch(position, chain)) is not None:
                return fault
        return None

    def _note_unsigned(self, at: datetime) -> None:
        if self._oldest_unsigned is None or (self._signed == 0 and at < self._oldest_unsigned):
            self._oldest_unsigned = at
        if self._newest_unsigned is None or at > self._newest_unsigned:
            self._newest_unsigned = at

    def _end_batch(self, position: int, chain: bytes) -> Fault | None:
        self._chain = self._batch.digest()
        if self._chain != chain:
            reason = f"the chain over the batch {self._batch_start} to {position} does not fit"
            return Fault(self._batch_start, reason)
        if position in self._attested:
            self._reached[position] = self._chain
        self._batches += 1
        self._batch, self._batch_start = hashlib.sha256(self._chain), position + 1
        return None

    def fault_at_head(self, head: LogPosition) -> Fault | None:
        if self._events < head.position:
            return Fault(self._events + 1, "events are missing at the end")
        return None if self._chain == head.digest else Fault(head.position, "the head's digest does not fit")

    def unmet(self, head: LogPosition) -> list[Fault]:
        """Return what is attested and not so, lowest position first."""
        faults = []
        for position, attested in sorted(self._attested.items()):
            chain = self._reached.get(position)
            for one in attested:
                if position > head.position:
                    reason = f"the log ends at {head.position}, but {one.by} is at {position}: its end was cut off"
                    faults.append(Fault(head.position + 1, reason))
                elif chain is None or chain[: len(one.digest)] != one.digest:
                    faults.append(Fault(position, f"the log up to here is not the one of {one.by}: it was rewritten"))
        return faults

    def result(self, report: HeadReport, fault: Fault | None) -> Verification:
        whole = Verification(
            events=self._events,
            batches=self._batches,
            head=self._chain,
            report=report,
            oldest_unsigned=self._oldest_unsigned,
            newest_unsigned=self._newest_unsigned,
        )
        if fault is None:
            return whole
        return replace(whole, first_bad=fault.position, reason=fault.reason, oldest_unsigned=None, newest_unsigned=None)


async def _beyond_head(pool: Pool) -> Fault | None:
    """Look for rows that the chain cannot have, in one snapshot with the head: appends go on meanwhile."""
    row = await pool.fetchrow(
        "SELECT h.position, (SELECT min(position) FROM events) AS first, "
        "(SELECT min(position) FROM events e WHERE e.position > h.position) AS beyond FROM log_head h"
    )
    if row is None:
        return Fault(1, "the head of the log is missing")
    if row["beyond"] is not None:
        return Fault(row["beyond"], f"the event is beyond the head, which is at {row['position']}")
    if row["first"] is not None and row["first"] < 1:
        return Fault(row["first"], "the event is before the first position")
    return None
