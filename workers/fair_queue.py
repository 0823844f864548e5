"""Chooses which waiting job runs next if tenants and providers share a worker's slots. Runs nothing.

Two rules, for each project and, inside it, for each API key. The second one holds for each provider too, by its name
and its owner, and what others run of it delays no project that runs little of it (`domain/fair_share.py`):

- Fair queueing: the next job belongs to the project with the fewest running jobs; among equals the turn goes round
  (round robin over flows: J. Nagle, RFC 970, 1985).
- Dynamic thresholds: a project may start another job only while it runs fewer than `PROJECT_FACTOR` times as many as
  there are free slots (A. Choudhury, E. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches",
  IEEE/ACM Transactions on Networking 6(2), 1998). So one project alone may use F/(F+1) of the slots, and n busy ones
  leave 1/(1+nF) of them free for the one that comes next, which would otherwise wait for the end of a running job.
"""

from collections import Counter, OrderedDict, deque
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct, field

from domain.fair_share import provider_may_start

PROJECT_FACTOR = 7
"""A project that is alone may use 7/8 of the slots."""
KEY_FACTOR = 4
"""An API key that is alone may use 4/5 of the slots."""
PROVIDER_FACTOR = 3
"""A provider that is alone may use 3/4 of the slots: less than a key, so that one that has become slow leaves room for
the others also among the jobs of one key."""
NO_PROVIDER = ""
"""Of jobs that call none: they have no share of their own."""

Item = TypeVar("Item")


class _FlowName(NamedTuple):
    """The jobs of an API key that call one provider."""

    key_id: str
    provider: str


class _Flow(Struct, Generic[Item]):
    """One part of the queue, first in, first out."""

    waiting: deque[Item] = field(default_factory=deque)
    running: int = 0


class _Project(Struct, Generic[Item]):
    """One project's part of the queue."""

    flows: dict[_FlowName, _Flow[Item]] = field(default_factory=dict)
    turns: OrderedDict[_FlowName, _Flow[Item]] = field(default_factory=OrderedDict)
    """The flows with waiting jobs, in the order of their turns."""
    keys: Counter[str] = field(default_factory=Counter)
    """The running jobs of each API key."""
    providers: Counter[str] = field(default_factory=Counter)
    """The running jobs of each provider."""
    running: int = 0


class FairQueue(Generic[Item]):
    """The waiting jobs of a worker and the number of running ones, by project, API key and provider.

    First in, first out within a key's jobs for a provider.
    """

    def __init__(
        self,
        slots: int,
        *,
        project_factor: int = PROJECT_FACTOR,
        key_factor: int = KEY_FACTOR,
        provider_factor: int = PROVIDER_FACTOR,
    ) -> None:
        """Let at most `slots` jobs run at a time."""
        assert slots > 0, "a worker has slots"
        self._slots = slots
        self._project_factor = project_factor
        self._key_factor = key_factor
        self._provider_factor = provider_factor
        self._projects: dict[str, _Project[Item]] = {}
        self._turns: OrderedDict[str, _Project[Item]] = OrderedDict()
        """The projects with waiting jobs, in the order of their turns."""
        self._providers: Counter[str] = Counter()
        """The running jobs of each provider."""
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

    def add(self, project_id: str, key_id: str, item: Item, provider: str = NO_PROVIDER) -> None:
        """Let a job wait. `provider` names the provider that it calls and its owner: see `provider_share`."""
        project = self._projects.get(project_id)
        if project is None:
            project = self._projects[project_id] = _Project()
        name = _FlowName(key_id, provider)
        flow = project.flows.get(name)
        if flow is None:
            flow = project.flows[name] = _Flow()
        flow.waiting.append(item)
        project.turns.setdefault(name, flow)
        self._turns.setdefault(project_id, project)
        self._waiting += 1

    def has_room_for(self, project_id: str, key_id: str, provider: str = NO_PROVIDER) -> bool:
        """Return True if a job of this project, key and provider would start at once."""
        free = self._slots - self._running
        project = self._projects.get(project_id)
        if free <= 0 or not self._provider_may_start(project, provider, free):
            return False
        if project is None:
            return True
        flow = project.flows.get(_FlowName(key_id, provider))
        may_start = project.running < self._project_factor * free
        return may_start and project.keys[key_id] < self._key_factor * free and (flow is None or not flow.waiting)

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
        project_id, name = chosen
        project = self._turns[project_id]
        flow = project.turns[name]
        item = flow.waiting.popleft()
        flow.running += 1
        project.running += 1
        project.keys[name.key_id] += 1
        project.providers[name.provider] += 1
        self._providers[name.provider] += 1
        self._running += 1
        self._waiting -= 1
        if flow.waiting:
            project.turns.move_to_end(name)
        else:
            del project.turns[name]
        if project.turns:
            self._turns.move_to_end(project_id)
        else:
            del self._turns[project_id]
        return project_id, name.key_id, item

    def finish(self, project_id: str, key_id: str, provider: str = NO_PROVIDER) -> None:
        """Count a running job as ended."""
        project = self._projects[project_id]
        name = _FlowName(key_id, provider)
        flow = project.flows[name]
        assert flow.running > 0, "a job ends that was started"
        flow.running -= 1
        project.running -= 1
        self._running -= 1
        counts = (project.keys, key_id), (project.providers, provider), (self._providers, provider)
        for counter, counted in counts:
            counter[counted] -= 1
            if not counter[counted]:
                del counter[counted]
        if not flow.running and not flow.waiting:
            del project.flows[name]
            if not project.flows:
                del self._projects[project_id]

    def clear(self) -> list[Item]:
        """Take out every waiting job."""
        items: list[Item] = []
        for project_id, project in self._turns.items():
            for name, flow in project.turns.items():
                items += flow.waiting
                flow.waiting.clear()
                if not flow.running:
                    del project.flows[name]
            project.turns.clear()
            if not project.flows:
                del self._projects[project_id]
        self._turns.clear()
        self._waiting = 0
        return items

    def _provider_may_start(self, project: _Project[Item] | None, provider: str, free: int) -> bool:
        return not provider or provider_may_start(
            self._provider_factor,
            running=self._providers[provider],
            of_project=project.providers[provider] if project is not None else 0,
            free=free,
        )

    def _next(self, free: int) -> tuple[str, _FlowName] | None:
        """The project and the flow whose job runs next."""
        best: tuple[str, _FlowName] | None = None
        fewest = self._project_factor * free
        for project_id, project in self._turns.items():
            if project.running >= fewest:
                continue
            name = self._next_flow(project, free)
            if name is not None:
                best, fewest = (project_id, name), project.running
            if not fewest:
                break
        return best

    def _next_flow(self, project: _Project[Item], free: int) -> _FlowName | None:
        best: _FlowName | None = None
        fewest = self._key_factor * free
        for name in project.turns:
            running = project.keys[name.key_id]
            if running < fewest and self._provider_may_start(project, name.provider, free):
                best, fewest = name, running
            if not fewest:
                break
        return best
