"""Notices that a client disconnects, before its response has begun and while a stream is sent.

A response in one piece is made to its end even if the client disconnects, unless the project has
`cancel_on_disconnect`. What a disconnect does to a job that was published is in `api/dispatch.py`.
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
Target = TypeVar("Target")


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
    return _on_disconnect(receive, disconnect.note, disconnect) if listen else nullcontext(disconnect)


def interrupted_by_disconnect(receive: Receive) -> AbstractAsyncContextManager[Interruption]:
    """Interrupt the block if the client, whose body has been read, disconnects."""
    interruption = Interruption()
    return _on_disconnect(receive, partial(_interrupt_soon, interruption), interruption)


def _on_disconnect(
    receive: Receive, callback: Callable[[], None], target: Target
) -> AbstractAsyncContextManager[Target]:
    """Call `callback` if the client disconnects before the block ends. The block gets `target`."""
    request = getattr(receive, "__self__", None)
    callbacks: list[Callable[[], None]] | None = getattr(request, "disconnect_callbacks", None)
    if callbacks is None:
        return _listening(receive, callback, target)
    return _CalledBack(request, callbacks, callback, target)


class _CalledBack(AbstractAsyncContextManager[Target]):
    """Has the HTTP protocol call back if a request's client disconnects. A task that listens takes 40 calls more."""

    def __init__(
        self, request: Any, callbacks: list[Callable[[], None]], callback: Callable[[], None], target: Target
    ) -> None:
        self._request = request
        self._callbacks = callbacks
        self._callback = callback
        self._target = target

    async def __aenter__(self) -> Target:
        self._callbacks.append(self._callback)
        self._request.flow.resume_reading()  # as `receive` does: a connection that is not read notices no disconnect
        if self._request.disconnected:
            self._callback()
        return self._target

    async def __aexit__(self, *_: object) -> None:
        self._callbacks.remove(self._callback)


@asynccontextmanager
async def _listening(receive: Receive, callback: Callable[[], None], target: Target) -> AsyncIterator[Target]:
    """Do as `_CalledBack` for a `receive` of an asynchronous job, or of another HTTP server than ours."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        callback()

    listening = asyncio.create_task(listen(), name="listening for a disconnect")
    try:
        yield target
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
