"""Measures a gateway while its log grows: what a miss costs, appends, the live fold, rebuilds, `audit verify`, a start.

The events are those of requests of a few keys, two for each; they are appended by the log's own function, a thousand
commits a call, past the API. The projector stands still (SIGSTOP) while the log is filled, and its live fold is what it
does when it goes on.
"""

import asyncio
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil
import uvloop
from msgspec import Struct, structs

from bench import appends, folds, load
from bench.curves import Curve, curve, load_now
from bench.whole_path import GROUPS, LIMITS, PROMPT, body, cpu_seconds
from cli.processes import Running, find_running
from infra.database import Connection, HeldConnection, Pool, open_pool
from infra.embedded_postgres import ROLES
from infra.event_log import EventLog
from projections.rebuild import rebuild
from projections.registry import EVERY
from tests.support.gateway import Client, Gateway
from tests.support.services import as_role

ROOT = Path(__file__).parent.parent
SIZES = (0, 100_000, 500_000, 1_000_000)
EVENTS_PER_COMMIT = 2
COMMITS_PER_CALL = 1_000
CONNECTIONS = 16
ROUNDS = 3
APPENDED_COMMITS = 10_000
APPENDS_AT_A_TIME = 256
REBUILT = ("requests", "usage")
"""The projection with a row for each request, and one with sums."""
FOLLOW_TIMEOUT_S = 900.0
FOLLOW_POLL_S = 0.1
STATEMENT_TIMEOUT_S = 600.0
QUIET_S = 2.0
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
AIM_START_S, AIM_VERIFY_S, AIM_APPENDS, AIM_FOLD, AIM_REBUILD = 3.0, 5.0, 22_000.0, 20_000.0, 60_000.0
MILLION = 1_000_000
CURVES = ("start", "miss", "appends", "fold", "rebuild", "verify")
CLOCK, CPU = "by the clock", "for a second of CPU, PostgreSQL's included"


class At(Struct, kw_only=True):
    """What was measured at one size of the log. CPU in microseconds of one core."""

    start_s: float = 0.0
    start_cpu_s: float = 0.0
    load: float = 0.0
    miss_us: dict[str, float] = {}
    miss_empty_us: dict[str, float] = {}
    """The same of a gateway with an empty log, measured in turns."""
    appends: "Rate | None" = None
    fold: "Rate | None" = None
    rebuild: "dict[str, Rate]" = {}
    verify_s: float = 0.0
    verify_cpu_s: float = 0.0


class Rate(Struct, frozen=True, kw_only=True):
    """How fast events were worked on."""

    events: int
    seconds: float
    cpu_s: float
    """Of whoever works, and of PostgreSQL."""

    @property
    def per_second(self) -> float:
        """Return the events a second, by the clock."""
        return self.events / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Return the events for each second of processor time, which other work on the machine does not change."""
        return self.events / self.cpu_s


@contextmanager
def stub_provider(*options: str) -> Iterator[dict[str, str]]:
    """Run the stub provider. Yield the environment of a gateway that calls it, and caches its bytecode."""
    argv = [sys.executable, "-m", "bench.stub_provider", *options]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield {
                "OPENAI_API_KEY": "sk-bench",
                "OPENAI_BASE_URL": f"{address}/v1",
                "ANTHROPIC_API_KEY": "sk-bench",
                "ANTHROPIC_BASE_URL": address,
                "PYTHONDONTWRITEBYTECODE": "",
            }
        finally:
            process.terminate()


async def issue_key(gateway: Gateway, admin_key: str | None) -> str:
    """Return a key with budgets and limits that nothing reaches."""
    async with aiohttp.ClientSession() as session:
        settings = {"name": "bench", **LIMITS}
        status, issued, _ = await Client(session, gateway.address, admin_key).call(
            "POST", "/projects/api-keys", settings
        )
        assert status == 201, issued
        return str(issued["data"]["apiKey"])


def port_of(gateway: Gateway) -> int:
    """Return the gateway's port."""
    return int(gateway.address.rpartition(":")[2])


