"""How many large answers a worker has in memory at a time. Reading another pauses, and so does its provider (TCP).

Small answers take no turn. Turns are shared by `workers/fair_queue.py`: one project alone may use half of them, so that
a provider that sends slowly holds up the large answers of its own project only.
"""

import asyncio
from types import TracebackType
from typing import Self

from workers.fair_queue import FairQueue

LARGE_ANSWER_BYTES = 1024 * 1024
"""An answer that has this size takes a turn before more of it is read."""
TURNS = 6
"""With answers of `MAX_ANSWER_BYTES` each, and a copy of each on its way: 1.5 GiB at most."""


class LargeAnswers:
    """The turns of one worker."""

    def __init__(self, turns: int = TURNS) -> None:
        self._queue = FairQueue[asyncio.Future[None]](turns, project_factor=1, key_factor=1)

    def turn(self, project_id: str, key_id: str) -> "Turn":
        """The turn of one attempt: taken when its answer becomes large, given back when the block ends."""
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
        while (entry := self._queue.start_entry()) is not None:
            project_id, key_id, started = entry
            if started.done():  # no longer wanted
                self._queue.finish(project_id, key_id)
            else:
                started.set_result(None)


class Turn:
    """A turn that is taken at most once."""

    def __init__(self, answers: LargeAnswers, project_id: str, key_id: str) -> None:
        self._answers = answers
        self._tenant = (project_id, key_id)
        self._is_taken = False

    async def take(self) -> None:
        """Wait until the attempt may have a large answer in memory."""
        if not self._is_taken:
            await self._answers.take(*self._tenant)
            self._is_taken = True

    def __enter__(self) -> Self:
        """Nothing is taken yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what was taken."""
        if self._is_taken:
            self._is_taken = False
            self._answers.give_back(*self._tenant)
