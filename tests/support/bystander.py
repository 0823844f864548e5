"""A caller that sends requests while others attack: records the statuses and the waiting times."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Bystander:
    """Sends one request after the other."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.waits_s: list[float] = []

    @property
    def longest_s(self) -> float:
        """Return the longest wait."""
        return max(self.waits_s)

    def percentile_s(self, percent: int) -> float:
        """Return a percentile of the waiting times, in seconds."""
        ordered = sorted(self.waits_s)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]

    @asynccontextmanager
    async def asking(self, ask: Callable[[int], Awaitable[int]], *, pause_s: float = 0.02) -> AsyncIterator[None]:
        """Call `ask`, which returns a status, again and again until the block ends, and once after it."""
        ended = False

        async def go_on() -> None:
            last = False
            while not last:
                last = ended
                began_s = time.monotonic()
                self.statuses.append(await ask(len(self.statuses)))
                self.waits_s.append(time.monotonic() - began_s)
                await asyncio.sleep(pause_s)

        going_on = asyncio.create_task(go_on())
        try:
            yield
        finally:
            ended = True
            await going_on
