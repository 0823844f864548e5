"""Asks providers what lost attempts have cost, where they can be asked, and replaces what was assumed.

A provider that keeps its responses (`Codec.keeps_response`) is asked for one by its id, under the credential of
the call: a few times, since the response may not be there yet or may go on. Off the path of requests: nothing waits for
it. If the worker ends meanwhile, or the provider does not say, the assumption stays, for `gateway audit reconcile`.

The request's stream decides: one cost replaces an assumption, the provider's word or the late result of a worker that
stood still, whichever comes first.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from msgspec import Struct
from msgspec.structs import replace

from domain.dialects.codec import ProviderResponse
from domain.errors import GatewayError, ProviderCredentials, ProviderRejected
from domain.events import AttemptLost
from domain.extras import with_asked
from domain.money import ZERO, NanoUsd
from domain.request_decider import decide_reconciled
from infra.admission import Claim
from infra.event_log import EventLog
from infra.jobs import Job
from infra.request_log import record
from workers import outcome
from workers.calls import ProviderCalls

LOOK_INTERVAL_S = 0.5
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Before each time that a provider is asked. After the last the assumption stays."""
MAX_WAITING = 1_000
"""Those that wait are bounded by their number alone: their jobs are kept without bodies and without further targets."""
MAX_ASKED_AT_ONCE = 8
NOT_THERE = 404
"""The status of a response that is not kept, or not yet."""

log = structlog.get_logger(__name__)


class _Waiting(Struct):
    """A lost attempt whose provider is asked."""

    job: Job
    """At the target of the attempt, without its body."""
    lost: AttemptLost
    due_at_s: float
    tries: int = 0


class Settlements:
    """Settles the lost attempts that one worker has found."""

    def __init__(self, *, calls: ProviderCalls, event_log: EventLog, now: Callable[[], datetime]) -> None:
        self._calls = calls
        self._log = event_log
        self._now = now
        self._waiting: list[_Waiting] = []

    def add(self, job: Job, lost: AttemptLost) -> None:
        """Ask for what an attempt has cost, which is in the log as lost, if its provider can be asked."""
        if lost.response_id is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            log.warning("attempt_not_settled", request_id=lost.request_id, attempt=lost.attempt, reason="too many wait")
            return
        small = replace(job, body=None, body_blob_id=None, failover=None)
        self._waiting.append(_Waiting(small, lost, time.monotonic() + WAITS_S[0]))

    async def run(self, stop: asyncio.Event) -> None:
        """Ask when it is time to, until `stop`: then no provider is waited for any more."""
        asking, stopping = asyncio.create_task(self._ask()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, stopping):
                task.cancel()
            await asyncio.gather(asking, stopping, return_exceptions=True)
        if not asking.cancelled():
            asking.result()  # why it ended

    async def _ask(self) -> None:
        while True:
            await self.settle(time.monotonic())
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def settle(self, now_s: float) -> None:
        """Ask for what is due, a few at a time."""
        due = [one for one in self._waiting if one.due_at_s <= now_s]
        for start in range(0, len(due), MAX_ASKED_AT_ONCE):
            await self._settle_some(due[start : start + MAX_ASKED_AT_ONCE])

    async def _settle_some(self, asked: Sequence[_Waiting]) -> None:
        for one, is_over in zip(asked, await asyncio.gather(*map(self._is_over, asked)), strict=True):
            one.tries += 1
            if is_over or one.tries == len(WAITS_S):
                self._waiting.remove(one)
            else:
                one.due_at_s = time.monotonic() + WAITS_S[one.tries]

    async def _is_over(self, waiting: _Waiting) -> bool:
        """Ask once. Return True if it is settled, or will never be."""
        lost = waiting.lost
        try:
            response = await self._calls.kept_response(waiting.job, lost.response_id or "", lost.credential)
            if response is None:
                return True
            return await self._record(waiting.job, lost, response)
        except (ProviderRejected, ProviderCredentials) as error:
            is_over, code = error.status != NOT_THERE, error.code
        except GatewayError as error:
            is_over, code = False, error.code
        except Exception:
            log.exception("attempt_not_settled", request_id=lost.request_id, attempt=lost.attempt)
            return True  # the others are asked for
        log.info("provider_not_asked", request_id=lost.request_id, attempt=lost.attempt, code=code, is_over=is_over)
        return is_over

    async def _record(self, job: Job, lost: AttemptLost, response: ProviderResponse) -> bool:
        """Replace what was assumed by what the provider says. False: it does not say yet."""
        cost = cost_of(job, lost, response)
        if cost is None:
            return False
        recorded = await record(
            self._log,
            request_id=lost.request_id,
            project_id=job.identity.project_id,
            at=self._now(),
            decide=lambda history: decide_reconciled(history, lost, cost, response.usage),
        )
        log.info("attempt_settled", request_id=lost.request_id, attempt=lost.attempt, settled=bool(recorded.added))
        return True


def cost_of(job: Job, lost: AttemptLost, response: ProviderResponse) -> NanoUsd | None:
    """The cost of a response that the provider has kept; None: it does not say, or some of it has no known price.

    A response that is still being written has no usage, or counts as something without a price.
    """
    if response.usage is None or response.response_id != lost.response_id:
        return None
    claim = Claim(
        attempt=lost.attempt,
        hold_nano_usd=lost.hold_nano_usd if lost.hold_nano_usd is not None else ZERO,
        budget_day=lost.budget_day,
    )
    incurred = outcome.cost_incurred(
        job.identity,
        claim,
        usage=response.usage,
        price=job.price,
        extras=with_asked(response.extras, job.asked_terms, job.unpriced),
    )
    return None if incurred.is_lower_bound else incurred.cost_nano_usd
