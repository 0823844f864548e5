"""Gives jobs to workers directly, over core NATS, while the queue has no leader. Both ends.

A queue with three replicas loses no job when a server dies, but it takes 4 to 9 seconds to elect a new leader. Until
then it confirms and delivers nothing. A job that is offered here may be in the queue as well, or come into it later: as
with any job that is delivered twice, the claim decides which delivery makes the attempt. If the worker dies, the queue
does not deliver such a job again: `api/reply_recovery.py` does.
"""

import asyncio
from collections.abc import Callable

import nats.errors
import structlog
from nats.aio.msg import Msg

from infra.broker import Broker, BrokerErrors
from infra.jobs import Job, decode_job, encode_job
from infra.reply_subjects import NO, YES, holding_subject

OFFERED = "direct.jobs"
"""Subject of the offers; one worker of the group has each."""
WORKERS = "workers"
OFFER_TIMEOUT_S = 0.25
MAX_OFFERS = 3
"""Of one job, to one worker after the other."""
HOLDING_TIMEOUT_S = 0.5
PENDING_BYTES_LIMIT = 256 * 1024 * 1024

log = structlog.get_logger(__name__)


class DirectDispatch:
    """The API's end."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self.dispatched: dict[str, Job] = {}
        """The jobs that workers have taken, by request, until `forget`."""

    async def offer(self, job: Job) -> bool:
        """Give a job to a worker that has room for it. False: no worker has confirmed that it took the job."""
        for _ in range(MAX_OFFERS):
            try:
                answer = await self._client.request(OFFERED, encode_job(job), timeout=OFFER_TIMEOUT_S)
            except TimeoutError:  # it went to a worker behind a server that has died, or to none
                continue
            except BrokerErrors:
                return False
            if answer.data == YES:
                self.dispatched[job.identity.request_id] = job
            return bool(answer.data == YES)
        return False

    async def is_in_hand(self, request_id: str) -> bool:
        """Return True if a worker has a job that it was given directly, or if that is not known: NATS is away."""
        try:
            await self._client.request(holding_subject(request_id), b"", timeout=HOLDING_TIMEOUT_S)
        except (nats.errors.NoRespondersError, TimeoutError):
            return not self._client.is_connected
        except BrokerErrors:
            return True
        return True

    def forget(self, request_id: str) -> None:
        """Stop looking after a job: its request has ended, or the job is in the queue."""
        self.dispatched.pop(request_id, None)


class DirectJobs:
    """The worker's end."""

    def __init__(self, broker: Broker, *, take: Callable[[Job], bool], is_in_hand: Callable[[str], bool]) -> None:
        """`take` returns True if it took the job; `is_in_hand` returns True if a request's job waits or runs here."""
        self._client = broker.client
        self._take_job = take
        self._is_in_hand = is_in_hand

    async def run(self, stop: asyncio.Event) -> None:
        """Take jobs until `stop`. The pool finishes those that it has."""
        offers = await self._client.subscribe(
            OFFERED, queue=WORKERS, cb=self._take, pending_bytes_limit=PENDING_BYTES_LIMIT
        )
        holding = await self._client.subscribe(holding_subject("*"), cb=self._reply)
        await stop.wait()
        await offers.unsubscribe()
        await holding.unsubscribe()

    async def _take(self, message: Msg) -> None:
        await message.respond(YES if self._take_job(decode_job(message.data)) else NO)

    async def _reply(self, message: Msg) -> None:
        """Reply for jobs that wait or run here. If a delivery is named, `AttemptsInHand` replies."""
        if not message.data and self._is_in_hand(message.subject.rpartition(".")[2]):
            await message.respond(YES)
