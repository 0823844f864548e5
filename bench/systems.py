"""What is measured: our gateway, a bare handler, and (in `bench.peers`) other gateways, each started in the same way.

A system is a command that listens on a given port. Every one calls the same stub provider, gets the same requests, and
runs with the same environment: bytecode is cached, no variable of this process's own settings is passed on.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

from bench.load import Target
from bench.results import FORK_SERVER, OTHER_CHECKOUT

ROOT = Path(__file__).parent.parent
CHAT_PATH = "/v1/chat/completions"
MODEL = "gpt-4o-mini"
START_LIMIT_S = 400.0
STOP_LIMIT_S = 45.0
POLL_S = 0.01
NOT_PASSED_ON = (
    "GATEWAY_",
    "OPENAI_",
    "ANTHROPIC_",
    "OTEL_",
    "LITELLM_",
    "PRISMA_",
    "DATABASE_",
    "PYTHONDONTWRITEBYTECODE",
)
LIMITS = {
    "dailyBudget": 1_000_000,
    "monthlyBudget": 1_000_000,
    "rateLimit": 1_000_000_000,
}
"""Of the key that the rows are measured with: they are checked for each request, and never reached."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a system: this process's, without the settings of any gateway, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)} | dict(more)


def end_in_order() -> None:
    """Have SIGTERM end this process like an error: what it has started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def process_cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process, and of its children that have ended and were waited for."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def process_memory_mb(process: psutil.Process) -> float:
    """Return the memory of a process in MB. What several processes share is divided among them."""
    return float(process.memory_full_info().pss) / 1e6


class Stub:
    """The stub provider."""

    def __init__(self, *options: str) -> None:
        """Start it with options of its command line."""
        command = [sys.executable, "-m", "bench.stub_provider", *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment({}))
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def target(self) -> Target:
        """Return where requests go that pass no gateway."""
        return Target(port=self.port, path=CHAT_PATH, headers={})

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(STOP_LIMIT_S)


class System(ABC):
    """A command that listens on a port."""

    name: str
    switched_on: str
    """What it does for each request, in words."""
    groups: tuple[str, ...] = ("process",)
    """The groups into which its processes' costs are divided."""
    servers: tuple[str, ...] = ()
    """The groups that are servers of other makers, whose memory is told apart."""
    has_cache = False
    share = 1.0
    """The part of a load's requests that it is sent: less for a slower one, so that a run ends in minutes."""

    def __init__(self, folder: Path, provider_port: int) -> None:
        """Use `folder`, which need not exist, for everything that it writes, and the provider at a port."""
        self.folder = folder
        self.provider_port = provider_port
        self.port = free_port()
        self._running: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts it."""

    def variables(self) -> dict[str, str]:
        """Return the variables that it is started with, beside the common ones."""
        return {}

    @abstractmethod
    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go, and with which headers. With `cached` the cache may answer."""

    def group_of(self, _process: psutil.Process) -> str:
        """Return the group of one of its processes."""
        return self.groups[0]

    def is_ready(self) -> bool:
        """Tell whether it says that it is ready."""
        return self.answers("/")

    def prepare(self) -> None:
        """Do what has to be done once, when it is ready for the first time."""
        return

    def answers(self, path: str) -> bool:
        """Tell whether a path answers 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def root(self) -> psutil.Process:
        """The process that was started. Everything else that belongs to the system is below it."""
        assert self._running is not None, "it was started"
        return psutil.Process(self._running.pid)

    def tree(self) -> list[psutil.Process]:
        """Return all its processes."""
        return [self.root, *self.root.children(recursive=True)]

    def spawn(self) -> None:
        """Start it, and do not wait. Its processes are a group, which is found when the first of them has died."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output.txt").open("ab") as output:
            self._running = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=environment(self.variables()),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            RuntimeError: it ended, or is not ready in time.

        """
        deadline_s = time.monotonic() + START_LIMIT_S
        while not self.is_ready():
            assert self._running is not None, "it was started"
            if self._running.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"{self.name} did not start: {self.last_output()}")
            time.sleep(POLL_S)

    def start(self) -> None:
        """Start it for the first time."""
        self.spawn()
        self.wait_ready()
        self.prepare()

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._running is None:
            return
        processes = self.tree() if self._running.poll() is None else []
        self._running.terminate()
        try:
            self._running.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            kill(processes)
        self._reap(processes)

    def kill(self) -> None:
        """Kill all its processes at once: none sees another die."""
        processes = self.tree()
        kill(processes)
        self._reap(processes)

    def _reap(self, processes: list[psutil.Process]) -> None:
        assert self._running is not None, "it was started"
        self._running.wait(STOP_LIMIT_S)
        _, left = psutil.wait_procs(processes, timeout=STOP_LIMIT_S)
        kill(left)
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(self._running.pid, signal.SIGKILL)
        self._running = None

    def last_output(self) -> str:
        """Return the end of what it has printed."""
        return (self.folder / "output.txt").read_text(errors="replace")[-2_000:]

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by group."""
        used: defaultdict[str, float] = defaultdict(float)
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                used[self.group_of(process)] += process_cpu_s(process)
        return {group: used[group] for group in self.groups}

    def memory_mb(self) -> dict[str, float]:
        """Return the memory in use, in MB, by group."""
        used: defaultdict[str, float] = defaultdict(float)
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                used[self.group_of(process)] += process_memory_mb(process)
        return {group: used[group] for group in self.groups}


