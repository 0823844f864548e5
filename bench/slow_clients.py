"""Measures what slow clients and slow providers take: memory of the API process and the worker, a bystander's time.

Each row has a gateway of its own, with one API process and one worker. Its clients have many loopback addresses,
because one address may have `GATEWAY_MAX_CONNECTIONS_PER_ADDRESS` connections. A bystander of another project asks the
same provider one request after the other: before, while the clients are there, and after. Bounded: `--clients`
connections (the file limit of this process is raised to what the system allows), `--hold-s` seconds a row.

    uv run python -m bench.slow_clients [--clients 10000] [--streams 1000] [--hold-s 30] [--only NAME]
"""

import argparse
import asyncio
import json
import resource
import socket
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import uvloop
from msgspec import Struct

from bench.load import Answered, ask, native_chat
from bench.systems import process_memory_mb
from bench.whole_path import Measured

CLIENTS = 10_000
STREAMS = 1_000
DRIPPED = 200
HOLD_S = 30.0
CLIENTS_PER_ADDRESS = 500
CONNECTING_AT_ONCE = 64
RECEIVE_BUFFER_BYTES = 4_096
PACE_S = 1.0
STATUS_BYTES = 12
"""Of an answer: `HTTP/1.1 200`."""
SAMPLE_S = 0.25
BYSTANDER_PAUSE_S = 0.05
ALONE_S = 5.0
NEWCOMERS = 20
"""Connections that are opened beside the slow ones, one after the other."""
SETTLE_S = 8.0
LONG_STREAM_DELTAS = 5_000
"""About a megabyte."""
SHORT_STREAM_DELTAS = 500
"""About 100 KB: less than a window, so no worker waits for its reader."""
CACHED_BYTES = 200_000
NO_LIMITS: dict[str, float | None] = {"rateLimit": None, "concurrencyLimit": None}


class Row(Struct, frozen=True, kw_only=True):
    """One kind of slowness."""

    name: str
    clients: int
    body: Callable[[int], bytes]
    """The request of the n-th client."""
    reads: int
    """Bytes that a client takes a second; 0: all that come."""
    sent_at_first: int | None = None
    """Bytes of the body that a client sends at once; the rest follows a byte a second. None: all."""
    env: Mapping[str, str] = {}
    pace_ms: float = 0
    """Between two events of the provider's streams."""
    warms_cache: bool = False


def chat(prompt: str, *, stream: bool, cache: bool = False) -> bytes:
    """Return a request of the native API."""
    message = {"role": "user", "content": prompt}
    body = {"model": "gpt-4o-mini", "messages": [message], "maxTokens": 16_000, "stream": stream, "cache": cache}
    return json.dumps(body).encode()


