"""PostgreSQL is restarted, killed, out of connections, or out of disk space: callers are told so, and all goes on by
itself when it does. No answer is lost that was given, and none is charged twice.
"""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from infra.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from tests.provider.running import RunningProvider
from tests.support.fleet import Fleet
from tests.support.gateway import Client
from tests.support.invariants import broken_invariants
from tests.support.load import ANSWERED, BROKE_OFF, CLEAR_ERRORS, Load, ask, summary
from tests.support.services import EVERY_PROCESS, TEMPLATE, as_role, make_template
from tests.support.streams import NATIVE_GPT, Streamer
from tests.support.waiting import eventually_so

CALLERS = 6
AWAY_S = 3
MAX_WAIT_S = 45
RECOVERED_WITHIN_S = 30
DISK_BYTES = 384 * 1024 * 1024
WORDS = "[[delay=100]] [[pace=20]]"
OF_GATEWAY = "pg_stat_activity WHERE application_name LIKE 'gateway %'"
AWAY = CLEAR_ERRORS - {"502"}


class Database:
    """A PostgreSQL server of the test's own, with its files on a small disk."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.server = EmbeddedPostgres(disk / "pg")

    @property
    def url(self) -> str:
        return as_role(self.server.url.replace("/gateway?", f"/{TEMPLATE}?"), EVERY_PROCESS)

    def start(self) -> None:
        self.server.start()
        make_template(self.server.url)

    def restart(self) -> None:
        """Stop it in order, and start it after a while."""
        self.server._stop_process()  # `stop` would remove the socket's directory
        time.sleep(AWAY_S)
        self.launch()

    def kill(self) -> None:
        """Kill the postmaster as `kill -9` does, and start it after a while, as soon as its children are gone."""
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()
        time.sleep(AWAY_S)
        self.launch()

    def launch(self) -> None:
        """Start it on its files; while another server's processes use them, it ends at once."""
        deadline = time.monotonic() + RECOVERED_WITHIN_S
        while True:
            try:
                return self.server.launch()
            except EmbeddedPostgresError:
                assert time.monotonic() < deadline
                time.sleep(0.2)


@pytest.fixture
def disk() -> Iterator[Path]:
    """Mount a small file system in memory."""
    with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as directory:
        path = Path(directory) / "disk"
        path.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(path)]
        mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(f"needs a small file system: {mounted.stderr.strip()}")
        Path(directory).chmod(0o755)
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def database(disk: Path) -> Iterator[Database]:
    made = Database(disk)
    try:
        made.start()
        yield made
    finally:
        made.server.stop()


@pytest.fixture
async def fleet(tmp_path: Path, database: Database, nats_url: str, provider: RunningProvider) -> AsyncIterator[Fleet]:
    made = Fleet(
        tmp_path / "fleet",
        database_url=database.url,
        nats_url=nats_url,
        provider=provider,
        counts={"api": 1, "worker": 1, "projector": 2},
        env={"GATEWAY_REQUEST_TIMEOUT_S": "60"},
    )
    async with made.running():
        yield made


async def new_key(fleet: Fleet, session: aiohttp.ClientSession) -> str:
    admin = await fleet.new_project(session)
    wanted = {"name": "load", "rateLimit": None, "dailyBudget": 50}
    _, issued, _ = await admin.call("POST", "/projects/api-keys", wanted)
    return str(issued["data"]["apiKey"])


