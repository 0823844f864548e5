"""Signs the head of the log at intervals, and keeps copies of the signed heads outside the database.

Several may run. A head's sequence is given once, and one that was signed a moment ago is enough for all of them.

A signer remembers the last head that it knows, from its anchor file across restarts. It signs only a log that goes on
from there. If the log was cut or rewritten, it says so in its log lines, and signs no more until the operator has
looked (`gateway audit verify`, and `gateway audit restored` after a restore).
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from domain.log_head import GENESIS, NO_HEAD, LogPosition, SignedHead, head_hash
from infra.audit_keys import AuditKey, TrustedKeys
from infra.crash_points import reach
from infra.database import Pool
from infra.head_anchors import Anchor, AnchorFailedError, AnchorFile
from infra.head_verification import link_fault
from infra.signed_heads import add_head, heads_from, log_position, newest_head

BATCH_EVENTS = 5_000

log = structlog.get_logger(__name__)


class NotContinuedError(Exception):
    """The log does not go on from the last signed head. The message says how."""


class HeadSigner:
    """Signs the heads of one log."""

    def __init__(
        self,
        pool: Pool,
        *,
        key: AuditKey,
        trusted: TrustedKeys,
        interval_s: float,
        now: Callable[[], datetime],
        file: AnchorFile | None = None,
        others: Sequence[Anchor] = (),
    ) -> None:
        """`others`: anchors beside the file."""
        self._pool = pool
        self._key = key
        self._trusted = trusted
        self._interval = timedelta(seconds=interval_s)
        self._now = now
        self._file = file
        self._anchored: dict[Anchor, int] = dict.fromkeys((*((file,) if file is not None else ()), *others), 0)
        """By anchor, the sequence of the newest head that it was given."""
        self._known: SignedHead | None = None
        """The newest head that this signer has seen, and has found to be a continuation."""
        self.refused: str | None = None
        """Why the last round signed nothing, though it should have; None: it did, or nothing was due."""
        self.not_anchored: frozenset[str] = frozenset()
        """The anchors that did not take the newest head in the last round."""
        self._has_begun = False

    async def sign_if_due(self) -> None:
        """Sign the head if it has moved, unless any signer has done so within half an interval."""
        await self._sign(self._now() - self._interval / 2)

    async def sign(self) -> None:
        """Sign the head if it has moved."""
        await self._sign(None)

    async def _sign(self, not_after: datetime | None) -> None:
        """Sign, unless the newest head is from after `not_after`."""
        try:
            await self._begin()
            await self._take_stored()
            is_due = self._known is None or not_after is None or self._known.at <= not_after
            if is_due and (head := await self._next()) is not None and await add_head(self._pool, head):
                self._known = head
                reach("projector.after_head")
            await self._anchor()
            self.refused = None
        except (NotContinuedError, AnchorFailedError) as error:
            self.refused = str(error)
            log.error("log_head_refused", reason=str(error))  # noqa: TRY400 - no trace needed

    @property
    def signed_position(self) -> int:
        """The position of the newest signed head that this signer knows; 0: none."""
        return self._known.position if self._known is not None else 0

    @property
    def state(self) -> str:
        """`ok`; `refused`: the log does not go on from what was signed; `not anchored`: a copy could not be made."""
        if self.refused is not None:
            return "refused"
        return "not anchored" if self.not_anchored else "ok"

    async def _begin(self) -> None:
        """Remember the newest head of the file: this signer, or the one before it, has signed or seen it."""
        if not self._has_begun and self._file is not None:
            self._known = await asyncio.to_thread(self._file.newest)
            self._anchored[self._file] = self._known.sequence if self._known is not None else 0
        self._has_begun = True

    async def _take_stored(self) -> None:
        """Take the heads that other signers have stored since.

        Raises:
            NotContinuedError: they do not go on from the last known one.

        """
        if self._known is None:
            newest = await newest_head(self._pool)
            if newest is not None:
                self._check(newest)
            self._known = newest
            return
        last: SignedHead | None = None
        async for head in heads_from(self._pool, self._known.sequence):
            if last is not None or head != self._known:
                self._check(head)
                goes_on = _gives_up(head, self._known) if last is None else link_fault(last, head) is None
                if not goes_on:
                    raise _not_continued(self._known)
            last = head
        if last is None:
            raise _not_continued(self._known)
        self._known = last

    def _check(self, head: SignedHead) -> None:
        if (fault := self._trusted.fault_of(head)) is not None:
            raise NotContinuedError(f"head {head.sequence} {fault}")

    async def _next(self) -> SignedHead | None:
        """Sign the head of the log; None if it has not moved.

        Raises:
            NotContinuedError: the log does not go on from the last known head.

        """
        known, head = self._known, await log_position(self._pool)
        if head is None:
            raise NotContinuedError("the head of the log is missing")
        last = LogPosition(known.position, known.digest) if known is not None else LogPosition(0, GENESIS)
        if head == last:
            return None
        if await chain_between(self._pool, last, head.position) != head.digest:
            raise NotContinuedError(
                f"the log ends at {head.position} and does not go on from {last.position}: it was cut or rewritten"
            )
        return self._key.sign(
            head,
            sequence=known.sequence + 1 if known is not None else 1,
            previous=head_hash(known) if known is not None else NO_HEAD,
            at=self._now(),
        )

    async def _anchor(self) -> None:
        """Give the newest head to the anchors that do not have it. One that fails is tried again in the next round."""
        known, failed = self._known, set()
        for anchor, sequence in self._anchored.items():
            if known is None or sequence >= known.sequence:
                continue
            try:
                await anchor.keep(known)
            except AnchorFailedError as error:
                failed.add(anchor.name)
                log.error("log_head_not_anchored", anchor=anchor.name, reason=str(error))  # noqa: TRY400 - no trace needed
            else:
                self._anchored[anchor] = known.sequence
        self.not_anchored = frozenset(failed)


def _gives_up(restore: SignedHead, known: SignedHead) -> bool:
    """Return whether a head declares a restore of a backup that is older than a known head."""
    return restore.resumes_after is not None and restore.resumes_after < known.sequence < restore.sequence


def _not_continued(known: SignedHead) -> NotContinuedError:
    return NotContinuedError(
        f"the database does not go on from head {known.sequence}, which was signed at position {known.position}: "
        "the log was cut or rewritten, or an older copy of the database was restored"
    )


async def chain_between(pool: Pool, start: LogPosition, end: int) -> bytes | None:
    """Compute the chain from one end of a batch to another, from the digests of the events between.

    Returns None if the log does not have `start`, or an event between is missing.
    """
    if start.position > 0:
        at_start = await pool.fetchval("SELECT chain FROM events WHERE position = $1", start.position)
        if at_start != start.digest:
            return None
    chain, position = start.digest, start.position
    batch = hashlib.sha256(chain)
    while position < end:
        rows = await pool.fetch(
            "SELECT position, digest, chain FROM events WHERE position > $1 AND position <= $2 "
            "ORDER BY position LIMIT $3",
            position,
            end,
            BATCH_EVENTS,
        )
        if not rows:
            return None
        for row in rows:
            position += 1
            if row["position"] != position:
                return None
            batch.update(row["digest"])
            if row["chain"] is not None:
                chain = batch.digest()
                if chain != row["chain"]:
                    return None
                batch = hashlib.sha256(chain)
    return chain if position == end else None
