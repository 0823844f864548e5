"""Waits until a condition is true, with a timeout."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01


async def eventually(holds: Callable[[], object], *, within_s: float = 10) -> None:
    """Wait until `holds` returns a true value. Fail if it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not true after {within_s} s"
        await asyncio.sleep(POLL_S)


async def eventually_so(holds: Callable[[], Awaitable[object]], *, within_s: float = 10) -> None:
    """Wait until the coroutine function `holds` returns a true value. Fail if it does not in time."""
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, f"not true after {within_s} s"
        await asyncio.sleep(POLL_S)
