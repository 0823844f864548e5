"""Lines of requests that wait for what others hold, one for each account whose limit stands in the way.

First in, first out: only those at the front ask admission again, and nobody asks for less behind one that waits for
more, so a large hold is not starved by small ones. While all who ask get through, twice as many ask the next time. The
lines are of one process; those of several processes ask at the same pace.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.client_disconnect import ClientDisconnect

RETRY_S = 0.025
"""The interval in which the front of a line asks again: a hold is released a moment after its response."""
MAX_ASKING = 64
"""The most requests of a line that ask at once."""
MAX_WAITING_PER_LINE = 2_000

Decision = TypeVar("Decision")


class LineFull(Exception):
    """Too many requests wait in this line already."""


class _Waiter:
    """A request in a line. `turn` is done when it may ask."""

    __slots__ = ("hold_nano_usd", "is_asking", "turn")

    def __init__(self, hold_nano_usd: int) -> None:
        self.hold_nano_usd = hold_nano_usd
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_asking = False


class _Line:
    """The waiters of one account, in the order of their arrival. While there are any, some ask or a round is due."""

    def __init__(self) -> None:
        self.waiters: dict[_Waiter, None] = {}
        self._width = 1
        self._asking = 0
        self._through = 0
        self._is_blocked = False
        self._due: asyncio.TimerHandle | None = None

    def join(self, waiter: _Waiter) -> None:
        self.waiters[waiter] = None
        if not self._asking and self._due is None:
            self._wait()

    def stay(self, waiter: _Waiter) -> None:
        """End the turn of a waiter that has to wait on."""
        waiter.turn = asyncio.get_running_loop().create_future()
        self._end_turn(waiter, is_through=False)

    def leave(self, waiter: _Waiter) -> None:
        """Take a waiter out: it got through, or gave up."""
        self.waiters.pop(waiter, None)
        if waiter.is_asking:
            self._end_turn(waiter, is_through=True)
        if not self.waiters and self._due is not None:
            self._due.cancel()
            self._due = None

    def _end_turn(self, waiter: _Waiter, *, is_through: bool) -> None:
        waiter.is_asking = False
        self._asking -= 1
        self._through += is_through
        self._is_blocked = self._is_blocked or not is_through
        if self._asking or not self.waiters:
            return
        if self._is_blocked:
            self._width = max(1, self._through)
            self._wait()
        else:
            self._width = min(MAX_ASKING, 2 * self._width)
            self._begin_round()

    def _wait(self) -> None:
        self._due = asyncio.get_running_loop().call_later(RETRY_S, self._begin_round)

    def _begin_round(self) -> None:
        self._due, self._through, self._is_blocked = None, 0, False
        largest = 0
        for waiter in list(self.waiters):
            if self._asking == self._width or waiter.hold_nano_usd < largest:
                break
            if not waiter.turn.done():  # else it gives up at this moment
                largest = waiter.hold_nano_usd
                waiter.is_asking = True
                self._asking += 1
                waiter.turn.set_result(None)
        if not self._asking and self.waiters:
            self._wait()


class WaitingLines:
    """The lines of one process, by the account that they wait for."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @property
    def waiting(self) -> int:
        """The requests that stand in a line."""
        return sum(len(line.waiters) for line in self._lines.values())

    def is_waited_for(self, *accounts: str) -> bool:
        """Return whether a request waits for one of these accounts."""
        return bool(self._lines) and not self._lines.keys().isdisjoint(accounts)

    async def wait(
        self,
        account: str,
        hold_nano_usd: int,
        ask: Callable[[], Awaitable[Decision]],
        *,
        waits: Callable[[Decision], bool],
        wait_s: float,
        disconnect: ClientDisconnect,
    ) -> Decision | None:
        """Stand in a line, and `ask` when it is the request's turn, as long as it `waits`; None after `wait_s`.

        Raises:
            LineFull: too many wait already.
            ClientDisconnected: the client has left; nothing is held.

        """
        line = self._lines.setdefault(account, _Line())
        if len(line.waiters) >= MAX_WAITING_PER_LINE:
            raise LineFull
        waiter = _Waiter(hold_nano_usd)
        until = time.monotonic() + wait_s
        line.join(waiter)
        try:
            while (left_s := until - time.monotonic()) > 0:
                try:
                    await disconnect.or_disconnect(asyncio.wait_for(waiter.turn, left_s))
                except TimeoutError:
                    return None
                disconnect.check()
                decision = await ask()
                if not waits(decision):
                    return decision
                line.stay(waiter)
            return None
        finally:
            line.leave(waiter)
            if not line.waiters and self._lines.get(account) is line:
                del self._lines[account]
