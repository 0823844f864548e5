"""Soaks a gateway: a constant load for half an hour, a worker killed every minute and the projector every five.

Measures first what the gateway can do on this machine, then asks 70 % of it: several keys of two projects with budgets,
on every surface, some streams, some answers from the cache. One worker is never killed, so that its memory is seen.

What has to be true, on the way and at the end: every request is answered with 200 within its deadline (but for
streams that a killed worker was sending, which end with an error event); `gateway audit verify` and `balance` agree,
every accepted request has one end, the log has the provider's bill, attempt by attempt; memory is flat; nothing is
left in flight, held, or in the queue. Exits with code 1 if something is not.

    uv run python -m bench.soak [--minutes 30] [--share 0.7] [--rate PER_S] [--worker-every-s 60]
                                [--projector-every-s 300]
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import uvloop
from msgspec import Struct

from bench.soak_load import SoakLoad
from cli.processes import find_running
from infra.broker import Broker
from infra.jobs import STREAM
from tests.provider.running import RunningProvider
from tests.support.crowd import billed, booked, disagreements
from tests.support.gateway import COMMAND, Client, Gateway, clean_environment, environment_for, operator_of
from tests.support.invariants import wrong_requests
from tests.support.streams import Streamer
from tests.support.waiting import eventually, eventually_so

MINUTES, SHARE = 30.0, 0.7
WORKER_EVERY_S, PROJECTOR_EVERY_S = 60.0, 300.0
WORKERS = 2
PROJECTS, KEYS_PER_PROJECT = 2, 2
BUDGET_USD = 1_000
DEADLINE_S = 120
PROBING_S, PROBING_CALLERS = 20.0, 64
CACHE_BYTES = 2 * 1024 * 1024
"""Of an API process's memory for cached answers: full before the warm-up ends. With the default it fills, and its
process grows, for longer than a soak lasts.
"""
SAMPLE_S = 2.0
AUDIT_EVERY_S = 300.0
BACK_WITHIN_S = 180.0
SETTLE_S = 120.0
COMMAND_TIMEOUT_S = 600
LAST_KILL_BEFORE_END_S = 10.0
WARM_UP_PART = 0.2
MAX_GROWTH, MAX_GROWTH_SHORT = 0.10, 1.0
"""What a process may grow by after its warm-up, as a part of its memory, by the line through its samples: in a soak of
`LONG_S` or longer, and in a shorter one, which says little.
"""
LONG_S = 480.0
MB = 1_000_000
NANO = 10**9
LASTING = ("api", "worker", "nats-server", "up")
"""The processes that are never killed, whose memory has to be flat: the first worker, and the supervisor."""

_NOTHING_HELD = """
    SELECT coalesce(sum(abs(held) + abs(requests)), 0) = 0 FROM (
        SELECT sum(held_nano_usd) AS held, sum(requests) AS requests FROM held_amounts GROUP BY scope, scope_id
    ) AS sums
