"""The connection to NATS that every process makes the same way. Knows no subject and no message."""

from collections.abc import Callable, Sequence

import nats
import structlog
from nats.aio.client import Client

CONNECT_TIMEOUT_S = 5
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 10
MAX_OUTSTANDING_PINGS = 2
PENDING_BYTES_LIMIT = 64 * 1024 * 1024
"""What may wait for a lost connection before a publish fails."""
FOREVER = -1

log = structlog.get_logger(__name__)


class Broker:
    """A connection that reconnects for ever, and who wants to know when it has."""

    def __init__(self) -> None:
        self.client = Client()
        self._on_reconnect: list[Callable[[], None]] = []

    async def connect(self, urls: Sequence[str], *, name: str) -> None:
        """Connect; `name` shows in the server's list of connections.

        Raises:
            nats.errors.Error, OSError: no server answers.

        """
        await self.client.connect(
            servers=list(urls),
            name=name,
            connect_timeout=CONNECT_TIMEOUT_S,
            allow_reconnect=True,
            max_reconnect_attempts=FOREVER,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float is slept as well
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=MAX_OUTSTANDING_PINGS,
            pending_size=PENDING_BYTES_LIMIT,
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
        )

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time the connection is back."""
        self._on_reconnect.append(callback)

    @property
    def is_connected(self) -> bool:
        """Whether the server can be reached at this moment."""
        return bool(self.client.is_connected)

    async def close(self) -> None:
        """Send what is buffered, then close."""
        if self.client.is_connected:
            await self.client.flush(timeout=CONNECT_TIMEOUT_S)
        await self.client.close()

    async def _error(self, error: Exception) -> None:
        log.warning("broker_error", error=type(error).__name__, message=str(error))

    async def _disconnected(self) -> None:
        log.warning("broker_disconnected")

    async def _reconnected(self) -> None:
        log.info("broker_reconnected")
        for callback in self._on_reconnect:
            callback()


BrokerErrors = (nats.errors.Error, OSError, TimeoutError)
"""What a call to the broker raises when it is away."""
