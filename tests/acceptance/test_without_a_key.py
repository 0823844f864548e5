"""Clients that send endless, silent or oversized requests are refused, and a bystander is not disturbed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.waiting import eventually_so

MB = 1_000_000
MIB = 1024 * 1024
LONGEST_WAIT_S = 10
"""The limit for a bystander's request on a busy machine. On an idle gateway it takes milliseconds."""
GROWTH_BYTES = 100 * MB
MAX_BYTES_IN_HAND = 64 * MIB
MAX_CONNECTIONS = 400
ATTACKER, BYSTANDER = "127.0.0.1", "127.0.0.2"
CHAT = "/api/v1/completions/chat"


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with one API process and small limits."""
    directory: Path = tmp_path_factory.mktemp("without-a-key") / "data"
    limits = {
        "GATEWAY_MAX_BYTES_IN_HAND": str(MAX_BYTES_IN_HAND),
        "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": str(MAX_CONNECTIONS),
    }
    running = Gateway.start(directory, env=environment_for(upstream) | limits)
    yield running
    running.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session from another client address than the attackers'."""
    connector = aiohttp.TCPConnector(limit=0, local_addr=(BYSTANDER, 0))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as opened:
        yield opened


class Bystander:
    """Sends chats for as long as an attack lasts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_over = False
        self.waits_s: list[float] = []

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Send chats until the block ends. Then check that each succeeded in time and is in the usage figures."""
        task = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            self._is_over = True
            await task
        assert self.waits_s
        assert max(self.waits_s) < LONGEST_WAIT_S
        _, stats, _ = await self._client.call("GET", "/usage/stats")
        totals = stats["data"]["totals"]
        assert (totals["requests"], totals["failedRequests"]) == (len(self.waits_s), 0)

    async def _ask(self) -> None:
        while not self._is_over:
            started = time.monotonic()
            prompt = f"number {len(self.waits_s)}"
            status, answer, _ = await self._client.chat(prompt, model="echo")
            assert status == 200, answer
            assert answer["data"]["choices"][0]["message"]["content"] == f"echo: {prompt}"
            self.waits_s.append(time.monotonic() - started)
            await asyncio.sleep(0.1)


@pytest.fixture
async def bystander(gateway: Gateway, session: aiohttp.ClientSession) -> Bystander:
    return Bystander(await new_project(gateway, session))


@pytest.fixture
def api(gateway: Gateway) -> psutil.Process:
    (process,) = gateway.processes("api")
    return process


class Sent:
    """An attacker's connection and the response to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, gateway: Gateway, address: str = ATTACKER) -> "Sent":
        port = int(gateway.address.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))

    async def send(self, *pieces: bytes, pause_s: float = 0) -> None:
        """Send until the gateway accepts no more."""
        with suppress(OSError):
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()
                await asyncio.sleep(pause_s)

    async def answer(self) -> tuple[int | None, dict[str, str], Any]:
        """Return the status, headers and JSON of the response. The status is None if the connection just closed."""
        head = b""
        with suppress(asyncio.IncompleteReadError, OSError):
            head = await self._reader.readuntil(b"\r\n\r\n")
        if not head:
            return None, {}, None
        first, *lines = head.decode().rstrip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, msgspec.json.decode(content) if content else None

    def close(self) -> None:
        self._writer.close()


async def status_of(gateway: Gateway, *pieces: bytes, pause_s: float = 0) -> int | None:
    """Send some pieces on a connection. Return the status of the response; None if the connection just closed."""
    sent = await Sent.open(gateway)
    sending = asyncio.create_task(sent.send(*pieces, pause_s=pause_s))
    status, _, _ = await sent.answer()
    await sending  # to the end, even after a response
    sent.close()
    return status


def head(path: str, *, key: str | None = None, length: int | None = None, more: str = "") -> bytes:
    """Return the head of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json"]
    lines += [f"authorization: Bearer {key}"] if key else []
    lines += [f"content-length: {length}"] if length is not None else []
    return "\r\n".join([*lines, more]).encode() + b"\r\n"


OPEN_HEAD = head(CHAT).removesuffix(b"\r\n")


