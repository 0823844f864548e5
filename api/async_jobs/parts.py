"""What the routes of jobs need beside the rest of an API process, made once by `api/process.py`."""

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from infra.blobs import Blobs


class JobParts:
    """The parts of one process."""

    def __init__(self, *, blobs: Blobs, cancelled: Callable[[str], Awaitable[None]]) -> None:
        """`cancelled` tells the process that runs a job that it was cancelled."""
        self.blobs = blobs
        self.cancelled = cancelled
        self.on_accepted: Callable[[], None] = lambda: None
        """Called when this process has accepted jobs: its runner looks at once."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, project_id: str) -> asyncio.Lock:
        """The turn of a project's acceptances: its jobs are counted and accepted one call after another."""
        turn = self._turns.get(project_id)
        if turn is None:
            turn = self._turns[project_id] = asyncio.Lock()
        return turn
