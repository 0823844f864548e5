"""What a delivery does that finds nothing of its own to claim: somebody has begun, ended or dropped the request.

The order of the questions is the protocol's (`tests/model/holds.py` walks every interleaving).
Has it ended, is there an unclaimed attempt, is an earlier delivery's attempt without an outcome, have attempts ended
and none is under way.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from msgspec import Struct

from domain.errors import BudgetExceeded, ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, request_stream
from domain.money import NanoUsd, to_usd
from domain.request_decider import History, decide_failed, ending, is_resolved, last_attempt
from infra.admission import Attempt, BudgetExhausted, Claim, Claims
from infra.event_log import EventLog
from infra.request_log import record
from workers import outcome

MAX_ATTEMPTS = 3
MAX_LOOKS = 10


class Resumed(Struct, frozen=True):
    """What to do: make the claimed attempt, tell the caller how it ended, or leave it to another delivery."""

    verdict: Literal["attempt", "ended", "leave", "later"]
    """`later`: an earlier delivery is still at it, though its heartbeats were lost."""
    history: History
    claim: Claim | None = None


async def resume(
    log: EventLog,
    claims: Claims,
    attempt: Attempt,
    delivery: int,
    now: datetime,
    are_made: Callable[[str, int], Awaitable[bool]],
) -> Resumed:
    """Find out what this delivery has to do. `are_made` says if a worker makes the attempts of a delivery."""
    for _ in range(MAX_LOOKS):
        history = [stored.event for stored in await log.read_stream(request_stream(attempt.identity.request_id))]
        if ending(history) is not None:
            return Resumed("ended", history)
        claim = await claims.claim(attempt.identity.request_id, delivery)
        if claim is not None:
            return Resumed("attempt", history, claim)
        rows = await claims.in_flight(attempt.identity.request_id)
        live = [row for row in rows if row.delivery is not None and not is_resolved(history, row.attempt)]
        if live:
            row = live[-1]
            if delivery <= (row.delivery or 0):
                return Resumed("leave", history)
            if await are_made(attempt.identity.request_id, row.delivery or 0):
                return Resumed("later", history)
            lost = outcome.attempt_lost(
                attempt.identity,
                "worker_lost",
                attempt=row.attempt,
                hold_nano_usd=row.hold_nano_usd,
                budget_day=row.budget_day,
            )
            await record(
                log,
                request_id=attempt.identity.request_id,
                project_id=attempt.identity.project_id,
                at=now,
                history=history,
                decide=lambda found, lost=lost: decide_failed(found, lost, None),  # type: ignore[misc]  # bound now
            )
            continue
        if not history:
            return Resumed("leave", history)  # dropped, or swept: nothing to claim
        if delivery < max((row.delivery or 0 for row in rows), default=0):
            return Resumed("leave", history)
        return await _next_attempt(log, claims, attempt, delivery, history, now)
    return Resumed("leave", history)


async def _next_attempt(
    log: EventLog,
    claims: Claims,
    attempt: Attempt,
    delivery: int,
    history: History,
    now: datetime,
) -> Resumed:
    number = last_attempt(history) + 1
    if number > MAX_ATTEMPTS:
        message = f"{MAX_ATTEMPTS} attempts came to nothing"
        return Resumed("ended", await _fail(log, attempt, ProviderUnavailable.code, message, history, now))
    earlier = next(e for e in reversed(history) if isinstance(e, AttemptFailed | AttemptLost))
    hold = earlier.hold_nano_usd if isinstance(earlier, AttemptFailed) else earlier.assumed_nano_usd
    try:
        claim = await claims.admit_next(attempt, number, delivery, hold, earlier.budget_day)
    except BudgetExhausted:
        return Resumed("ended", await _fail_for_money(log, attempt, hold, history, now))
    return Resumed("leave", history) if claim is None else Resumed("attempt", history, claim)


async def _fail_for_money(
    log: EventLog,
    attempt: Attempt,
    hold_nano_usd: NanoUsd,
    history: History,
    now: datetime,
) -> History:
    """StreamSummary a request whose next attempt does not fit into its budget; returns its stream as it stands then."""
    message = f"the budget does not cover another attempt, which may cost ${to_usd(hold_nano_usd):f}"
    return await _fail(log, attempt, BudgetExceeded.code, message, history, now)


async def _fail(
    log: EventLog,
    attempt: Attempt,
    code: str,
    message: str,
    history: History,
    now: datetime,
) -> History:
    failed = outcome.request_failed(
        attempt.identity,
        code=code,
        message=message,
        status=None,
        latency_ms=outcome.latency_ms(attempt.admitted_at, now),
    )
    recorded = await record(
        log,
        request_id=attempt.identity.request_id,
        project_id=attempt.identity.project_id,
        at=now,
        history=history,
        decide=lambda found: decide_failed(found, None, failed),
    )
    return recorded.history
