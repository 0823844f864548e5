"""Measures admission alone: latency, and CPU microseconds per request of the API's side and of PostgreSQL.

Every request is admitted and holds money in two windows of a key with every kind of limit. Old rows of `inflight` are
deleted during a run, as the projector would delete them. Each row of the table has a fixed number of requests. With
`--open`, so many attempts of the key are in flight already, and stay.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psutil
import uvloop

from api.accounts import Accounts
from domain.events import KeySettings
from domain.money import NanoUsd
from domain.request_identity import RequestIdentity
from infra.admission import Admission, AdmissionRequest, Attempt
from infra.database import HeldConnection, migrate, open_pool
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres
from infra.event_log import EventLog
from infra.ids import new_id
from infra.vault import Vault

CONNECTIONS = (1, 16, 64, 256)
KEYS = (1, 1_000)
IN_FLIGHT = 64
"""After so many requests, older rows in flight are deleted, as the projector would delete them."""
SETTINGS = KeySettings(
    name="bench",
    daily_budget_nano_usd=NanoUsd(10**18),
    monthly_budget_nano_usd=NanoUsd(10**18),
    rate_limit=10**9,
    token_limit=10**9,
    concurrency_limit=10**6,
)


def make_request(project: str, key: str) -> AdmissionRequest:
    """Return the admission request of a chat that holds money."""
    now = datetime.now(UTC)
    return AdmissionRequest(
        min_created_at=now - timedelta(hours=1),
        hold_nano_usd=NanoUsd(9_000_000),
        min_hold_nano_usd=NanoUsd(9_000_000),
        token_bound=200,
        attempt=Attempt(
            identity=RequestIdentity(
                request_id=new_id("req"),
                project_id=project,
                key_id=key,
                operation="chat",
                model="gpt-4o-mini",
                provider="openai",
                upstream_model="gpt-4o-mini",
            ),
            cache_key=os.urandom(32),
            reply_to="reply.bench.1",
            admitted_at=now,
            deadline=now + timedelta(minutes=10),
            uses_installation_credential=True,
        ),
    )


async def measure(
    postgres: EmbeddedPostgres, server: psutil.Process, requests: int, open_counts: Sequence[int]
) -> None:
    """Measure and print a row for each number of keys, open attempts and connections, as the API processes' role."""
    database_url = postgres.url_as(ROLES["api"])
    owner = await open_pool(postgres.url_as(OWNER), name="bench", size=2)
    pool = await open_pool(database_url, name="bench", size=2)
    log = EventLog(pool, HeldConnection(database_url, name="bench"))
    accounts = Accounts(pool, log, Vault(os.urandom(32)))
    project = (await accounts.create_project("bench", {})).project_id
    keys = [(await accounts.issue_key(project, SETTINGS)).key_id for _ in range(max(KEYS))]
    admission = Admission(HeldConnection(database_url, name="bench"), pool)
    print("| keys | open | at a time | asks/s | p50 / p99 ms | CPU µs per ask (api + postgresql) |")
    print("|---|---|---|---|---|---|")
    for number_of_keys in KEYS if tuple(open_counts) == (0,) else (1,):
        opened = 0
        for open_now in sorted(open_counts):
            await open_attempts(owner, project, keys[0], open_now - opened)
            opened = open_now
            for connections in CONNECTIONS:
                await run(admission, owner, project, keys[:number_of_keys], requests // 10, connections)
                before, own = _cpu(server), time.process_time()
                started = time.perf_counter()
                latencies = await run(admission, owner, project, keys[:number_of_keys], requests, connections)
                seconds = time.perf_counter() - started
                api_us = (time.process_time() - own) / requests * 1e6
                server_us = (_cpu(server) - before) / requests * 1e6
                latencies.sort()
                print(
                    f"| {number_of_keys:,} | {open_now:,} | {connections} | {requests / seconds:,.0f} | "
                    f"{latencies[requests // 2]:.1f} / {latencies[requests * 99 // 100]:.1f} | "
                    f"**{api_us + server_us:,.0f}** ({api_us:.0f} + {server_us:.0f}) |",
                    flush=True,
                )
    await admission.close()
    await log.close()
    await pool.close()
    await owner.close()


async def run(
    admission: Admission, pool: asyncpg.Pool, project: str, keys: list[str], requests: int, connections: int
) -> list[float]:
    """Admit `requests` requests, `connections` at a time. Return the latencies in milliseconds."""
    numbers = iter(range(requests))
    latencies: list[float] = []
    admitted: list[str] = []

    async def caller() -> None:
        for number in numbers:
            request = make_request(project, keys[number % len(keys)])
            started = time.perf_counter()
            decision = await admission.admit(request)
            latencies.append((time.perf_counter() - started) * 1000)
            assert decision.outcome == "admitted", decision
            admitted.append(request.attempt.identity.request_id)
            if number % IN_FLIGHT == IN_FLIGHT - 1:
                ended = admitted[:IN_FLIGHT]
                del admitted[:IN_FLIGHT]
                await pool.execute("DELETE FROM inflight WHERE request_id = ANY ($1)", ended)

    await asyncio.gather(*(caller() for _ in range(connections)))
    return latencies


async def open_attempts(owner: asyncpg.Pool, project: str, key: str, attempts: int) -> None:
    """Add attempts in flight that no run deletes."""
    await owner.execute(
        "INSERT INTO inflight (request_id, attempt, project_id, key_id, operation, model, provider, upstream_model, "
        "hold_nano_usd, token_bound, budget_day, reply_to, admitted_at, deadline) "
        "SELECT gen_random_uuid(), 1, $1, $2, 'chat', 'm', 'p', 'u', 9000000, 200, (now() AT TIME ZONE 'UTC')::date, "
        "'reply', now() + interval '1 day', now() + interval '1 day' FROM generate_series(1, $3)",
        project,
        key,
        attempts,
    )
    await owner.execute("ANALYZE inflight")


def _cpu(server: psutil.Process) -> float:
    return sum(times.user + times.system for process in [server, *server.children()] for times in [process.cpu_times()])


def main() -> None:
    """Start a PostgreSQL server and measure on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000, help="per row (default 5000)")
    parser.add_argument("--open", type=int, nargs="+", default=[0], help="attempts in flight already, of one key")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory) / "pg")
        server.start()
        try:
            migrate(server.url_as(OWNER), ROLES)
            assert server.process is not None, "the server was started"
            uvloop.run(measure(server, psutil.Process(server.process.pid), arguments.requests, arguments.open))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
