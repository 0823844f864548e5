"""What a worker knows of each circuit, and how many it keeps."""

from collections import deque
from collections.abc import Iterator

from cachetools import LRUCache

from domain.circuit import CLOSED, Circuit, CircuitKey, Totals, Window, slots_of
from domain.events import INSTALLATION
from domain.provider_limits import ProviderLimit
from infra.circuit_news import MAX_LAST_ERRORS, MAX_LATENCIES, LastError

MAX_OWN_CIRCUITS = 64
"""Of one project's own credentials: it chooses the models' names, and takes no room from others with them."""
MAX_OWNERS = 256
MAX_SHARED_CIRCUITS = 1_024
"""Of the installation's credentials."""
COUNTS_AGE_S = 5.0
"""What another worker has counted is forgotten if it tells nothing new for so long."""


class Kept:
    """What this worker knows of one circuit."""

    __slots__ = (
        "circuit",
        "credentials",
        "hint",
        "key",
        "last_errors",
        "latencies_ms",
        "limits",
        "limits_at_s",
        "others",
        "since_ms",
        "window",
    )

    def __init__(self, key: CircuitKey, window_s: float) -> None:
        self.key = key
        self.circuit: Circuit = CLOSED
        self.since_ms = 0
        self.credentials = 1
        """How many the owner has for the provider."""
        self.window = Window(window_s, slots=slots_of(key))
        self.others: dict[str, tuple[float, Totals]] = {}
        """What other workers have counted, and when they told it."""
        self.last_errors: deque[LastError] = deque(maxlen=MAX_LAST_ERRORS)
        self.latencies_ms: deque[int] = deque(maxlen=MAX_LATENCIES)
        self.limits: tuple[ProviderLimit, ...] = ()
        self.limits_at_s = 0.0
        self.hint: str | None = None

    def totals(self, now_s: float) -> Totals:
        """The calls of the window, over all workers."""
        totals = self.window.totals(now_s)
        for told_s, counted in self.others.values():
            if now_s - told_s <= COUNTS_AGE_S:
                totals = totals.plus(counted)
        return totals


class Shelf:
    """The circuits that are kept, the least used ones given up: a few for each project, more for the installation."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._shared: LRUCache[CircuitKey, Kept] = LRUCache(MAX_SHARED_CIRCUITS)
        self._own: LRUCache[str, LRUCache[CircuitKey, Kept]] = LRUCache(MAX_OWNERS)

    def get(self, key: CircuitKey) -> Kept | None:
        """Return the circuit if it is kept."""
        shelf = self._shared if key.owner == INSTALLATION else self._own.get(key.owner)
        return shelf.get(key) if shelf is not None else None

    def take(self, key: CircuitKey) -> Kept:
        """Return the circuit; a closed one if it is not kept yet."""
        shelf = self._shared
        if key.owner != INSTALLATION:
            own = self._own.get(key.owner)
            shelf = own if own is not None else LRUCache(MAX_OWN_CIRCUITS)
            if own is None:
                self._own[key.owner] = shelf
        try:
            return shelf[key]
        except KeyError:
            kept = shelf[key] = Kept(key, self._window_s)
            return kept

    def drop(self, owner: str) -> None:
        """Give up the circuits of an owner."""
        if owner == INSTALLATION:
            self._shared.clear()
        else:
            self._own.pop(owner, None)

    def all(self) -> Iterator[Kept]:
        """Yield every circuit, the installation's first."""
        yield from list(self._shared.values())
        for shelf in list(self._own.values()):
            yield from list(shelf.values())
