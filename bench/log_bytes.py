"""Measures how many bytes of PostgreSQL a request takes for ever, how many for a while, and how many it writes.

Sizes are those of tables with their indexes, before and after a number of requests, once the projector has folded them.
`written` is the write-ahead log of the same requests, which a standby receives and an archive keeps: pages that are
written for the first time after a checkpoint are in it whole, so it is an upper bound of a busy database's.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop

from bench import load
from bench.whole_path import PROMPT, Measured, body
from cli.processes import settings_for_administration

WARM_UP = 300
SETTLE_S = 3.0
KEPT = ("events",)
"""The log: kept for ever."""
READ_MODELS = (
    "requests",
    "usage_daily",
    "usage_latency",
    "usage_rollups",
    "usage_durations",
    "usage_errors",
    "usage_totals",
    "usage_total_durations",
    "usage_months",
    "usage_attributes",
    "usage_attribute_values",
    "budget_balances",
    "cache_entries",
    "budget_alerts",
)
"""Folded from the log, and kept as long as it is to be read fast."""
EXPIRING = ("blobs",)
"""Cached answers, until they expire."""


async def sizes(url: str) -> tuple[dict[str, int], int]:
    """Return the bytes of each table with its indexes, and the position of the write-ahead log in bytes."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT relname, pg_total_relation_size(oid) AS bytes FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace"
        )
        written = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return {row["relname"]: row["bytes"] for row in rows}, int(written)
    finally:
        await connection.close()


async def events_of(url: str) -> tuple[int, int]:
    """Return the number of events, and the bytes of their data as JSON."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("SELECT count(*), coalesce(sum(octet_length(data::text)), 0) FROM events")
        return int(row[0]), int(row[1])
    finally:
        await connection.close()


def measure(gateway: Measured, url: str, name: str, requests: int, *, cache: bool, hit: bool) -> None:
    """Measure one row and print it."""
    fresh = itertools.count()

    def bodies(_number: int) -> bytes:
        content = body(PROMPT if hit else f"{PROMPT} {name} {next(fresh)}")
        return content if cache else content[:-1] + b', "cache": false}'

    uvloop.run(load.run(gateway.port, gateway.key, bodies, requests=WARM_UP, connections=16))
    time.sleep(SETTLE_S)
    (before, written_before), (count_before, data_before) = asyncio.run(sizes(url)), asyncio.run(events_of(url))
    result = uvloop.run(load.run(gateway.port, gateway.key, bodies, requests=requests, connections=16))
    time.sleep(SETTLE_S)
    (after, written_after), (count_after, data_after) = asyncio.run(sizes(url)), asyncio.run(events_of(url))
    grown = {table: (after[table] - before.get(table, 0)) / requests for table in after}
    groups = [sum(grown.get(table, 0.0) for table in tables) for tables in (KEPT, READ_MODELS, EXPIRING)]
    events = (count_after - count_before) / requests
    data = (data_after - data_before) / max(1, count_after - count_before)
    failed = f" ({result.failures} FAILED)" if result.failures else ""
    print(
        f"| {name} | {events:.1f} | {data:,.0f} | {groups[0]:,.0f} | {groups[1]:,.0f} | {groups[2]:,.0f} | "
        f"{(written_after - written_before) / requests:,.0f} |{failed}",
        flush=True,
    )


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000, help="per row (default 4000)")
    arguments = parser.parse_args()
    print("| what | events | bytes of JSON an event | bytes: log | read models | cached answers | written (WAL) |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        data_dir = Path(directory) / "data"
        gateway = Measured(data_dir)
        try:
            url = settings_for_administration(data_dir).owner_url
            assert url is not None, "of a running gateway"
            measure(gateway, url, "miss, no cache", arguments.requests, cache=False, hit=False)
            measure(gateway, url, "miss, answer kept", arguments.requests, cache=True, hit=False)
            measure(gateway, url, "hit", arguments.requests, cache=True, hit=True)
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
