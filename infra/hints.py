"""Hints between processes over core NATS: something changed, look again. Losing one costs time, never a fact."""

import time
from collections.abc import Callable

from nats.aio.msg import Msg

from infra.broker import Broker

LOG_APPENDED = "log.appended"
"""The log is longer; the projector folds."""
KEYS_CHANGED = "keys.changed"
"""The payload is a project's id, or `INSTALLATION` for all: forget what is remembered of its keys and its providers."""

PRICES_CHANGED = "prices.changed"
"""The operator has set a price."""

QUIET_S = 0.01
"""Shorter than the projector's rest between two folds."""


class LogHints:
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
            await self._client.publish(LOG_APPENDED, b"")

    async def keys_changed(self, project_id: str) -> None:
        """Say that something about a project's keys, or its providers, is different."""
        if self._client.is_connected:
            await self._client.publish(KEYS_CHANGED, project_id.encode())
            await self._client.flush()

    async def prices_changed(self) -> None:
        """Say that there are other prices."""
        if self._client.is_connected:
            await self._client.publish(PRICES_CHANGED, b"")
            await self._client.flush()

    async def on_change(self, subject: str, callback: Callable[[str], None]) -> None:
        """Call `callback` with the payload of every hint on a subject."""

        async def take(message: Msg) -> None:
            callback(message.data.decode())

        await self._client.subscribe(subject, cb=take)
