"""The ledger of attempts in flight: admit, claim, admit the next, drop. Nothing else inserts into `inflight`.

`held` is the sum of these rows. A row ends when the projector counts its outcome, or here, when it was never claimed.
The protocol (who may do what, in which order) is checked state by state in `tests/model/holds.py`;
change it there first.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import asyncpg
import msgspec
from msgspec import Struct

from domain.events import KeptResponse
from domain.limits import LimitStatus, Meter, Window
from domain.log_head import LogPosition
from domain.money import ZERO, NanoUsd
from domain.request_identity import RequestIdentity
from domain.tokens import TokenUsage
from infra.attempt_rows import IDENTITY_COLUMNS, identity_of, said_of
from infra.batching import Batcher
from infra.database import REHEARSED, HeldConnection, OutcomeUnknown, Pool, database_errors
from infra.event_log import Commit, sealed_events

MAX_REQUESTS_PER_BATCH = 256
MAX_CLAIMS_PER_BATCH = 256
MAX_WITHDRAWN_PER_BATCH = 256
MAX_WAITING = 20_000

_ADMIT = "SELECT * FROM admit($1, $2::admission_account[], $3::admission_row[])"
_DROP = "SELECT drop_unclaimed($1)"
_WITHDRAW = "SELECT dropped, head, digest FROM withdraw($1, $2, $3, $4, $5, $6, $7, $8)"
_CLAIM = "SELECT * FROM claim($1, $2, $3)"
_ADMIT_NEXT = f"SELECT admit_next({', '.join(f'${number}' for number in range(1, 22))})"

_encode = msgspec.json.Encoder().encode

Outcome = Literal[
    "admitted",
    "hit",
    "coalesced",
    "replay",
    "mismatch",
    "retry",
    "stale",
    "rate_limit",
    "token_limit",
    "concurrency",
    "budget_held",
    "budget_spent",
    "queued",
    "unpriced",
]
"""As `admit` in `migrations/functions/admission.sql` says."""


class Attempt(Struct, frozen=True, kw_only=True):
    """An attempt: the columns of its `inflight` row but for the money, and if its credential is the installation's."""

    identity: RequestIdentity
    cache_key: bytes | None
    """None: it does not read the cache, and its response is not shared."""
    reply_to: str
    admitted_at: datetime
    deadline: datetime
    uses_installation_credential: bool
    """The provider is called under the installation's credential, so the project's budget for these applies."""


class AdmissionRequest(Struct, frozen=True, kw_only=True):
    """The parameters of `admit` for one request."""

    attempt: Attempt
    min_created_at: datetime | None
    """The least creation time of a cached response; None: only a fresh one will do."""
    served: Commit | None = None
    """For a response from memory: its event, which is appended unless the rate limit refuses. No other limit is
    checked. Its time is the attempt's."""
    hold_nano_usd: NanoUsd | None
    """The most that the request can cost; None: it has no price."""
    min_hold_nano_usd: NanoUsd
    """The least hold that will do: lower than `hold_nano_usd` if the output cap may be lowered."""
    accept_lower_hold: bool = False
    """Accept a lower hold at once instead of waiting for the holds of others."""
    token_bound: int
    """The most input tokens that the request can count."""
    is_counted: bool = False
    """An earlier call of `admit` has counted the request toward the rate limit."""
    is_last_in_line: bool = False
    """Others wait for its account: it is not admitted before them (queued)."""
    key_version: int | None = None
    """The version of the key's stream that the request was planned with; None: not checked."""


class AdmissionDecision(Struct, frozen=True, kw_only=True):
    """The result of `admit` for one request."""

    outcome: Outcome
    origin: str | None
    """The request whose response is cached (hit) or awaited (coalesced), or that has the same idempotency key."""
    hold_nano_usd: NanoUsd
    """For `admitted`: if it is less than the hold requested, the output cap must be lowered to it."""
    limit_status: LimitStatus
    window: Window | None
    """The budget window that refused; None if no budget did."""
    retry_after_ns: int | None
    """For a refusal by a rate limit."""


