"""The processes of a gateway as in production: each by itself, on servers that a test gives, started again if it ends.

Unlike `gateway up` it starts a process again at once, whatever it died of, and may hold it back. Each kind of process
has its own role of the database, and may have its own address of PostgreSQL and NATS: that of a proxy, for example.
"""

import asyncio
import base64
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import aiohttp
import asyncpg

from infra.crash_points import REACHED_SUFFIX, VARIABLE
from tests.provider.running import RunningProvider
from tests.support.fork_server import ForkServer
from tests.support.gateway import COMMAND, Client, clean_environment, environment_for
from tests.support.services import as_role
from tests.support.waiting import eventually, eventually_so

Kind = Literal["api", "worker", "projector"]
READY_TIMEOUT_S = 180
STOP_TIMEOUT_S = 35
WATCH_S = 0.02
MASTER_KEY = "a-master-key-of-the-tests"


class Member:
    """One process. It is started again if it ends, unless it is held back."""

    def __init__(self, name: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.died_at_s: list[float] = []
        """On the monotonic clock; stopping does not count."""
        self.is_held_back = False
        self._arguments = arguments
        self._env = env
        self._log = log
        self._pid: int | None = None
        self._started_at_byte = 0
        self._is_stopping = False

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        if self._pid is None:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            self._pid = None
        return self._pid is not None

    @property
    def is_ready(self) -> bool:
        """Return whether the process has said that it is ready, and still runs."""
        return self.is_running and b"_ready" in self._log.read_bytes()[self._started_at_byte :]

    def start(self, server: ForkServer) -> None:
        """Start the process."""
        self._log.touch()
        self._started_at_byte = self._log.stat().st_size
        self._pid = server.start(self._arguments, env=self._env, log=self._log)

    def kill(self) -> None:
        """Kill the process, like a machine that loses its power."""
        self.signal(signal.SIGKILL)

    def signal(self, how: signal.Signals) -> None:
        """Send the process a signal, if it runs."""
        if self.is_running and self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, how)

    async def watch(self, server: ForkServer) -> None:
        """Start the process again whenever it has ended, until cancelled."""
        is_noted = False
        while True:
            await asyncio.sleep(WATCH_S)
            if self.is_running or self._is_stopping:
                continue
            if not is_noted:
                self.died_at_s.append(time.monotonic())
                is_noted = True
            if not self.is_held_back:
                self.start(server)
                is_noted = False

    async def stop(self) -> None:
        """End the process in order, in any state; kill it if that takes too long."""
        self._is_stopping = True
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await eventually(lambda: not self.is_running, within_s=STOP_TIMEOUT_S)
        finally:
            self.kill()

    def log(self) -> str:
        """Return what the process has written."""
        return self._log.read_text(errors="replace")


