"""What a worker says of itself to those that watch it: whether it can work, and how many jobs it has in hand."""

from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from infra.broker import Broker
from infra.database import Pool
from infra.probes import Report, state_of
from workers.delivery import UnackedDeliveries

State = Literal["ok", "away"]


class WorkerFigures:
    """The state of one worker."""

    def __init__(self, pool: Pool, broker: Broker, unacked: UnackedDeliveries) -> None:
        self._pool = pool
        self._broker = broker
        self._unacked = unacked
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._in_hand = Gauge(
            "gateway_worker_deliveries",
            "Deliveries of the queue that this worker has in hand.",
            registry=self._registry,
        )
        self._is_up = Gauge(
            "gateway_up", "1 if this process finds what it needs in order.", ("part",), registry=self._registry
        )

    async def report(self) -> Report:
        """Look at PostgreSQL and NATS."""
        states: dict[str, State] = {
            "postgresql": await state_of(self._pool),
            "nats": "ok" if self._broker.is_connected else "away",
        }
        return Report(is_ready=all(state == "ok" for state in states.values()), details=dict(states))

    async def metrics(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        for part, state in (await self.report()).details.items():
            self._is_up.labels(part).set(state == "ok")
        self._in_hand.set(self._unacked.count)
        return generate_latest(self._registry)
