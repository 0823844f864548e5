"""Notices that a client disconnects before its response has begun.

Once a stream has begun, sending it fails instead (`api/delivery.py`). A response in one piece is made to its end even
if the client disconnects, unless the project has `cancel_on_disconnect`. What a disconnect does to a job that was
published is in `api/dispatch.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TypeVar

from litestar.types import Receive

from domain.errors import ClientDisconnected
from infra.interruption import Interruption

Result = TypeVar("Result")


class ClientDisconnect:
    """The disconnect of one client, which may come, once."""

    def __init__(self) -> None:
        self._is_noted = False
        self._waits: list[Interruption] = []
        """The waits that a disconnect ends."""

    def note(self) -> None:
        """Note that the client has disconnected."""
        self._is_noted = True
        for wait in self._waits:
            _interrupt_soon(wait)

    def check(self) -> None:
        """Return if the client is still connected.

        Raises:
            ClientDisconnected: it is not.

        """
        if self._is_noted:
            raise _disconnected()

    async def or_disconnect(self, waiting: Awaitable[Result]) -> Result:
        """Await `waiting`. It is cancelled if the client disconnects first, so it must have no effect of its own.

        Raises:
            ClientDisconnected: the client disconnected first.

        """
        wait = Interruption()
        self._waits.append(wait)
        if self._is_noted:
            _interrupt_soon(wait)
        try:
            with wait:
                return await waiting
        finally:
            self._waits.remove(wait)
        raise _disconnected()


def _interrupt_soon(wait: Interruption) -> None:
    """Let a result that is there be taken first."""
    asyncio.get_running_loop().call_soon(wait.come)


def _disconnected() -> ClientDisconnected:
    return ClientDisconnected("the caller left before the answer had begun")


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        continue


def watch_disconnect(receive: Receive, *, listen: bool = True) -> AbstractAsyncContextManager[ClientDisconnect]:
    """Watch for the disconnect of a client, whose body has been read, until the block ends; not without `listen`."""
    return _listening(receive) if listen else nullcontext(ClientDisconnect())


@asynccontextmanager
async def _listening(receive: Receive) -> AsyncIterator[ClientDisconnect]:
    disconnect = ClientDisconnect()

    async def note() -> None:
        await until_disconnected(receive)
        disconnect.note()

    listening = asyncio.create_task(note(), name="listening for a disconnect")
    try:
        yield disconnect
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
