"""Keeps the circuits of a worker together with the others' and with the log: tells and hears the news, answers who asks
for a report, and writes what has opened or closed to the log, at a bounded rate.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import Counter

from domain.errors import GatewayError
from domain.events import INSTALLATION, CircuitClosed, CircuitOpened, circuit_stream
from infra.circuit_news import CircuitNews
from infra.event_log import Commit, Conflict, EventLog
from workers.circuits import Circuits, Transition
from workers.stopping import set_at_stop

TELL_INTERVAL_S = 1.0
LEAST_INTERVAL_S = 0.05
"""Between two messages of news, however often circuits change."""
MAX_WRITTEN_PER_MINUTE = 120
MAX_WRITTEN_PER_OWNER = 12
"""In a minute, and of one owner's circuits: one opening and one closing of six circuits."""
MINUTE_S = 60.0

log = structlog.get_logger(__name__)


class CircuitExchange:
    """The circuits' connection to the others, for one worker."""

    def __init__(
        self,
        circuits: Circuits,
        news: CircuitNews,
        event_log: EventLog,
        *,
        changed: asyncio.Event,
        openings: Counter,
    ) -> None:
        """`changed` is set when the circuits have news to tell at once. `openings` counts those of this worker."""
        self._circuits = circuits
        self._news = news
        self._log = event_log
        self._written: deque[tuple[float, str]] = deque()
        self._changed = changed
        self._openings = openings

    async def run(self, stop: asyncio.Event) -> None:
        """Tell, hear and write until `stop`."""
        await self._news.hear(self._circuits.take)
        await self._news.serve_reports(self._circuits.report)
        with set_at_stop(self._changed, stop):
            while not stop.is_set():
                if (news := self._circuits.news()) is not None:
                    await self._news.tell(news)
                await self._write()
                await asyncio.sleep(LEAST_INTERVAL_S)
                await self._pause(stop)
            await self._write()

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait for the next change, or for the next second."""
        if stop.is_set() or self._circuits.has_news:
            return
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), TELL_INTERVAL_S)

    def _may_write(self, owner: str) -> bool:
        now_s = time.monotonic()
        while self._written and now_s - self._written[0][0] > MINUTE_S:
            self._written.popleft()
        of_owner = sum(one == owner for _, one in self._written)
        if len(self._written) >= MAX_WRITTEN_PER_MINUTE or of_owner >= MAX_WRITTEN_PER_OWNER:
            return False
        self._written.append((now_s, owner))
        return True

    async def _write(self) -> None:
        for transition in self._circuits.taken_transitions():
            if transition.circuit.reason is not None:
                self._openings.labels(transition.circuit.reason).inc()
            if not self._may_write(transition.key.owner):
                continue
            try:
                await self._log.append(_commit(transition))
            except Conflict:  # another worker has written it, or its opening was not written
                continue
            except GatewayError as error:
                log.warning("circuit_not_written", error=type(error).__name__)
                continue
            _log_line(transition)


def _commit(transition: Transition) -> Commit:
    key, circuit = transition.key, transition.circuit
    names: dict[str, Any] = {"provider": key.provider, "model": key.model, "credential": key.credential}
    names["hint"] = transition.hint
    last = transition.last_error
    event: CircuitOpened | CircuitClosed
    if circuit.reason is not None:
        event = CircuitOpened(
            **names,
            reason=circuit.reason,
            wait_ms=transition.wait_ms,
            calls=transition.totals.all_calls,
            failures=transition.totals.all_failures,
            code=last.code if last is not None else None,
            status=last.status if last is not None else None,
        )
    else:
        event = CircuitClosed(**names, open_ms=max(0, round(transition.at.timestamp() * 1000) - transition.opened_ms))
    return Commit(
        stream=circuit_stream(key.owner, key.provider, key.credential, key.model, transition.opened_ms),
        expected_version=0 if circuit.reason is not None else 1,
        project_id=key.owner,
        at=transition.at,
        events=(event,),
    )


def _log_line(transition: Transition) -> None:
    key, circuit = transition.key, transition.circuit
    names = {"provider": key.provider, "model": key.model, "credential": key.credential}
    whose = {"project_id": key.owner} if key.owner != INSTALLATION else {}
    if circuit.reason is None:
        log.info("circuit_closed", **names, **whose)
        return
    last = transition.last_error
    log.warning(
        "circuit_opened",
        **names,
        **whose,
        reason=circuit.reason,
        calls=transition.totals.all_calls,
        failures=transition.totals.all_failures,
        code=last.code if last is not None else None,
        status=last.status if last is not None else None,
    )