def rows(clients: int, streams: int) -> list[Row]:
    """Return every row."""
    return [
        Row(
            name="streams-held-open",
            clients=streams,
            body=lambda number: chat(f"open {number} [[chunks=9000]]", stream=True),
            reads=0,
            env={"GATEWAY_WORKER_SLOTS": str(streams * 3 // 2)},  # a project's key has 4/5, a provider 3/4 of them
            pace_ms=1_000,
        ),
        Row(
            name="readers-of-long-streams",
            clients=clients,
            body=lambda number: chat(f"long {number} [[chunks={LONG_STREAM_DELTAS}]]", stream=True),
            reads=1,
        ),
        Row(
            name="readers-of-short-streams",
            clients=clients,
            body=lambda number: chat(f"short {number} [[chunks={SHORT_STREAM_DELTAS}]]", stream=True),
            reads=1,
        ),
        Row(
            name="readers-of-cached-answers",
            clients=clients,
            body=lambda _: chat(f"whole [[bytes={CACHED_BYTES}]]", stream=False, cache=True),
            reads=1,
            warms_cache=True,
        ),
        Row(
            name="writers",
            clients=clients,
            body=lambda number: chat(f"written {number} {'w' * 1_000}", stream=False),
            reads=0,
            sent_at_first=100,
        ),
        Row(
            name="provider-a-byte-a-second",
            clients=DRIPPED,
            body=lambda number: chat(f"drip {number} [[drip]] [[chunks=20]]", stream=number % 2 == 0),
            reads=0,
        ),
    ]


class SlowClient:
    """A connection that takes, or sends, a byte a second."""

    def __init__(self, row: Row, number: int) -> None:
        self._row = row
        self._body = row.body(number)
        self._sent = len(self._body) if row.sent_at_first is None else row.sent_at_first
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.setblocking(False)
        self._address = f"127.0.1.{1 + number // CLIENTS_PER_ADDRESS}"
        self.head = b""
        self.is_open = False

    async def connect(self, port: int, key: str) -> None:
        """Connect, and send the head and so much of the body as goes at once."""
        loop = asyncio.get_running_loop()
        head = (
            f"POST /api/v1/completions/chat HTTP/1.1\r\nhost: l\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        try:
            self._socket.bind((self._address, 0))
            await loop.sock_connect(self._socket, ("127.0.0.1", port))
            await loop.sock_sendall(self._socket, head.encode() + self._body[: self._sent])
            self.is_open = True
        except OSError:
            self._socket.close()

    def turn(self) -> None:
        """Take and send what one second brings."""
        if not self.is_open:
            return
        try:
            if self._sent < len(self._body):
                self._sent += self._socket.send(self._body[self._sent : self._sent + 1])
            came = self._socket.recv(self._row.reads or RECEIVE_BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if len(self.head) < STATUS_BYTES:
            self.head += came[: STATUS_BYTES - len(self.head)]
        if not came:
            self.close()

    @property
    def outcome(self) -> str:
        """Return the status, as far as it was read, and whether the connection is still there."""
        status = self.head[9:12].decode() or ("no answer yet" if self.is_open else "no answer")
        return status if self.is_open else f"{status}, ended by the gateway"

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        self._socket.close()


class Memory:
    """Samples the memory of the gateway's API process and worker. What processes share is divided among them."""

    def __init__(self, up: psutil.Process) -> None:
        lines = {child: " ".join(child.cmdline()) for child in up.children(recursive=True)}
        self._processes = {
            name: next(child for child, line in lines.items() if f"gateway {name}" in line)
            for name in ("api", "worker")
        }
        self.before = self.now()
        self.peak = dict(self.before)

    def now(self) -> dict[str, float]:
        """Return the megabytes of each."""
        return {name: process_memory_mb(process) for name, process in self._processes.items()}

    async def watch(self) -> None:
        """Note the peak until cancelled."""
        while True:
            for name, size in self.now().items():
                self.peak[name] = max(self.peak[name], size)
            await asyncio.sleep(SAMPLE_S)


def bystanders_key(gateway: Measured) -> str:
    """Return a key of another project."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/api/v1/projects",
        data=json.dumps({"name": "bystander"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["data"]["apiKey"])


class Bystander:
    """Asks one request after the other over a connection that is open since before the slow clients came."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self.milliseconds: list[float] = []
        self.failures: Counter[str] = Counter()

    async def ask(self) -> None:
        """Ask until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for number in range(1_000_000):
            body = chat(f"bystander {time.monotonic()} {number} [[tokens=8]]", stream=False)
            began_s = time.perf_counter()
            writer.write(
                b"POST /api/v1/completions/chat HTTP/1.1\r\nhost: l\r\nauthorization: Bearer %s\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (self._key.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            self.milliseconds.append((time.perf_counter() - began_s) * 1_000)
            if not head.startswith(b"HTTP/1.1 200"):
                self.failures[head[9:12].decode()] += 1
            await asyncio.sleep(BYSTANDER_PAUSE_S)

    async def asking_for(self, seconds: float) -> str:
        """Ask for so long. Return p50, p99 and the longest wait, in milliseconds."""
        self.milliseconds = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ask()
        return self.figures()

    def figures(self) -> str:
        """Return p50, p99 and the longest wait, in milliseconds, and what failed."""
        ordered = sorted(self.milliseconds)
        if not ordered:
            return "no answer"
        failed = f" ({dict(self.failures)})" if self.failures else ""
        return f"{ordered[len(ordered) // 2]:.0f} / {ordered[len(ordered) * 99 // 100]:.0f} / {ordered[-1]:.0f}{failed}"


async def connect_all(clients: list[SlowClient], port: int, key: str) -> None:
    """Connect all, some at a time."""
    waiting = iter(clients)

    async def some() -> None:
        for client in waiting:
            await client.connect(port, key)

    await asyncio.gather(*(some() for _ in range(CONNECTING_AT_ONCE)))


async def go_on(clients: list[SlowClient], until_s: float) -> None:
    """Give each client its turn every second, until a moment of the monotonic clock."""
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        for number, client in enumerate(clients):
            client.turn()
            if number % 200 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(max(0.0, began_s + PACE_S - time.monotonic()))


async def newcomers(gateway: Measured, key: str) -> str:
    """Ask over new connections. Return what they get, and the longest time until then."""
    answered: list[Answered] = [
        await ask(native_chat(gateway.port, key), chat(f"new {number}", stream=False)) for number in range(NEWCOMERS)
    ]
    statuses = ", ".join(f"{count} × {status}" for status, count in Counter(one.status for one in answered).items())
    return f"{statuses} in {max(one.seconds for one in answered) * 1_000:.0f} ms at most"


async def measure(gateway: Measured, row: Row, hold_s: float) -> None:
    """Measure a row and print it."""
    key, other_key = gateway.issue_key("slow", NO_LIMITS), bystanders_key(gateway)
    bystander = Bystander(gateway.port, other_key)
    await bystander.asking_for(1.0)
    alone = await bystander.asking_for(ALONE_S)
    if row.warms_cache:
        assert (await ask(native_chat(gateway.port, key), row.body(0))).status == 200, "the cache has the answer"
    memory = Memory(gateway.process)
    clients = [SlowClient(row, number) for number in range(row.clients)]
    watching = asyncio.create_task(memory.watch())
    bystander.milliseconds = []
    asking = asyncio.create_task(bystander.ask())
    began_s = time.monotonic()
    connecting = asyncio.create_task(connect_all(clients, gateway.port, key))
    going = asyncio.create_task(go_on(clients, began_s + hold_s + 120))
    await connecting
    connected_s = time.monotonic() - began_s
    await asyncio.sleep(hold_s)
    new = await newcomers(gateway, other_key)
    outcomes = Counter(client.outcome for client in clients)
    for task in (going, asking):
        task.cancel()
    await asyncio.gather(going, asking, return_exceptions=True)
    beside = bystander.figures()
    for client in clients:
        client.close()
    await asyncio.sleep(SETTLE_S)
    watching.cancel()
    after = memory.now()
    after_them = await Bystander(gateway.port, other_key).asking_for(ALONE_S)
    sizes = " | ".join(f"{memory.before[name]:.0f} / {memory.peak[name]:.0f} / {after[name]:.0f}" for name in after)
    seen = ", ".join(f"{count:,} × {outcome}" for outcome, count in outcomes.most_common())
    load = psutil.getloadavg()[0]
    print(
        f"| {row.name} | {row.clients:,} | {sizes} | {alone} | {beside} | {after_them} | {new} | {seen} | "
        f"{connected_s:.0f} | {load:.0f} |",
        flush=True,
    )


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--hold-s", type=float, default=HOLD_S)
    parser.add_argument("--only", help="the name of one row")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(
        "| what | clients | API, MB before / peak / after | worker, MB | bystander alone, ms p50 / p99 / longest "
        "| beside them | after them | a new connection | clients saw | all connected after s | load |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows(arguments.clients, arguments.streams):
        if arguments.only in (None, row.name):
            with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
                gateway = Measured(Path(directory) / "data", pace_ms=row.pace_ms, env=row.env)
                try:
                    uvloop.run(measure(gateway, row, arguments.hold_s))
                finally:
                    gateway.stop()


if __name__ == "__main__":
    main()
