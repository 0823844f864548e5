"""What a projector says of itself to those that watch it: whether it folds while it leads, and does its chores."""

import functools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from prometheus_client import generate_latest

from domain.errors import Unavailable
from infra.broker import Broker
from infra.database import Connection, Pool, brief, database_errors
from infra.probes import LOOK_TIMEOUT_S, Report, state_of
from projections.figures import FullBudgets, ProjectorFigures, full_budgets, holds
from projections.freshness import lags
from projections.head_signer import HeadSigner
from projections.runner import LEAD_TIMEOUT_S, Runner

BUDGETS_INTERVAL_S = 10.0
"""However often the figures are read."""
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
        signer: HeadSigner,
        figures: ProjectorFigures,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now_s` gives the monotonic clock's time."""
        self._signer = signer
        self._figures = figures
        self._pool = pool
        self._broker = broker
        self._runner = runner
        self._now_s = now_s
        self._intervals_s: dict[str, float] = {}
        self._done_at_s: dict[str, float] = {}
        self._budgets: FullBudgets | None = None
        self._budgets_at_s = 0.0

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
            "log_heads": self._signer.state,
        }
        return Report(is_ready=all(state == "ok" for state in states.values()), details=details)

    async def metrics(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        details, figures = (await self.report()).details, self._figures
        for part in ("postgresql", "nats", "chores"):
            figures.process.is_up.labels(part).set(details[part] == "ok")
        figures.leads.set(details["leads"])
        figures.signed.set(self._signer.signed_position)
        figures.head_refused.set(details["log_heads"] == "refused")
        figures.head_not_anchored.set(details["log_heads"] == "not anchored")
        if details["postgresql"] != "ok" or not await self._show_database():
            figures.forget()
        return generate_latest(figures.registry)

    async def _show_database(self) -> bool:
        """Take the figures of the database. False: it may have gone away since it was looked at."""
        try:
            async with database_errors(), brief(self._pool, LOOK_TIMEOUT_S) as connection:
                self._figures.show(
                    await lags(connection), await holds(connection), await self._full_budgets(connection)
                )
        except Unavailable:
            return False
        return True

    async def _full_budgets(self, connection: Connection) -> FullBudgets:
        """How full budgets are, or were a moment ago: the question reads every window."""
        now_s = self._now_s()
        if self._budgets is None or now_s - self._budgets_at_s > BUDGETS_INTERVAL_S:
            self._budgets, self._budgets_at_s = await full_budgets(connection, datetime.now(UTC)), now_s
        return self._budgets
