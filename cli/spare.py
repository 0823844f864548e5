"""A spare process: it has imported everything, and becomes the next process that `gateway up` has to start again.

Starting Python, importing, and making the first application of the API (most of which Litestar and msgspec remember)
take longer than everything else that a process does before it serves. Both ends are here: `SpareProcess` is the
supervisor's, `wait_and_become` the spare's. A spare gets its command and its environment when it is taken; before, it
has no secret and does nothing.
"""

import asyncio
import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from setproctitle import setproctitle

from infra.child import clean_environment, start_child

MODULES = ("cli.processes", "api.process", "workers.process", "projections.process")
"""What the processes of the gateway import."""
READY = b"ready\n"
MAX_ORDER_BYTES = 1024 * 1024
STOP_WAIT_S = 5.0


class Order(Struct, frozen=True, kw_only=True):
    """What a spare is to become."""

    argv: tuple[str, ...]
    """As of a process that is started: the interpreter, the script, the command and its options."""
    env: dict[str, str]
    keeps_fds: tuple[int, ...]
    """The inherited file descriptors that the command uses; the others are closed."""


class Taken(Struct, frozen=True):
    """A process that was a spare, and what it prints."""

    process: "subprocess.Popen[bytes]"
    output: asyncio.StreamReader
    transport: asyncio.ReadTransport


class SpareProcess:
    """At most one spare, for whichever process is needed next."""

    def __init__(self, argv: Sequence[str], fds: Sequence[int]) -> None:
        """`argv` is the command of a spare, without its descriptor; `fds` are those that some process may need."""
        self._argv = tuple(argv)
        self._fds = tuple(fds)
        self._spare: Taken | None = None
        self._orders = -1
        self._is_ready = False

    async def prepare(self) -> None:
        """Start a spare unless there is one, and wait until it has imported everything."""
        if self._spare is not None and self._spare.process.poll() is None:
            return
        self.stop()
        order_read, self._orders = os.pipe()
        output_read, output_write = os.pipe()
        try:
            process = start_child(
                (*self._argv, "--orders", str(order_read), *(f"--fd={fd}" for fd in self._fds)),
                env=clean_environment(),
                output=output_write,
                pass_fds=(order_read, *self._fds),
            )
        finally:
            os.close(order_read)
            os.close(output_write)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output_read, "rb")
        )
        self._spare = Taken(process, reader, transport)
        self._is_ready = await reader.readline() == READY
        if not self._is_ready:
            self.stop()

    def take(self, order: Order) -> Taken | None:
        """Have the spare become a process. None if there is none that is ready."""
        spare = self._spare
        if spare is None or not self._is_ready or spare.process.poll() is not None:
            return None
        self._spare, self._is_ready = None, False
        try:
            with os.fdopen(self._orders, "wb") as orders:
                orders.write(msgspec.json.encode(order))
        except BrokenPipeError:
            spare.transport.close()
            return None
        return spare

    def stop(self) -> None:
        """End the spare, if there is one."""
        spare, self._spare, self._is_ready = self._spare, None, False
        if spare is None:
            return
        os.close(self._orders)
        spare.transport.close()
        spare.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            spare.process.wait(STOP_WAIT_S)


def wait_and_become(orders: int, fds: Sequence[int]) -> list[str]:
    """Import everything, then wait for an order. Returns the command's arguments, in the environment that it has.

    Without an order, when the supervisor has ended, this process ends too.
    """
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("api.app").warm_up()
    os.write(sys.stdout.fileno(), READY)
    with os.fdopen(orders, "rb") as pipe:
        received = pipe.read(MAX_ORDER_BYTES)
    if not received:
        sys.exit(0)
    order = msgspec.json.decode(received, type=Order)
    for fd in set(fds) - set(order.keeps_fds):
        os.close(fd)
    setproctitle(" ".join(order.argv))  # first: it finds the arguments by way of the environment's old place
    os.environ.clear()
    os.environ.update(order.env)
    return list(order.argv[2:])
