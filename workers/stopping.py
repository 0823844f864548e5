"""Wakes a loop that waits for an event of its own when its process stops, so that it need not look if it should."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def set_at_stop(event: asyncio.Event, stop: asyncio.Event) -> Iterator[None]:
    """Set `event` as soon as `stop` is set, as long as the block runs."""
    stopping = asyncio.create_task(_set_after(event, stop), name="waking at the stop")
    try:
        yield
    finally:
        stopping.cancel()


async def _set_after(event: asyncio.Event, stop: asyncio.Event) -> None:
    await stop.wait()
    event.set()
