"""Measures what callers that wait feel of queued asynchronous jobs: p50 and p99 of a synchronous call, with 0 and with
10,000 jobs queued and being run.

Callers ask at a fixed rate, so that a slow answer does not thin out what is measured. The provider's delay is that of
the slots that jobs take: with a short one jobs use more of the processor. Rounds with and without jobs follow each
other on the same gateway, so that other load on the machine hits both.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.load import ask, native_chat
from bench.whole_path import Measured

JOBS = 10_000
JOBS_PER_CALL = 1_000
RATE_PER_S = 40
ROUND_S = 15.0
ROUNDS = 3
NO_LIMITS: dict[str, float | None] = {"rateLimit": None, "concurrencyLimit": None}


def chat(prompt: str) -> dict[str, object]:
    """Return a request that the cache does not answer."""
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": prompt}],
        "maxTokens": 100,
        "cache": False,
    }


async def call(port: int, key: str, method: str, path: str, body: bytes = b"") -> dict[str, object]:
    """Call the native API over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    head = f"{method} /api/v1{path} HTTP/1.1\r\nhost: l\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    await reader.readuntil(b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    data: dict[str, object] = json.loads(answer)["data"]
    return data


async def queue(port: int, key: str, jobs: int, mark: str) -> list[float]:
    """Have jobs accepted. Return the seconds that each call took."""
    took_s = []
    for start in range(0, jobs, JOBS_PER_CALL):
        requests = [
            {"operation": "chat", "request": chat(f"{mark} {start + number}")} for number in range(JOBS_PER_CALL)
        ]
        began_s = time.perf_counter()
        await call(port, key, "POST", "/jobs", json.dumps({"requests": requests}).encode())
        took_s.append(time.perf_counter() - began_s)
    return took_s


async def still_open(port: int, key: str) -> int:
    """Return how many jobs have not ended."""
    page = await call(port, key, "GET", "/jobs/batches?limit=200")
    counts = [batch["counts"] for batch in page["batches"]]  # type: ignore[attr-defined, index]  # decoded JSON
    return sum(one["queued"] + one["running"] for one in counts)


async def steady(port: int, key: str, seconds: float, mark: str) -> list[float]:
    """Ask at `RATE_PER_S` for so long. Return the milliseconds of each call, sorted."""
    tasks = []
    began_s = time.perf_counter()
    for number in range(round(seconds * RATE_PER_S)):
        await asyncio.sleep(max(0.0, began_s + number / RATE_PER_S - time.perf_counter()))
        body = json.dumps(chat(f"{mark} {number}")).encode()
        tasks.append(asyncio.create_task(ask(native_chat(port, key), body)))
    answered = await asyncio.gather(*tasks)
    assert all(one.status == 200 for one in answered), "every synchronous call is answered"
    return sorted(one.seconds * 1_000 for one in answered)


def quantiles(milliseconds: Sequence[float]) -> str:
    """Return p50, p90 and p99 as cells of a table."""
    return " | ".join(f"{milliseconds[int(len(milliseconds) * part)]:.1f}" for part in (0.5, 0.9, 0.99))


async def measure(gateway: Measured, jobs: int, rounds: int) -> None:
    """Measure rounds without and with jobs, and print a row for each."""
    key, batch_key = gateway.issue_key("sync", NO_LIMITS), gateway.issue_key("jobs", NO_LIMITS)
    port = gateway.port
    await steady(port, key, 5.0, "warm")
    for number in range(rounds):
        print(f"| {number + 1} | 0 | {quantiles(await steady(port, key, ROUND_S, f'a{number}'))} | | |", flush=True)
        accepting = asyncio.create_task(steady(port, key, ROUND_S / 3, f"b{number}"))
        took_s = await queue(port, batch_key, jobs, f"j{number}")
        during = quantiles(await accepting)
        print(f"| {number + 1} | {jobs:,} being accepted | {during} | {max(took_s):.1f} s a call | |", flush=True)
        before = await still_open(port, batch_key)
        with_jobs = quantiles(await steady(port, key, ROUND_S, f"c{number}"))
        after = await still_open(port, batch_key)
        print(f"| {number + 1} | {before:,} queued | {with_jobs} | | {(before - after) / ROUND_S:.0f} |", flush=True)
        while number + 1 < rounds and await still_open(port, batch_key):  # noqa: ASYNC110 - over HTTP there is nothing else to wait on
            await asyncio.sleep(1)


def main() -> None:
    """Measure and print every round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--delay-ms", type=int, default=500)
    arguments = parser.parse_args()
    print("| round | jobs | p50 ms | p90 ms | p99 ms | accepted in | jobs a second |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        gateway = Measured(Path(directory) / "data", delay_ms=arguments.delay_ms)
        try:
            uvloop.run(measure(gateway, arguments.jobs, arguments.rounds))
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
