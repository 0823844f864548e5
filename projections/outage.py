"""Tells once, not each second by each chore, that PostgreSQL or NATS is away, and once that they are back."""

import structlog

from infra.broker import BrokerErrors
from infra.database import DATABASE_AWAY

OUTAGES = (*DATABASE_AWAY, *BrokerErrors)
"""The errors of a server that is away. The work is tried again, and goes on when the server is back."""

log = structlog.get_logger(__name__)


class Outage:
    """What one process has told about servers that are away."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def note(self, work: str, error: Exception) -> None:
        """Some work has failed: write a line if it is the first that does."""
        if not self._failing:
            log.warning("servers_away", error=type(error).__name__, message=str(error))
        self._failing.add(work)

    def is_over(self, work: str) -> None:
        """Some work has been done: write a line if it was the last that failed."""
        if work in self._failing:
            self._failing.remove(work)
            if not self._failing:
                log.info("servers_back")
