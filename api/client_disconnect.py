"""Whether a caller has left while there is nothing yet to be sent to it.

Once a stream has begun, whoever sends it notices (`api/delivery.py`). An answer in one piece is made to its end whether
or not its caller waits for it, unless the project's `cancel_on_disconnect` says otherwise.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from litestar.types import Receive

from domain.errors import ClientDisconnected

Result = TypeVar("Result")


class ClientDisconnect:
    """The leaving of one caller: it may come, once."""

    def __init__(self) -> None:
        self._noted = asyncio.Event()

    def note(self) -> None:
        """The caller has left."""
        self._noted.set()

    def check(self) -> None:
        """Go on only for a caller who is there.

        Raises:
            ClientDisconnected: it is not.

        """
        if self._noted.is_set():
            raise ClientDisconnected("the caller left before the answer had begun")

    async def or_disconnect(self, waiting: Awaitable[Result]) -> Result:
        """What is waited for. `waiting` is cancelled where the caller leaves first, so it may only wait, not do.

        Raises:
            ClientDisconnected: the caller left first.

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


@asynccontextmanager
async def watch_disconnect(receive: Receive, *, listen: bool = True) -> AsyncIterator[ClientDisconnect]:
    """The departure of the caller that `receive` hears, whose body has been read: noted as long as the block lasts, if
    `listen` is true.
    """
    disconnect = ClientDisconnect()
    if not listen:
        yield disconnect
        return

    async def until_disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        disconnect.note()

    listening = asyncio.create_task(until_disconnected(), name="listening for a departure")
    try:
        yield disconnect
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
