"""Measures the pages of reports against read models that are as large as those of a busy year.

The tables are filled by SQL, not by requests: a year of usage of many keys (`--usage-rows` rows of `usage_daily`, with
the roll-ups and histograms that belong to it), and one project's `--requests` of the last 30 days, with metadata. Then
each page is loaded over HTTP as the operator and as that project's admin. `first` is the first
load after the tables were filled and analysed, `median` that of the ones after it. CPU is that of a load, without what
the same processes take of the same time while nothing is asked of them. `KiB` is the size of the page, as it is
sent; beside it what gzip would make of it.
"""

import argparse
import asyncio
import gzip
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import asyncpg
import psutil

from bench.whole_path import cpu_seconds
from cli.processes import settings_for_administration
from infra.database import MIGRATIONS
from tests.support.dashboard import Browser, signed_in
from tests.support.gateway import Client, Gateway

DAYS = 365
MODELS = 7
KEYS_OF_PROJECT = 20
LOADS = 7
IDLE_S = 10.0
GZIP_LEVEL = 6
PAGES = (
    "/",
    "/?range=30",
    "/?range=365",
    "/usage?range=30",
    "/usage?range=30&group=model&then=day",
    "/usage?range=30&group=key&then=model",
    "/usage?range=30&group=metadata.team",
    "/usage?range=365&group=provider&then=model",
    "/usage?range=7&group=hour",
    "/usage?range=30&metric=latency",
    "/usage?range=30&metric=latency&group=key",
    "/usage?range=30&metric=first-token&group=model&then=day",
    "/usage?range=30&group=key",
    "/usage?range=30&group=day&then=key",
    "/usage?range=30&group=model&then=key",
    "/usage?range=30&group=project&then=model",
    "/usage?range=365&group=key",
    "/requests",
    "/requests?status=failed",
    "/requests?model=none",
    "/requests?model=none&range=2",
    "/requests?metadata=team%3Dteam+3",
    "/requests?model=model+2&latency=9000",
    "REQUEST",
)
API = (
    "/usage/stats?days=30",
    "/usage/costs?groupBy=metadata.team",
    "/usage/costs?groupBy=model",
    "/usage/overview",
)

