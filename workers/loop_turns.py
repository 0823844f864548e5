"""Shares a worker's event loop between streams whose providers send faster than the loop can work on them.

Two hundred streams of which each has a large piece at hand would keep the loop busy for a second before it comes to
anybody else's request. So one large piece is worked on in each pass of the loop, and the streams take turns, first in,
first out. A small piece waits for nobody. Costs nothing while no stream has a large piece.
"""

import asyncio
from collections import deque


class LoopTurns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        """A turn was given in this pass of the loop."""

    async def take(self) -> None:
        """Wait for a turn to work on a large piece, without a pause in the work."""
        if not self._is_taken:
            self._give()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _give(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._is_taken = False
        while self._waiting and not self._is_taken:
            turn = self._waiting.popleft()
            if not turn.done():  # else its stream was cancelled
                turn.set_result(None)
                self._give()
