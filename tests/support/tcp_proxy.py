"""A TCP proxy with faults: latency, resets, and a network that carries no bytes in one direction or in both.

Bytes that cannot be carried are not lost: as with TCP they arrive once the network carries them again, unless an end
has given the connection up by then.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

Direction = Literal["to server", "to client"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: a close sends RST."""


class TcpProxy:
    """Listens on a port of its own, and makes a connection to the server for each that it gets."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.port = 0
        self._connect = connect
        self._latency_s = 0.0
        self._resets = False
        self._carries: dict[Direction, asyncio.Event] = {"to server": asyncio.Event(), "to client": asyncio.Event()}
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def to_tcp(cls, host: str, port: int) -> "TcpProxy":
        return cls(lambda: asyncio.open_connection(host, port))

    @classmethod
    def to_unix(cls, path: str) -> "TcpProxy":
        return cls(lambda: asyncio.open_unix_connection(path))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["TcpProxy"]:
        """Listen until the block ends."""
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self.heal()
        try:
            yield self
        finally:
            server.close()
            self._abort_all()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """End every fault."""
        self._latency_s, self._resets = 0.0, False
        for carries in self._carries.values():
            carries.set()

    def delay(self, latency_s: float) -> None:
        """Carry bytes so much later, in each direction."""
        self._latency_s = latency_s

    def reset(self) -> None:
        """Reset every connection, and every new one."""
        self._resets = True
        self._abort_all()

    def hold(self, *directions: Direction) -> None:
        """Carry nothing in these directions. Connections are accepted, and stay open."""
        for direction in directions:
            self._carries[direction].clear()

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            _set_to_reset(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            if self._resets:
                return
            server_reader, server = await self._connect()
            self._writers.add(server)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, server, "to server"))
                pumps.create_task(self._pump(server_reader, writer, "to client"))
        except* OSError:
            pass  # an end is gone: so is the other, below
        finally:
            for end in (writer, server):
                if end is not None:
                    _set_to_reset(end)
                    end.transport.abort()
                    self._writers.discard(end)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """Carry bytes in one direction until they end."""
        while True:
            data = await reader.read(CHUNK_BYTES)
            await asyncio.sleep(self._latency_s)
            await self._carries[direction].wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


def _set_to_reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
