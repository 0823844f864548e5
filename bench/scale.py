"""Measures what must stay flat as work grows, and draws it: a plot and the figures of each curve, in `docs/images`.

- `admission`: CPU of an admission while so many requests of one key are in flight.
- `start`, `miss`, `appends`, `fold`, `rebuild`, `verify`: a gateway whose log grows (`bench/grown_log.py`).
- `memory`: of the API process and the worker, after so many requests.
- `streams`: their memory while so many streams are held open that send an event a second.

Each plot has its aim. Other work on the machine makes figures by the clock worse, and leaves those of CPU as they are.

    uv run python -m bench.scale [--only NAME …] [--in-flight N …] [--events N …] [--requests N …] [--streams N …]
                                 [--folder DIRECTORY]
"""

import argparse
import asyncio
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
import uvloop

from api.accounts import Accounts
from bench import admission as admissions
from bench import appends, grown_log, load, slow_clients
from bench.curves import Curve, curve, load_now, same_as_first, table, write
from bench.grown_log import MILLION, ROOT, issue_key, port_of, stub_provider
from bench.systems import process_memory_mb
from bench.whole_path import PROMPT, body
from infra.admission import Admission
from infra.database import HeldConnection, migrate, open_pool
from infra.embedded_postgres import OWNER, ROLES, EmbeddedPostgres
from infra.event_log import EventLog
from infra.vault import Vault
from tests.support.gateway import Gateway

FOLDER = ROOT / "docs" / "images"
IN_FLIGHT = (10, 1_000, 5_000, 20_000)
REQUESTS = (200, 50_000, 200_000)
STREAMS = (100, 500, 1_000)
ADMISSIONS = 6_000
ADMISSIONS_AT_A_TIME = 64
MISSES = 1_500
CONNECTIONS = 64
REQUESTS_PER_RUN = 10_000
"""So that the latencies of all are not kept at once."""
QUIET_S = 3.0
HOLD_S = 15.0
AIM_MEMORY_MB = 150.0
STREAM_WINDOW_MB = 0.25
"""The most that a stream may take in a process: a window of parts that its reader has not taken."""
Arguments = argparse.Namespace


def admission(_home: Path, arguments: Arguments, _wanted: Collection[str]) -> Iterator[dict[str, Curve]]:
    """Measure an admission while requests of its key are in flight already."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory) / "pg")
        server.start()
        try:
            migrate(server.url_as(OWNER), ROLES)
            assert server.process is not None, "the server was started"
            process = psutil.Process(server.process.pid)
            figures = uvloop.run(admissions_beside(server, process, arguments.in_flight))
        finally:
            server.stop()
    lines = {
        "API and PostgreSQL": [own + its for own, its, _ in figures],
        "PostgreSQL": [its for _, its, _ in figures],
    }
    title, size = f"Admission, {ADMISSIONS_AT_A_TIME} at a time", "requests in flight of one key"
    aim = f"as with {arguments.in_flight[0]:,}"
    loads = [load for _, _, load in figures]
    yield {"admission": curve(title, size, "CPU µs", arguments.in_flight, lines, aim, same_as_first(lines), loads)}


async def admissions_beside(
    postgres: EmbeddedPostgres, server: psutil.Process, sizes: list[int]
) -> list[tuple[float, float, float]]:
    """Return the CPU microseconds of an admission, of this process and of PostgreSQL, for each number in flight, and
    the load of the machine.
    """
    url = postgres.url_as(ROLES["api"])
    owner = await open_pool(postgres.url_as(OWNER), name="bench", size=2)
    pool = await open_pool(url, name="bench", size=2)
    log = EventLog(pool, HeldConnection(url, name="bench"))
    accounts = Accounts(pool, log, Vault(os.urandom(32)))
    project = (await accounts.create_project("bench", {})).project_id
    key = (await accounts.issue_key(project, admissions.SETTINGS)).key_id
    admitting = Admission(HeldConnection(url, name="bench"), pool)

    async def admit(number: int) -> None:
        await admissions.run(admitting, owner, project, [key], number, ADMISSIONS_AT_A_TIME)

    figures, opened = [], 0
    for size in sizes:
        await admissions.open_attempts(owner, project, key, size - opened)
        opened = size
        await admit(ADMISSIONS // 5)
        its, own = appends.cpu_s(server), time.process_time()
        await admit(ADMISSIONS)
        spent = (time.process_time() - own, appends.cpu_s(server) - its)
        figures.append((spent[0] / ADMISSIONS * MILLION, spent[1] / ADMISSIONS * MILLION, load_now()))
    await admitting.close()
    await log.close()
    await pool.close()
    await owner.close()
    return figures


def of_the_log(home: Path, arguments: Arguments, wanted: Collection[str]) -> Iterator[dict[str, Curve]]:
    """Measure a gateway whose log grows."""
    yield from grown_log.measure(home, arguments.events, arguments.misses, wanted)


def memory(home: Path, arguments: Arguments, _wanted: Collection[str]) -> Iterator[dict[str, Curve]]:
    """Measure the memory of the processes after so many misses. What they share is divided among them.

    Yields the curve after each number, as far as it is.
    """
    lines: dict[str, list[float]] = {"API": [], "worker": [], "projector": []}
    fresh, loads = itertools.count(), []

    def bodies(_number: int) -> bytes:
        return body(f"{PROMPT} {next(fresh)}")

    with stub_provider() as env:
        gateway = Gateway.start(home / "data", env=env)
        try:
            key, asked = asyncio.run(issue_key(gateway, gateway.first_key)), 0
            for size in arguments.requests:
                while asked < size:
                    number = min(REQUESTS_PER_RUN, size - asked)
                    asking = load.run(port_of(gateway), key, bodies, requests=number, connections=CONNECTIONS)
                    assert uvloop.run(asking).failures == 0
                    asked += number
                time.sleep(QUIET_S)
                for line, command in zip(lines.values(), ("api", "worker", "projector"), strict=True):
                    line.append(sum(process_memory_mb(process) for process in gateway.processes(command)))
                loads.append(load_now())
                print(f"{size:,} requests, load {loads[-1]:.0f}: {lines}", flush=True)
                sizes = arguments.requests[: len(lines["API"])]
                aim, aims = f"{AIM_MEMORY_MB:.0f} MB each, flat", [AIM_MEMORY_MB] * len(sizes)
                yield {"memory": curve("Memory", "requests so far", "MB", sizes, lines, aim, aims, loads)}
        finally:
            gateway.stop()


def streams(home: Path, arguments: Arguments, _wanted: Collection[str]) -> Iterator[dict[str, Curve]]:
    """Measure the memory of the processes while streams are held open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    row = slow_clients.rows(0, max(arguments.streams))[0]
    with stub_provider("--pace-ms", str(row.pace_ms)) as env:
        gateway = Gateway.start(home / "data", env=env | dict(row.env))
        try:
            key = asyncio.run(issue_key(gateway, gateway.first_key))
            before, held = uvloop.run(held_open(gateway, key, row, arguments.streams))
        finally:
            gateway.stop()
    lines = {"API": [one["api"] for one in held], "worker": [one["worker"] for one in held]}
    loads = [one["load"] for one in held]
    aims = [before["worker"] + STREAM_WINDOW_MB * size for size in arguments.streams]
    aim = f"the worker before them and {STREAM_WINDOW_MB * 1_000:.0f} KB each"
    size = "streams held open, an event a second each"
    yield {"streams": curve("Idle streams, memory", size, "MB", arguments.streams, lines, aim, aims, loads)}


