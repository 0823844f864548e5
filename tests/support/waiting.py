"""Waits for what happens in its own time, never longer than a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01


async def eventually(holds: Callable[[], object], *, within_s: float = 10) -> None:
    """Return as soon as `holds` is true; fail when it is not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(POLL_S)


async def eventually_so(holds: Callable[[], Awaitable[object]], *, within_s: float = 10) -> None:
    """The same, of what can only be asked for."""
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(POLL_S)
