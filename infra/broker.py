"""The connection to NATS that every process makes the same way. Knows no subject and no message."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import nats
import structlog
from nats.aio.client import Client

CONNECT_TIMEOUT_S = 5
FIRST_CONNECT_TIMEOUT_S = 20.0
"""How long a process looks for its first server, over all URLs. The client itself would look for ever."""
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 10
MAX_OUTSTANDING_PINGS = 2
PENDING_BYTES_LIMIT = 64 * 1024 * 1024
"""What may wait for a lost connection before a publish fails."""
FOREVER = -1

log = structlog.get_logger(__name__)


class BrokerClosed(nats.errors.Error):
    """The connection has ended for good: the server does not want us (credentials withdrawn, a protocol error)."""


class Broker:
    """A connection that reconnects for ever, and who wants to know when it has."""

    def __init__(self) -> None:
        self.client = Client()
        self._on_reconnect: list[Callable[[], None]] = []
        self._closing = False

    async def connect(self, urls: Sequence[str], *, name: str) -> None:
        """Connect; `name` shows in the server's list of connections.

        Raises:
            TimeoutError: no server answers within `FIRST_CONNECT_TIMEOUT_S`.

        """
        try:
            async with asyncio.timeout(FIRST_CONNECT_TIMEOUT_S):
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
        except TimeoutError:
            reason = self.client.last_error
            raise TimeoutError(f"no server answers within {FIRST_CONNECT_TIMEOUT_S:g} s ({reason})") from None

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time the connection is back."""
        self._on_reconnect.append(callback)

    @property
    def is_connected(self) -> bool:
        """Whether the server can be reached at this moment."""
        return bool(self.client.is_connected)

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended for good; only another process, or another `Broker`, gets a new one."""
        return bool(self.client.is_closed)

    async def close(self) -> None:
        """Send what is buffered, then close."""
        self._closing = True
        with suppress(*BrokerErrors):  # a server that is away is not waited for
            if self.client.is_connected:
                await self.client.flush(timeout=CONNECT_TIMEOUT_S)
            try:
                await self.client.close()
            except RuntimeError as error:  # uvloop's, of a connection that the server has closed with something to send
                if self.client.is_connected:
                    raise
                log.warning("broker_closed_unsent", message=str(error))

    async def _error(self, error: Exception) -> None:
        log.warning("broker_error", error=type(error).__name__, message=str(error))

    async def _disconnected(self) -> None:
        if not self._closing:
            log.warning("broker_disconnected")

    async def _reconnected(self) -> None:
        log.info("broker_reconnected")
        for callback in self._on_reconnect:
            callback()


BrokerErrors = (nats.errors.Error, OSError, TimeoutError)
"""What a call to the broker raises when it is away."""
