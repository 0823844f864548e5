"""Bounds how many large answers a worker has in memory at a time. Others wait unread, and so does their provider (TCP).

Small answers take no turn. Turns are shared by `workers/fair_queue.py`: one project alone may use half of them, so that
a provider that sends slowly holds up the large answers of its own project only.
"""

import asyncio
from typing import Self

from msgspec import Struct

from workers.fair_queue import FairQueue

LARGE_ANSWER_BYTES = 1024 * 1024
"""An answer of this size takes a turn before more of it is read."""
TURNS = 6
"""With answers of `MAX_ANSWER_BYTES` each, and a copy of each on its way: 1.5 GiB at most."""


class LargeAnswers:
    """The turns of one worker."""

    def __init__(self, turns: int = TURNS) -> None:
        self._queue = FairQueue[asyncio.Future[None]](turns, project_factor=1, key_factor=1)

    def turn(self, project_id: str, key_id: str) -> "Turn":
        """Give an attempt its turn: taken when its answer becomes large, given back when the block ends."""
        return Turn(self, project_id, key_id)

    async def take(self, project_id: str, key_id: str) -> None:
        """Wait for a turn. The caller gives it back."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.add(project_id, key_id, started)
        self._start_next()
        try:
            await started
        except asyncio.CancelledError:
            if started.done() and not started.cancelled():  # it was given in the same moment
                self.give_back(project_id, key_id)
            raise

    def give_back(self, project_id: str, key_id: str) -> None:
        """End a turn."""
        self._queue.finish(project_id, key_id)
        self._start_next()

    def _start_next(self) -> None:
        while (entry := self._queue.start()) is not None:
            project_id, key_id, started = entry
            if started.done():  # no longer wanted
                self._queue.finish(project_id, key_id)
            else:
                started.set_result(None)


class Turn(Struct):
    """A turn that is taken at most once."""

    answers: LargeAnswers
    project_id: str
    key_id: str
    is_taken: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_taken:
            self.answers.give_back(self.project_id, self.key_id)

    async def take(self) -> None:
        """Wait until the attempt may have a large answer in memory."""
        if not self.is_taken:
            await self.answers.take(self.project_id, self.key_id)
            self.is_taken = True