def measure(home: Path, sizes: list[int], requests: int, wanted: Collection[str]) -> Iterator[dict[str, Curve]]:
    """Measure the wanted curves of `CURVES` at growing sizes of the log, on a gateway below `home`.

    Yields them after each size, as far as they are.
    """
    measured: dict[int, At] = {}
    with ExitStack() as running:
        env = running.enter_context(stub_provider())
        gateway = Gateway.start(home / "data", env=env)
        running.callback(lambda: gateway.stop())  # noqa: PLW0108 - the one that then runs, after restarts
        admin_key, key, empty = gateway.first_key, "", None
        if "miss" in wanted:
            empty = Gateway.start(home / "empty", env=env)
            running.callback(empty.stop)
        for size in sizes:
            at = measured[size] = At()
            asyncio.run(grow(gateway, size, at))
            if "start" in wanted:
                gateway.stop()
                gateway = started(home, env, at)
            key = key or asyncio.run(issue_key(gateway, admin_key))
            if empty is not None:
                other = asyncio.run(issue_key(empty, empty.first_key))
                at.miss_us, at.miss_empty_us = misses([(gateway, key), (empty, other)], requests, size)
            asyncio.run(work_on(gateway, at, wanted))
            if "verify" in wanted:
                verify(gateway, at)
            at.load = load_now()
            print(f"{size:,} events: {structs.asdict(at)}", flush=True)
            curves = {name: made(measured) for name, made in _CURVES.items() if name in wanted}
            yield {name: one for name, one in curves.items() if one.sizes}


def started(home: Path, env: Mapping[str, str], at: At) -> Gateway:
    """Start a gateway on data that is there, and note how long it takes until it is ready."""
    began_s = time.perf_counter()
    gateway = Gateway.start(home / "data", env=env)
    at.start_s = time.perf_counter() - began_s
    times = [process.cpu_times() for process in gateway.tree()]
    at.start_cpu_s = sum(one.user + one.system for one in times)
    return gateway


