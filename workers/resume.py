"""Decides what a delivery does if its job has no unclaimed attempt: another delivery began it, or it has ended.

The order of the checks is part of the protocol (`tests/model/holds.py` walks every interleaving): has the request
ended, is there an unclaimed attempt, is an earlier delivery's attempt without an outcome, have attempts ended and none
is under way.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import BudgetExceeded, GatewayError, ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, RequestFailed, request_stream
from domain.money import NanoUsd, to_usd
from domain.request_decider import History, decide_failed, ending, is_resolved, last_attempt, tries_at
from infra.admission import Claim, ClaimedAttempt, Claims
from infra.cancellations import nobody_waits
from infra.crash_points import reach
from infra.event_log import EventLog
from infra.jobs import Job
from infra.request_log import record
from workers import outcome
from workers.calls import PreparedCall
from workers.delivery import Maker
from workers.next_attempts import Ended, NextAttempts, NoTargetLeft, Skipped
from workers.target_fates import target_fates

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
    target: int = 0
    """The number of its target in the request's plan."""
    skipped: Skipped = ()
    """The targets that were passed over."""
    prepared: PreparedCall | None = None
    """The call, if its target is not the first."""


async def resume(
    log: EventLog,
    claims: Claims,
    next_attempts: NextAttempts,
    job: Job,
    delivery: int,
    now: datetime,
    *,
    maker_of: Callable[[str, int, str | None], Awaitable[Maker]],
    is_wanted: Callable[[], Awaitable[bool]],
    assumed: Callable[[Job, ClaimedAttempt, bool], Awaitable[NanoUsd]],
) -> Resumed:
    """Find out what this delivery has to do.

    `maker_of` says what became of the worker that claimed an attempt, `is_wanted` if anybody still waits for the
    answer: for nobody, no attempt is made after one that was lost. `assumed` says what an attempt may have cost whose
    worker is gone (True), or stands still.

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
            target = target_of(job, history, live[-1])
            cost = await assumed(job.at(target), live[-1], maker == "gone")
            lost = outcome.attempt_lost(job.at(target).identity, live[-1], "worker_lost", cost, target=target)
            if (seen := live[-1].seen) is not None:
                lost = replace(lost, response_id=seen.response_id, credential=seen.credential, kept=seen.kept)
            await _record_lost(log, job, lost, history, now, is_wanted=await is_wanted())
            reach("worker.after_lost")
            continue
        if not history:
            return Resumed("gone", history)  # dropped, or swept: nothing to claim
        if delivery < max((row.delivery or 0 for row in rows), default=0):
            return Resumed("taken", history)
        if not await is_wanted():
            return Resumed("ended", await _fail(log, job, nobody_waits(), history, now))
        return await _claim_next(log, next_attempts, job, delivery, history, now)
    return Resumed("later", history)


async def is_lost(log: EventLog, request_id: str, attempt: int) -> bool:
    """Return True if others have given up this worker's attempt, while its process stood still.

    Raises:
        Unavailable: the database is away.

    """
    history = [stored.event for stored in await log.read_stream(request_stream(request_id))]
    return is_resolved(history, attempt) or ending(history) is not None


async def _record_lost(
    log: EventLog, job: Job, lost: AttemptLost, history: History, now: datetime, *, is_wanted: bool
) -> None:
    """Record that an attempt's worker is lost, and the request's end if nobody waits for its answer."""
    failed = None if is_wanted else _failed(job, nobody_waits(), (*history, lost), now)
    await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, lost, failed),
    )


def target_of(job: Job, history: History, claim: ClaimedAttempt) -> int:
    """Return the number of the target of an attempt in flight, of which the ledger knows provider and model.

    It is none before the one that the attempt before it has left for.
    """
    last = _last_ended(history)
    first = 0 if last is None else last.target if last.next_target is None else last.next_target
    for number in range(first, job.targets):
        identity = job.at(number).identity
        if (identity.provider, identity.upstream_model) == (claim.provider, claim.upstream_model):
            return number
    return first


def next_target(job: Job, history: History) -> tuple[int, bool]:
    """Return the target of the attempt after those that ended, and whether others may be tried if it cannot be asked.

    What was decided when the last attempt failed stands in its event. If its worker was lost, the target is tried
    again, as often as any is.
    """
    last = _last_ended(history)
    assert last is not None, "an attempt has ended"
    if last.next_target is not None:
        return last.next_target, True
    is_worker_lost = isinstance(last, AttemptLost) and last.reason == "worker_lost"
    if not is_worker_lost:
        return last.target, False
    is_used_up = tries_at(history, last.target) >= job.most_tries and last.target + 1 < job.targets
    return last.target + is_used_up, True


def _last_ended(history: History) -> AttemptFailed | AttemptLost | None:
    return next((event for event in reversed(history) if isinstance(event, AttemptFailed | AttemptLost)), None)


async def _claim_next(
    log: EventLog, next_attempts: NextAttempts, job: Job, delivery: int, history: History, now: datetime
) -> Resumed:
    """Admit and claim the attempt after those that have ended; end the request if there may be none."""
    number = last_attempt(history) + 1
    if number > job.most_attempts:
        spent = ProviderUnavailable(f"{job.most_attempts} attempts came to nothing", provider=job.identity.provider)
        return Resumed("ended", await _fail(log, job, spent, history, now))
    earlier = _last_ended(history)
    assert earlier is not None, "an attempt has ended, and the request has not"
    hold = earlier.hold_nano_usd
    if isinstance(earlier, AttemptLost) and hold is None:  # of an earlier release
        hold = earlier.assumed_nano_usd
    assert hold is not None, "an attempt has a hold"
    ended = Ended(attempt=number - 1, target=earlier.target, hold_nano_usd=hold, budget_day=earlier.budget_day)
    target, goes_on = next_target(job, history)
    try:
        following = await next_attempts.admit(job, ended, delivery, target=target, goes_on=goes_on)
    except NoTargetLeft as left:
        error = BudgetExceeded(f"the budget does not cover another attempt, which may cost ${to_usd(hold):f}")
        return Resumed("ended", await _fail(log, job, error, history, now, left.skipped))
    if following.claim is None:
        return Resumed("taken", history)
    return Resumed("attempt", history, following.claim, following.target, following.skipped, following.prepared)


def _failed(job: Job, error: GatewayError, history: History, now: datetime, skipped: Skipped = ()) -> RequestFailed:
    """The event of a request that ends so, as one of the target that it came to."""
    last = _last_ended(history)
    return outcome.request_failed(
        job.at(last.target).identity if last is not None else job.identity,
        code=error.code,
        message=error.message,
        status=None,
        latency_ms=outcome.latency_ms(job, now),
        targets=target_fates(job, history, skipped),
    )


async def _fail(
    log: EventLog, job: Job, error: GatewayError, history: History, now: datetime, skipped: Skipped = ()
) -> History:
    """End a request with an error. Returns its stream after that."""
    failed = _failed(job, error, history, now, skipped)
    recorded = await record(
        log,
        request_id=job.identity.request_id,
        project_id=job.identity.project_id,
        at=now,
        history=history,
        decide=lambda stream: decide_failed(stream, None, failed),
    )
    return recorded.history
