"""Runs the deliveries of a worker in its slots. They wait in a fair queue, and are kept alive until acknowledged.

Does not know where the deliveries come from (`workers/pull.py`) or what a job is about (`workers/job_handler.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog
from msgspec import Struct

from domain.errors import Unavailable
from infra.broker import Broker, BrokerErrors
from infra.jobs import ACK_WAIT_S
from workers.delivery import Delivery, UnackedDeliveries
from workers.fair_queue import PROJECT_FACTOR, FairQueue

TICK_S = ACK_WAIT_S / 4
CANCEL_TIMEOUT_S = 5.0
CRASH_DELAY_S = 1.0
MAX_CRASH_DELAY_S = 8.0

Handle = Callable[[Delivery], Awaitable[None]]

log = structlog.get_logger(__name__)


class _PooledJob(Struct, eq=False):
    """A delivery that waits or runs."""

    delivery: Delivery
    handle: Handle
    left_queue: Callable[[], None]
    task: asyncio.Task[None] | None = None
    """None: it waits."""


class JobPool:
    """Runs at most `slots` jobs at a time, whatever lanes they come from."""

    def __init__(
        self,
        broker: Broker,
        unacked: UnackedDeliveries,
        *,
        slots: int,
        drain_timeout_s: float,
        crash_delay_s: float = CRASH_DELAY_S,
        project_factor: int = PROJECT_FACTOR,
    ) -> None:
        """Keep what is in hand alive over `broker`, and through `unacked` by the heartbeat thread.

        A project alone uses `project_factor` of `project_factor + 1` slots.

        A job whose handler raises is delivered again after `crash_delay_s`, then after twice as long each time.
        """
        self._crash_delay_s = crash_delay_s
        self._broker = broker
        self._unacked = unacked
        self.slots = slots
        self._drain_timeout_s = drain_timeout_s
        self._queue = FairQueue[_PooledJob](slots, project_factor=project_factor)
        self._in_flight: dict[str, _PooledJob] = {}
        """By message id."""
        self._stopping = False
        self._awaiting_job: asyncio.Future[None] | None = None
        """Done by the next job: nothing is in hand, so nothing has to be kept alive."""

    @property
    def running(self) -> int:
        """The jobs that have a slot."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """The jobs that wait for one."""
        return self._queue.waiting

    def take(self, delivery: Delivery, handle: Handle, left_queue: Callable[[], None]) -> bool:
        """Let a delivery wait for its turn. False if the pool is stopping: the delivery belongs to another worker.

        `left_queue` is called once, when the delivery no longer waits. A job that is in hand already, whose
        acknowledgement was late, is not started a second time.
        """
        if self._stopping:
            left_queue()
            return False
        current = self._in_flight.get(delivery.message_id)
        if current is not None:
            log.warning("job_delivered_again", request_id=delivery.message_id, delivery=delivery.number)
            self._unacked.discard(current.delivery.ack_subject)
            current.delivery.renew(delivery)
            self._unacked.add(current.delivery.ack_subject)
            left_queue()
            return True
        job = _PooledJob(delivery, handle, left_queue)
        self._in_flight[delivery.message_id] = job
        self._unacked.add(delivery.ack_subject)
        if self._awaiting_job is not None:
            self._begin_to_keep_alive()
        self._queue.add(delivery.project_id, delivery.key_id, job, delivery.provider)
        self._start_next()
        return True

    def take_direct(self, delivery: Delivery, handle: Handle) -> bool:
        """Take a delivery that came past the queue, if it can start at once and the pool is not stopping."""
        has_room = self._queue.has_room_for(delivery.project_id, delivery.key_id, delivery.provider)
        if not has_room and delivery.message_id not in self._in_flight:
            return False
        return self.take(delivery, handle, lambda: None)

    def is_in_hand(self, request_id: str) -> bool:
        """Return True if a request's job waits or runs here."""
        return request_id in self._in_flight or any(one.startswith(f"{request_id}/") for one in self._in_flight)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep what is in hand alive until `stop`; then give back what waits and finish what runs, for at most the
        drain time.
        """
        ticking = asyncio.create_task(self._keep_alive(), name="keeping jobs alive")
        try:
            await stop.wait()
            self._stopping = True
            await self._give_back(self._queue.clear())
            await self._drain()
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    def _start_next(self) -> None:
        while (entry := self._queue.start()) is not None:
            _, _, job = entry
            job.left_queue()
            job.task = asyncio.get_running_loop().create_task(self._work(job))
            job.task.add_done_callback(partial(self._done, job))

    async def _work(self, job: _PooledJob) -> None:
        delivery = job.delivery
        try:
            await job.handle(delivery)
        except Exception as error:
            told = {"request_id": delivery.message_id, "delivery": delivery.number, "is_last": delivery.is_last}
            if isinstance(error, Unavailable):
                log.warning("job_interrupted", message=error.message, **told)
            else:
                log.exception("job_crashed", **told)
            self._unacked.discard(delivery.ack_subject)  # a heartbeat behind the NAK would undo its delay
            with suppress(*BrokerErrors):  # without it the job comes again when its acknowledgement is overdue
                if delivery.is_last:
                    await delivery.term()  # left alone it would lie in the stream, delivered no more
                else:
                    await delivery.nak(min(MAX_CRASH_DELAY_S, self._crash_delay_s * 2.0 ** (delivery.number - 1)))

    def _done(self, job: _PooledJob, _task: asyncio.Task[None]) -> None:
        delivery = job.delivery
        del self._in_flight[delivery.message_id]
        self._unacked.discard(delivery.ack_subject)
        self._queue.finish(delivery.project_id, delivery.key_id, delivery.provider)
        self._start_next()

    def _begin_to_keep_alive(self) -> None:
        """Note that the event loop is alive, which it need not show while there are no jobs, and wake the task."""
        self._unacked.loop_turned()
        awaiting, self._awaiting_job = self._awaiting_job, None
        if awaiting is not None and not awaiting.done():  # else the pool has ended
            awaiting.set_result(None)

    async def _keep_alive(self) -> None:
        """Tell the broker that every job in hand is in progress, for as long as the heartbeat thread cannot."""
        while True:
            if not self._in_flight:
                self._awaiting_job = asyncio.get_running_loop().create_future()
                await self._awaiting_job
            await asyncio.sleep(TICK_S)
            self._unacked.loop_turned()
            if self._unacked.are_beaten_since(2 * TICK_S):
                continue
            for job in list(self._in_flight.values()):
                if self._broker.is_connected:
                    with suppress(*BrokerErrors):  # the next one may get through
                        await job.delivery.in_progress()

    async def _give_back(self, jobs: list[_PooledJob]) -> None:
        """Let other workers have the jobs that were not started."""
        for job in jobs:
            del self._in_flight[job.delivery.message_id]
            self._unacked.discard(job.delivery.ack_subject)
            job.left_queue()
            with suppress(*BrokerErrors):
                await job.delivery.nak(0)

    async def _drain(self) -> None:
        running = {job.task: job for job in self._in_flight.values() if job.task is not None}
        if not running:
            return
        _, late = await asyncio.wait(list(running), timeout=self._drain_timeout_s)
        if not late:
            return
        log.warning("drain_timed_out", jobs=len(late))
        for task in late:
            task.cancel()
            self._unacked.discard(running[task].delivery.ack_subject)
            with suppress(*BrokerErrors):
                await running[task].delivery.nak(0)
        await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
