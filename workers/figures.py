"""What a worker says of itself to those that watch it: whether it can work, what it has in hand, how its calls go."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from domain.circuit import CircuitKey
from domain.errors import GatewayError
from infra.broker import Broker
from infra.database import Pool
from infra.figures import SECONDS, HistogramTally, ModelLabels, ProcessFigures
from infra.jobs import JobQueue
from infra.probes import Report, state_of
from workers.circuits import CircuitBreaker, Circuits
from workers.delivery import UnackedDeliveries
from workers.job_pool import JobPool
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
        instruments: "WorkerInstruments",
    ) -> None:
        """Tell of a worker that takes no jobs any more once `stop` is set."""
        self.loops: Sequence[PullLoop] = ()
        """What brings the jobs; none before it has begun."""
        self.pools: Mapping[str, JobPool] = {}
        """The slots, by what they are for."""
        self._stop = stop
        self._pool = pool
        self._queue = queue
        self._circuits = circuits
        self._broker = broker
        self._unacked = unacked
        self._figures = instruments
        self.registry = self._figures.registry

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
        figures = self._figures
        for part, state in (await self._look()).items():
            figures.process.is_up.labels(part).set(state == "ok")
        figures.in_hand.set(self._unacked.count)
        figures.waiting.clear()
        for lane, waiting in (await self._queue.waiting_jobs()).items():
            figures.waiting.labels(lane).set(waiting)
        backlog = await self._queue.backlog()
        figures.stream_messages.set(backlog.messages if backlog is not None else float("nan"))
        figures.stream_bytes.set(backlog.size_bytes if backlog is not None else float("nan"))
        for circuit_state, count in self._circuits.states().items():
            figures.circuits.labels(circuit_state).set(count)
        figures.show_open_circuits(self._circuits.open_by_provider())
        for name, pool in self.pools.items():
            figures.slots.labels(name).set(pool.slots)
            figures.busy_slots.labels(name).set(pool.running)
            figures.waiting_here.labels(name).set(pool.waiting)
        return generate_latest(self.registry)


class WorkerInstruments:
    """The instruments of one worker."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.process = ProcessFigures(registry)

        def gauge(name: str, says: str, *labels: str) -> Gauge:
            return Gauge(name, says, labels, registry=registry)

        self.in_hand = gauge("gateway_worker_deliveries", "Deliveries of the queue that this worker has in hand.")
        self.slots = gauge("gateway_worker_slots", "Jobs that this worker may run at a time, by what they are.", "pool")
        self.busy_slots = gauge("gateway_worker_busy_slots", "Jobs that it runs at this moment.", "pool")
        self.waiting_here = gauge(
            "gateway_worker_waiting_jobs", "Jobs that it has pulled and has no slot for yet.", "pool"
        )
        self.waiting = gauge(
            "gateway_queue_jobs",
            "Jobs in the queue that no worker has pulled yet, over all workers, by lane. None while it has no leader.",
            "lane",
        )
        self.stream_messages = gauge(
            "gateway_queue_stream_messages", "Messages in the queue's stream, those in hand included, over all lanes."
        )
        self.stream_bytes = gauge("gateway_queue_stream_bytes", "Their bytes on the broker's disk.")
        self.circuits = gauge(
            "gateway_provider_circuits",
            "Circuits that this worker keeps, of a provider, a model and a credential each, by state.",
            "state",
        )
        self._open_circuits = gauge(
            "gateway_provider_open_circuits", "Those that are not closed, by provider: it is left alone.", "provider"
        )
        self.circuit_openings = Counter(
            "gateway_provider_circuit_openings_total",
            "Circuits that this worker has opened, by reason.",
            ("reason",),
            registry=registry,
        )
        self._providers = ModelLabels()
        self._calls = HistogramTally(
            Histogram(
                "gateway_provider_call_seconds",
                "Calls of providers, to the last byte of the answer or the stream, by how they went: `answered`, or "
                "the code of the error.",
                ("provider", "outcome"),
                buckets=SECONDS,
                registry=None,
            ),
            registry,
        )
        self._first_bytes = HistogramTally(
            Histogram(
                "gateway_provider_first_byte_seconds",
                "From the call of a provider to the first event of its stream.",
                ("provider",),
                buckets=SECONDS,
                registry=None,
            ),
            registry,
        )

    def called(self, provider: str, outcome: str, took_s: float) -> None:
        """Count a call that has ended."""
        self._calls.series[self._providers.provider(provider), outcome].observe(took_s)

    def began(self, provider: str, took_s: float) -> None:
        """Count the first event of a stream."""
        self._first_bytes.series[self._providers.provider(provider),].observe(took_s)

    def show_open_circuits(self, by_provider: Mapping[str, int]) -> None:
        """Show how many circuits are open, of the providers that have any."""
        self._open_circuits.clear()
        for provider, count in by_provider.items():
            self._open_circuits.labels(self._providers.provider(provider)).inc(count)


class CountedCalls:
    """A `CircuitBreaker` that counts the calls which it is told of, and passes everything on."""

    def __init__(self, circuits: CircuitBreaker, instruments: WorkerInstruments) -> None:
        self._circuits = circuits
        self._instruments = instruments
        self.refusal = circuits.refusal
        self.heard = circuits.heard
        self.share = circuits.share

    def record(
        self, key: CircuitKey, project_id: str, error: GatewayError | None, *, began_s: float, **more: Any
    ) -> None:
        """See `CircuitBreaker`."""
        outcome = error.code if error is not None else "answered"
        self._instruments.called(key.provider, outcome, time.monotonic() - began_s)
        self._circuits.record(key, project_id, error, began_s=began_s, **more)

    def began(self, key: CircuitKey, *, began_s: float) -> None:
        """See `CircuitBreaker`."""
        self._instruments.began(key.provider, time.monotonic() - began_s)
        self._circuits.began(key, began_s=began_s)
