"""The loop that takes asynchronous jobs from their queue and runs them in the slots of one API process.

Jobs are behind everything else. They have a lane of their own on their way to a worker, and here they use what the
process has left: each time its event loop turns late, half as many of them are started.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from api.async_jobs.operations import JobReceive
from api.async_jobs.running import Released
from domain.errors import GatewayError
from infra.ids import new_id
from infra.job_leases import RENEW_S, JobLeases, TakenJob

POLL_S = 0.5
TICK_S = 0.05
"""Between two turns of the event loop that are measured, and between two looks, while there are more jobs. Without any,
`POLL_S` is between them.
"""
LATE_S = 0.01
"""A turn of the event loop that comes so late says that the process, or the machine, has no time left."""
LATE_BESIDE_CALLERS_S = 0.005
"""The same while callers wait: they meet it several times on their way, in this process and in others."""
CALLERS_SEEN_S = 1.0
"""So long after a caller has waited jobs are started as if one did."""
FIRST_PER_S = 20.0
LEAST_PER_S = 4.0
"""The least, on a busy machine too, so that jobs do not wait for ever: about 2 % of a processor."""
MOST_PER_S = 500.0
GROWTH_PER_S = 1.0
"""After each turn in time: the rate is won slowly, and lost at once."""
GROWTH_BESIDE_CALLERS_PER_S = 0.2
"""The same while callers wait: they meet each time that it has grown too high."""
BURST_S = 0.2
"""Starts that were missed in this time are made up for, if no caller waits behind them."""
CRASH_WAIT_S = 10.0
DRAIN_TIMEOUT_S = 10.0
MAX_PAUSED_KEYS = 10_000

Run = Callable[[TakenJob, JobReceive], Awaitable[Released]]

log = structlog.get_logger(__name__)


class StartRate:
    """How many jobs may be started a second: as many as leave the event loop in time (additive increase, multiplicative
    decrease: D. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer
    Networks", Computer Networks and ISDN Systems 17, 1989).

    Not how many run: one that waits for its provider takes no time from others.
    """

    def __init__(self) -> None:
        self._per_s = FIRST_PER_S
        self._due = 0.0

    def due(self, *, beside_callers: bool) -> int:
        """Return how many jobs may be started now."""
        return int(min(self._due, self._at_once(beside_callers=beside_callers)))

    def turned(self, passed_s: float, late_s: float, *, beside_callers: bool) -> None:
        """Take the time that a turn of the event loop took, and by how much it was late."""
        if late_s > (LATE_BESIDE_CALLERS_S if beside_callers else LATE_S):
            self._per_s = max(LEAST_PER_S, self._per_s / 2)
        else:
            growth = GROWTH_BESIDE_CALLERS_PER_S if beside_callers else GROWTH_PER_S
            self._per_s = min(MOST_PER_S, self._per_s + growth)
        self._due = min(self._at_once(beside_callers=beside_callers), self._due + self._per_s * passed_s)

    def _at_once(self, *, beside_callers: bool) -> float:
        return max(1.0, self._per_s * TICK_S) if beside_callers else max(2.0, self._per_s * BURST_S)

    def started(self, jobs: int) -> None:
        """Count jobs as started."""
        self._due -= jobs


class JobRunner:
    """Runs jobs in at most `slots` slots of one process."""

    def __init__(self, leases: JobLeases, run: Run, *, slots: int, callers: Callable[[], int]) -> None:
        """`callers` returns how many callers wait for an answer of this process at the moment."""
        self._leases = leases
        self._run = run
        self._callers = callers
        self._callers_seen_s = -CALLERS_SEEN_S
        self._slots = slots
        self._rate = StartRate()
        self._running: dict[str, JobReceive] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: dict[str, float] = {}
        """By API key: until when, on the monotonic clock, its jobs wait."""
        self._wanted = asyncio.Event()
        self._are_more = asyncio.Event()
        """The last look found as many jobs as it asked for. If it did not, the next one asks for a single job, unless
        some were accepted, and the event loop is measured less often.
        """

    @property
    def running(self) -> int:
        """The jobs that run now."""
        return len(self._running)

    def wake(self) -> None:
        """Look for jobs now: some were accepted."""
        self._wanted.set()

    def cancel(self, job_id: str) -> None:
        """Have a job's request take its cancellation as the disconnect of a client."""
        receive = self._running.get(job_id)
        if receive is not None:
            receive.cancelled.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take jobs and run them until `stop`; then what runs has a while to end."""
        if not self._slots:
            return
        async with asyncio.TaskGroup() as tasks:
            chores = [tasks.create_task(chore) for chore in (self._measure(), self._renew())]
            taking = tasks.create_task(self._take(), name="take jobs")
            await stop.wait()
            taking.cancel()
            await self._drain()
            for chore in chores:
                chore.cancel()

    async def _take(self) -> None:
        while True:
            taken = 0
            free = self._slots - len(self._running)
            wanted = min(free, self._rate.due(beside_callers=self._are_callers()))
            is_probe = not (self._are_more.is_set() or self._wanted.is_set())
            self._wanted.clear()
            if is_probe:
                wanted = min(wanted, 1)
            if wanted > 0:
                try:
                    taken = await self._take_some(wanted, free)
                except GatewayError as error:
                    log.warning("jobs_not_taken", message=error.message)
                except Exception:
                    log.exception("jobs_not_taken")  # without this loop no job of this process would run
            if taken < wanted:
                self._are_more.clear()
            elif taken:
                self._are_more.set()
            if not (is_probe and taken):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), TICK_S if taken == wanted else POLL_S)

    async def _take_some(self, wanted: int, free: int) -> int:
        now_s = time.monotonic()
        self._paused = {key_id: until_s for key_id, until_s in self._paused.items() if until_s > now_s}
        fresh = [new_id("req") for _ in range(wanted)]
        jobs = await self._leases.take(fresh, free=free, skipped_keys=list(self._paused))
        self._rate.started(len(jobs))
        for job in jobs:
            receive = self._running[job.job_id] = JobReceive()
            task = asyncio.get_running_loop().create_task(self._work(job, receive), name=f"job {job.job_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(jobs)

    async def _work(self, job: TakenJob, receive: JobReceive) -> None:
        released = Released(wait_s=CRASH_WAIT_S)
        try:
            released = await self._run(job, receive)
        except GatewayError as error:
            log.warning("job_interrupted", job_id=job.job_id, code=error.code, message=error.message)
        except asyncio.CancelledError:
            released = Released(wait_s=0.0)
            raise
        except Exception:
            log.exception("job_crashed", job_id=job.job_id)  # it is taken again, until its deadline
        finally:
            del self._running[job.job_id]
            self._pause(released)
            await self._release(job, released)

    def _pause(self, released: Released) -> None:
        if released.paused_key is not None and len(self._paused) < MAX_PAUSED_KEYS:
            until_s = time.monotonic() + released.pause_s
            self._paused[released.paused_key] = max(until_s, self._paused.get(released.paused_key, 0.0))

    async def _release(self, job: TakenJob, released: Released) -> None:
        try:
            await self._leases.release(job.job_id, wait_s=released.wait_s, request_id=released.request_id)
        except GatewayError as error:  # the lease ends by itself
            log.warning("job_not_released", job_id=job.job_id, message=error.message)

    async def _measure(self) -> None:
        while True:
            began_s = time.monotonic()
            if self._are_more.is_set():
                turn_s = TICK_S
                await asyncio.sleep(turn_s)
            else:
                turn_s = POLL_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._are_more.wait(), turn_s)
            passed_s = time.monotonic() - began_s
            self._rate.turned(passed_s, max(0.0, passed_s - turn_s), beside_callers=self._are_callers())

    def _are_callers(self) -> bool:
        """Return True if callers wait for an answer of this process, or have just done so."""
        now_s = time.monotonic()
        if self._callers():
            self._callers_seen_s = now_s
        return now_s - self._callers_seen_s < CALLERS_SEEN_S

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if not self._running:
                continue
            try:
                asked = list(self._running)
                kept = await self._leases.renew(asked)
            except GatewayError as error:
                log.warning("jobs_not_renewed", message=error.message)
                continue
            lost = [job_id for job_id in asked if job_id not in kept and job_id in self._running]
            if lost:
                log.warning("job_leases_lost", jobs=lost)

    async def _drain(self) -> None:
        """Wait for the jobs that run, then give back the rest. Their requests go on, and the next runner finds them."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(list(self._tasks), timeout=DRAIN_TIMEOUT_S)
        for task in late:
            task.cancel()
        if late:
            log.warning("jobs_given_back", jobs=len(late))
            await asyncio.wait(late, timeout=DRAIN_TIMEOUT_S)
