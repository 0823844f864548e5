"""Admits and claims the attempt after one that failed or was lost: at the same target, or at the next one that can be
asked.

Each attempt is admitted anew, with its own hold. A target for whose hold the budget has no room is passed over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime

from msgspec import Struct

from domain.money import NanoUsd
from domain.routing import KEYLESS_KINDS
from infra.admission import Attempt, BudgetExhausted, Claim, Claims
from infra.jobs import Job
from workers.calls import PreparedCall

RELEASE_PAUSES_S = (0.05, 0.1, 0.2, 0.4)
"""Between the tries of one admission: the hold of the attempt before is released a moment after its outcome is in the
log.
"""

Skipped = tuple[tuple[int, str], ...]
"""The numbers of targets that were passed over, and why."""


class Ended(Struct, frozen=True, kw_only=True):
    """An attempt that has ended without an answer."""

    attempt: int
    target: int
    hold_nano_usd: NanoUsd | None
    budget_day: date


class Following(Struct, frozen=True, kw_only=True):
    """The attempt that follows."""

    claim: Claim | None
    """None: another delivery was first."""
    target: int
    skipped: Skipped
    prepared: PreparedCall | None
    """The call of its target; None: it is that of the attempt before."""


class NoTargetLeft(Exception):
    """No target can be asked. `skipped` says why."""

    def __init__(self, skipped: Skipped) -> None:
        super().__init__()
        self.skipped = skipped


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


class NextAttempts:
    """Admits the next attempts of one worker."""

    def __init__(
        self,
        claims: Claims,
        *,
        prepare: Callable[[Job], Awaitable[PreparedCall]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._claims = claims
        self._prepare = prepare
        self._sleep = sleep

    async def admit(self, root: Job, ended: Ended, delivery: int, *, target: int, goes_on: bool) -> Following:
        """Admit the attempt after `ended` at a target; if that cannot be asked and `goes_on`, at the next one that can.

        Raises:
            NoTargetLeft: none can be asked.
            Unavailable: the database is away, or keeps a target's body no longer.

        """
        skipped: list[tuple[int, str]] = []
        for number in range(target, root.targets if goes_on else target + 1):
            job, is_same = root.at(number), number == ended.target
            prepared = None if is_same else await self._prepare(job)  # a failure here costs no attempt
            hold_nano_usd = ended.hold_nano_usd if is_same else job.hold_nano_usd
            try:
                claim = await self._admit(job, ended, delivery, hold_nano_usd)
            except BudgetExhausted:
                skipped.append((number, "budget"))
                continue
            return Following(claim=claim, target=number, skipped=tuple(skipped), prepared=prepared)
        raise NoTargetLeft(tuple(skipped))

    async def _admit(self, job: Job, ended: Ended, delivery: int, hold_nano_usd: NanoUsd | None) -> Claim | None:
        attempt, number = attempt_of(job), ended.attempt + 1
        for pause_s in RELEASE_PAUSES_S:
            try:
                return await self._claims.admit_next(attempt, number, delivery, hold_nano_usd, ended.budget_day)
            except BudgetExhausted:
                await self._sleep(pause_s)
        return await self._claims.admit_next(attempt, number, delivery, hold_nano_usd, ended.budget_day)
