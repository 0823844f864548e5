"""Measures how long an event of the log waits until the read models have it, while a gateway does all it can.

Callers ask as fast as they are answered, with requests that are never in the cache. Meanwhile the head of the log and
the checkpoints of the projections are read every few milliseconds. An event waits from when the head is seen at it
until every projection is.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import load
from bench.curves import load_now
from bench.grown_log import follow, issue_key, opened, port_of, stub_provider
from bench.whole_path import PROMPT, body
from infra.database import Pool
from tests.support.gateway import Gateway

CONNECTIONS = (16, 64, 256)
REQUESTS = 10_000
WARM_UP = 1_000
LOOK_S = 0.005
LOOK = "SELECT (SELECT position FROM log_head), (SELECT min(position) FROM projection_checkpoints)"

Look = tuple[float, int, int]
"""When, in seconds, the head of the log, and the position up to which every projection has folded it."""


async def watch(pool: Pool, looks: list[Look]) -> None:
    """Look until it is cancelled."""
    while True:
        head, folded = await pool.fetchrow(LOOK)
        looks.append((time.monotonic(), head, folded))
        await asyncio.sleep(LOOK_S)


def lags_ms(looks: Sequence[Look]) -> list[float]:
    """Return the milliseconds that each event waited which was appended between the first look and the last."""
    lags, folded_in = [], iter(looks)
    at_s, _, folded = next(folded_in)
    for (_, before, _), (appended_s, head, _) in itertools.pairwise(looks):
        for position in range(before + 1, head + 1):
            while folded < position:
                at_s, _, folded = next(folded_in)
            lags.append((at_s - appended_s) * 1_000)
    return lags


async def measure(gateway: Gateway, key: str, requests: int) -> None:
    """Measure and print a row for each number of connections."""
    fresh = itertools.count()

    def bodies(_number: int) -> bytes:
        return body(f"{PROMPT} {next(fresh)}")

    print("| connections | requests/s | p50 / p99 / most, ms | load |\n|---|---|---|---|")
    async with opened(gateway) as (pool, log):
        for connections in CONNECTIONS:
            await load.run(port_of(gateway), key, bodies, requests=WARM_UP, connections=connections)
            looks: list[Look] = []
            watching = asyncio.create_task(watch(pool, looks))
            result = await load.run(port_of(gateway), key, bodies, requests=requests, connections=connections)
            assert result.failures == 0
            await follow(pool, log)
            await asyncio.sleep(LOOK_S * 20)
            watching.cancel()
            lags = sorted(lags_ms(looks))
            p50, p99 = lags[len(lags) // 2], lags[len(lags) * 99 // 100]
            rate = result.requests / result.seconds
            print(
                f"| {connections} | {rate:,.0f} | {p50:.0f} / {p99:.0f} / {lags[-1]:.0f} | {load_now():.0f} |",
                flush=True,
            )


def main() -> None:
    """Start a gateway and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"per row (default {REQUESTS:,})")
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as home, stub_provider() as env:
        gateway = Gateway.start(Path(home) / "data", env=env)
        try:
            key = asyncio.run(issue_key(gateway, gateway.first_key))
            uvloop.run(measure(gateway, key, requests))
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
