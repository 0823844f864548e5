"""Ends a block of the running task from outside, as `asyncio.timeout` does when its time is over.

The block runs in its caller's task: nothing is started for what hardly ever happens.
"""

import asyncio
from types import TracebackType
from typing import Self


class Interruption:
    """The end of one block that may come from outside. Once it has come, the block ends without an error."""

    def __init__(self) -> None:
        self.has_come = False
        self._task: asyncio.Task[object] | None = None
        """The task of the block, while that runs."""
        self._cancelling = 0
        """The task's `cancelling()` at the beginning of the block."""

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None, "a block of a task"
        self._cancelling = self._task.cancelling()
        return self

    def come(self) -> None:
        """End the block, if it runs: what it awaits is cancelled. Not for the block itself to call."""
        if self._task is not None and not self.has_come:
            self.has_come = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> bool:
        task, self._task = self._task, None
        assert task is not None, "it was entered"
        if not self.has_come:
            return False
        is_ours = task.uncancel() <= self._cancelling
        return is_ours and kind is asyncio.CancelledError
