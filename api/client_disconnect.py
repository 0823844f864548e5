"""Notices that a client disconnects before its response has begun.

Once a stream has begun, sending it fails instead (`api/delivery.py`). A response in one piece is made to its end even
if the client disconnects, unless the project has `cancel_on_disconnect`. What a disconnect does to a job that was
published is in `api/dispatch.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from litestar.types import Receive

from domain.errors import ClientDisconnected
from infra.interruption import Interruption

Result = TypeVar("Result")
Given = TypeVar("Given")


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


def watch_disconnect(receive: Receive, *, listen: bool = True) -> AbstractAsyncContextManager[ClientDisconnect]:
    """Watch for the disconnect of a client, whose body has been read, until the block ends; not without `listen`."""
    disconnect = ClientDisconnect()
    return _told(receive, disconnect.note, disconnect) if listen else nullcontext(disconnect)


def interrupted_by_disconnect(receive: Receive) -> AbstractAsyncContextManager[Interruption]:
    """Have the interruption come that the block gets, if the client, whose body has been read, disconnects in it."""
    interruption = Interruption()
    return _told(receive, partial(_interrupt_soon, interruption), interruption)


def _told(receive: Receive, tell: Callable[[], None], given: Given) -> AbstractAsyncContextManager[Given]:
    """Have `tell` called if the client disconnects before the block ends. `given` is what the block gets."""
    request = getattr(receive, "__self__", None)
    callbacks: list[Callable[[], None]] | None = getattr(request, "disconnect_callbacks", None)
    return _listening(receive, tell, given) if callbacks is None else _Told(request, callbacks, tell, given)


class _Told(AbstractAsyncContextManager[Given]):
    """Has the HTTP protocol tell of the disconnect of a request's client. A task that listens takes 40 calls more."""

    def __init__(
        self, request: Any, callbacks: list[Callable[[], None]], tell: Callable[[], None], given: Given
    ) -> None:
        self._request = request
        self._callbacks = callbacks
        self._tell = tell
        self._given = given

    async def __aenter__(self) -> Given:
        self._callbacks.append(self._tell)
        self._request.flow.resume_reading()  # as `receive` does: nobody hears of a disconnect who does not read
        if self._request.disconnected:
            self._tell()
        return self._given

    async def __aexit__(self, *_: object) -> None:
        self._callbacks.remove(self._tell)


@asynccontextmanager
async def _listening(receive: Receive, tell: Callable[[], None], given: Given) -> AsyncIterator[Given]:
    """As `_Told`, for a `receive` that is not our HTTP protocol's: an asynchronous job's, or another server's."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        tell()

    listening = asyncio.create_task(listen(), name="listening for a disconnect")
    try:
        yield given
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
