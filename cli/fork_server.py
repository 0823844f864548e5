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
"""The modules that the API, the workers and the projector need."""
READY = b"ready\n"
START_TIMEOUT_S = 30.0
FORK_TIMEOUT_S = 10.0
STOP_WAIT_S = 5.0
REAP_POLL_S = 0.01
MAX_REPLY_BYTES = 32
MAX_FDS = 16
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
_FORK, _GO = b"f", b"g"
_SETTINGS = ("GATEWAY_", "OTEL_", "OPENAI_", "ANTHROPIC_")
_NO_SETTINGS = ("GATEWAY_TEST_",)
"""`infra/crash_points.py` reads its variable when it is imported."""


class Order(Struct, frozen=True, kw_only=True):
    """The command and the environment of a forked process, which alone reads them: they have secrets.

    Texts are bytes, because the system allows any bytes in a variable.
    """

    argv: tuple[bytes, ...]
    """The interpreter, the script, the command and its options."""
    env: tuple[tuple[bytes, bytes], ...]
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


class _Running:
    """A server that was started."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        self.is_ready = False
        self._forked: set[int] = set()
        with theirs:
            self.process = start_child(
                gateway_command("fork-server", "--orders", str(theirs.fileno())),
                env=_without_settings(os.environ),
                pass_fds=(theirs.fileno(),),
            )

    def fork(self, fds: Sequence[int]) -> int:
        """Have a process forked that waits for its order. Return its id; 0 if the system has no room for it.

        Raises:
            OSError, ValueError: the server has died, or stands still.

        """
        if not self.is_ready:
            self.connection.settimeout(START_TIMEOUT_S)
            self.is_ready = self.connection.recv(len(READY), socket.MSG_WAITALL) == READY
        self.connection.settimeout(FORK_TIMEOUT_S)
        with inheriting_orphans():
            socket.send_fds(self.connection, [_FORK], fds)
            pid = int(self.connection.recv(MAX_REPLY_BYTES))
        if pid != 0:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # raises unless it is a child of ours
            self._forked.add(pid)
        return pid

    def end(self) -> None:
        """Kill the server, and what it was about to fork. What it has forked goes on."""
        self.connection.close()
        if self.process.poll() is None:  # else its group's number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        deadline_s = time.monotonic() + STOP_WAIT_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_WAIT_S)
        with contextlib.suppress(ChildProcessError):  # none is left
            while time.monotonic() < deadline_s:  # inherited processes of the server end by themselves
                ended = os.waitid(os.P_PGID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    time.sleep(REAP_POLL_S)
                elif ended.si_pid in self._forked:  # a process that the supervisor knows, and waits for
                    break
                else:
                    os.waitpid(ended.si_pid, 0)


class ForkServer:
    """The supervisor's end. Where it does not run, it forks nothing, and each process is started as a program.

    Linux only: elsewhere, libraries of the system forbid a fork that starts no program.
    """

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._one_at_a_time = asyncio.Lock()

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, the system drops exit codes
            self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> "subprocess.Popen[bytes] | None":
        """The server's process."""
        return self._running.process if self._running is not None else None

    def launch(self) -> None:
        """Start the server, and do not wait until it has imported everything."""
        self._running = _Running()

    async def fork(
        self, argv: Sequence[str], *, env: Mapping[str, str], output: int, pass_fds: Sequence[int] = ()
    ) -> ForkedProcess | None:
        """Have a process forked that prints to the descriptor `output`. None: there is no server that can."""
        order = Order(
            argv=tuple(map(os.fsencode, argv)),
            env=tuple((os.fsencode(name), os.fsencode(value)) for name, value in env.items()),
            fds=(STANDARD_OUTPUT, *pass_fds),
        )
        encoded = msgspec.msgpack.encode(order)
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._fork, encoded, (output, *pass_fds))

    def stop(self) -> None:
        """End the server. What it has forked goes on."""
        if self._running is not None:
            self._running.end()

    def _fork(self, order: bytes, fds: Sequence[int]) -> ForkedProcess | None:
        running = self._running
        if running is None or running.process.poll() is not None:
            return None
        order_read, order_write = os.pipe()
        with os.fdopen(order_write, "wb", buffering=0) as pipe:
            try:
                pid = running.fork([order_read, *fds])
            except (OSError, ValueError):  # the server has died, or stands still: it must not fork it later
                running.end()
                return None
            finally:
                os.close(order_read)
            if pid == 0:
                return None
            rest = memoryview(order)
            with contextlib.suppress(BrokenPipeError):  # it has died already
                while rest:
                    rest = rest[pipe.write(rest) :]
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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
        received = pipe.read()
    if not received:  # the supervisor has given it up
        sys.exit(0)
    order = msgspec.msgpack.decode(received, type=Order)
    _number(fds[1:], order.fds)
    os.dup2(STANDARD_OUTPUT, STANDARD_ERROR)
    argv = [os.fsdecode(argument) for argument in order.argv]
    setproctitle(" ".join(argv))  # first: it finds the arguments by way of the environment's old place
    os.environb.clear()
    os.environb.update(order.env)
    time.tzset()
    return argv[2:]


def _next_descriptors(connection: socket.socket) -> list[int]:
    """Wait until a process is wanted. Return its descriptors; the first is of its order."""
    asked, fds, _, _ = socket.recv_fds(connection, len(_FORK), MAX_FDS)
    if not asked:
        sys.exit(0)
    return fds


def _number(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Renumber descriptors. Each gets a free number first, because two may change places."""
    apart = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(numbers) + 1) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(apart, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _fork_child_of_supervisor(connection: socket.socket) -> bool:
    """Fork by way of a process that ends at once, so that the supervisor inherits the new one. Tell it the id, or 0 if
    the system has no room for it.

    Returns True in the new process, once it is the supervisor's and the supervisor has been told.
    """
    id_read, id_write = os.pipe()
    go_read, go_write = os.pipe()
    try:
        between = os.fork()
    except OSError:
        between = None
    if between == 0:
        try:
            pid = os.fork()
        except OSError:
            os._exit(1)
        if pid != 0:
            os.write(id_write, str(pid).encode())
            os._exit(0)
        for fd in (id_read, id_write, go_write):
            os.close(fd)
        if os.read(go_read, 1) != _GO:  # the server has died before it told the supervisor
            os._exit(0)
        os.close(go_read)
        return True
    if between is not None:
        os.waitpid(between, 0)
    os.close(id_write)
    connection.sendall(os.read(id_read, MAX_REPLY_BYTES) or b"0")
    os.write(go_write, _GO)
    for fd in (id_read, go_read, go_write):
        os.close(fd)
    return False
