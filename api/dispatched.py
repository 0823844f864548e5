"""The dispatched requests of one API process by tenant, to choose their lane. A plain count in memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from infra.jobs import Lane

SYNC_PER_PROJECT = 32
SYNC_PER_KEY = 16
"""The requests that each API process has in the lane `sync` at most, for a project and for an API key."""


class DispatchedRequests:
    """Counts the requests whose jobs were published and have not ended."""

    def __init__(self) -> None:
        self._by_project: Counter[str] = Counter()
        self._by_key: Counter[str] = Counter()

    @contextmanager
    def count(self, project_id: str, key_id: str) -> Iterator[Lane]:
        """Count a request until the block ends. Gives the lane for its job: `bulk` if the tenant has many in flight."""
        is_many = self._by_project[project_id] >= SYNC_PER_PROJECT or self._by_key[key_id] >= SYNC_PER_KEY
        self._by_project[project_id] += 1
        self._by_key[key_id] += 1
        try:
            yield "bulk" if is_many else "sync"
        finally:
            _decrement(self._by_project, project_id)
            _decrement(self._by_key, key_id)


def _decrement(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
