"""A load generator that uses little CPU: keep-alive connections that each send one request after the other."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

HTTP_OK = 200
RUN_LIMIT_S = 300
"""The longest that one run takes; one that takes longer fails."""
PATIENCE_S = 90
"""The longest that a single caller waits."""


class Result(Struct, frozen=True, kw_only=True):
    """The result of a run."""

    requests: int
    seconds: float
    latencies_ms: list[float]
    """Sorted."""
    failures: int

    def percentile_ms(self, percent: float) -> float:
        """Return the latency below which `percent` of the requests were."""
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(len(self.latencies_ms) * percent / 100))]


class Target(Struct, frozen=True, kw_only=True):
    """Where requests go."""

    port: int
    path: str
    headers: dict[str, str]

    def head(self) -> bytes:
        """Return the request's first lines, up to its length."""
        named = {"host": "localhost", "content-type": "application/json"} | self.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}content-length: ".encode()


def native_chat(port: int, key: str) -> Target:
    """Return the native surface of a gateway."""
    return Target(port=port, path="/api/v1/completions/chat", headers={"authorization": f"Bearer {key}"})


async def run(port: int, key: str, bodies: Callable[[int], bytes], *, requests: int, connections: int) -> Result:
    """Send `requests` native chat requests over `connections` connections. `bodies` gives the body of the n-th."""
    return await send(native_chat(port, key), bodies, requests=requests, connections=connections)


async def send(target: Target, bodies: Callable[[int], bytes], *, requests: int, connections: int) -> Result:
    """Send `requests` requests over `connections` connections. `bodies` gives the body of the n-th."""
    numbers = iter(range(requests))
    head = target.head()
    latencies: list[float] = []
    failures = 0

    async def connection() -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for number in numbers:
            body = bodies(number)
            started = time.perf_counter()
            writer.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            status = await read_answer(reader)
            latencies.append((time.perf_counter() - started) * 1000)
            failures += status != HTTP_OK
        writer.close()

    started = time.perf_counter()
    async with asyncio.timeout(RUN_LIMIT_S):
        await asyncio.gather(*(connection() for _ in range(connections)))
    seconds = time.perf_counter() - started
    return Result(requests=requests, seconds=seconds, latencies_ms=sorted(latencies), failures=failures)


class Answered(Struct, frozen=True, kw_only=True):
    """What one caller got."""

    status: int
    """0 if there was no answer: the connection broke, or the caller lost patience."""
    seconds: float


async def ask(target: Target, body: bytes, *, leave_after: int | None = None) -> Answered:
    """Ask once, over a connection of its own. With `leave_after` the caller leaves after so many events of a stream."""
    started = time.perf_counter()
    status = 0
    with contextlib.suppress(TimeoutError, EOFError, OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(b"%b%d\r\nconnection: close\r\n\r\n%b" % (target.head(), len(body), body))
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                told = int(head.split(b" ", 2)[1])
                for _ in range(leave_after or 0 if told == HTTP_OK else 0):
                    await reader.readuntil(b"data: ")
                if leave_after is None and not await reader.read():
                    raise EOFError("the connection broke after the head")
                status = told
        finally:
            writer.close()
    return Answered(status=status, seconds=time.perf_counter() - started)


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end, whether its length is given or it comes in chunks. Returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    named = head.lower()
    if b"\r\ntransfer-encoding: chunked" in named:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        await reader.readexactly(int(named.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    return int(head.split(b" ", 2)[1])


async def run_streams(
    port: int, path: str, headers: dict[str, str], bodies: Callable[[int], bytes], *, streams: int, connections: int
) -> Result:
    """Request `streams` streams over `connections` connections, and read each to its end.

    The latencies are the times to the first byte.
    """
    numbers = iter(range(streams))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    started = time.perf_counter()
    read = await asyncio.gather(*(_read_streams(port, path, head, bodies, numbers) for _ in range(connections)))
    first_bytes_ms = sorted(latency for latencies, _ in read for latency in latencies)
    return Result(
        requests=streams,
        seconds=time.perf_counter() - started,
        latencies_ms=first_bytes_ms,
        failures=sum(failures for _, failures in read),
    )


async def _read_streams(
    port: int, path: str, head: str, bodies: Callable[[int], bytes], numbers: Iterator[int]
) -> tuple[list[float], int]:
    latencies: list[float] = []
    failures = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        body = bodies(number)
        started = time.perf_counter()
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{head}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if b"\r\ntransfer-encoding: chunked" not in answer.lower():
            await reader.readexactly(int(answer.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            latencies.append((time.perf_counter() - started) * 1000)
            failures += 1
            continue
        size = int(await reader.readuntil(b"\r\n"), 16)
        latencies.append((time.perf_counter() - started) * 1000)
        last = b""
        while size:
            last = await reader.readexactly(size + 2)
            size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(2)
        is_whole = b"[DONE]" in last or b"message_stop" in last
        failures += not (answer.startswith(b"HTTP/1.1 200") and is_whole)
    writer.close()
    return latencies, failures
