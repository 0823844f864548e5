"""What an API process knows of the providers' circuits: what workers tell, for the order of a route's targets, and what
they report when somebody asks.

Workers decide. What is here may be a second old, and only moves a target that is not to be called behind the others.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from cachetools import TTLCache
from msgspec import Struct
from msgspec.structs import replace

from domain.circuit import CircuitKey
from domain.events import INSTALLATION
from domain.provider_limits import ProviderLimit, headroom
from infra.circuit_news import MAX_LAST_ERRORS, CircuitNews, LastError, Report, ReportedCircuit, ToldCircuit, WorkerNews

MAX_KNOWN = 4_096
NEWS_AGE_S = 5.0
"""Workers repeat what is not well once a second."""
MAX_LISTED_OPEN = 32
"""In the details of readiness."""
MEDIAN, P95 = 0.5, 0.95
PARTLY_FAILING_FROM = 0.05
"""The share of failed calls from which a target is said to fail partly, as the error rate of a project is marked."""

CallsState: TypeAlias = Literal["answering", "failingPartly", "failing", "notCalled"]
"""What the calls of the window have met. It says nothing of the circuit: few calls that all fail open none."""


def calls_state(calls: int, failures: int) -> CallsState:
    """Say what calls have met of which so many failed."""
    if calls == 0:
        return "notCalled"
    if failures >= calls:
        return "failing"
    return "failingPartly" if failures / calls >= PARTLY_FAILING_FROM else "answering"


class CircuitHealth(Struct, frozen=True, kw_only=True):
    """One circuit, as all workers together know it."""

    told: ToldCircuit
    """Of the worker that knows the newest state."""
    calls: int
    failures: int
    """In the window."""
    p50_ms: int | None
    p95_ms: int | None
    """Of the last answers; None: there were none."""
    last_errors: tuple[LastError, ...]
    limits: tuple[ProviderLimit, ...]
    limits_at_ms: int | None
    hint: str | None


class FailingTarget(Struct, frozen=True, kw_only=True, order=True):
    """A target whose last calls have failed, some or all of them, as all workers together tell."""

    provider: str
    model: str
    calls: int
    failures: int
    """In the window."""

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def state(self) -> CallsState:
        """As `calls_state`."""
        return calls_state(self.calls, self.failures)


class ProviderHealth:
    """The circuits as one API process knows them."""

    def __init__(self, news: CircuitNews, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._news = news
        self._clock = clock
        self._circuits: TTLCache[CircuitKey, tuple[float, ToldCircuit]] = TTLCache(MAX_KNOWN, NEWS_AGE_S, timer=clock)
        self._limits: TTLCache[CircuitKey, tuple[float, tuple[ProviderLimit, ...]]] = TTLCache(
            MAX_KNOWN, NEWS_AGE_S, timer=clock
        )

        self._credentials: TTLCache[tuple[str, str, str], tuple[int, frozenset[CircuitKey]]] = TTLCache(
            MAX_KNOWN, NEWS_AGE_S, timer=clock
        )
        """How many credentials each target has, and those of which there is news."""
        self._counts: TTLCache[tuple[str, CircuitKey], tuple[int, int]] = TTLCache(MAX_KNOWN, NEWS_AGE_S, timer=clock)
        """The calls and failures in the window, by worker: each tells of a target while calls of it have failed."""

    async def listen(self) -> None:
        """Hear what workers tell, from now on."""
        await self._news.hear(self.take)

    def take(self, news: WorkerNews) -> None:
        """Take what a worker tells."""
        now_s = self._clock()
        for told in news.circuits:
            known = self._circuits.get(told.key)
            if known is None or told.version >= known[1].version:
                self._circuits[told.key] = (now_s, told)
                self._note_credential(told.key, told.credentials)
        for counts in news.counts:
            self._counts[news.worker, counts.key] = (sum(counts.calls), sum(counts.failures))
        for limits in news.limits:
            self._limits[limits.key] = (now_s - limits.age_s, limits.limits)
            self._note_credential(limits.key, limits.credentials)

    def share(self, key: CircuitKey) -> float:
        """Return the share of its usual calls that a target should get: 0 while its circuit is open, 1 if all is well,
        less if its credential's rate limits are nearly used up.

        Of a target that names no credential, the best of all that there are. Workers name only one of several.
        """
        if key.credential:
            return self._share(key if self._is_known(key) else replace(key, credential=""))
        count, told = self._credentials.get(_place(key), (1, frozenset()))
        shares = [self._share(one) for one in told if self._is_known(one)]
        return max(shares) if len(shares) >= count else 1.0

    def _note_credential(self, key: CircuitKey, credentials: int) -> None:
        _, told = self._credentials.get(_place(key), (1, frozenset()))
        self._credentials[_place(key)] = (credentials, frozenset(filter(self._is_known, told)) | {key})

    def _is_known(self, key: CircuitKey) -> bool:
        return key in self._circuits or key in self._limits

    def _share(self, key: CircuitKey) -> float:
        now_s = self._clock()
        known = self._circuits.get(key)
        if known is not None and known[1].state != "closed" and now_s < known[0] + known[1].until_in_s:
            return 0.0
        limits = self._limits.get(key)
        return headroom(limits[1], now_s - limits[0]) if limits is not None else 1.0

    def open_circuits(self, owner: str = INSTALLATION) -> tuple[str, ...]:
        """Return the targets under an owner's credentials whose circuits are not closed, as `provider/model`."""
        return self._named(owner, lambda key: f"{key.provider}/{key.model}")

    def left_alone(self, owner: str = INSTALLATION) -> tuple[str, ...]:
        """Return those of `open_circuits` that are not called at this moment: the pause of the others is over."""
        return self._named(owner, lambda key: f"{key.provider}/{key.model}", still=True)

    def open_providers(self) -> tuple[str, ...]:
        """Return the providers of which a circuit of the installation's is not closed, for those who may not learn
        which models others ask for.
        """
        return self._named(INSTALLATION, lambda key: key.provider)

    def _named(self, owner: str, name: Callable[[CircuitKey], str], *, still: bool = False) -> tuple[str, ...]:
        now_s = self._clock()
        names = {
            name(told.key)
            for heard_s, told in list(self._circuits.values())
            if told.state != "closed" and told.key.owner == owner and (not still or now_s < heard_s + told.until_in_s)
        }
        return tuple(sorted(names)[:MAX_LISTED_OPEN])

    def failing(self, owner: str = INSTALLATION) -> tuple[FailingTarget, ...]:
        """Return the targets under an owner's credentials whose last calls have failed, at least partly: also those
        whose circuits are closed, because the calls were few. Calls of a worker that met no failure are not known here.
        """
        sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for (_, key), (calls, failures) in list(self._counts.items()):
            if key.owner == owner:
                found = sums[key.provider, key.model]
                found[0] += calls
                found[1] += failures
        targets = (
            FailingTarget(provider=provider, model=model, calls=calls, failures=failures)
            for (provider, model), (calls, failures) in sums.items()
        )
        failing = (one for one in targets if one.state in ("failing", "failingPartly"))
        return tuple(sorted(failing)[:MAX_LISTED_OPEN])

    async def of(self, owner: str | None) -> list[CircuitHealth]:
        """Ask the workers for the circuits of an owner, or of all (None). Empty if none of them answers."""
        return merged(await self._news.reports(owner))