async def test_text_without_end_costs_nothing(
    gateway: Gateway, bystander: Bystander, api: psutil.Process, session: aiohttp.ClientSession
) -> None:
    chunk = b"x" * MB
    key = (await new_project(gateway, session)).key
    chunked = head(CHAT, key=key, more="transfer-encoding: chunked\r\n")
    async with bystander.asking():
        before, cpu = api.memory_info().rss, sum(api.cpu_times()[:2])
        statuses = await asyncio.gather(
            status_of(gateway, OPEN_HEAD + b"a: ", *[chunk] * 30),
            status_of(gateway, OPEN_HEAD, *[b"a: b\r\n" * 10_000] * 10),
            status_of(gateway, b"GET /", *[chunk] * 10),
            status_of(gateway, b"GET /" + b"x" * MB + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
            status_of(gateway, head(CHAT, more="a: b\r\n" * 10_000)),
        )
        framing = await asyncio.gather(
            status_of(gateway, chunked, b"1;" + chunk, *[chunk] * 10),
            status_of(gateway, chunked, b"1\r\nx\r\n0\r\na: ", *[chunk] * 10),
        )
        assert api.memory_info().rss - before < GROWTH_BYTES
        assert sum(api.cpu_times()[:2]) - cpu < 5
    assert statuses == [431, 431, 414, 414, 431]
    assert framing == [431, 431]


async def test_silent_and_slow_clients_are_let_go(
    gateway: Gateway, bystander: Bystander, api: psutil.Process, session: aiohttp.ClientSession
) -> None:
    key = (await new_project(gateway, session)).key
    body = head(CHAT, key=key, length=100_000)
    async with bystander.asking():
        before = api.memory_info().rss
        silent = asyncio.gather(*(status_of(gateway) for _ in range(300)))
        slow = asyncio.gather(
            status_of(gateway, *[bytes([byte]) for byte in head(CHAT, more="a: b\r\n" * 50)], pause_s=0.5),
            status_of(gateway, OPEN_HEAD + b"a: ", *[b"x"] * 100, pause_s=0.5),
            status_of(gateway, body, *[b" "] * 100, pause_s=0.5),
            status_of(
                gateway, head(CHAT, key=key, more="transfer-encoding: chunked\r\n"), *[b"1\r\n \r\n"] * 100, pause_s=0.5
            ),
        )
        async with asyncio.timeout(60):
            assert await slow == [408, 408, 408, 408]
            assert set(await silent) == {None}
        assert api.memory_info().rss - before < GROWTH_BYTES


async def test_bodies_without_a_key_are_not_collected(
    gateway: Gateway, bystander: Bystander, api: psutil.Process
) -> None:
    paths = (CHAT, "/v1/chat/completions", "/v1/messages", "/api/v1/projects/api-keys", "/nowhere", "/health/live")
    pieces = [b" " * MB] * 30
    async with bystander.asking():
        before = api.memory_info().rss
        statuses = await asyncio.gather(
            *(status_of(gateway, head(path, length=30 * MB), *pieces) for path in paths for _ in range(5))
        )
        options = await status_of(gateway, head(CHAT, length=30 * MB).replace(b"POST", b"OPTIONS", 1), *pieces)
        assert api.memory_info().rss - before < GROWTH_BYTES
    assert statuses == [status for status in (401, 401, 401, 401, 404, 405) for _ in range(5)]
    assert options == 204


async def test_one_project_cannot_take_all_bytes_in_hand(
    gateway: Gateway, bystander: Bystander, session: aiohttp.ClientSession
) -> None:
    greedy = await new_project(gateway, session)
    other = await new_project(gateway, session)
    unfinished = [await Sent.open(gateway) for _ in range(2)]
    async with bystander.asking():
        for sent in unfinished:  # together nearly half of the process's budget
            await sent.send(head(CHAT, key=greedy.key, length=15 * MIB), b" " * MIB)
        await in_hand(gateway, session, 30 * MIB)
        refused = []
        for path in (CHAT, "/v1/chat/completions", "/v1/messages"):
            sent = await Sent.open(gateway)
            await sent.send(head(path, key=greedy.key, length=4 * MIB, more="expect: 100-continue\r\n"))
            status, headers, content = await sent.answer()
            refused.append(
                (status, headers.get("retry-after"), content["error"].get("code"), content["error"].get("type"))
            )
            sent.close()
        assert refused == [
            (503, "1", "OVERLOADED", None),
            (503, "1", None, "api_error"),
            (529, "1", None, "overloaded_error"),
        ]
        assert await padded(session, gateway, other, 5 * MIB) == 200
    for sent in unfinished:
        sent.close()
    await in_hand(gateway, session, 0)
    assert await padded(session, gateway, greedy, 10 * MIB) == 200


async def padded(session: aiohttp.ClientSession, gateway: Gateway, caller: Client, size: int) -> int:
    """Send a short chat, padded to a size in bytes. Return the status."""
    chat = b'{"model": "echo", "messages": [{"role": "user", "content": "hello"}]}'
    headers = {"Authorization": f"Bearer {caller.key}", "Content-Type": "application/json"}
    async with session.post(gateway.address + CHAT, data=chat.ljust(size), headers=headers) as answer:
        return answer.status


async def test_one_address_cannot_take_all_connections(gateway: Gateway, bystander: Bystander) -> None:
    async with bystander.asking():
        opened = [await Sent.open(gateway) for _ in range(MAX_CONNECTIONS)]
        beyond = await Sent.open(gateway)
        status, headers, content = await beyond.answer()
        assert (status, headers["retry-after"], content["error"]["code"]) == (429, "1", "RATE_LIMITED")
        for sent in (*opened, beyond):
            sent.close()

        async def is_let_in_again() -> bool:
            return await status_of(gateway, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n") == 200

        await eventually_so(is_let_in_again, within_s=30)


async def in_hand(gateway: Gateway, session: aiohttp.ClientSession, size_bytes: int) -> None:
    """Wait until the gateway holds about this number of bytes. The bystander adds a few."""
    async with asyncio.timeout(30):
        while True:
            async with session.get(f"{gateway.address}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            figure = next(float(line.split()[1]) for line in lines if line.startswith("gateway_bytes_in_hand{"))
            if size_bytes <= figure <= size_bytes + 10_000:
                return
            await asyncio.sleep(0.05)