class Claim(Struct, frozen=True, kw_only=True):
    """An attempt that this delivery, and no other, may make."""

    attempt: int
    hold_nano_usd: NanoUsd
    budget_day: date


class SeenStream(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker had seen of a stream when it last reported that."""

    received_bytes: int = 0
    """UTF-8 bytes of text, tool calls and thinking."""
    covered_bytes: int = 0
    """The next report is due when about so many have come."""
    output_tokens: int = 0
    """As many as the provider had counted."""
    input_usage: TokenUsage | None = None
    """The input's tokens, if the provider had sent them; `output` is 0."""
    response_id: str | None = None
    """By which the provider can be asked for the response later; None: it cannot, or has not named it."""
    credential: str | None = None
    """The name of the credential that the call is made with; None: the provider has one alone."""
    kept: KeptResponse | None = None
    """How the provider can be asked for it."""


decode_seen = msgspec.json.Decoder(SeenStream).decode


class ClaimedAttempt(Claim, frozen=True, kw_only=True):
    """An attempt in flight, with the delivery that has claimed it, the worker that had this, and its target."""

    delivery: int | None
    worker: str | None
    provider: str
    upstream_model: str
    assumed_nano_usd: NanoUsd | None = None
    """The most that it had cost when its worker last reported; None: its worker has reported nothing."""
    seen: SeenStream | None = None
    """What had come by then."""


class Progress(Struct, frozen=True):
    """What a worker reports of an attempt that it makes."""

    request_id: str
    attempt: int
    assumed_nano_usd: NanoUsd | None
    """The most that it may have cost until the next report; None: as before, or nothing is known."""
    seen: SeenStream


class UnclaimedRequest(Struct, frozen=True):
    """A request that no worker has claimed, and where its answer is waited for."""

    identity: RequestIdentity
    reply_to: str


class BudgetExhausted(Exception):
    """The windows of the budget have no room for another attempt."""


class Withdrawal(Struct, frozen=True, kw_only=True):
    """A request that is to end before a worker has claimed it."""

    request_id: str
    ended: Commit
    """The one event of its end."""


async def withdraw(pool: Pool, withdrawals: Sequence[Withdrawal]) -> tuple[set[str], LogPosition]:
    """Drop attempts that no worker has claimed, and append how their requests ended: both, or neither.

    Returns the requests that were dropped, and the head of the log after it. The others are claimed, or gone.

    Raises:
        Unavailable: the database is away. Whatever was dropped has its event.

    """
    events = [event for one in withdrawals for event in sealed_events(one.ended)]
    assert len(events) == len(withdrawals), "a request ends with one event"
    async with database_errors():
        dropped, *head = await pool.fetchrow(
            _WITHDRAW, [one.request_id for one in withdrawals], *map(list, zip(*events, strict=True))
        )
    return set(dropped), LogPosition(*head)


class Admission:
    """The API's side: admits requests, drops unclaimed ones, and withdraws those that end unclaimed."""

    def __init__(
        self,
        connection: HeldConnection,
        pool: Pool,
        *,
        now: Callable[[], datetime] | None = None,
        on_append: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Admit over `connection`, which no other object uses; rarer statements go over `pool`.

        Without `now` the time is the database's, which is the same for every process. `on_append`: as an `EventLog`'s.
        """
        self._connection = connection
        self._pool = pool
        self._now = now
        self._on_append = on_append
        self._unsure: list[str] = []
        """Requests whose admission may have been committed without a reply: dropped before the next batch."""
        self._batcher: Batcher[AdmissionRequest, AdmissionDecision] = Batcher(
            self._admit_batch,
            name="admissions",
            max_batch=MAX_REQUESTS_PER_BATCH,
            max_waiting=MAX_WAITING,
            isolate=(asyncpg.PostgresError, asyncpg.DataError, UnicodeEncodeError),
        )
        self._withdrawals: Batcher[Withdrawal, LogPosition | None] = Batcher(
            self._withdraw_batch,
            name="withdrawals",
            max_batch=MAX_WITHDRAWN_PER_BATCH,
            max_waiting=MAX_WAITING,
            isolate=(asyncpg.PostgresError, asyncpg.DataError, UnicodeEncodeError),
        )

    @property
    def batchers(self) -> tuple[Batcher[Any, Any], ...]:
        """Return what makes the batches, for those that count them."""
        return self._batcher, self._withdrawals

    async def prepare(self) -> None:
        """Have the database ready for the first admission, by one that is rolled back."""
        now = datetime.now(UTC)
        identity = RequestIdentity(
            request_id=REHEARSED,
            project_id=REHEARSED,
            key_id=REHEARSED,
            operation="chat",
            model="",
            provider="",
            upstream_model="",
        )
        attempt = Attempt(
            identity=identity,
            cache_key=None,
            reply_to="",
            admitted_at=now,
            deadline=now,
            uses_installation_credential=True,
        )
        request = AdmissionRequest(
            attempt=attempt, min_created_at=None, hold_nano_usd=ZERO, min_hold_nano_usd=ZERO, token_bound=0
        )
        await self._connection.rehearse(_ADMIT, *self._arguments([request]))

    def admit(self, request: AdmissionRequest) -> Coroutine[Any, Any, AdmissionDecision]:
        """Decide about one request, in a batch with others that arrive at the same moment.

        Raises:
            Unavailable, OutcomeUnknown: the database is away; a row that landed all the same is taken back.
            Overloaded: too many requests wait for a decision.

        """
        return self._batcher.submit(request)

    async def drop(self, request_ids: Sequence[str]) -> set[str]:
        """Drop attempts that no worker has claimed, of requests that were never accepted. Returns those requests.

        Raises:
            Unavailable: the database is away.

        """
        async with database_errors():
            rows = await self._pool.fetch(_DROP, request_ids)
        return {row[0] for row in rows}

    async def is_in_flight(self, request_id: str) -> bool:
        """Return True if an attempt of the request is in flight, or its outcome is not counted yet."""
        async with database_errors():
            found = await self._pool.fetchval(
                "SELECT EXISTS (SELECT 1 FROM inflight WHERE request_id = $1)", request_id
            )
        return bool(found)

    async def withdraw(self, request_id: str, ended: Commit) -> LogPosition | None:
        """Drop an attempt that no worker has claimed, and append how its request ended, in one step.

        Returns the head of the log after it; None: it is claimed, or there is none, and nothing was appended.

        Raises:
            Unavailable: the database is away. Both were done, or neither.
            Overloaded: too many requests are being withdrawn.

        """
        return await self._withdrawals.submit(Withdrawal(request_id=request_id, ended=ended))

    async def unclaimed(self, request_ids: Sequence[str]) -> set[str]:
        """Return the requests that no worker has claimed yet."""
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT request_id FROM inflight WHERE request_id = ANY ($1) AND delivery IS NULL", request_ids
            )
        return {row["request_id"] for row in rows}

    async def unclaimed_attempt(self, request_id: str) -> UnclaimedRequest | None:
        """Return who waits for a request that no worker has claimed; None if there is none."""
        async with database_errors():
            row = await self._pool.fetchrow(
                f"SELECT {IDENTITY_COLUMNS}, reply_to FROM inflight WHERE request_id = $1 AND delivery IS NULL",  # noqa: S608 - constants
                request_id,
            )
        return UnclaimedRequest(identity_of(row), row["reply_to"]) if row is not None else None

    async def free_idempotency_key(self, request_id: str) -> None:
        """Free the idempotency key of a request that has ended and cost nothing, before the projector has seen it."""
        async with database_errors():
            await self._pool.execute("SELECT free_idempotency_key($1)", request_id)

    async def close(self) -> None:
        """Decide about the waiting requests, then stop."""
        await self._batcher.close()
        await self._withdrawals.close()
        await self._connection.close()

    async def _admit_batch(self, requests: Sequence[AdmissionRequest]) -> Sequence[AdmissionDecision]:
        if self._unsure:
            await self._take_back()
        try:
            return await self._decide(requests)
        except OutcomeUnknown:
            self._unsure.extend(request.attempt.identity.request_id for request in requests)
            raise

    async def _withdraw_batch(self, withdrawals: Sequence[Withdrawal]) -> Sequence[LogPosition | None]:
        dropped, head = await withdraw(self._pool, withdrawals)
        if dropped and self._on_append is not None:
            await self._on_append(head.position)
        return [head if one.request_id in dropped else None for one in withdrawals]

    async def _take_back(self) -> None:
        """Drop admissions that may have been committed: no job was published for them, so no worker has them."""
        await self.drop(self._unsure)
        self._unsure.clear()

    async def _decide(self, requests: Sequence[AdmissionRequest]) -> Sequence[AdmissionDecision]:
        decided = await self._connection.fetch(_ADMIT, *self._arguments(requests))
        appended = decided[0]["appended"]
        if appended is not None and self._on_append is not None:
            await self._on_append(appended)
        return [_decision(row) for row in decided]

    def _arguments(self, requests: Sequence[AdmissionRequest]) -> tuple[Any, ...]:
        """The parameters of `admit`."""
        identities = [request.attempt.identity for request in requests]
        accounts = sorted(
            {account for one in identities for account in (("key", one.key_id), ("project", one.project_id))}
        )  # one order for all processes, or two batches could deadlock
        places = {account: place for place, account in enumerate(accounts, start=1)}
        first: dict[tuple[str, bytes], int] = {}
        rows = []
        for number, request in enumerate(requests, start=1):
            attempt, identity = request.attempt, request.attempt.identity
            leader = number
            if attempt.cache_key is not None:
                leader = first.setdefault((identity.project_id, attempt.cache_key), number)
            rows.append(
                (
                    places["key", identity.key_id],
                    places["project", identity.project_id],
                    identity.request_id,
                    identity.operation,
                    identity.model,
                    identity.provider,
                    identity.upstream_model,
                    _encode(identity.metadata).decode() if identity.metadata is not None else None,
                    attempt.cache_key,
                    request.min_created_at,
                    leader,
                    request.hold_nano_usd,
                    request.min_hold_nano_usd,
                    request.token_bound,
                    request.accept_lower_hold,
                    request.is_counted,
                    attempt.reply_to,
                    attempt.admitted_at,
                    attempt.deadline,
                    *(_sealed(request.served) if request.served is not None else (None, None)),
                    request.key_version,
                    attempt.uses_installation_credential,
                    request.is_last_in_line,
                    *_idempotency(identity),
                    said_of(identity),
                )
            )
        return (
            self._now() if self._now is not None else None,
            accounts,
            rows,
        )


class Claims:
    """The workers' side: claims attempts and admits the next ones."""

    def __init__(self, connection: HeldConnection, pool: Pool, *, worker: str) -> None:
        """Claim over `connection`, which no other object uses, in the name of `worker`: the id of its process."""
        self._connection = connection
        self._pool = pool
        self._worker = worker
        self._batcher: Batcher[tuple[str, int], Claim | None] = Batcher(
            self._claim_batch, name="claims", max_batch=MAX_CLAIMS_PER_BATCH, max_waiting=MAX_WAITING
        )

    @property
    def batchers(self) -> tuple[Batcher[Any, Any], ...]:
        """Return what makes the batches, for those that count them."""
        return (self._batcher,)

    async def prepare(self) -> None:
        """Have the database ready for the first claim, by one that finds nothing."""
        await self._connection.rehearse(_CLAIM, [REHEARSED], [1], self._worker)

    async def claim(self, request_id: str, delivery: int) -> Claim | None:
        """Claim the request's unclaimed attempt for this delivery; None if there is none.

        Raises:
            Unavailable, OutcomeUnknown: the database is away. Do not call the provider.

        """
        return await self._batcher.submit((request_id, delivery))

    async def in_flight(self, request_id: str) -> list[ClaimedAttempt]:
        """Return the request's attempts whose outcome is not counted yet, in order."""
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT attempt, delivery, claimed_by AS worker, hold_nano_usd, budget_day, provider, upstream_model, "
                "assumed_nano_usd, seen::text "
                "FROM inflight "
                "WHERE request_id = $1 ORDER BY attempt",
                request_id,
            )
        return [
            ClaimedAttempt(**dict(row) | {"seen": decode_seen(row["seen"]) if row["seen"] is not None else None})
            for row in rows
        ]

    async def report(self, progress: Sequence[Progress]) -> None:
        """Write how far attempts are.

        Raises:
            Unavailable: the database is away.

        """
        in_order = sorted(progress, key=lambda one: one.request_id)  # as claims, or two batches could deadlock
        async with database_errors():
            await self._pool.execute(
                "SELECT report_progress($1, $2, $3, $4)",
                [one.request_id for one in in_order],
                [one.attempt for one in in_order],
                [one.assumed_nano_usd for one in in_order],
                [_encode(one.seen).decode() for one in in_order],
            )

    async def admit_next(
        self, attempt: Attempt, number: int, delivery: int, hold_nano_usd: NanoUsd | None, budget_day: date
    ) -> Claim | None:
        """Admit and claim the attempt after one that failed or was lost. None: another delivery was first.

        A hold of None is that of an attempt whose cost has no bound.

        Raises:
            BudgetExhausted: the budget has no room for the hold; or there is a budget, and the cost has no bound.
            Unavailable: the database is away.

        """
        identity = attempt.identity
        async with database_errors():
            outcome = await self._pool.fetchval(
                _ADMIT_NEXT,
                identity.request_id,
                number,
                identity.project_id,
                identity.key_id,
                identity.operation,
                identity.model,
                identity.provider,
                identity.upstream_model,
                _encode(identity.metadata).decode() if identity.metadata is not None else None,
                attempt.cache_key,
                hold_nano_usd,
                budget_day,
                attempt.reply_to,
                attempt.admitted_at,
                attempt.deadline,
                delivery,
                self._worker,
                attempt.uses_installation_credential,
                *_idempotency(identity),
                said_of(identity),
            )
        if outcome == "budget_exhausted":
            raise BudgetExhausted
        if outcome != "admitted":
            return None
        return Claim(attempt=number, hold_nano_usd=hold_nano_usd or ZERO, budget_day=budget_day)

    async def close(self) -> None:
        """Make the waiting claims, then stop."""
        await self._batcher.close()
        await self._connection.close()

    async def _claim_batch(self, pairs: Sequence[tuple[str, int]]) -> Sequence[Claim | None]:
        in_order = sorted(pairs)  # one order for all workers, or two batches could deadlock
        rows = await self._connection.fetch(
            _CLAIM, [request_id for request_id, _ in in_order], [delivery for _, delivery in in_order], self._worker
        )
        claims = {
            (row["claimed_request"], row["claimed_delivery"]): Claim(
                attempt=row["claimed_attempt"], hold_nano_usd=row["hold"], budget_day=row["day"]
            )
            for row in rows
        }
        return [claims.pop(one, None) for one in pairs]


def _decision(row: asyncpg.Record) -> AdmissionDecision:
    window = row["budget_window"]
    return AdmissionDecision(
        outcome=row["outcome"],
        origin=row["origin"],
        hold_nano_usd=row["hold"],
        limit_status=LimitStatus(
            requests=_meter(row["requests_limit"], row["requests_remaining"], row["requests_reset_ns"]),
            tokens=_meter(row["tokens_limit"], row["tokens_remaining"], row["tokens_reset_ns"]),
            budget_left_nano_usd=row["budget_remaining"],
        ),
        window=None
        if window is None
        else Window(
            name=window,
            limit_nano_usd=row["window_limit"],
            taken_nano_usd=row["window_taken"],
            held_nano_usd=row["window_held"],
        ),
        retry_after_ns=row["retry_ns"],
    )


def _idempotency(identity: RequestIdentity) -> tuple[bytes | None, str | None]:
    """The key of the request, and what the ledger has of it; None: it has no key."""
    known_by = identity.idempotency
    return (bytes.fromhex(known_by.key), _encode(known_by).decode()) if known_by is not None else (None, None)


def _sealed(served: Commit) -> tuple[str, bytes]:
    """The data and the digest of the one event of a commit."""
    ((*_, data, digest),) = sealed_events(served)
    return data, digest


def _meter(limit: int | None, left: int, reset_ns: int) -> Meter | None:
    return None if limit is None else Meter(limit=limit, remaining=left, reset_ns=reset_ns)
