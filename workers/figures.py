"""What a worker says of itself to those that watch it: whether it can work, and how many jobs it has in hand."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from infra.broker import Broker
from infra.database import Pool
from infra.jobs import JobQueue
from infra.probes import Report, state_of
from workers.circuits import Circuits
from workers.delivery import UnackedDeliveries
from workers.pull import PullLoop

State = Literal["ok", "away", "draining"]


class WorkerFigures:
    """The state of one worker."""

    def __init__(
        self,
        pool: Pool,
        broker: Broker,
        queue: JobQueue,
        unacked: UnackedDeliveries,
        circuits: Circuits,
        stop: asyncio.Event,
    ) -> None:
        """Tell of a worker that takes no jobs any more once `stop` is set."""
        self.loops: Sequence[PullLoop] = ()
        """What brings the jobs; none before it has begun."""
        self._stop = stop
        self._pool = pool
        self._queue = queue
        self._circuits = circuits
        self._broker = broker
        self._unacked = unacked
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._in_hand = Gauge(
            "gateway_worker_deliveries",
            "Deliveries of the queue that this worker has in hand.",
            registry=self.registry,
        )
        self._waiting = Gauge(
            "gateway_queue_jobs",
            "Jobs in the queue that no worker has pulled yet, over all workers, by lane. None while it has no leader.",
            ("lane",),
            registry=self.registry,
        )
        self._states = Gauge(
            "gateway_provider_circuits",
            "Circuits that this worker keeps, of a provider, a model and a credential each, by state.",
            ("state",),
            registry=self.registry,
        )
        self._is_up = Gauge(
            "gateway_up", "1 if this process finds what it needs in order.", ("part",), registry=self.registry
        )

    async def report(self) -> Report:
        """Look at PostgreSQL, NATS, and whether jobs can come. Open circuits are told, and make nobody less ready."""
        states = await self._look()
        return Report(
            is_ready=all(state == "ok" for state in states.values()),
            details={**states, "circuits": self._circuits.states()},
        )

    async def _look(self) -> dict[str, State]:
        return {
            "postgresql": await state_of(self._pool),
            "nats": "ok" if self._broker.is_connected else "away",
            "jobs": self._jobs(),
        }

    def _jobs(self) -> State:
        """Whether jobs come. `away`: the queue does not answer, or this worker has not begun."""
        if self._stop.is_set():
            return "draining"
        return "ok" if self.loops and all(loop.is_pulling for loop in self.loops) else "away"

    async def metrics(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        for part, state in (await self._look()).items():
            self._is_up.labels(part).set(state == "ok")
        self._in_hand.set(self._unacked.count)
        self._waiting.clear()
        for lane, waiting in (await self._queue.waiting_jobs()).items():
            self._waiting.labels(lane).set(waiting)
        for circuit_state, count in self._circuits.states().items():
            self._states.labels(circuit_state).set(count)
        return generate_latest(self.registry)
