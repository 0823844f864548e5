"""A load generator that uses little CPU: keep-alive connections that each send one request after the other."""

import asyncio
import time
from collections.abc import Callable, Iterator

from msgspec import Struct


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


async def run(port: int, key: str, bodies: Callable[[int], bytes], *, requests: int, connections: int) -> Result:
    """Send `requests` chat requests over `connections` connections. `bodies` returns the body of the n-th request."""
    numbers = iter(range(requests))
    latencies: list[float] = []
    failures = 0

    async def connection() -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = bodies(number)
            started = time.perf_counter()
            writer.write(
                b"POST /api/v1/completions/chat HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %s\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            latencies.append((time.perf_counter() - started) * 1000)
            failures += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    seconds = time.perf_counter() - started
    return Result(requests=requests, seconds=seconds, latencies_ms=sorted(latencies), failures=failures)


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
