"""Keeps child processes running: starts them, prints their output, restarts them if they end, stops them in order.

Does not know which processes the gateway has: `cli/up.py` says which run and in which order they stop. It never waits
for who reads the output: a terminal that is stopped stops no process, and none is left dead for it.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from cli.fork_server import ForkedProcess, ForkServer
from cli.terminal import CLEAR_LINE, TAB
from domain.names import printable
from infra.child import start_child
from infra.line_writer import LineWriter

FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
HEALTHY_AFTER_S = 10.0
POLL_S = 0.1
KILL_WAIT_S = 5.0
PIECE_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024
"""A longer line is printed as several."""

Process = subprocess.Popen[bytes] | ForkedProcess


class ChildSpec(Struct, frozen=True, kw_only=True):
    """A process to keep running."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    pass_fds: tuple[int, ...] = ()


def say(name: str, text: str) -> None:
    """Print a line under the name of a process, now."""
    print(_lines(name, [text]), end="", file=sys.stderr, flush=True)


def _lines(name: str, texts: Sequence[str]) -> str:
    over = CLEAR_LINE if sys.stderr.isatty() else ""  # a step of the start may stand there
    return "".join([f"{over}{name:<11} | {printable(text, keep=TAB)}\n" for text in texts])


class Output:
    """What the processes say, and what is said of them, for as long as they run."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._left_out = 0

    def say(self, name: str, *texts: str) -> None:
        """Queue lines to be printed under the name of a process. They are left out if nobody reads the output."""
        told = _lines("up", [f"{self._left_out} lines were left out: nobody read them"]) if self._left_out else ""
        if self._writer.write(told + _lines(name, texts)):
            self._left_out = 0
        else:
            self._left_out += len(texts)


class Child:
    """One process that is restarted if it ends: at once, and after longer and longer pauses if it keeps ending."""

    def __init__(self, spec: ChildSpec, output: Output, fork_server: ForkServer) -> None:
        self.spec = spec
        self._output = output
        self._fork_server = fork_server
        self._process: Process | None = None
        self._is_starting = asyncio.Lock()
        self._stopping = False

    async def run(self) -> None:
        """Start the process, and start it again if it ends, until `stop`."""
        backoff_s = 0.0
        while not self._stopping:
            started = time.monotonic()
            try:
                what = f"ended ({_exit_reason(await self._run_once())})"
            except Exception as error:  # noqa: BLE001 - said, and tried again
                what = f"cannot be started: {error}"
            if self._stopping:
                return
            if time.monotonic() - started > HEALTHY_AFTER_S:
                backoff_s = 0.0
            pause = f" in {backoff_s:g} s" if backoff_s else ""
            self._output.say(self.spec.name, f"{what}; starting it again{pause}")
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, backoff_s * 2))

    async def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, and SIGKILL if the process has not ended after `timeout_s`."""
        self._stopping = True
        async with self._is_starting:
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(_exit_code(process), timeout_s)
        except TimeoutError:
            self._output.say(self.spec.name, f"did not stop within {timeout_s:.0f} s: killed")
            process.kill()
            await asyncio.wait_for(_exit_code(process), KILL_WAIT_S)

    async def _run_once(self) -> int:
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb") as output:
            try:
                async with self._is_starting:
                    process = self._process = await self._start(write_end)
            finally:
                os.close(write_end)
            reader = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), output
            )
            try:
                await self._print_lines(reader)
            finally:
                transport.close()
        return 0 if process is None else await _exit_code(process)

    async def _start(self, output: int) -> Process | None:
        """Start the process. Return None if it is to stop already."""
        spec = self.spec
        forked = await self._fork_server.fork(spec.argv, env=spec.env, output=output, pass_fds=spec.pass_fds)
        if forked is not None or self._stopping:
            return forked
        return start_child(spec.argv, env=spec.env, output=output, pass_fds=spec.pass_fds)

    async def _print_lines(self, reader: asyncio.StreamReader) -> None:
        """Print the lines that come, all that are there at a time."""
        begun = b""
        while piece := await reader.read(PIECE_BYTES):
            whole, newline, begun = (begun + piece).rpartition(b"\n")
            if len(begun) > MAX_LINE_BYTES:  # its rest comes as the next one
                whole, newline, begun = whole + newline + begun, b"\n", b""
            if newline:
                self._output.say(self.spec.name, *whole.decode(errors="replace").split("\n"))
        if begun:
            self._output.say(self.spec.name, begun.decode(errors="replace"))


class Server:
    """A server in a child process that was started elsewhere. Restarted if it ends."""

    def __init__(
        self,
        name: str,
        process_of: Callable[[], "subprocess.Popen[bytes] | None"],
        launch: Callable[[], None],
        output: Output,
    ) -> None:
        self._name = name
        self._output = output
        self._process_of = process_of
        self._launch = launch

    async def watch(self) -> None:
        """Watch the process and restart it if it ends, until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            started, process = time.monotonic(), self._process_of()
            if process is not None:  # None: it was started again, and did not come up
                code = await _exit_code(process)
                if time.monotonic() - started > HEALTHY_AFTER_S:
                    backoff_s = FIRST_BACKOFF_S
                self._output.say(self._name, f"ended ({_exit_reason(code)}); starting it again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
            try:
                await asyncio.to_thread(self._launch)
            except Exception as error:  # noqa: BLE001 - said, and tried again
                self._output.say(self._name, str(error))


async def supervise(
    children: Sequence[Sequence[Child]],
    servers: Sequence[Server],
    stop: asyncio.Event,
    *,
    drain_s: float,
    when_started: Callable[[], Coroutine[Any, Any, None]],
    fork_server: ForkServer,
) -> None:
    """Run the children until `stop` is set. Then stop them group by group, all within `drain_s`.

    The `fork_server` stops first, and with it what it is about to fork.
    """
    all_children = [child for group in children for child in group]
    runs = [asyncio.create_task(child.run()) for child in all_children]
    watches = [asyncio.create_task(server.watch()) for server in servers]
    started = asyncio.create_task(when_started())
    await stop.wait()
    started.cancel()
    for watch in watches:
        watch.cancel()
    fork_server.stop()
    deadline = time.monotonic() + drain_s
    for group in children:
        left_s = max(1.0, deadline - time.monotonic())
        await asyncio.gather(*(child.stop(left_s) for child in group))
    for run in runs:
        run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*runs, *watches, started, return_exceptions=True)


async def _exit_code(process: Process) -> int:
    """Wait until a process ends, and return its exit code.

    Linux has a descriptor for a process, which becomes readable when it ends; elsewhere the process is polled.
    """
    if (code := process.poll()) is not None:  # its id may be another's by now
        return code
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while (code := process.poll()) is None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(POLL_S)
        return code
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    while (code := process.poll()) is None:  # noqa: ASYNC110 - a debugger still holds it
        await asyncio.sleep(POLL_S)
    return code


def _exit_reason(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
