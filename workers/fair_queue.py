"""Chooses which waiting job runs next if tenants share a worker's slots. Runs nothing, and sends no heartbeats.

Two rules, for each project and, inside it, for each API key:

- Fair queueing: the next job belongs to the project with the fewest running jobs; among equals the turn goes round
  (round robin over flows: J. Nagle, RFC 970, 1985).
- Dynamic thresholds: a project may start another job only while it runs fewer than `PROJECT_FACTOR` times as many as
  there are free slots (A. Choudhury, E. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches",
  IEEE/ACM Transactions on Networking 6(2), 1998). So one project alone may use F/(F+1) of the slots, and n busy ones
  leave 1/(1+nF) of them free for the one that comes next, which would otherwise wait for the end of a running job.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from msgspec import Struct, field

PROJECT_FACTOR = 7
"""A project that is alone may use 7/8 of the slots."""
KEY_FACTOR = 3
"""An API key that is alone may use 3/4 of the slots."""

Item = TypeVar("Item")


class _Flow(Struct, Generic[Item]):
    """One API key's part of the queue."""

    waiting: deque[Item] = field(default_factory=deque)
    running: int = 0


class _Project(Struct, Generic[Item]):
    """One project's part of the queue."""

    flows: dict[str, _Flow[Item]] = field(default_factory=dict)
    turns: OrderedDict[str, _Flow[Item]] = field(default_factory=OrderedDict)
    """The API keys with waiting jobs, in the order of their turns."""
    running: int = 0


class FairQueue(Generic[Item]):
    """The waiting jobs of a worker and the number of running ones, by project and API key. First in, first out within
    a key.
    """

    def __init__(self, slots: int, *, project_factor: int = PROJECT_FACTOR, key_factor: int = KEY_FACTOR) -> None:
        """Let at most `slots` jobs run at a time."""
        assert slots > 0, "a worker has slots"
        self._slots = slots
        self._project_factor = project_factor
        self._key_factor = key_factor
        self._projects: dict[str, _Project[Item]] = {}
        self._turns: OrderedDict[str, _Project[Item]] = OrderedDict()
        """The projects with waiting jobs, in the order of their turns."""
        self._running = 0
        self._waiting = 0

    @property
    def running(self) -> int:
        """The jobs that were started and have not finished."""
        return self._running

    @property
    def waiting(self) -> int:
        """The jobs that wait."""
        return self._waiting

    def add(self, project_id: str, key_id: str, item: Item) -> None:
        """Let a job wait."""
        project = self._projects.get(project_id)
        if project is None:
            project = self._projects[project_id] = _Project()
        flow = project.flows.get(key_id)
        if flow is None:
            flow = project.flows[key_id] = _Flow()
        flow.waiting.append(item)
        project.turns.setdefault(key_id, flow)
        self._turns.setdefault(project_id, project)
        self._waiting += 1

    def has_room_for(self, project_id: str, key_id: str) -> bool:
        """Return True if a job of this project and key would start at once."""
        free = self._slots - self._running
        project = self._projects.get(project_id)
        if project is None:
            return free > 0
        flow = project.flows.get(key_id)
        may_start = project.running < self._project_factor * free
        return may_start and (flow is None or (not flow.waiting and flow.running < self._key_factor * free))

    def start(self) -> tuple[str, str, Item] | None:
        """Take the next job that may run, and count it as running. None if there is none.

        Returns its project, its API key and the job. The caller reports its end with `finish`.
        """
        free = self._slots - self._running
        if not self._waiting or free <= 0:
            return None
        chosen = self._next(free)
        if chosen is None:
            return None
        project_id, key_id = chosen
        project = self._turns[project_id]
        flow = project.turns[key_id]
        item = flow.waiting.popleft()
        flow.running += 1
        project.running += 1
        self._running += 1
        self._waiting -= 1
        if flow.waiting:
            project.turns.move_to_end(key_id)
        else:
            del project.turns[key_id]
        if project.turns:
            self._turns.move_to_end(project_id)
        else:
            del self._turns[project_id]
        return project_id, key_id, item

    def finish(self, project_id: str, key_id: str) -> None:
        """Count a running job as ended."""
        project = self._projects[project_id]
        flow = project.flows[key_id]
        assert flow.running > 0, "a job ends that was started"
        flow.running -= 1
        project.running -= 1
        self._running -= 1
        if not flow.running and not flow.waiting:
            del project.flows[key_id]
            if not project.flows:
                del self._projects[project_id]

    def clear(self) -> list[Item]:
        """Take out every waiting job."""
        items: list[Item] = []
        for project_id, project in self._turns.items():
            for key_id, flow in project.turns.items():
                items += flow.waiting
                flow.waiting.clear()
                if not flow.running:
                    del project.flows[key_id]
            project.turns.clear()
            if not project.flows:
                del self._projects[project_id]
        self._turns.clear()
        self._waiting = 0
        return items

    def _next(self, free: int) -> tuple[str, str] | None:
        """The project and the API key whose job runs next."""
        best: tuple[str, str] | None = None
        fewest = self._project_factor * free
        for project_id, project in self._turns.items():
            if project.running >= fewest:
                continue
            key_id = _next_key(project, self._key_factor * free)
            if key_id is not None:
                best, fewest = (project_id, key_id), project.running
            if not fewest:
                break
        return best


def _next_key(project: _Project[Item], threshold: int) -> str | None:
    best: str | None = None
    fewest = threshold
    for key_id, flow in project.turns.items():
        if flow.running < fewest:
            best, fewest = key_id, flow.running
        if not fewest:
            break
    return best
