"""The proxy of the tests does to connections what a network does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.tcp_proxy import HOST, TcpProxy

SHORT_S = 0.2


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1024):
                self.received += data
                writer.write(data)
            writer.close()


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[tuple[Echo, TcpProxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0)
    async with TcpProxy.to_tcp(*server.sockets[0].getsockname()).running() as proxy:
        yield echo, proxy
    server.close()


async def test_bytes_and_ends_pass() -> None:
    async with echo_behind_proxy() as (_, proxy):
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"


async def test_latency_counts_in_each_direction() -> None:
    async with echo_behind_proxy() as (_, proxy):
        proxy.delay(SHORT_S)
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        began_s = time.monotonic()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert time.monotonic() - began_s >= 2 * SHORT_S


async def test_a_reset_breaks_open_and_new_connections() -> None:
    async with echo_behind_proxy() as (_, proxy):
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"hello")
        await reader.readexactly(5)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises((OSError, EOFError)):  # at the connect, or at the read
            await (await asyncio.open_connection(HOST, proxy.port))[0].readexactly(1)
        proxy.heal()
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


@pytest.mark.parametrize(("direction", "arrives"), [("to client", b"hello"), ("to server", b"")])
async def test_what_one_direction_holds_arrives_when_it_is_healed(direction: str, arrives: bytes) -> None:
    async with echo_behind_proxy() as (echo, proxy):
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        proxy.hold(direction)  # type: ignore[arg-type]
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(5), SHORT_S)
        assert echo.received == arrives
        proxy.heal()
        assert await reader.readexactly(5) == b"hello"
