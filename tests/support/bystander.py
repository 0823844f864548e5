"""A caller who goes on asking while others attack: what it is answered, and how long it waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Bystander:
    """Asks again and again, one request after the other."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.waits_s: list[float] = []

    @property
    def longest_s(self) -> float:
        """The longest wait."""
        return max(self.waits_s)

    def percentile_s(self, percent: int) -> float:
        """How long so many of a hundred requests waited at most."""
        ordered = sorted(self.waits_s)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]

    @asynccontextmanager
    async def asking(self, ask: Callable[[int], Awaitable[int]], *, pause_s: float = 0.02) -> AsyncIterator[None]:
        """Call `ask`, which gives a status, as long as the block lasts, and once more when it has ended."""
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
