"""The connections of one API process: how many it takes, in all and from one address, and the clock they age by.

Connections age in ticks, not by the wall clock: while the process itself is busy no tick passes, so time that this
process takes is never held against a client. Knows nothing of HTTP; `api/http_protocol.py` says what an age means.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

MAX_CONNECTIONS = 10_000
"""Of one process, if it may open so many files."""
MAX_UNREAD_BYTES = 16 * 1024
"""Of an answer, in this process, behind what the system's socket takes: with as much as is sent at once on top, ten
thousand clients that read nothing have 320 MB.
"""
TICK_S = 1.0
IPV6_NETWORK_BITS = 64
"""A single customer usually has a network of this size, and may use every address in it."""

Admittance = Literal["admitted", "address_full", "process_full"]

log = structlog.get_logger(__name__)


class AgeingConnection(Protocol):
    """A connection that is ended when it has been silent or slow for too long."""

    def on_tick(self) -> None:
        """Count one tick, and end the connection if it has reached a limit."""
        ...

    def abort(self) -> None:
        """End the connection at once."""
        ...


class Connections:
    """Counts the open connections by client address, and ticks for all of them."""

    def __init__(self, *, limit: int, limit_per_address: int, on_refusal: Callable[[int], None]) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._open: set[AgeingConnection] = set()
        self._per_address: Counter[str] = Counter()
        self.on_refusal = on_refusal
        """Hears the HTTP status of every refusal of the protocol's own."""

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def add(self, connection: AgeingConnection, address: str) -> Admittance:
        """Count a new connection; it is counted even if it is not admitted, until it is removed.

        `address` is empty for clients of a Unix socket, which the process's limit alone holds.
        """
        self._open.add(connection)
        self._per_address[address] += 1
        if len(self._open) > self._limit:
            return "process_full"
        is_full = address and self._per_address[address] > self._limit_per_address
        return "address_full" if is_full else "admitted"

    def remove(self, connection: AgeingConnection, address: str) -> None:
        """Forget a closed connection."""
        self._open.discard(connection)
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    async def watch(self) -> None:
        """Tick for every connection until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """Tick once for every connection."""
        for connection in list(self._open):
            try:
                connection.on_tick()
            except Exception:  # one connection's fault must not keep the others open for ever
                log.exception("connection_tick_failed")
                connection.abort()


def address_group(host: str) -> str:
    """The unit that the limit per address counts: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))
