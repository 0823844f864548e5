"""Measures the log alone: commits per second of one PostgreSQL, and CPU microseconds per commit.

A commit has the two events of an answer. Several writers, each with a connection of its own, stand for several worker
processes: the log's head serialises them, so this is what one database can append, however many workers there are.
`fsync` is on: a commit counts once it is on the disk.
"""

import argparse
import asyncio
import os
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import uvloop

from domain.events import CostIncurred, RequestCompleted, request_stream
from infra.database import HeldConnection, migrate, open_pool
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres
from infra.event_log import Commit, EventLog
from infra.ids import new_id

SAMPLES = Path(__file__).parent.parent / "tests" / "golden" / "events"
ROWS = ((1, 1), (1, 64), (1, 256), (4, 256), (4, 1_024))
"""Writers, and commits at a time over all of them."""
COMPLETED = msgspec.json.decode((SAMPLES / "RequestCompleted.json").read_bytes(), type=RequestCompleted)
COST = msgspec.json.decode((SAMPLES / "CostIncurred.json").read_bytes(), type=CostIncurred)


def make_commit() -> Commit:
    """Return the commit of an answer."""
    return Commit(
        stream=request_stream(new_id("req")),
        expected_version=0,
        project_id="prj_bench",
        at=datetime.now(UTC),
        events=(COMPLETED, COST),
    )


async def measure(postgres: EmbeddedPostgres, server: psutil.Process, commits: int) -> None:
    """Measure and print a row for each number of writers."""
    url = postgres.url_as(ROLES["worker"])
    pool = await open_pool(url, name="bench", size=2)
    print("| writers | at a time | commits/s | events/s | p50 / p99 ms | CPU µs per commit (worker + postgresql) |")
    print("|---|---|---|---|---|---|")
    for writers, at_a_time in ROWS:
        logs = [EventLog(pool, HeldConnection(url, name=f"bench {number}")) for number in range(writers)]
        number = commits // 10 if at_a_time == 1 else commits
        await run(logs, number // 10, at_a_time)
        before, own, started = cpu_s(server), time.process_time(), time.perf_counter()
        latencies = sorted(await run(logs, number, at_a_time))
        seconds = time.perf_counter() - started
        own_us = (time.process_time() - own) / number * 1e6
        server_us = (cpu_s(server) - before) / number * 1e6
        print(
            f"| {writers} | {at_a_time:,} | {number / seconds:,.0f} | {2 * number / seconds:,.0f} | "
            f"{latencies[number // 2]:.1f} / {latencies[number * 99 // 100]:.1f} | "
            f"**{own_us + server_us:,.0f}** ({own_us:.0f} + {server_us:.0f}) |",
            flush=True,
        )
        for log in logs:
            await log.close()
    await pool.close()


async def run(logs: list[EventLog], commits: int, at_a_time: int) -> list[float]:
    """Append `commits` commits, `at_a_time` at a time. Return the latencies in milliseconds."""
    numbers = iter(range(commits))
    latencies: list[float] = []

    async def writer(log: EventLog) -> None:
        for _ in numbers:
            started = time.perf_counter()
            await log.append(make_commit())
            latencies.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(writer(logs[number % len(logs)]) for number in range(at_a_time)))
    return latencies


def cpu_s(server: psutil.Process) -> float:
    """Return the CPU seconds that PostgreSQL has used, over its processes and those that have ended."""
    used_s = 0.0
    for process in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            times = process.cpu_times()
            used_s += times.user + times.system
    own = server.cpu_times()
    return used_s + own.user + own.system + own.children_user + own.children_system


def main() -> None:
    """Measure on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=20_000, help="per row (default 20000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        postgres = EmbeddedPostgres(Path(directory) / "pg")
        postgres.start()
        try:
            migrate(postgres.url_as(OWNER), ROLES)
            assert postgres.process is not None
            print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
            uvloop.run(measure(postgres, psutil.Process(postgres.process.pid), arguments.commits))
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