_KEYS = """
    INSERT INTO api_keys (key_id, project_id, secret_hash, hint, settings, created_at, version, daily_budget_nano_usd)
    SELECT 'key_b' || p || '_' || k, $1, sha256(('b' || p || '_' || k)::bytea), 'benc',
           json_build_object('name', 'key ' || k), now(), 1, 1000000000
    FROM generate_series(0, $2::int - 1) p, generate_series(0, $3::int - 1) k
    WHERE p = 0
"""
_DAILY = """
    INSERT INTO usage_daily (project_id, day, key_id, operation, provider, model, completed_requests, cached_requests,
        failed_requests, prompt_tokens, completion_tokens, cached_prompt_tokens, cost_nano_usd, assumed_nano_usd,
        saved_nano_usd, latency_sum_ms, unpriced_requests, estimated_requests, lower_bound_requests)
    SELECT CASE p WHEN 0 THEN $1::text ELSE 'prj_b' || p END, current_date - d, 'key_b' || p || '_' || k, 'chat',
           'provider ' || m % 3, 'model ' || m, 10 + m, 2, 1, 9000, 900, 100, 1000000 * (m + 1), 0, 100, 25000, 0, 0, 0
    FROM generate_series($4::int, $5::int) d, generate_series(0, $2::int - 1) p, generate_series(0, $3::int - 1) k,
         generate_series(0, {models} - 1) m
"""
_ROLLUPS = """
    INSERT INTO usage_rollups
    SELECT coalesce(project_id, ''), '{period}', s.at, coalesce(key_id, ''), coalesce(operation, ''),
           coalesce(provider, ''), coalesce(model, ''), sum(completed_requests), sum(cached_requests),
           sum(failed_requests), sum(prompt_tokens), sum(completion_tokens), sum(cached_prompt_tokens),
           sum(cost_nano_usd), sum(assumed_nano_usd), sum(saved_nano_usd), sum(latency_sum_ms), 0, 0, 0, 0, 0, 0
    FROM usage_daily u CROSS JOIN LATERAL (
        SELECT u.day::timestamp AT TIME ZONE 'UTC' + h * interval '1 hour' AS at FROM generate_series(0, {hours}) h) s
    WHERE u.day >= $1
    GROUP BY GROUPING SETS ((project_id, s.at, operation, provider, model), (project_id, s.at, key_id),
                            (s.at, operation, provider, model))
"""
_DURATIONS = """
    INSERT INTO usage_durations
    SELECT project_id, period, starts_at, key_id, operation, provider, model, m.measure, h.buckets, h.answers
    FROM usage_rollups r, (VALUES ('answer'), ('first_token')) AS m (measure),
         (SELECT array_agg(b) AS buckets, array_agg(1 + b % 7::bigint) AS answers FROM generate_series(200, 319) b) h
    WHERE starts_at >= $1
"""
_REQUESTS = """
    INSERT INTO requests (request_id, project_id, key_id, at, operation, model, provider, status, attempts, latency_ms,
        finish_reason, prompt_tokens, completion_tokens, cached_prompt_tokens, cost_nano_usd, assumed_nano_usd,
        saved_nano_usd, error_code, metadata, session)
    SELECT 'req_' || (SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz',
           (floor(extract(epoch FROM t.at) * 1000)::bigint >> (45 - 5 * c) & 31)::int + 1, 1), '' ORDER BY c)
           FROM generate_series(0, 9) c)
           || lpad(n::text, 16, '0'), $1, 'key_b0_' || n % {keys}, t.at, 'chat', 'model ' || n % {models},
           'provider ' || n % 3, CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 10 = 0 THEN 'cached' ELSE 'completed' END,
           1, n * 37 % 10000, 'stop', 900, 90, 0, 1000 * (n % 97), 0, 0,
           CASE WHEN n % 50 = 0 THEN 'PROVIDER_UNAVAILABLE' END,
           json_build_object('team', 'team ' || n % 12, 'user', n % 5000), 'session ' || n / 40
    FROM generate_series(1, $2::bigint) n CROSS JOIN LATERAL (
        SELECT now() - (($2::bigint - n) * 30.0 / $2::bigint) * interval '1 day' AS at) t
"""
_VALUES = """
    INSERT INTO usage_attribute_values
    SELECT $1, a.name, current_date - d, v, sha256((a.name || v)::bytea), to_json(a.prefix || v)::text
    FROM generate_series(0, 29) d, (VALUES ('metadata.team', 'team ', 12), ('metadata.user', 'user ', 1000),
         ('session', 'session ', 300), ('', 'metadata.n', 2)) AS a (name, prefix, values)
    CROSS JOIN LATERAL generate_series(1, a.values) v
"""
_ATTRIBUTES = """
    INSERT INTO usage_attributes
    SELECT v.project_id, v.name, v.day, v.number, 'key_b0_' || k, 50, 5, 1, 900, 90, 100000, 0, 0, 0, 0, 0
    FROM usage_attribute_values v, generate_series(0, {keys} - 1) k
    WHERE v.name <> '' AND (k = 0 OR v.number % 4 = 0 OR v.name = 'metadata.team')
"""
_INDEXES = """
    SELECT CASE WHEN k.oid IS NULL THEN 'index' ELSE 'constraint' END, c.relname,
           CASE WHEN k.oid IS NULL THEN pg_get_indexdef(c.oid)
                ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', $1::text, k.conname, pg_get_constraintdef(k.oid)) END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
    WHERE i.indrelid = $1::text::regclass
"""
_TABLES = (
    "usage_daily",
    "usage_rollups",
    "usage_durations",
    "usage_totals",
    "usage_total_durations",
    "usage_months",
    "usage_attributes",
    "usage_attribute_values",
    "requests",
)


