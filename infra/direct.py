"""Jobs given straight to a worker over core NATS, for as long as the queue has no leader. Both ends.

A queue with three replicas loses no job when a server dies, but it takes 4 to 9 seconds to elect a new leader. Until
then it confirms and delivers nothing. A job that is offered here may be in the queue as well, or come into it later: as
with any job that is delivered twice, the claim decides which delivery makes the attempt. If the worker dies, the queue
does not deliver such a job again: `api/reply_recovery.py` does.
"""

import asyncio
from collections.abc import Awaitable, Callable

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
CANCEL_TIMEOUT_S = 5.0
PENDING_BYTES_LIMIT = 256 * 1024 * 1024

log = structlog.get_logger(__name__)


class DirectDispatch:
    """The API's end."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self.dispatched: dict[str, Job] = {}
        """The jobs that workers have taken, by request, until `forget`."""

    async def offer(self, job: Job) -> bool:
        """Give a job to a worker that has room for it; False if none has taken it, as far as is known."""
        for _ in range(MAX_OFFERS):
            try:
                answer = await self._client.request(OFFERED, encode_job(job), timeout=OFFER_TIMEOUT_S)
            except TimeoutError:  # it went to a worker behind a server that has died, or to none
                continue
            except BrokerErrors:
                return False
            if answer.data == YES:
                self.dispatched[job.request_id] = job
            return bool(answer.data == YES)
        return False

    async def is_in_hand(self, request_id: str) -> bool:
        """A worker makes the attempts of a job that it was given here."""
        try:
            await self._client.request(holding_subject(request_id), b"", timeout=HOLDING_TIMEOUT_S)
        except BrokerErrors:
            return False
        return True

    def forget(self, request_id: str) -> None:
        """Look no longer after a job: its request has ended, or it is in the queue."""
        self.dispatched.pop(request_id, None)


class DirectJobs:
    """The worker's end."""

    def __init__(
        self,
        broker: Broker,
        *,
        handle: Callable[[Job], Awaitable[None]],
        room: Callable[[], int],
        drain_timeout_s: float,
    ) -> None:
        """Take jobs for `handle` as long as `room` says that there is some, beside those taken here."""
        self._client = broker.client
        self._handle = handle
        self._room = room
        self._drain_timeout_s = drain_timeout_s
        self._in_hand: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Take jobs until `stop`, then finish those in hand, for at most the drain time."""
        offers = await self._client.subscribe(
            OFFERED, queue=WORKERS, cb=self._take, pending_bytes_limit=PENDING_BYTES_LIMIT
        )
        await stop.wait()
        await offers.unsubscribe()
        if self._in_hand:
            _, late = await asyncio.wait(self._in_hand.values(), timeout=self._drain_timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)

    async def _take(self, message: Msg) -> None:
        job = decode_job(message.data)
        if job.request_id in self._in_hand:  # the answer to the first offer was lost
            await message.respond(YES)
        elif self._room() <= len(self._in_hand):
            await message.respond(NO)
        else:
            task = asyncio.get_running_loop().create_task(self._work(job))
            self._in_hand[job.request_id] = task
            task.add_done_callback(lambda _: self._in_hand.pop(job.request_id, None))
            await message.respond(YES)

    async def _work(self, job: Job) -> None:
        try:
            await self._handle(job)
        except Exception:  # it is offered again, or put into the queue, by the API process whose caller waits
            log.exception("job_crashed", request_id=job.request_id, delivery="direct")
