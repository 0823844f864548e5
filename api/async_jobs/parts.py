"""The parts of an API process that the routes of jobs use, made once by `api/process.py`."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from infra.blobs import Blobs


class Accepting(Struct, eq=False, kw_only=True):
    """Jobs of one call that are being accepted, or are in the log."""

    jobs: int
    position: int | None = None
    """Of their last event in the log; None: they are not in it yet."""


class JobParts:
    """The parts of one process."""

    def __init__(self, *, blobs: Blobs, cancelled: Callable[[str], Awaitable[None]]) -> None:
        """`cancelled` tells the process that runs a job that it was cancelled."""
        self.blobs = blobs
        self.cancelled = cancelled
        self.on_accepted: Callable[[], None] = lambda: None
        """Called when this process has accepted jobs: its runner looks at once."""
        self._unfolded: dict[str, list[Accepting]] = {}
        """By project: what this process has accepted, or is about to, and the read model may not have yet."""

    def accepting(self, project_id: str, jobs: int) -> Accepting:
        """Count jobs that are about to be accepted."""
        one = Accepting(jobs=jobs)
        self._unfolded.setdefault(project_id, []).append(one)
        return one

    def not_accepted(self, project_id: str, one: Accepting) -> None:
        """Count jobs no longer, which were not accepted after all."""
        self._keep(project_id, [other for other in self._unfolded.get(project_id, []) if other is not one])

    def unfolded(self, project_id: str, folded_to: int) -> int:
        """Return the number of a project's jobs that a read model does not have which has the log up to `folded_to`."""
        left = [one for one in self._unfolded.get(project_id, []) if one.position is None or one.position > folded_to]
        self._keep(project_id, left)
        return sum(one.jobs for one in left)

    def _keep(self, project_id: str, left: list[Accepting]) -> None:
        if left:
            self._unfolded[project_id] = left
        else:
            self._unfolded.pop(project_id, None)