def misses(gateways: Sequence[tuple[Gateway, str]], requests: int, size: int) -> list[dict[str, float]]:
    """Return the CPU microseconds of a miss by process, for each gateway and key: the median of rounds in turns."""
    rounds: list[list[dict[str, float]]] = [[] for _ in gateways]
    for number in range(ROUNDS + 1):
        for (gateway, key), its_rounds in zip(gateways, rounds, strict=True):
            spent = round_of_misses(gateway, key, requests, f"{size} {number}")
            if number:  # the first one warms up
                its_rounds.append(spent)
    return [sorted(its_rounds, key=lambda one: sum(one.values()))[ROUNDS // 2] for its_rounds in rounds]


def round_of_misses(gateway: Gateway, key: str, requests: int, words: str) -> dict[str, float]:
    """Return the CPU microseconds of a miss by process, over so many requests."""
    process, fresh = psutil.Process(gateway.process.pid), itertools.count()

    def bodies(_number: int) -> bytes:
        return body(f"{PROMPT} {words} {next(fresh)}")

    before = cpu_seconds(process)
    asking = load.run(port_of(gateway), key, bodies, requests=requests, connections=CONNECTIONS)
    assert uvloop.run(asking).failures == 0
    time.sleep(QUIET_S)
    after = cpu_seconds(process)
    return {group: (after[group] - before[group]) / requests * MILLION for group in GROUPS}


@asynccontextmanager
async def opened(gateway: Gateway) -> AsyncIterator[tuple[Pool, EventLog]]:
    """Open the gateway's database as its owner, and its log as its workers do."""
    running = find_running(gateway.data_dir)
    assert isinstance(running, Running), "the gateway runs"
    assert running.owner_url is not None, "its PostgreSQL is its own"
    worker_url = as_role(running.owner_url, ROLES["worker"])
    pool = await open_pool(running.owner_url, name="bench", size=4, command_timeout_s=STATEMENT_TIMEOUT_S)
    log = EventLog(pool, HeldConnection(worker_url, name="bench"))
    try:
        yield pool, log
    finally:
        await log.close()
        await pool.close()


async def grow(gateway: Gateway, size: int, at: At) -> None:
    """Fill the log up to a size, and note how fast the projector folds what is new."""
    server = _postgresql(gateway)
    async with opened(gateway) as (pool, log):
        await follow(pool, log)
        (projector,) = gateway.processes("projector")
        projector.suspend()
        try:
            filled = await fill(log, size)
        finally:
            projector.resume()
        if filled:
            spent = _cpu_of(server, projector)
            seconds = await follow(pool, log)
            at.fold = Rate(events=filled, seconds=seconds, cpu_s=_cpu_of(server, projector) - spent)
        await pool.execute("VACUUM ANALYZE events")


async def work_on(gateway: Gateway, at: At, wanted: Collection[str]) -> None:
    """Measure appends and rebuilds."""
    server = _postgresql(gateway)
    async with opened(gateway) as (pool, log):
        await follow(pool, log)
        if "appends" in wanted:
            at.appends = await appended(log, server)
            await follow(pool, log)
        if "rebuild" in wanted:
            for name in REBUILT:
                at.rebuild[name] = await rebuilt(pool, log, name, server)


async def fill(log: EventLog, size: int) -> int:
    """Append the events of requests until the log has `size`. Return how many those were."""
    head = await log.head()
    missing = max(0, size - head) // EVENTS_PER_COMMIT
    for first in range(0, missing, COMMITS_PER_CALL):
        numbers = range(head + first, head + min(missing, first + COMMITS_PER_CALL))
        await log.append_with([folds.commit(n, FIRST + timedelta(seconds=n)) for n in numbers], _nothing)
    return missing * EVENTS_PER_COMMIT


async def _nothing(_connection: Connection) -> None:
    """Do nothing more in the transaction of an append."""


async def follow(pool: Pool, log: EventLog) -> float:
    """Wait until every projection has folded the log. Return the seconds that it took."""
    began_s = time.perf_counter()
    head = await log.head()
    async with asyncio.timeout(FOLLOW_TIMEOUT_S):
        while await pool.fetchval("SELECT coalesce(min(position), 0) FROM projection_checkpoints") < head:  # noqa: ASYNC110 - another process
            await asyncio.sleep(FOLLOW_POLL_S)
    return time.perf_counter() - began_s


async def appended(log: EventLog, server: psutil.Process) -> Rate:
    """Append commits of two events, many at a time, through the batches that a worker uses."""
    await appends.run([log], APPENDED_COMMITS // 10, APPENDS_AT_A_TIME)
    return await _rate(
        APPENDED_COMMITS * EVENTS_PER_COMMIT,
        server,
        lambda: appends.run([log], APPENDED_COMMITS, APPENDS_AT_A_TIME),
    )


async def rebuilt(pool: Pool, log: EventLog, name: str, server: psutil.Process) -> Rate:
    """Rebuild a projection, as `gateway projections rebuild` does."""
    return await _rate(await log.head(), server, lambda: rebuild(pool, log, EVERY[name]))


async def _rate(events: int, server: psutil.Process, work: Callable[[], Awaitable[object]]) -> Rate:
    spent, began_s = time.process_time() + appends.cpu_s(server), time.perf_counter()
    await work()
    seconds = time.perf_counter() - began_s
    return Rate(events=events, seconds=seconds, cpu_s=time.process_time() + appends.cpu_s(server) - spent)


def verify(gateway: Gateway, at: At) -> None:
    """Run `gateway audit verify`, and note what it takes, with its start."""
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = gateway.run("audit", "verify")
    at.verify_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    at.verify_cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stdout + done.stderr


def _postgresql(gateway: Gateway) -> psutil.Process:
    """Return PostgreSQL's first process: the others are its children."""
    return next(child for child in psutil.Process(gateway.process.pid).children() if child.name() == "postgres")


def _cpu_of(server: psutil.Process, worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return appends.cpu_s(server) + float(times.user + times.system)


def _start(measured: Mapping[int, At]) -> Curve:
    lines = {
        CLOCK: [at.start_s for at in measured.values()],
        "CPU of all its processes": [at.start_cpu_s for at in measured.values()],
    }
    aim, aims = f"{AIM_START_S:.0f} s", [AIM_START_S] * len(measured)
    return curve(
        "From `gateway up` to ready, data there", EVENTS, "s", list(measured), lines, aim, aims, _loads(measured)
    )


def _miss(measured: Mapping[int, At]) -> Curve:
    lines = {
        "all processes": [sum(at.miss_us.values()) for at in measured.values()],
        "PostgreSQL": [at.miss_us["postgresql"] for at in measured.values()],
    }
    title, aim = f"A miss, {CONNECTIONS} connections", "a gateway with an empty log, measured in turns"
    aims = [sum(at.miss_empty_us.values()) for at in measured.values()]
    return curve(title, EVENTS, "CPU µs", list(measured), lines, aim, aims, _loads(measured))


def _appends(measured: Mapping[int, At]) -> Curve:
    return _rates("Appends", measured, lambda at: at.appends, AIM_APPENDS)


def _fold(measured: Mapping[int, At]) -> Curve:
    return _rates("Live fold, all projections", measured, lambda at: at.fold, AIM_FOLD)


def _rebuild(measured: Mapping[int, At]) -> Curve:
    filled = {size: at.rebuild for size, at in measured.items() if at.rebuild}
    lines = {
        f"`{name}`, {how}": [figure(rates[name]) for rates in filled.values()]
        for name in REBUILT
        for how, figure in HOW.items()
    }
    aims = [AIM_REBUILD] * len(filled)
    title, aim, loads = "Rebuild of a projection", f"{AIM_REBUILD:,.0f}", [measured[size].load for size in filled]
    return curve(title, EVENTS, PER_SECOND, list(filled), lines, aim, aims, loads)


def _verify(measured: Mapping[int, At]) -> Curve:
    lines = {
        CLOCK: [at.verify_s for at in measured.values()],
        "its CPU, without PostgreSQL's": [at.verify_cpu_s for at in measured.values()],
    }
    aims = [AIM_VERIFY_S * size / MILLION for size in measured]
    aim = f"{AIM_VERIFY_S:.0f} s for a million"
    return curve("`gateway audit verify`", EVENTS, "s", list(measured), lines, aim, aims, _loads(measured))


def _rates(title: str, measured: Mapping[int, At], rate_of: Callable[[At], Rate | None], aim: float) -> Curve:
    rates = {size: rate for size, at in measured.items() if (rate := rate_of(at)) is not None}
    lines = {how: [figure(rate) for rate in rates.values()] for how, figure in HOW.items()}
    loads = [measured[size].load for size in rates]
    return curve(title, EVENTS, PER_SECOND, list(rates), lines, f"{aim:,.0f}", [aim] * len(rates), loads)


def _loads(measured: Mapping[int, At]) -> list[float]:
    return [at.load for at in measured.values()]


EVENTS, PER_SECOND = "events in the log", "events a second"
HOW: dict[str, Callable[[Rate], float]] = {
    CPU: lambda rate: rate.per_cpu_second,
    CLOCK: lambda rate: rate.per_second,
}
_CURVES: dict[str, Callable[[Mapping[int, At]], Curve]] = {
    "start": _start,
    "miss": _miss,
    "appends": _appends,
    "fold": _fold,
    "rebuild": _rebuild,
    "verify": _verify,
}