"""


class Sample(Struct, frozen=True, kw_only=True):
    """The gateway at one moment. Memory is resident, in megabytes."""

    at_s: float
    memory_mb: dict[str, float]
    in_flight_rows: int


class Plan(Struct, frozen=True, kw_only=True):
    """How long, how much, and what is killed how often."""

    seconds: float
    per_second: float | None
    """None: `share` of what the gateway can do."""
    share: float = SHARE
    worker_every_s: float = WORKER_EVERY_S
    projector_every_s: float = PROJECTOR_EVERY_S
    env: dict[str, str] = {}

    def kills(self) -> list[tuple[float, str]]:
        """Return what is killed when, in order."""
        kills = []
        for command, every_s in (("worker", self.worker_every_s), ("projector", self.projector_every_s)):
            last_s = self.seconds - LAST_KILL_BEFORE_END_S
            kills.extend((number * every_s, command) for number in range(1, int(last_s // every_s) + 1))
        return sorted(kills)


class Found(Struct, kw_only=True):
    """What a soak has shown."""

    per_second: float
    load: SoakLoad
    killed_at_s: dict[str, list[float]]
    """Moments of the monotonic clock, by what was killed."""
    samples: list[Sample]
    billed_usd: Decimal = Decimal(0)
    spent_usd: Decimal = Decimal(0)
    assumed_usd: Decimal = Decimal(0)
    wrong: list[Any]
    """What is not as it has to be."""


class Soak:
    """A gateway under load, whose processes are killed."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession, provider: RunningProvider, plan: Plan) -> None:
        self._gateway, self._session, self._provider, self._plan = gateway, session, provider, plan
        (self._first_worker, *_) = sorted(gateway.processes("worker"), key=lambda one: one.create_time())
        self._admins: list[Client] = []

    async def run(self) -> Found:
        """Ask, kill, and check."""
        load = SoakLoad([Streamer(self._session, self._gateway.address, key) for key in await self._keys()])
        per_second = self._plan.per_second
        if per_second is None:
            most = await load.as_fast_as_possible(PROBING_CALLERS, PROBING_S)
            per_second = most * self._plan.share
            print(f"the gateway answers {most:.0f}/s here; asking {per_second:.0f}/s", flush=True)
        found = Found(
            per_second=per_second, load=load, killed_at_s={"worker": [], "projector": []}, samples=[], wrong=[]
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.at_a_pace(per_second, stop))
            watching = [
                tasks.create_task(self._sample(found)),
                tasks.create_task(self._audit_on_the_way(found)),
            ]
            began_s = time.monotonic()
            await self._kill(found, began_s)
            await asyncio.sleep(max(0.0, began_s + self._plan.seconds - time.monotonic()))
            stop.set()
            for task in watching:
                task.cancel()
        await self._check(found)
        return found

    async def _keys(self) -> list[str]:
        """Make the projects and their keys, with budgets."""
        keys = []
        budgets = {"dailyBudget": BUDGET_USD, "monthlyBudget": BUDGET_USD}
        for number in range(PROJECTS):
            operator = operator_of(self._gateway, self._session)
            _, project, _ = await operator.call("POST", "/projects", {"name": f"soak {number}"})
            admin = Client(self._session, self._gateway.address, project["data"]["apiKey"])
            await admin.call("PATCH", "/projects/me", budgets)
            self._admins.append(admin)
            for of_project in range(KEYS_PER_PROJECT):
                settings = {"name": f"key {of_project}", "rateLimit": None, "concurrencyLimit": None, **budgets}
                status, issued, _ = await admin.call("POST", "/projects/api-keys", settings)
                assert status == 201, issued
                keys.append(issued["data"]["apiKey"])
        return keys

    async def _kill(self, found: Found, began_s: float) -> None:
        """Kill what the plan says; each time, wait until another process has taken the place of the last one."""
        for at_s, command in self._plan.kills():
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
            await eventually(lambda command=command: self._victims(command), within_s=BACK_WITHIN_S)
            self._victims(command)[0].kill()
            found.killed_at_s[command].append(time.monotonic())
            print(f"{time.monotonic() - began_s:6.0f} s  {command} killed; {dict(found.load.outcomes)}", flush=True)
        await eventually(lambda: self._victims("worker") and self._victims("projector"), within_s=BACK_WITHIN_S)

    def _victims(self, command: str) -> list[psutil.Process]:
        processes = self._gateway.processes(command)
        return [process for process in processes if process.pid != self._first_worker.pid]

    async def _sample(self, found: Found) -> None:
        (api,) = self._gateway.processes("api")
        up = psutil.Process(self._gateway.process.pid)
        nats = next(child for child in up.children() if child.name() == "nats-server")
        lasting = dict(zip(LASTING, (api, self._first_worker, nats, up), strict=True))
        began_s = time.monotonic()
        async with self._database() as database:
            while True:
                memory_mb = {name: process.memory_info().rss / MB for name, process in lasting.items()}
                rows = await database.fetchval("SELECT count(*) FROM inflight")
                found.samples.append(Sample(at_s=time.monotonic() - began_s, memory_mb=memory_mb, in_flight_rows=rows))
                await asyncio.sleep(SAMPLE_S)

    async def _audit_on_the_way(self, found: Found) -> None:
        while True:
            await asyncio.sleep(AUDIT_EVERY_S)
            found.wrong.extend(await self._audit())

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[asyncpg.Connection]:
        running = find_running(self._gateway.data_dir)
        assert running is not None, "the gateway runs"
        connection = await asyncpg.connect(running.owner_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [COMMAND, *arguments, "--data-dir", str(self._gateway.data_dir)]
        return await asyncio.to_thread(
            subprocess.run,
            argv,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    async def _audit(self) -> list[Any]:
        """Return what the gateway's own commands say is wrong."""
        done = [await self._run("audit", command) for command in ("verify", "balance")]
        return [(one.args[1:3], one.stdout, one.stderr) for one in done if one.returncode != 0]

    async def _check(self, found: Found) -> None:
        """Wait until nothing is in flight, and note what is not as it has to be."""
        for what, is_so in (
            ("rows are left in flight", self._nothing_in_flight),
            ("something is still held", self._nothing_held),
            ("messages are left in the queue", self._queue_is_empty),
        ):
            try:
                await eventually_so(is_so, within_s=SETTLE_S)
            except AssertionError:
                found.wrong.append(what)
        found.wrong.extend(await self._audit())
        found.wrong.extend(await asyncio.to_thread(self._wrong_in_the_log, found))
        found.wrong.extend(await self._wrong_sums(found))
        found.wrong.extend(("not answered", one) for one in found.load.failed(found.killed_at_s["worker"]))
        if found.load.slowest_s > DEADLINE_S:
            found.wrong.append(("late", found.load.slowest_s))
        found.wrong.extend(wrong_in(found.samples, found.load.most_under_way))

    async def _nothing_in_flight(self) -> bool:
        async with self._database() as database:
            return bool(await database.fetchval("SELECT count(*) = 0 FROM inflight"))

    async def _nothing_held(self) -> bool:
        async with self._database() as database:
            return bool(await database.fetchval(_NOTHING_HELD))

    async def _queue_is_empty(self) -> bool:
        running = find_running(self._gateway.data_dir)
        assert running is not None, "the gateway runs"
        broker = Broker()
        await broker.connect(running.nats_urls, name="soak")
        try:
            stream = broker.client.jetstream()
            left = (await stream.stream_info(STREAM)).state.messages
            consumers = await stream.consumers_info(STREAM)
            return not left and not any(one.num_ack_pending or one.num_pending for one in consumers)
        finally:
            await broker.close()

    def _wrong_in_the_log(self, found: Found) -> list[Any]:
        """Compare the log with what was accepted and with the provider's bill, request by request."""
        with urllib.request.urlopen(f"{self._provider.address}/_bill", timeout=COMMAND_TIMEOUT_S) as answer:
            bill = json.load(answer)["bill"]
        found.billed_usd = sum((Decimal(row["nano_usd"]) for row in bill), Decimal(0)) / NANO
        with tempfile.TemporaryFile("w+") as log:
            argv = [COMMAND, "replay", "--json", "--data-dir", str(self._gateway.data_dir)]
            subprocess.run(argv, env=clean_environment(), stdout=log, timeout=COMMAND_TIMEOUT_S, check=True)
            log.seek(0)
            wrong: list[Any] = wrong_requests(map(json.loads, log), set(found.load.prompts))
            log.seek(0)
            return wrong + disagreements(booked(log), billed(bill))

    async def _wrong_sums(self, found: Found) -> list[Any]:
        """Compare what the projects have spent with the bill, which has what lost attempts have cost as well."""
        for admin in self._admins:
            _, costs, _ = await admin.call("GET", "/usage/costs?days=2&groupBy=key")
            found.spent_usd += costs["data"]["totalCost"]
            found.assumed_usd += costs["data"]["assumedCost"]
        rounding = Decimal(len(found.load.prompts)) / NANO  # the bill has fractions of nano-dollars
        if not found.spent_usd - rounding <= found.billed_usd <= found.spent_usd + found.assumed_usd + rounding:
            return [("bill", found.billed_usd, "spent", found.spent_usd, "assumed", found.assumed_usd)]
        return []


def wrong_in(samples: Sequence[Sample], most_under_way: int) -> list[Any]:
    """Return which processes' memory is not flat, and whether rows of `inflight` pile up.

    A soak that is not long may end while a projector is still starting: then only what is left at its end counts.
    """
    span_s = samples[-1].at_s - samples[0].at_s
    allowed = MAX_GROWTH if span_s >= LONG_S else MAX_GROWTH_SHORT
    wrong: list[Any] = [
        (name, "grows by", f"{growth:.0%}")
        for name in samples[0].memory_mb
        if (growth := growth_of(samples, name)) > allowed
    ]
    last = samples[-max(1, len(samples) // 4) :]
    if span_s >= LONG_S and (least := min(one.in_flight_rows for one in last)) > most_under_way:
        wrong.append(("rows in flight pile up", least))
    return wrong


def growth_of(samples: Sequence[Sample], name: str) -> float:
    """Return by what part of its memory a process has grown after its warm-up, by the line through its samples."""
    warm = samples[int(len(samples) * WARM_UP_PART) :]
    if len(warm) < 2:
        return 0.0
    sizes = [one.memory_mb[name] for one in warm]
    slope, _ = statistics.linear_regression([one.at_s for one in warm], sizes)
    return slope * (warm[-1].at_s - warm[0].at_s) / statistics.fmean(sizes)


async def soak(folder: Path, provider: RunningProvider, plan: Plan) -> Found:
    """Soak a gateway below `folder` that calls the provider."""
    settings = {"GATEWAY_REQUEST_TIMEOUT_S": str(DEADLINE_S), "GATEWAY_CACHE_MEMORY_BYTES": str(CACHE_BYTES)}
    env = environment_for(provider) | settings | plan.env
    gateway = await asyncio.to_thread(Gateway.start, folder / "data", "--workers", str(WORKERS), env=env)
    try:
        timeout = aiohttp.ClientTimeout(total=2 * DEADLINE_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            return await Soak(gateway, session, provider, plan).run()
    finally:
        await asyncio.to_thread(gateway.stop)


def show(found: Found) -> None:
    """Print what was found."""
    load, killed = found.load, found.killed_at_s
    broken = len(load.not_answered) - len(load.failed(killed["worker"]))
    print(f"asked                     {found.per_second:.0f}/s, {len(load.prompts):,} requests in all")
    print(f"killed                    {len(killed['worker'])} x worker, {len(killed['projector'])} x projector")
    print(f"ended                     {dict(load.outcomes)}, the slowest after {load.slowest_s:.1f} s")
    print(f"streams of killed workers {broken}")
    print(f"not asked, out of pace    {load.left_out}; at most {load.most_under_way} under way")
    print(f"rows in flight            at most {max(one.in_flight_rows for one in found.samples)}, none at the end")
    for name in LASTING:
        sizes = [one.memory_mb[name] for one in found.samples]
        print(
            f"memory of {name:<15} {sizes[0]:.0f} to {sizes[-1]:.0f} MB, growth {growth_of(found.samples, name):+.1%}"
        )
    print(f"the provider's bill       ${found.billed_usd:.6f}")
    print(f"spent, and assumed        ${found.spent_usd:.6f}, ${found.assumed_usd:.6f}")
    print(f"load of the machine       {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
    for one in itertools.islice(found.wrong, 20):
        print(f"WRONG                     {str(one)[:1_000]}")
    print(f"wrong                     {len(found.wrong)}", flush=True)


def main() -> None:
    """Parse the arguments, soak, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--share", type=float, default=SHARE, help="of what the gateway can do (default 0.7)")
    parser.add_argument("--rate", type=float, help="requests a second, instead of a share")
    parser.add_argument("--worker-every-s", type=float, default=WORKER_EVERY_S)
    parser.add_argument("--projector-every-s", type=float, default=PROJECTOR_EVERY_S)
    arguments = parser.parse_args()
    plan = Plan(
        seconds=arguments.minutes * 60,
        per_second=arguments.rate,
        share=arguments.share,
        worker_every_s=arguments.worker_every_s,
        projector_every_s=arguments.projector_every_s,
    )
    provider = RunningProvider.start()
    try:
        with tempfile.TemporaryDirectory(prefix="gw-soak-", ignore_cleanup_errors=True) as folder:
            found = uvloop.run(soak(Path(folder), provider, plan))
    finally:
        provider.stop()
    show(found)
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
