"""Decides what a delivery does if its job has no unclaimed attempt: another delivery began it, or it has ended.

The order of the checks is part of the protocol (`tests/model/holds.py` walks every interleaving): has the request
ended, is there an unclaimed attempt, is an earlier delivery's attempt without an outcome, have attempts ended and none
is under way.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from domain.errors import BudgetExceeded, ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, request_stream
from domain.money import to_usd
from domain.request_decider import History, decide_failed, ending, is_resolved, last_attempt
from domain.routing import KEYLESS_KINDS
from infra.admission import Attempt, BudgetExhausted, Claim, Claims
from infra.crash_points import reach
from infra.event_log import EventLog
from infra.jobs import Job
from infra.request_log import record
from workers import outcome

MAX_ATTEMPTS = 3
MAX_LOOKS = 10


class Resumed(Struct, frozen=True):
    """What a delivery is to do, and the request's stream."""

    verdict: Literal["attempt", "ended", "skip", "later"]
    """`attempt`: make the claimed attempt. `ended`: send the request's end again. `skip`: another delivery has
    the job, or the request is gone. `later`: an earlier delivery still makes its attempt, though its
    heartbeats were lost.
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
    are_made: Callable[[str, int], Awaitable[bool]],
) -> Resumed:
    """Find out what this delivery has to do. `are_made` says if a worker makes the attempts of a delivery.

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
                return Resumed("skip", history)
            if await are_made(request_id, earlier):
                return Resumed("later", history)
            await _record_lost(log, job, live[-1], history, now)
            reach("worker.after_lost")
            continue
        if not history:
            return Resumed("skip", history)  # dropped, or swept: nothing to claim
        if delivery < max((row.delivery or 0 for row in rows), default=0):
            return Resumed("skip", history)
        return await _claim_next(log, claims, job, delivery, history, now)
    return Resumed("skip", history)


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


async def _record_lost(log: EventLog, job: Job, claim: Claim, history: History, now: datetime) -> None:
    lost = outcome.attempt_lost(job.identity, claim, "worker_lost")
    await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, lost, None),
    )


async def _claim_next(
    log: EventLog, claims: Claims, job: Job, delivery: int, history: History, now: datetime
) -> Resumed:
    """Admit and claim the attempt after those that have ended; end the request if there may be none."""
    number = last_attempt(history) + 1
    if number > MAX_ATTEMPTS:
        message = f"{MAX_ATTEMPTS} attempts came to nothing"
        return Resumed("ended", await _fail(log, job, ProviderUnavailable.code, message, history, now))
    earlier = next(e for e in reversed(history) if isinstance(e, AttemptFailed | AttemptLost))
    hold = earlier.hold_nano_usd if isinstance(earlier, AttemptFailed) else earlier.assumed_nano_usd
    try:
        claim = await claims.admit_next(attempt_of(job), number, delivery, hold, earlier.budget_day)
    except BudgetExhausted:
        message = f"the budget does not cover another attempt, which may cost ${to_usd(hold):f}"
        return Resumed("ended", await _fail(log, job, BudgetExceeded.code, message, history, now))
    return Resumed("skip", history) if claim is None else Resumed("attempt", history, claim)


async def _fail(log: EventLog, job: Job, code: str, message: str, history: History, now: datetime) -> History:
    """End a request with an error. Returns its stream after that."""
    failed = outcome.request_failed(
        job.identity, code=code, message=message, status=None, latency_ms=outcome.latency_ms(job, now)
    )
    recorded = await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, None, failed),
    )
    return recorded.history
