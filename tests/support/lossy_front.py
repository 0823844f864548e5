"""A connection that breaks: a TCP proxy in front of the gateway that gives the first answers to nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536
IN_FLIGHT_S = 0.3

Moment = Literal["in flight", "answered"]


class LossyFront:
    """Passes bytes on. Of its first connections, `losses` break, each once: both sides are closed."""

    def __init__(self, address: str, losses: int, moment: Moment) -> None:
        """`moment`: once the request was sent, and its answer is awaited; or once the gateway has begun to answer."""
        self._gateway = urlsplit(address)
        self._losses = losses
        self._moment = moment
        self.connections = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, or break it."""
        self.connections += 1
        breaks = self.connections <= self._losses
        from_gateway, to_gateway = await asyncio.open_connection(self._gateway.hostname, self._gateway.port)
        sending = asyncio.create_task(_pass_on(reader, to_gateway))
        try:
            if not breaks:
                await _pass_on(from_gateway, writer)
            elif self._moment == "answered":
                await from_gateway.read(1)
            else:
                await asyncio.sleep(IN_FLIGHT_S)
        finally:
            sending.cancel()
            writer.transport.abort()
            to_gateway.transport.abort()


@asynccontextmanager
async def lossy_front(address: str, moment: Moment, *, losses: int = 1) -> AsyncIterator[LossyFront]:
    """Serve in front of a gateway until the block ends."""
    front = LossyFront(address, losses, moment)
    server = await asyncio.start_server(front.serve, HOST, 0)
    front.address = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
