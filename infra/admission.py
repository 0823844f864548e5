"""The ledger of attempts in flight: admit, claim, admit the next, drop. Nothing else inserts into `inflight`.

`held` is the sum of these rows. A row ends when the projector counts its outcome, or here, when it was never claimed.
The protocol (who may do what, in which order) is checked state by state in `tests/model/holds.py`;
change it there first.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Literal

import asyncpg
from msgspec import Struct

from domain.events import Operation
from domain.money import NanoUsd
from infra.batching import Batcher
from infra.database import HeldConnection, Pool, database_errors

MAX_ASKS_PER_BATCH = 256
MAX_CLAIMS_PER_BATCH = 256
MAX_WAITING = 20_000

_ADMIT = "SELECT outcomes, origins FROM admit($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)"
_CLAIM = "SELECT * FROM claim($1, $2, $3)"
_ADMIT_NEXT = "SELECT admit_next($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)"


class Attempt(Struct, frozen=True, kw_only=True):
    """What an attempt at answering a request is: everything that its `inflight` row says of it."""

    request_id: str
    project_id: str
    key_id: str
    operation: Operation
    model: str
    provider: str
    upstream_model: str
    metadata: str | None
    """JSON, or None."""
    cache_key: bytes | None
    """None: neither reads the cache nor shares its answer."""
    hold_nano_usd: NanoUsd
    budget_day: date
    reply_to: str
    admitted_at: datetime
    deadline: datetime


class Ask(Struct, frozen=True, kw_only=True):
    """A request that wants to be admitted."""

    attempt: Attempt
    newer_than: datetime | None
    """How old a cached answer may be; None: a fresh one is wanted."""


class Decision(Struct, frozen=True, kw_only=True):
    """What became of an ask."""

    outcome: Literal["admitted", "hit", "follow", "again"]
    origin: str | None
    """Whose answer it is (hit), or will be (follow)."""


class Claim(Struct, frozen=True, kw_only=True):
    """An attempt that this delivery, and no other, may make."""

    attempt: int
    hold_nano_usd: NanoUsd
    budget_day: date


class ClaimedAttempt(Struct, frozen=True, kw_only=True):
    """An attempt in flight, as another delivery finds it."""

    attempt: int
    delivery: int | None
    hold_nano_usd: NanoUsd
    budget_day: date


class Admission:
    """The API's side: what comes in."""

    def __init__(self, connection: HeldConnection, pool: Pool) -> None:
        """Admit over `connection`, which is this object's alone; everything rarer goes over `pool`."""
        self._connection = connection
        self._pool = pool
        self._batcher: Batcher[Ask, Decision] = Batcher(
            self._admit_batch,
            name="admissions",
            max_batch=MAX_ASKS_PER_BATCH,
            max_waiting=MAX_WAITING,
            isolate=(asyncpg.PostgresError, asyncpg.DataError),
        )

    async def admit(self, ask: Ask) -> Decision:
        """Decide about one request, in a batch with those that ask at the same moment.

        Raises:
            Unavailable, OutcomeUnknown: the database is away; a row that landed all the same is swept.
            Overloaded: too many are asking.

        """
        return await self._batcher.submit(ask)

    async def drop(self, request_id: str) -> bool:
        """Take back an attempt that no worker has claimed. False: too late, or nothing there."""
        async with database_errors():
            row = await self._pool.fetchrow(
                "DELETE FROM inflight WHERE request_id = $1 AND delivery IS NULL RETURNING attempt", request_id
            )
        return row is not None

    async def close(self) -> None:
        """Decide about those who wait, then stop."""
        await self._batcher.close()
        await self._connection.close()

    async def _admit_batch(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        columns = zip(*(_admit_row(ask) for ask in asks), strict=True)
        row = await self._connection.fetchrow(_ADMIT, *map(list, columns))
        assert row is not None, "a function returns a row"
        return [
            Decision(outcome=outcome, origin=origin)
            for outcome, origin in zip(row["outcomes"], row["origins"], strict=True)
        ]


class Claims:
    """The workers' side: what is being done about it."""

    def __init__(self, connection: HeldConnection, pool: Pool, *, worker: str) -> None:
        """Claim over `connection`, which is this object's alone, in the name of `worker`."""
        self._connection = connection
        self._pool = pool
        self._worker = worker
        self._batcher: Batcher[tuple[str, int], Claim | None] = Batcher(
            self._claim_batch, name="claims", max_batch=MAX_CLAIMS_PER_BATCH, max_waiting=MAX_WAITING
        )

    async def claim(self, request_id: str, delivery: int) -> Claim | None:
        """Claim the request's unclaimed attempt for this delivery; None where there is none.

        Raises:
            Unavailable, OutcomeUnknown: the database is away. Do not call the provider.

        """
        return await self._batcher.submit((request_id, delivery))

    async def in_flight(self, request_id: str) -> list[ClaimedAttempt]:
        """The request's attempts whose outcome has not been counted, in order."""
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT attempt, delivery, hold_nano_usd, budget_day FROM inflight "
                "WHERE request_id = $1 ORDER BY attempt",
                request_id,
            )
        return [ClaimedAttempt(**row) for row in rows]

    async def admit_next(self, attempt: Attempt, number: int, delivery: int) -> Claim | None:
        """Admit and claim the attempt after one that failed or was lost. None: another delivery was first."""
        async with database_errors():
            admitted = await self._pool.fetchval(
                _ADMIT_NEXT, attempt.request_id, number, *_attempt_row(attempt)[1:], delivery, self._worker
            )
        if not admitted:
            return None
        return Claim(attempt=number, hold_nano_usd=attempt.hold_nano_usd, budget_day=attempt.budget_day)

    async def close(self) -> None:
        """Claim for those who wait, then stop."""
        await self._batcher.close()
        await self._connection.close()

    async def _claim_batch(self, asked: Sequence[tuple[str, int]]) -> Sequence[Claim | None]:
        in_order = sorted(asked)  # one order for all workers, or two batches could deadlock
        rows = await self._connection.fetch(
            _CLAIM, [request for request, _ in in_order], [delivery for _, delivery in in_order], self._worker
        )
        claims = {
            (row["claimed_request"], row["claimed_delivery"]): Claim(
                attempt=row["claimed_attempt"], hold_nano_usd=row["hold"], budget_day=row["day"]
            )
            for row in rows
        }
        return [claims.pop(one, None) for one in asked]


def _attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    return (
        attempt.request_id,
        attempt.project_id,
        attempt.key_id,
        attempt.operation,
        attempt.model,
        attempt.provider,
        attempt.upstream_model,
        attempt.metadata,
        attempt.cache_key,
        attempt.hold_nano_usd,
        attempt.budget_day,
        attempt.reply_to,
        attempt.admitted_at,
        attempt.deadline,
    )


def _admit_row(ask: Ask) -> tuple[Any, ...]:
    row = _attempt_row(ask.attempt)
    return (*row[:9], ask.newer_than, *row[9:])
