"""A client that does not read its stream holds up its provider: nobody's memory and no other caller."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.bystander import Bystander
from tests.support.gateway import Gateway, environment_for, new_project
from tests.support.streams import CHAT_CLAUDE, CHAT_GPT, MESSAGES_CLAUDE, StreamCall, Streamer, digest_of, text_in
from tests.support.waiting import eventually, eventually_so

MB = 1_000_000
TEXT_BYTES = 100 * MB
ENDLESS = f"[[big={TEXT_BYTES}]] [[chunks=4000]] [[pace=1]] [[tokens=10/100]]"
GROWTH_BYTES = 40 * MB
"""Of a process, with all its buffers; each stream has 100 MB."""
UNREAD_TIMEOUT_S = 8
MAX_BYTES_IN_HAND = 96 * MB
UNREAD_ANSWERS = 300
ANSWER_BYTES = 240_000
"""Less than what was once sent in one piece. All of them together have half as much again as a project may have."""


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway that soon ends connections which nobody reads, and has few bytes in hand."""
    directory: Path = tmp_path_factory.mktemp("readers") / "data"
    soon = {
        "GATEWAY_UNREAD_TIMEOUT_S": str(UNREAD_TIMEOUT_S),
        "GATEWAY_MAX_BYTES_IN_HAND": str(MAX_BYTES_IN_HAND),
    }
    running = Gateway.start(directory, env=environment_for(upstream) | soon)
    yield running
    running.stop()


