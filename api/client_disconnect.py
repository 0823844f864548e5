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

Result = TypeVar("Result")


class ClientDisconnect:
    """The disconnect of one client, which may come, once."""

    def __init__(self) -> None:
        self._noted = asyncio.Event()

    def note(self) -> None:
        """Note that the client has disconnected."""
        self._noted.set()

    def check(self) -> None:
        """Return if the client is still connected.

        Raises:
            ClientDisconnected: it is not.

        """
        if self._noted.is_set():
            raise ClientDisconnected("the caller left before the answer had begun")

    async def or_disconnect(self, waiting: Awaitable[Result]) -> Result:
        """Await `waiting`. It is cancelled if the client disconnects first, so it must have no effect of its own.

        Raises:
            ClientDisconnected: the client disconnected first.

        """
        awaited = asyncio.ensure_future(waiting)
        leaving = asyncio.ensure_future(self._noted.wait())
        try:
            await asyncio.wait((awaited, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            awaited.cancel()
            await asyncio.wait((awaited, leaving))
        if awaited.cancelled():
            self.check()
        return awaited.result()


def watch_disconnect(receive: Receive, *, listen: bool = True) -> AbstractAsyncContextManager[ClientDisconnect]:
    """Watch for the disconnect of a client, whose body has been read, until the block ends; not without `listen`."""
    return _listening(receive) if listen else nullcontext(ClientDisconnect())


@asynccontextmanager
async def _listening(receive: Receive) -> AsyncIterator[ClientDisconnect]:
    disconnect = ClientDisconnect()

    async def until_disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        disconnect.note()

    listening = asyncio.create_task(until_disconnected(), name="listening for a disconnect")
    try:
        yield disconnect
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
