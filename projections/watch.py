"""What a projector says of itself to those that watch it: whether it folds while it leads, and does its chores."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from domain.errors import Unavailable
from infra.broker import Broker
from infra.database import Pool
from infra.probes import LOOK_TIMEOUT_S, Report, state_of
from projections.freshness import lags
from projections.head_signer import HeadSigner
from projections.runner import LEAD_TIMEOUT_S, Runner

GRACE_S = 30.0
"""Beyond twice its interval, a chore that has not been done is late: its statements may have waited for the server."""

Work = Callable[[], Awaitable[None]]


class Watch:
    """The state of one projector."""

    def __init__(
        self,
        pool: Pool,
        broker: Broker,
        runner: Runner,
        now_s: Callable[[], float] = time.monotonic,
        signer: HeadSigner | None = None,
    ) -> None:
        """`now_s` gives the monotonic clock's time; `signer` None: this projector signs nothing."""
        self._signer = signer
        self._pool = pool
        self._broker = broker
        self._runner = runner
        self._now_s = now_s
        self._intervals_s: dict[str, float] = {}
        self._done_at_s: dict[str, float] = {}
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._is_up = Gauge(
            "gateway_up", "1 if this process finds what it needs in order.", ("part",), registry=self._registry
        )
        self._leads = Gauge("gateway_projector_leads", "1 if this projector has the lead.", registry=self._registry)
        self._signed = Gauge(
            "gateway_log_signed_position",
            "Position of the newest signed head of the log that this projector knows.",
            registry=self._registry,
        )
        self._refused = Gauge(
            "gateway_log_head_refused",
            "1 if this projector signs no head, since the log does not go on from what was signed.",
            registry=self._registry,
        )
        self._not_anchored = Gauge(
            "gateway_log_head_not_anchored",
            "1 if a copy of the newest signed head could not be made outside the database.",
            registry=self._registry,
        )
        self._lag = Gauge(
            "gateway_projection_lag_events",
            "Events that a projection has yet to fold.",
            ("projection",),
            registry=self._registry,
        )

    def chore(self, interval_s: float, work: Work) -> Work:
        """Return `work` as a chore that has to succeed every `interval_s`."""
        name = work.__name__
        self._intervals_s[name] = interval_s
        self._done_at_s[name] = self._now_s()

        @functools.wraps(work)
        async def watched() -> None:
            await work()
            self._done_at_s[name] = self._now_s()

        return watched

    def late(self) -> list[str]:
        """Return the chores that have not succeeded for too long, with `fold` if this process has the lead."""
        now_s = self._now_s()
        late = [
            name
            for name, interval_s in self._intervals_s.items()
            if now_s - self._done_at_s[name] > 2 * interval_s + GRACE_S
        ]
        turned_at_s = self._runner.turned_at_s
        return late + (["fold"] if turned_at_s is not None and now_s - turned_at_s > LEAD_TIMEOUT_S else [])

    async def report(self) -> Report:
        """Look at PostgreSQL, NATS and the chores."""
        states = {
            "postgresql": await state_of(self._pool),
            "nats": "ok" if self._broker.is_connected else "away",
            "chores": "late" if (late := self.late()) else "ok",
        }
        details = states | {
            "late": late,
            "leads": self._runner.turned_at_s is not None,
            "log_heads": self._signer.state if self._signer is not None else "ok",
        }
        return Report(is_ready=all(state == "ok" for state in states.values()), details=details)

    async def metrics(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        details = (await self.report()).details
        for part in ("postgresql", "nats", "chores"):
            self._is_up.labels(part).set(details[part] == "ok")
        self._leads.set(details["leads"])
        self._signed.set(self._signer.signed_position if self._signer is not None else 0)
        self._refused.set(details["log_heads"] == "refused")
        self._not_anchored.set(details["log_heads"] == "not anchored")
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S if details["postgresql"] == "ok" else 0):
                for name, lag in (await lags(self._pool)).items():
                    self._lag.labels(name).set(lag)
        except (Unavailable, TimeoutError):
            self._lag.clear()
        return generate_latest(self._registry)