def group_below_supervisor(process: psutil.Process) -> str:
    """Return the group of a process that `gateway up` has started."""
    line = " ".join(process.cmdline())
    for group in ("api", "worker", "projector", FORK_SERVER):
        if f"gateway {group}" in line:
            return group
    return "nats" if process.name() == "nats-server" else "postgresql"


def start_or_leave_out(system: System) -> bool:
    """Start a system, and tell whether it could be. If another's could not, say why: the rest is measured.

    Raises:
        RuntimeError, OSError: ours could not.

    """
    try:
        system.start()
    except (RuntimeError, OSError) as error:
        if isinstance(system, OurGateway | BareHandler):
            raise
        print(f"{system.name} is not measured, it did not start: {error}", file=sys.stderr, flush=True)
        system.stop()
        return False
    return True


def kill(processes: list[psutil.Process]) -> None:
    """Stop and then kill processes, so that none acts on another's death."""
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)


class Books(Struct, frozen=True, kw_only=True):
    """What a system says of a key's budget, in US dollars."""

    spent: float
    assumed: float = 0.0
    """What it counts for calls whose outcome nobody knows."""
    held: float = 0.0
    """What it keeps for calls under way."""

    @property
    def shown(self) -> float:
        """What it counts as used."""
        return self.spent + self.assumed


class BudgetedSystem(System):
    """A system whose keys can have budgets."""

    settle_s = 2.0
    """How long its books stay unchanged once they are complete."""

    @abstractmethod
    def issue_budget(self, name: str, usd: float) -> str:
        """Return a new key with a budget of so many US dollars a day."""

    @abstractmethod
    def books(self, key: str) -> Books:
        """Return what it says of a key."""

    def target_of(self, key: str) -> Target:
        """Return where requests of a key go."""
        return Target(port=self.port, path=CHAT_PATH, headers={"authorization": f"Bearer {key}"})