class Fleet:
    """API processes, workers and projectors."""

    def __init__(
        self,
        home: Path,
        *,
        database_url: str,
        nats_url: str,
        provider: RunningProvider,
        counts: Mapping[Kind, int],
        env: Mapping[str, str] | None = None,
        env_of: Mapping[Kind, Mapping[str, str]] | None = None,
    ) -> None:
        """`env` is for all processes, `env_of` for those of a kind, which it overrides."""
        home.mkdir(parents=True, exist_ok=True)
        self._crash_file = home / "crash"
        self._database_url = database_url
        self.env = (
            environment_for(provider)
            | {
                "GATEWAY_DATABASE_URL": database_url,
                "GATEWAY_NATS_URL": nats_url,
                "GATEWAY_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
                "GATEWAY_MASTER_KEY": MASTER_KEY,
                "GATEWAY_AUDIT_INTERVAL_S": "1",
                "GATEWAY_AUDIT_ANCHOR_FILE": str(home / "anchors"),
                VARIABLE: str(self._crash_file),
            }
            | dict(env or {})
        )
        self._home = home
        self.ports: list[int] = []
        self.members: dict[Kind, list[Member]] = {"api": [], "worker": [], "projector": []}
        for kind, count in counts.items():
            own = {"GATEWAY_DATABASE_URL": as_role(database_url, f"gateway_{kind}")} | dict(
                (env_of or {}).get(kind, {})
            )
            for number in range(1, count + 1):
                self._add(kind, number, clean_environment(self.env | own))

    def _add(self, kind: Kind, number: int, env: Mapping[str, str]) -> None:
        options: list[str] = []
        if kind == "api":
            self.ports.append(_free_port())
            options = ["--host", "127.0.0.1", "--port", str(self.ports[-1])]
        name = f"{kind}-{number}"
        self.members[kind].append(Member(name, [kind, *options], env, self._home / f"{name}.log"))

    @property
    def all(self) -> list[Member]:
        """Return all processes."""
        return [member for members in self.members.values() for member in members]

    def address(self, number: int = 0) -> str:
        """Return the address of an API process."""
        return f"http://127.0.0.1:{self.ports[number]}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        """Run the processes until the block ends. It begins when a request can be answered."""
        server = ForkServer({VARIABLE: str(self._crash_file)})
        for member in self.all:
            await asyncio.to_thread(member.start, server)
        watching = [asyncio.create_task(member.watch(server)) for member in self.all]
        try:
            await self.until_ready()
            yield self
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            for members in self.members.values():  # in the order in which `gateway up` stops them
                await asyncio.gather(*(member.stop() for member in members))
            server.close()

    async def until_some(self, kind: Kind, number: int) -> None:
        """Wait until so many processes of a kind are ready."""

        def are_ready() -> bool:
            return sum(member.is_ready for member in self.members[kind]) >= number

        await eventually(are_ready, within_s=READY_TIMEOUT_S)

    def ready_address(self) -> str:
        """Return the address of an API process that is ready."""
        return next(self.address(n) for n, member in enumerate(self.members["api"]) if member.is_ready)

    async def until_ready(self, within_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every process is ready, and every API process can serve requests."""
        for kind, members in self.members.items():
            await self.until_some(kind, len(members))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:

            async def are_ready() -> bool:
                for number in range(len(self.ports)):
                    try:
                        async with session.get(f"{self.address(number)}/health/ready") as answer:
                            if answer.status != 200:
                                return False
                    except (aiohttp.ClientError, TimeoutError):
                        return False
                return True

            await eventually_so(are_ready, within_s=within_s)

    def arm(self, point: str, *, nth: int = 1, delay_s: float = 0) -> None:
        """Have the next process die that reaches a crash point."""
        self._crash_file.with_name(self._crash_file.name + REACHED_SUFFIX).unlink(missing_ok=True)
        written = self._crash_file.with_name("arming")
        written.write_text(f"{point} {nth} {delay_s}")
        written.rename(self._crash_file)

    async def until_crashed(self, kind: Kind, *, within_s: float = 30) -> Member:
        """Wait until a process of a kind has died of the armed point. Returns it."""
        before = {member.name: len(member.died_at_s) for member in self.members[kind]}
        await eventually(self._crash_file.with_name(self._crash_file.name + REACHED_SUFFIX).exists, within_s=within_s)

        def dead() -> list[Member]:
            return [
                member
                for member in self.members[kind]
                if len(member.died_at_s) > before[member.name] or not member.is_running
            ]

        await eventually(dead, within_s=within_s)
        return dead()[0]

    async def new_project(self, session: aiohttp.ClientSession, **fields: object) -> Client:
        """Create a project as the operator. Return a client of the first API process with its admin key."""
        operator = Client(session, self.address(), MASTER_KEY)
        status, answer, _ = await operator.call("POST", "/projects", {"name": "a project"} | fields)
        assert status == 201, answer
        return Client(session, self.address(), answer["data"]["apiKey"])

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a `gateway` command against the servers of this gateway."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=clean_environment(self.env),
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def query(self, statement: str) -> list[asyncpg.Record]:
        """Return the rows of a query of the database."""
        connection = await asyncpg.connect(self._database_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