async def fill(url: str, project: str, *, usage_rows: int, requests: int) -> None:
    """Fill the read models of a year, as the tables' owner. Their indexes are made when all rows are there."""
    projects = max(1, usage_rows // (DAYS * MODELS * KEYS_OF_PROJECT))
    names = {"models": MODELS, "keys": KEYS_OF_PROJECT}
    connection = await asyncpg.connect(url)
    await connection.execute("SET work_mem = '256MB'; SET maintenance_work_mem = '512MB'")
    await connection.execute(_KEYS, project, projects, KEYS_OF_PROJECT)
    indexes = await _drop_indexes(connection)
    for first in range(0, DAYS, 30):
        last = min(DAYS, first + 30) - 1
        await connection.execute(_DAILY.format(**names), project, projects, KEYS_OF_PROJECT, first, last, timeout=900)
        print(f"usage of {last + 1} days", flush=True)
    for period, hours, days in (("day", 0, DAYS), ("hour", 23, 8)):
        statement = _ROLLUPS.format(period=period, hours=hours)
        await connection.execute(statement, await _back(connection, days), timeout=1_800)
    await connection.execute(_DURATIONS, await _back(connection, 60), timeout=1_800)
    totals = (MIGRATIONS / "sql" / "0027_usage_totals.sql").read_text()
    await connection.execute(totals[totals.index("INSERT INTO usage_totals") :], timeout=1_800)
    await connection.execute(_REQUESTS.format(**names), project, requests, timeout=900)
    await connection.execute(_VALUES, project, timeout=900)
    await connection.execute(_ATTRIBUTES.format(**names), timeout=900)
    for statement in indexes:
        await connection.execute(statement, timeout=1_800)
    for table in _TABLES:
        await connection.execute(f"VACUUM ANALYZE {table}", timeout=900)
        rows = await connection.fetchval(f"SELECT reltuples::bigint FROM pg_class WHERE relname = '{table}'")
        print(f"{table}: {rows:,} rows", flush=True)
    await connection.close()


async def _drop_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drop the tables' indexes, and their part in the log of writes. Return the statements that make the indexes."""
    statements = []
    for table in _TABLES:
        await connection.execute(f"ALTER TABLE {table} SET UNLOGGED")
        for kind, name, definition in await connection.fetch(_INDEXES, table):
            dropped = f"ALTER TABLE {table} DROP CONSTRAINT {name}" if kind == "constraint" else f"DROP INDEX {name}"
            await connection.execute(dropped)
            statements.append(definition)
    return statements


async def _back(connection: asyncpg.Connection, days: int) -> object:
    return await connection.fetchval("SELECT current_date - $1::int", days - 1)


async def measure(gateway: Gateway, key: str) -> None:
    """Load each page and print what it took."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        up = psutil.Process(gateway.process.pid)
        admin, operator = await signed_in(gateway, session, key), await signed_in(gateway, session)
        idle = await _idle(up)
        print(f"CPU while nothing is asked, ms a second: {', '.join(f'{n} {s * 1_000:.0f}' for n, s in idle.items())}")
        print(
            "| page | as | first, ms | median, ms | CPU API, ms | CPU PostgreSQL, ms | KiB | KiB by gzip | load |\n"
            "|---|---|---|---|---|---|---|---|---|"
        )
        for path in PAGES:
            for name, browser in (("operator", operator), ("admin", admin)):
                asked = path if path != "REQUEST" else await _a_request(browser)
                print(await _row(asked, name, browser, up, idle), flush=True)
        client = Client(session, gateway.address, key)
        for path in API:

            async def ask(path: str = path) -> None:
                assert (await client.call("GET", path))[0] == 200

            print(f"| {path} | API | {await _taken(ask, up, idle)} | | | {psutil.getloadavg()[0]:.0f} |", flush=True)


async def _a_request(browser: Browser) -> str:
    found = re.search(r"/requests/req_\w+", (await browser.get("/requests"))[1])
    assert found is not None, "the list has requests"
    return found[0]


async def _idle(up: psutil.Process) -> dict[str, float]:
    """Return the CPU seconds a second that each group of processes takes by itself."""
    before = cpu_seconds(up)
    await asyncio.sleep(IDLE_S)
    after = cpu_seconds(up)
    return {name: (after[name] - before[name]) / IDLE_S for name in ("api", "postgresql")}


async def _row(path: str, name: str, browser: Browser, up: psutil.Process, idle: Mapping[str, float]) -> str:
    texts: list[str] = []

    async def load() -> None:
        status, text, _ = await browser.get(path)
        assert status in (200, 404), text
        texts.append(text)

    taken, plain = await _taken(load, up, idle), texts[-1].encode()
    sizes = " | ".join(f"{len(sent) / 1024:.1f}" for sent in (plain, gzip.compress(plain, compresslevel=GZIP_LEVEL)))
    return f"| {path} | {name} | {taken} | {sizes} | {psutil.getloadavg()[0]:.0f} |"


async def _taken(load: Callable[[], Awaitable[None]], up: psutil.Process, idle: Mapping[str, float]) -> str:
    """Load several times: the first, the median of the others, and the CPU of the API and of PostgreSQL for each."""
    took: list[float] = []
    before, began_s = cpu_seconds(up), time.perf_counter()
    for _ in range(LOADS):
        load_began_s = time.perf_counter()
        await load()
        took.append((time.perf_counter() - load_began_s) * 1_000)
        if len(took) == 1:
            before, began_s = cpu_seconds(up), time.perf_counter()
    used, lasted_s = cpu_seconds(up), time.perf_counter() - began_s
    api, database = (
        (used[name] - before[name] - idle[name] * lasted_s) / (LOADS - 1) * 1_000 for name in ("api", "postgresql")
    )
    return f"{took[0]:.0f} | {statistics.median(took[1:]):.0f} | {api:.0f} | {database:.0f}"


def main() -> None:
    """Fill, load and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--usage-rows", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=350_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        gateway = Gateway.start(Path(directory) / "data")
        try:
            url = settings_for_administration(gateway.data_dir).owner_url
            assert url is not None, "of a running gateway"
            assert gateway.first_key is not None, "of a new gateway"
            project = asyncio.run(_project(url))
            asyncio.run(fill(url, project, usage_rows=arguments.usage_rows, requests=arguments.requests))
            asyncio.run(measure(gateway, gateway.first_key))
        finally:
            gateway.stop()


async def _project(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT project_id FROM projects LIMIT 1"))
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