def _place(key: CircuitKey) -> tuple[str, str, str]:
    return key.owner, key.provider, key.model


def merged(reports: Sequence[Report]) -> list[CircuitHealth]:
    """Put the reports of all workers together, in the order of owner, provider, model and credential."""
    by_key: defaultdict[CircuitKey, list[ReportedCircuit]] = defaultdict(list)
    for report in reports:
        for circuit in report.circuits:
            by_key[circuit.told.key].append(circuit)
    order = sorted(
        by_key, key=lambda key: (key.owner != INSTALLATION, key.owner, key.provider, key.model, key.credential)
    )
    return [_merged(by_key[key]) for key in order]


def _merged(circuits: Sequence[ReportedCircuit]) -> CircuitHealth:
    errors = sorted((error for one in circuits for error in one.last_errors), key=lambda error: -error.at_ms)
    newest = max(circuits, key=lambda one: one.limits_at_ms or 0)
    latencies = sorted(latency for one in circuits for latency in one.latencies_ms)
    return CircuitHealth(
        told=max((one.told for one in circuits), key=lambda told: told.version),
        calls=sum(one.calls for one in circuits),
        failures=sum(one.failures for one in circuits),
        p50_ms=_quantile(latencies, MEDIAN),
        p95_ms=_quantile(latencies, P95),
        last_errors=tuple(errors[:MAX_LAST_ERRORS]),
        limits=newest.limits,
        limits_at_ms=newest.limits_at_ms,
        hint=_first(one.hint for one in circuits),
    )


def _quantile(ordered: Sequence[int], part: float) -> int | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


def _first(hints: Iterable[str | None]) -> str | None:
    return next((hint for hint in hints if hint), None)
