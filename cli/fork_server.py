"""A fork server: a process that has imported everything, from which `gateway up` forks the processes of the gateway.

Starting Python, importing, and making the routes of the API take longer than everything else that a process does before
it serves. That happens once, and the memory of it is shared. Both ends are here: `ForkServer` is the supervisor's,
`serve_forks` the other's. The server has no secret: a process gets its environment when it is forked. A forked process
is a child of the supervisor, so it outlives the server.
"""

import asyncio
import contextlib
import fcntl
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct
from setproctitle import setproctitle

from infra.child import die_with_parent, inheriting_orphans, start_child

MODULES = ("cli.run_process", "api.process", "workers.process", "projections.process")
"""What the processes of the gateway import."""
READY = b"ready\n"
START_TIMEOUT_S = 60.0
FORK_TIMEOUT_S = 10.0
STOP_WAIT_S = 5.0
MAX_REPLY_BYTES = 32
MAX_FDS = 16
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
_FORK, _GO = b"f", b"g"
_SETTINGS = ("GATEWAY_", "OTEL_", "OPENAI_", "ANTHROPIC_")
_NO_SETTINGS = ("GATEWAY_TEST_",)
"""`infra/crash_points.py` reads its variable when it is imported."""


class Order(Struct, frozen=True, kw_only=True):
    """What a forked process is to be. Nobody else reads it: it has secrets that other processes must not get."""

    argv: tuple[str, ...]
    """As of a process that is started: the interpreter, the script, the command and its options."""
    env: dict[str, str]
    fds: tuple[int, ...]
    """The numbers that its file descriptors are to have. The first is its output."""


class ForkedProcess:
    """A child that `subprocess` has not started, with those of its methods that a supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The supervisor's end. Where it does not run, it forks nothing, and each process is started as a program.

    Linux only: elsewhere, libraries of the system forbid a fork that starts no program.
    """

    def __init__(self) -> None:
        self._orders: socket.socket | None = None
        self._is_ready = False
        self._one_at_a_time = asyncio.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self) -> None:
        """Start the server, and do not wait until it has imported everything."""
        if self._orders is not None:
            self._orders.close()
        self._orders, theirs = socket.socketpair()
        self._is_ready = False
        with theirs:
            self.process = start_child(
                gateway_command("fork-server", "--orders", str(theirs.fileno())),
                env=_without_settings(os.environ),
                pass_fds=(theirs.fileno(),),
            )

    async def fork(
        self, argv: Sequence[str], *, env: Mapping[str, str], output: int, pass_fds: Sequence[int] = ()
    ) -> ForkedProcess | None:
        """Have a process forked that prints to the descriptor `output`. None: there is no server that can."""
        order = Order(argv=tuple(argv), env=dict(env), fds=(STANDARD_OUTPUT, *pass_fds))
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._fork, order, (output, *pass_fds))

    def stop(self) -> None:
        """End the server. What it has forked goes on."""
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_WAIT_S)

    def _fork(self, order: Order, fds: Sequence[int]) -> ForkedProcess | None:
        if self._orders is None or self.process is None or self.process.poll() is not None:
            return None
        order_read, order_write = os.pipe()
        try:
            if not self._is_ready:
                self._orders.settimeout(START_TIMEOUT_S)
                self._is_ready = self._orders.recv(len(READY), socket.MSG_WAITALL) == READY
            self._orders.settimeout(FORK_TIMEOUT_S)
            with inheriting_orphans():
                socket.send_fds(self._orders, [_FORK], [order_read, *fds])
                pid = int(self._orders.recv(MAX_REPLY_BYTES))
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # raises unless it is a child of ours
        except (OSError, ValueError):  # the server has died, or stands still
            self.stop()
            os.close(order_write)
            return None
        finally:
            os.close(order_read)
        with contextlib.suppress(BrokenPipeError), os.fdopen(order_write, "wb") as pipe:  # it has died already
            pipe.write(msgspec.json.encode(order))
        return ForkedProcess(pid)


def gateway_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of the `gateway` that this process is of."""
    return (sys.executable, str(Path(sysconfig.get_path("scripts")) / "gateway"), *arguments)


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_NO_SETTINGS) or not name.startswith(_SETTINGS)
    }


def serve_forks(orders: int) -> list[str]:
    """Import everything, then fork a process for each order. Returns in each of them, with the command's arguments.

    When the supervisor has ended, this process ends too.
    """
    supervisor = os.getppid()
    gc.disable()  # it would take a sixth of the time
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("api.app").prepare()
    gc.freeze()  # no collection in a forked process copies any of it
    with socket.socket(fileno=orders) as connection:
        connection.sendall(READY)
        while True:
            fds = _next_descriptors(connection)
            if _fork_child_of_supervisor(connection):
                break
            for fd in fds:
                os.close(fd)
    os.setpgid(0, 0)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != supervisor:
        sys.exit(0)
    gc.enable()
    with os.fdopen(fds[0], "rb") as pipe:
        order = msgspec.json.decode(pipe.read(), type=Order)
    _number(fds[1:], order.fds)
    os.dup2(STANDARD_OUTPUT, STANDARD_ERROR)
    setproctitle(" ".join(order.argv))  # first: it finds the arguments by way of the environment's old place
    os.environ.clear()
    os.environ.update(order.env)
    time.tzset()
    return list(order.argv[2:])


def _next_descriptors(connection: socket.socket) -> list[int]:
    """Wait until a process is wanted. Return its descriptors; the first is of its order."""
    asked, fds, _, _ = socket.recv_fds(connection, len(_FORK), MAX_FDS)
    if not asked:
        sys.exit(0)
    return fds


def _number(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors other numbers, by way of some that nobody wants."""
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(numbers) + 1) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(apart, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _fork_child_of_supervisor(connection: socket.socket) -> bool:
    """Fork by way of a process that ends at once, so that the supervisor inherits the new one. Tell it the id.

    Returns True in the new process, once it is the supervisor's and the supervisor has been told.
    """
    id_read, id_write = os.pipe()
    go_read, go_write = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid != 0:
            os.write(id_write, str(pid).encode())
            os._exit(0)
        for fd in (id_read, id_write, go_write):
            os.close(fd)
        if os.read(go_read, 1) != _GO:  # the server has died: nobody knows this process
            os._exit(0)
        os.close(go_read)
        return True
    os.waitpid(between, 0)
    connection.sendall(os.read(id_read, MAX_REPLY_BYTES))
    os.write(go_write, _GO)
    for fd in (id_read, id_write, go_read, go_write):
        os.close(fd)
    return False
