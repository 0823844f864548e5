"""Hints between processes over core NATS: something changed, look again. Losing one costs time, never a fact."""

import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from nats.aio.msg import Msg

from infra.broker import FLUSH_TIMEOUT_S, Broker, BrokerErrors

LOG_APPENDED = "log.appended"
"""The log is longer; the projector folds."""
KEYS_CHANGED = "keys.changed"
"""The payload is a project's id, or `INSTALLATION` for all: forget what is remembered of its keys and its providers."""

PRICES_CHANGED = "prices.changed"
"""The operator has set a price."""

QUIET_S = 0.01
"""Shorter than the projector's rest between two folds."""


log = structlog.get_logger(__name__)


class Notifications:
    """Gives and takes hints for one process."""

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self._told_at = 0.0

    async def appended(self, _position: int) -> None:
        """Say that the log is longer. While the broker is away nobody is told: the projector polls.

        Not said again within `QUIET_S`: a projector that was woken looks again when it has rested, which is later.
        """
        now = time.monotonic()
        if now - self._told_at > QUIET_S and self._client.is_connected:
            self._told_at = now
            with suppress(*BrokerErrors):  # what was appended stands, whatever becomes of the hint
                await self._client.publish(LOG_APPENDED, b"")

    async def keys_changed(self, project_id: str) -> None:
        """Say that something about a project's keys, or its providers, is different."""
        await self._tell(KEYS_CHANGED, project_id.encode())

    async def prices_changed(self) -> None:
        """Say that there are other prices."""
        await self._tell(PRICES_CHANGED, b"")

    async def _tell(self, subject: str, payload: bytes) -> None:
        """Give a hint, and wait a moment for the broker to have it; the change itself has been made."""
        if not self._client.is_connected:
            return
        try:
            await self._client.publish(subject, payload)
            await self._client.flush(timeout=FLUSH_TIMEOUT_S)
        except BrokerErrors as error:
            log.warning("hint_not_given", subject=subject, error=type(error).__name__)

    async def on_change(self, subject: str, callback: Callable[[str], None]) -> None:
        """Call `callback` with the payload of every hint on a subject."""

        async def take(message: Msg) -> None:
            callback(message.data.decode())

        await self._client.subscribe(subject, cb=take)
