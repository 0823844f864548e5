"""The parts of an API process that the routes of jobs use, made once by `api/process.py`."""

import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable

from infra.blobs import Blobs

UNFOLDED_S = 5.0
"""So long jobs that this process has accepted count beside those of the read model, which may not have them yet."""


class JobParts:
    """The parts of one process."""

    def __init__(
        self, *, blobs: Blobs, cancelled: Callable[[str], Awaitable[None]], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`cancelled` tells the process that runs a job that it was cancelled."""
        self.blobs = blobs
        self.cancelled = cancelled
        self.on_accepted: Callable[[], None] = lambda: None
        """Called when this process has accepted jobs: its runner looks at once."""
        self._now_s = now_s
        self._recent: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
        """By project: when jobs were accepted here, or are about to be, and how many."""

    def count(self, project_id: str, jobs: int) -> int:
        """Count jobs that are about to be accepted. Return the number of the project's of late, with these."""
        now_s, recent = self._now_s(), self._recent[project_id]
        while recent and now_s - recent[0][0] > UNFOLDED_S:
            recent.popleft()
        recent.append((now_s, jobs))
        return sum(number for _, number in recent)

    def discount(self, project_id: str, jobs: int) -> None:
        """Count jobs no longer, which were not accepted after all."""
        recent = self._recent[project_id]
        found = next((one for one in reversed(recent) if one[1] == jobs), None)
        if found is not None:
            recent.remove(found)
