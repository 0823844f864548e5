"""Decides what a delivery does if its job has no unclaimed attempt: another delivery began it, or it has ended.

The order of the checks is part of the protocol (`tests/model/holds.py` walks every interleaving): has the request
ended, is there an unclaimed attempt, is an earlier delivery's attempt without an outcome, have attempts ended and none
is under way.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from domain.errors import BudgetExceeded, GatewayError, ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, RequestFailed, request_stream
from domain.money import to_usd
from domain.request_decider import History, decide_failed, ending, is_resolved, last_attempt
from domain.routing import KEYLESS_KINDS
from infra.admission import Attempt, BudgetExhausted, Claim, Claims
from infra.cancellations import nobody_waits
from infra.crash_points import reach
from infra.event_log import EventLog
from infra.jobs import Job
from infra.request_log import record
from workers import outcome
from workers.delivery import Maker

MAX_ATTEMPTS = 3
MAX_LOOKS = 10


class Resumed(Struct, frozen=True):
    """What a delivery is to do, and the request's stream."""

    verdict: Literal["attempt", "ended", "gone", "taken", "later"]
    """`attempt`: make the claimed attempt. `ended`: send the request's end again. `gone`: there is nothing to claim,
    and nothing was. `taken`: a later delivery has the job, and acknowledges it. `later`: an earlier delivery still
    makes its attempt, though its heartbeats were lost.
    """
    history: History
    claim: Claim | None = None
    """Of an `attempt`."""


async def resume(
    log: EventLog,
    claims: Claims,
    job: Job,
    delivery: int,
    now: datetime,
    *,
    maker_of: Callable[[str, int, str | None], Awaitable[Maker]],
    is_wanted: Callable[[], Awaitable[bool]],
) -> Resumed:
    """Find out what this delivery has to do.

    `maker_of` says what became of the worker that claimed an attempt, `is_wanted` if anybody still waits for the
    answer: for nobody, no attempt is made after one that was lost.

    Raises:
        Unavailable: the database is away.

    """
    request_id = job.identity.request_id
    for _ in range(MAX_LOOKS):
        history: History = [stored.event for stored in await log.read_stream(request_stream(request_id))]
        if ending(history) is not None:
            return Resumed("ended", history)
        claim = await claims.claim(request_id, delivery)
        if claim is not None:
            return Resumed("attempt", history, claim)
        rows = await claims.in_flight(request_id)
        live = [row for row in rows if row.delivery is not None and not is_resolved(history, row.attempt)]
        if live:
            earlier = live[-1].delivery or 0
            if delivery <= earlier:
                return Resumed("taken", history)
            maker = await maker_of(request_id, earlier, live[-1].worker)
            if maker == "at work":
                return Resumed("later", history)
            await _record_lost(log, job, live[-1], history, now, is_wanted=await is_wanted())
            reach("worker.after_lost")
            continue
        if not history:
            return Resumed("gone", history)  # dropped, or swept: nothing to claim
        if delivery < max((row.delivery or 0 for row in rows), default=0):
            return Resumed("taken", history)
        if not await is_wanted():
            return Resumed("ended", await _fail(log, job, nobody_waits(), history, now))
        return await _claim_next(log, claims, job, delivery, history, now)
    return Resumed("later", history)


async def is_lost(log: EventLog, request_id: str, attempt: int) -> bool:
    """Return True if others have given up this worker's attempt, while its process stood still.

    Raises:
        Unavailable: the database is away.

    """
    history = [stored.event for stored in await log.read_stream(request_stream(request_id))]
    return is_resolved(history, attempt) or ending(history) is not None


def attempt_of(job: Job) -> Attempt:
    """Make the ledger's row of a job's next attempt."""
    return Attempt(
        identity=job.identity,
        cache_key=job.cache_key,
        reply_to=job.reply_to,
        admitted_at=datetime.fromtimestamp(job.admitted_at_ms / 1000, UTC),
        deadline=datetime.fromtimestamp(job.deadline_ms / 1000, UTC),
        uses_installation_credential=job.kind not in KEYLESS_KINDS and not job.needs_own_credential,
    )


async def _record_lost(
    log: EventLog, job: Job, claim: Claim, history: History, now: datetime, *, is_wanted: bool
) -> None:
    """Record that an attempt's worker is lost, and the request's end if nobody waits for its answer."""
    lost = outcome.attempt_lost(job.identity, claim, "worker_lost")
    failed = None if is_wanted else _failed(job, nobody_waits(), now)
    await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, lost, failed),
    )


async def _claim_next(
    log: EventLog, claims: Claims, job: Job, delivery: int, history: History, now: datetime
) -> Resumed:
    """Admit and claim the attempt after those that have ended; end the request if there may be none."""
    number = last_attempt(history) + 1
    if number > MAX_ATTEMPTS:
        spent = ProviderUnavailable(f"{MAX_ATTEMPTS} attempts came to nothing", provider=job.identity.provider)
        return Resumed("ended", await _fail(log, job, spent, history, now))
    earlier = next(e for e in reversed(history) if isinstance(e, AttemptFailed | AttemptLost))
    hold = earlier.hold_nano_usd if isinstance(earlier, AttemptFailed) else earlier.assumed_nano_usd
    try:
        claim = await claims.admit_next(attempt_of(job), number, delivery, hold, earlier.budget_day)
    except BudgetExhausted:
        error = BudgetExceeded(f"the budget does not cover another attempt, which may cost ${to_usd(hold):f}")
        return Resumed("ended", await _fail(log, job, error, history, now))
    return Resumed("taken", history) if claim is None else Resumed("attempt", history, claim)


def _failed(job: Job, error: GatewayError, now: datetime) -> RequestFailed:
    return outcome.request_failed(
        job.identity, code=error.code, message=error.message, status=None, latency_ms=outcome.latency_ms(job, now)
    )


async def _fail(log: EventLog, job: Job, error: GatewayError, history: History, now: datetime) -> History:
    """End a request with an error. Returns its stream after that."""
    failed = _failed(job, error, now)
    recorded = await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, None, failed),
    )
    return recorded.history