async def test_a_restarted_and_a_killed_server_is_found_again(
    database: Database, fleet: Fleet, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    key = await new_key(fleet, session)
    async with Load(session, [fleet.address()], key, WORDS).asking(CALLERS) as load:
        for fail in (database.restart, database.kill):
            began_s = time.monotonic()
            await asyncio.to_thread(fail)
            took_s = await load.until_answered(time.monotonic(), within_s=RECOVERED_WITHIN_S)
            await fleet.until_ready(within_s=RECOVERED_WITHIN_S)
            ready_s = time.monotonic() - began_s
            print(
                f"{fail.__name__}: {summary(load.since(began_s))}; answered {took_s:.1f} s after, all in {ready_s:.1f}"
            )
    await assert_in_order(fleet, load, key, provider, session)


async def take_every_connection(database: Database, superuser: asyncpg.Connection, others: AsyncExitStack) -> None:
    """Take what the server has for others, until the gateway has none: `others` gives them back."""
    were_any = True
    while were_any or await superuser.fetchval(f"SELECT count(*) FROM {OF_GATEWAY}"):
        # those that end now keep their places for a moment: what they leave free is taken the next time
        were_any = await superuser.fetchval(f"SELECT count(pg_terminate_backend(pid)) FROM {OF_GATEWAY}") > 0
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                others.push_async_callback((await asyncpg.connect(database.url)).close)


async def test_no_connection_left_is_said_and_survived(
    database: Database, fleet: Fleet, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    key = await new_key(fleet, session)
    streamer = Streamer(session, fleet.address(), key)
    superuser = await asyncpg.connect(database.server.url)
    async with Load(session, [fleet.address()], key, WORDS).asking(CALLERS) as load, AsyncExitStack() as others:
        await take_every_connection(database, superuser, others)
        began_s = time.monotonic()
        told = [await ask(streamer, NATIVE_GPT, f"is told {number}") for number in range(3)]
        await asyncio.sleep(AWAY_S)
        refused = [*told, *load.since(began_s)]
        await others.aclose()
        took_s = await load.until_answered(time.monotonic(), within_s=RECOVERED_WITHIN_S)
        print(f"no connections: {summary(refused)}; answered {took_s:.1f} s after")
    await superuser.close()
    assert {one.outcome for one in told} <= AWAY
    await assert_in_order(fleet, load, key, provider, session)


async def test_a_full_disk_is_said_and_survived(
    database: Database, fleet: Fleet, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    key = await new_key(fleet, session)
    ballast = database.disk / "ballast"
    streamer = Streamer(session, fleet.address(), key)
    async with Load(session, [fleet.address()], key, WORDS).asking(CALLERS) as load:
        began_s = time.monotonic()
        await asyncio.to_thread(fill, ballast)
        filling = []
        while time.monotonic() < began_s + 60 and sum(one.outcome != ANSWERED for one in filling) < 3:
            prompt = f"fills the disk {len(filling)} [[big=300000]]"
            filling.append(await ask(streamer, NATIVE_GPT, prompt, is_cached=True))
        await asyncio.sleep(AWAY_S)
        full = [*filling, *load.since(began_s)]
        ballast.unlink()
        if database.server.process is None or database.server.process.poll() is not None:
            print("the server has ended", flush=True)
            await asyncio.to_thread(database.launch)
        took_s = await load.until_answered(time.monotonic(), within_s=RECOVERED_WITHIN_S)
        print(f"disk full: {summary(full)}; answered {took_s:.1f} s after")
    assert {one.outcome for one in full} & AWAY, "nobody was told"
    load.asked.extend(filling)
    await assert_in_order(fleet, load, key, provider, session)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"0")


async def assert_in_order(
    fleet: Fleet, load: Load, key: str, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    answered = [one.prompt for one in load.asked if one.outcome == ANSWERED]
    client = Client(session, fleet.address(), key)

    async def is_ready() -> bool:
        return (await client.call("GET", "/usage/budget"))[0] == 200

    await eventually_so(is_ready, within_s=RECOVERED_WITHIN_S)
    wrong = await broken_invariants(fleet, client, provider, accepted=answered, settle_s=90)
    assert {one.outcome for one in load.asked} <= {ANSWERED, BROKE_OFF, *CLEAR_ERRORS}
    assert max(one.waited_s for one in load.asked) < MAX_WAIT_S
    assert sum(len(member.died_at_s) for member in fleet.all) == 0, "no process ends because the database is away"
    assert wrong == []