@pytest.fixture
async def streamer(gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    project = await new_project(gateway, session)
    assert project.key is not None
    return Streamer(session, gateway.address, project.key)


class Connection:
    """A client that has sent a request, and reads as much of its answer as it is told to."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    @classmethod
    async def ask(cls, gateway: Gateway, key: str, call: StreamCall, body: Any, **headers: str) -> "Connection":
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(opened, ("127.0.0.1", int(gateway.address.rpartition(":")[2])))
        content = json.dumps(body).encode()
        head = {
            "host": "x",
            "authorization": f"Bearer {key}",
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            "content-length": str(len(content)),
        } | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        await loop.sock_sendall(opened, f"POST {call.path} HTTP/1.1\r\n{lines}\r\n".encode() + content)
        return cls(opened)

    async def read(self) -> bytes:
        """Read what is there, to the end."""
        pieces = []
        while piece := await asyncio.get_running_loop().sock_recv(self._socket, 1024 * 1024):
            pieces.append(piece)
        return b"".join(pieces)

    async def first_bytes(self, size: int) -> bytes:
        """Wait for the first bytes of the answer, and read no more."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, size), 60)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def connections() -> AsyncIterator[list[Connection]]:
    opened: list[Connection] = []
    yield opened
    for one in opened:
        one.close()


class Memory:
    """How much the gateway's API process and worker have grown."""

    def __init__(self, gateway: Gateway) -> None:
        self._processes = {name: gateway.processes(name)[0] for name in ("api", "worker")}
        self._before = {name: _rss(process) for name, process in self._processes.items()}
        self.growth = dict.fromkeys(self._processes, 0)

    def look(self) -> dict[str, int]:
        """Return the most that each has grown."""
        for name, process in self._processes.items():
            self.growth[name] = max(self.growth[name], _rss(process) - self._before[name])
        return self.growth


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


@pytest.mark.parametrize("call", [CHAT_GPT, CHAT_CLAUDE, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_streams_that_nobody_reads_stop_their_provider_and_are_charged_as_far_as_they_came(
    call: StreamCall,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    streamer: Streamer,
    upstream: RunningProvider,
    connections: list[Connection],
) -> None:
    calm = await new_project(gateway, session)
    bystander, memory = Bystander(), Memory(gateway)
    prompts = [f"{number} unread {call.name} {ENDLESS}" for number in range(2)]

    async def ask(number: int) -> int:
        memory.look()
        status, _, _ = await calm.chat(f"{call.name} {number}", model="echo", cache=False)
        return status

    async with bystander.asking(ask):
        connections += [await Connection.ask(gateway, streamer.key, call, call.body(prompt)) for prompt in prompts]
        await eventually(lambda: len(charges(upstream, prompts)) == 2, within_s=60)
    assert set(bystander.statuses) == {200}
    assert max(memory.look().values()) < GROWTH_BYTES, memory.growth
    assert [row["end"] for row in charges(upstream, prompts)] == ["left"] * 2
    await eventually_so(lambda: are_over(streamer, 2))
    for request in await requests_of(streamer):
        cost, failed = request["events"]
        assert (cost["data"]["estimated"], failed["data"]["code"]) == (True, "CALLER_LEFT")
    _, stats, _ = await calm.call("GET", "/usage/stats")
    totals = stats["data"]["totals"]
    assert (totals["requests"], totals["failedRequests"]) == (len(bystander.statuses), 0)


async def test_a_client_that_reads_late_still_gets_all_of_its_stream(
    gateway: Gateway, streamer: Streamer, connections: list[Connection]
) -> None:
    prompt = f"late [[say={'abcdefghij' * 200_000}]] [[chunks=2000]]"
    late = await Connection.ask(gateway, streamer.key, CHAT_GPT, CHAT_GPT.body(prompt), connection="close")
    connections.append(late)
    await asyncio.sleep(UNREAD_TIMEOUT_S / 3)
    answer = await asyncio.wait_for(late.read(), 60)
    assert text_in(_unchunked(answer)) == "abcdefghij" * 200_000


async def test_a_reader_that_is_slow_does_not_hold_up_others_who_wait_for_the_same_answer(
    gateway: Gateway, streamer: Streamer, upstream: RunningProvider, connections: list[Connection]
) -> None:
    calls, cached = upstream.calls, {"x-gateway-cache": "on"}
    body = CHAT_GPT.body(f"shared [[say={'0123456789' * 1_000_000}]] [[chunks=2000]]")
    connections.append(await Connection.ask(gateway, streamer.key, CHAT_GPT, body, **cached))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    status, stream = await asyncio.wait_for(streamer.read(CHAT_GPT, body, **cached), 60)
    assert (status, len(text_in(stream))) == (200, 10 * MB)
    assert upstream.calls == calls + 1


async def test_whole_answers_count_until_they_are_read_and_more_than_fit_are_refused_at_once(
    gateway: Gateway, session: aiohttp.ClientSession, streamer: Streamer, connections: list[Connection]
) -> None:
    calm = await new_project(gateway, session)
    prompt, cached = f"whole [[big={ANSWER_BYTES}]] [[tokens=10/100]]", {"x-gateway-cache": "on"}
    body = CHAT_GPT.body(prompt, stream=False)
    status, answer = await streamer.read(CHAT_GPT, body, **cached)
    assert (status, len(answer) > ANSWER_BYTES) == (200, True)
    connections += [
        await Connection.ask(gateway, streamer.key, CHAT_GPT, body, connection="close", **cached)
        for _ in range(UNREAD_ANSWERS)
    ]
    begun = Counter([await one.first_bytes(12) for one in connections])
    assert set(begun) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert begun[b"HTTP/1.1 200"] * ANSWER_BYTES <= MAX_BYTES_IN_HAND / 2, "a project has half of what may be in hand"
    assert (await calm.chat("beside them", model="echo"))[0] == 200
    rest = await asyncio.wait_for(connections[0].read(), 60)
    assert len(rest) > ANSWER_BYTES, "who reads after all gets all of it"


def charges(upstream: RunningProvider, prompts: list[str]) -> list[dict[str, Any]]:
    """Return the provider's charges for some prompts."""
    digests = {digest_of(prompt) for prompt in prompts}
    return [row for row in upstream.bill() if row["prompt"] in digests]


async def requests_of(streamer: Streamer) -> list[Any]:
    """Return the key's requests with their events."""
    _, page, _ = await streamer.native.call("GET", "/requests")
    ids = [request["requestId"] for request in page["data"]["requests"]]
    return [(await streamer.native.call("GET", f"/requests/{request_id}"))[1]["data"] for request_id in ids]


async def are_over(streamer: Streamer, requests: int) -> bool:
    """Return whether the log has so many requests that have ended."""
    return [len(request["events"]) for request in await requests_of(streamer)] == [2] * requests


def _unchunked(answer: bytes) -> bytes:
    """Return the body of a response that came in chunks."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    pieces = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return b"".join(pieces)