async def held_open(
    gateway: Gateway, key: str, row: slow_clients.Row, sizes: list[int]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Open more and more streams. Return the megabytes of API and worker before them, and their peaks at each size."""
    watched = slow_clients.Memory(psutil.Process(gateway.process.pid))
    before, peaks = dict(watched.before), []
    clients: list[slow_clients.SlowClient] = []
    watching = asyncio.create_task(watched.watch())
    going = asyncio.create_task(slow_clients.go_on(clients, time.monotonic() + len(sizes) * (HOLD_S + 120)))
    for size in sizes:
        more = [slow_clients.SlowClient(row, number) for number in range(len(clients), size)]
        await slow_clients.connect_all(more, port_of(gateway), key)
        clients.extend(more)
        await asyncio.sleep(HOLD_S)
        outcomes = {client.outcome for client in clients}
        assert outcomes == {"200"}, outcomes
        peaks.append(watched.peak | {"load": load_now()})
        print(f"{size:,} streams: {peaks[-1]}", flush=True)
    for task in (watching, going):
        task.cancel()
    await asyncio.gather(watching, going, return_exceptions=True)
    for client in clients:
        client.close()
    return before, peaks


Part = Callable[[Path, Arguments, Collection[str]], Iterator[dict[str, Curve]]]
PARTS: dict[tuple[str, ...], Part] = {
    ("admission",): admission,
    grown_log.CURVES: of_the_log,
    ("memory",): memory,
    ("streams",): streams,
}
"""What is measured together, by the names of its curves."""


def main() -> None:
    """Measure, write, and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for part in PARTS for name in part]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--in-flight", type=int, nargs="+", default=list(IN_FLIGHT))
    parser.add_argument("--events", type=int, nargs="+", default=list(grown_log.SIZES))
    parser.add_argument("--misses", type=int, default=MISSES, help=f"a round (default {MISSES:,})")
    parser.add_argument("--requests", type=int, nargs="+", default=list(REQUESTS))
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for the plots (default docs/images)")
    arguments = parser.parse_args()
    for part, measure in PARTS.items():
        wanted = [name for name in part if name in arguments.only]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
            measured: dict[str, Curve] = {}
            for measured in measure(Path(directory), arguments, wanted):
                write(arguments.folder, measured)
        for name, one in measured.items():
            print(f"\n{name}: {one.title}, on {one.cores} cores\n\n{table(one)}\n", flush=True)


if __name__ == "__main__":
    main()
