"""Asks providers what attempts have cost whose true cost is not known, and replaces what was assumed.

A provider that keeps its responses (`Codec.keeps_response`) is asked for one by its id, under the credential of the
call: a few times, since the response may not be there yet or may go on. Reading costs nothing, and nothing waits for
it. Any worker asks, whoever has given the attempt up; which are due, the database knows
(`projections/settlements.py`). What the provider never says stays assumed, for `gateway audit reconcile`.

The request's stream decides: one cost replaces an assumption, the provider's word or the late result of a worker that
stood still, whichever comes first.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from msgspec import Struct

from domain.dialects.codec import ProviderResponse
from domain.errors import GatewayError, ProviderCredentials, ProviderRejected, Unavailable
from domain.events import AttemptLost, CostIncurred, KeptResponse, request_stream
from domain.extras import with_asked
from domain.money import NanoUsd
from domain.request_decider import History, decide_reconciled
from infra.database import Pool, database_errors
from infra.event_log import EventLog
from infra.request_log import record
from workers import outcome
from workers.calls import ProviderCalls
from workers.kept_responses import claim_of, job_of

LOOK_INTERVAL_S = 2.0
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0)
"""Before each time that a provider is asked: what was cut is there after seconds, what goes on in the background may
take hours. After the last the assumption stays.
"""
ASKED_WITHIN_S = 24 * 3_600.0
"""What ended earlier is asked for no more: all workers were away."""
MAX_ASKED_AT_ONCE = 8
NOT_THERE = 404
"""The status of a response that is not kept, or not yet."""

log = structlog.get_logger(__name__)


class _Asked(Struct, frozen=True):
    """An attempt whose provider is asked."""

    project_id: str
    ended: AttemptLost | CostIncurred
    kept: KeptResponse


class Settlements:
    """Settles attempts, for one worker."""

    def __init__(self, *, pool: Pool, calls: ProviderCalls, event_log: EventLog, now: Callable[[], datetime]) -> None:
        self._pool = pool
        self._calls = calls
        self._log = event_log
        self._now = now

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
            try:
                is_more = await self.settle() == MAX_ASKED_AT_ONCE
            except Unavailable as error:
                log.warning("settlements_not_read", message=error.message)
                is_more = False
            except Exception:
                log.exception("settlements_not_read")  # requests are answered all the same
                is_more = False
            if not is_more:
                await asyncio.sleep(LOOK_INTERVAL_S)

    async def settle(self) -> int:
        """Ask for what is due, at most `MAX_ASKED_AT_ONCE`. Return the number.

        Raises:
            Unavailable: the database is away.

        """
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT * FROM take_settlements($1, $2, $3)", MAX_ASKED_AT_ONCE, WAITS_S, ASKED_WITHIN_S
            )
        await asyncio.gather(*(self._settle(row["request_id"], row["attempt"], row["project_id"]) for row in rows))
        return len(rows)

    async def _settle(self, request_id: str, attempt: int, project_id: str) -> None:
        try:
            history = [stored.event for stored in await self._log.read_stream(request_stream(request_id))]
        except Unavailable:
            raise
        except Exception:
            log.exception("attempt_not_settled", request_id=request_id, attempt=attempt)
            return  # its events cannot be read: the others are asked for
        asked = _asked(history, attempt, project_id)
        if asked is not None and await self._is_over(asked):
            async with database_errors():
                await self._pool.execute("SELECT end_tries($1, $2)", request_id, attempt)

    async def _is_over(self, asked: _Asked) -> bool:
        """Ask once. Return True if it is settled, or will never be."""
        ended, kept = asked.ended, asked.kept
        try:
            job = job_of(asked.project_id, ended, kept)
            response = await self._calls.kept_response(job, kept)
            if response is None:
                return True
            return await self._record(asked, response)
        except (ProviderRejected, ProviderCredentials) as error:
            is_over, code = error.status != NOT_THERE, error.code
        except GatewayError as error:
            is_over, code = False, error.code
        except Exception:
            log.exception("attempt_not_settled", request_id=ended.request_id, attempt=ended.attempt)
            return True  # the others are asked for
        log.info("provider_not_asked", request_id=ended.request_id, attempt=ended.attempt, code=code, is_over=is_over)
        return is_over

    async def _record(self, asked: _Asked, response: ProviderResponse) -> bool:
        """Replace what was assumed by what the provider says. False: it does not say yet."""
        ended = asked.ended
        cost = cost_of(asked.project_id, ended, asked.kept, response)
        if cost is None:
            return False
        recorded = await record(
            self._log,
            request_id=ended.request_id,
            project_id=asked.project_id,
            at=self._now(),
            decide=lambda history: decide_reconciled(history, ended, cost, response.usage, source="provider"),
        )
        log.info("attempt_settled", request_id=ended.request_id, attempt=ended.attempt, settled=bool(recorded.added))
        return True


def _asked(history: History, attempt: int, project_id: str) -> _Asked | None:
    """Find how an attempt's provider is asked; None: it cannot be."""
    for event in history:
        if isinstance(event, AttemptLost | CostIncurred) and event.attempt == attempt and event.kept is not None:
            return _Asked(project_id, event, event.kept)
    return None


def cost_of(
    project_id: str, ended: AttemptLost | CostIncurred, kept: KeptResponse, response: ProviderResponse
) -> NanoUsd | None:
    """The cost of a response that the provider has kept; None: it does not say, or some of it has no known price.

    A response that is still being written has no usage, or counts as something without a price.
    """
    if response.usage is None or response.response_id != kept.response_id:
        return None
    incurred = outcome.cost_incurred(
        job_of(project_id, ended, kept).identity,
        claim_of(ended),
        usage=response.usage,
        price=kept.price,
        extras=with_asked(response.extras, kept.asked_terms, kept.unpriced),
    )
    return None if incurred.is_lower_bound else incurred.cost_nano_usd