def call(url: str, key: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the decoded answer of a call; a POST if there is a body.

    Raises:
        OSError: it was refused, or nobody answered.

    """
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class BareHandler(System):
    """A Litestar handler that decodes a chat request and answers it: the unit in which machines are compared."""

    name = "bare handler"
    switched_on = "decodes the request, answers with 64 tokens"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", "bench.bare_handler", "--port", str(self.port)]

    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go."""
        assert not cached, "it has no cache"
        return Target(port=self.port, path=CHAT_PATH, headers={})

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        return self.answers("/ready")


class OurGateway(BudgetedSystem):
    """Our gateway, as `gateway up` runs it."""

    name = "gateway"
    switched_on = (
        "key, daily and monthly budget, rate limit, durable log (synchronous_commit = on), projections, metrics; "
        "one API process, one worker, embedded PostgreSQL and NATS"
    )
    groups = ("api", "worker", "postgresql", "nats", "projector", "supervisor", FORK_SERVER)
    servers = ("postgresql", "nats")
    has_cache = True
    limits: Mapping[str, float | None] = LIMITS

    def __init__(self, folder: Path, provider_port: int) -> None:
        """As any system."""
        super().__init__(folder, provider_port)
        self.data_dir = folder / "data"
        self.programs = Path(sys.executable).parent
        """The directory that has the `gateway` command."""
        self.admin_key = ""
        self.key = ""

    def command(self) -> list[str]:
        """Return the command that starts it."""
        gateway = str(self.programs / "gateway")
        return [gateway, "up", "--port", str(self.port), "--data-dir", str(self.data_dir)]

    def variables(self) -> dict[str, str]:
        """Return the settings: none but where the provider is."""
        return {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{self.provider_port}/v1"}

    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go, with the key that has limits."""
        headers = {"authorization": f"Bearer {self.key}"} | ({"x-gateway-cache": "on"} if cached else {})
        return Target(port=self.port, path=CHAT_PATH, headers=headers)

    def group_of(self, process: psutil.Process) -> str:
        """Return the group of a process, by its command line."""
        return "supervisor" if process.pid == self.root.pid else group_below_supervisor(process)

    def spawn(self) -> None:
        """Start it, with an output of its own: the greeting of this start is what says that it is ready."""
        (self.folder / "output.txt").unlink(missing_ok=True)
        super().spawn()

    def is_ready(self) -> bool:
        """Tell whether it has greeted."""
        return "Try it:" in (self.folder / "output.txt").read_text(errors="replace")

    def prepare(self) -> None:
        """Take the first key, which is an admin's, and issue one that has limits."""
        lines = (self.folder / "output.txt").read_text(errors="replace").splitlines()
        self.admin_key = next(line.strip() for line in lines if line.startswith("  gw_live_"))
        self.key = self.issue_key("bench", self.limits)

    def issue_key(self, name: str, limits: Mapping[str, float | None]) -> str:
        """Return a new key with these limits."""
        address = f"http://127.0.0.1:{self.port}/api/v1/projects/api-keys"
        return str(call(address, self.admin_key, {"name": name, **limits})["data"]["apiKey"])

    def issue_budget(self, name: str, usd: float) -> str:
        """Return a new key with a daily budget, and no other limit."""
        return self.issue_key(name, {"dailyBudget": usd, "rateLimit": None})

    def books(self, key: str) -> Books:
        """Return what it says of a key."""
        daily = call(f"http://127.0.0.1:{self.port}/api/v1/usage/budget", key)["data"]["daily"]
        return Books(spent=daily["spent"], assumed=daily["assumed"], held=daily["held"])


class OtherCheckout(OurGateway):
    """Our gateway of another checkout, whose environment is in its `.venv`."""

    name = OTHER_CHECKOUT

    def __init__(self, folder: Path, provider_port: int, checkout: Path) -> None:
        """As any system, of the checkout in a directory.

        Raises:
            ValueError: its environment runs the code of another one.

        """
        super().__init__(folder, provider_port)
        self.programs = checkout.resolve() / ".venv" / "bin"
        argv = [self.programs / "python", "-P", "-c", "import cli.main; print(cli.main.__file__)"]
        code = Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())
        if not code.is_relative_to(checkout.resolve()):
            raise ValueError(f"the environment of {checkout} runs {code}")
