"""The circuits of one worker: it asks here before it calls a provider, and says here how the call went.

A decision reads memory. Only the call that may be a probe waits, for the claim that makes it the only one. What this
worker finds out is told to the others once a second and at each change, and what they tell counts here as well: see
`infra/circuit_news.py`. What is a failure, and what follows from it, is in `domain/circuit.py`.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from domain.circuit import (
    FAILURES,
    Circuit,
    CircuitKey,
    CircuitSettings,
    Signal,
    Totals,
    after,
    probing,
    signal_of,
    slot_of,
    slots_of,
    verdict,
)
from domain.errors import CircuitOpen, GatewayError, ProviderError, ProviderRateLimited
from domain.events import INSTALLATION
from domain.provider_limits import headroom, read_limits
from infra.circuit_news import (
    MAX_REPORTED,
    MAX_TOLD,
    LastError,
    Report,
    ReportedCircuit,
    ToldCircuit,
    ToldCounts,
    ToldLimits,
    WorkerNews,
)
from workers.circuit_shelf import Kept, Shelf
from workers.providers.provider import ProviderCall

MAX_WORKERS = 64
"""Others whose counts are added to ours."""
MAX_TRANSITIONS = 256
"""That wait to be written; older ones are given up: they are news, not accounts."""


def circuit_of(call: ProviderCall) -> CircuitKey:
    """The circuit that a call belongs to."""
    identity, credential = call.identity, call.credential
    return CircuitKey(
        owner=identity.project_id if credential is not None and credential.is_own else INSTALLATION,
        provider=identity.provider,
        model=identity.upstream_model,
        credential=(credential.name if credential is not None else None) or "",
    )


class CircuitBreaker(Protocol):
    """What those that call providers need of the circuits."""

    async def refusal(self, key: CircuitKey, project_id: str, *, is_only: bool) -> ProviderError | None:
        """None: call the provider. Else why not, with the seconds after which it may be called again.

        `is_only`: the request has no other target left to try. Whoever gets None calls soon, and then calls `record`:
        the call may be the probe.
        """
        ...

    def record(
        self,
        key: CircuitKey,
        project_id: str,
        error: GatewayError | None,
        *,
        began_s: float,
        hint: str | None = None,
        is_callers_limit: bool = False,
        credentials: int = 1,
    ) -> None:
        """Say how a call went that began at `began_s`, of the monotonic clock. `error` None: it was answered.

        `is_callers_limit`: the time that was over is one that the caller's target sets. `credentials`: how many there
        are for the provider.
        """
        ...

    def began(self, key: CircuitKey, *, began_s: float) -> None:
        """Say that a call which began at `began_s` is being answered; how it went is not known yet."""
        ...

    def heard(self, key: CircuitKey, headers: Mapping[str, str], *, credentials: int = 1) -> None:
        """Take the headers of a provider's response, for what they say of its rate limits."""
        ...

    def share(self, key: CircuitKey) -> float:
        """Return the share of its usual calls that a target should get: 0 while its circuit is open."""
        ...


class Transition(Struct, frozen=True, kw_only=True):
    """A circuit that has opened or closed, for the log."""

    key: CircuitKey
    circuit: Circuit
    """As it is now."""
    opened_ms: int
    """When it has opened, in milliseconds since 1970."""
    wait_ms: int
    """Of one that opens: until the first probe."""
    at: datetime
    totals: Totals
    last_error: LastError | None
    hint: str | None


class Circuits:
    """The circuits that one worker keeps."""

    def __init__(
        self,
        settings: CircuitSettings,
        *,
        worker: str,
        claim: "ClaimProbe",
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`claim` decides over all processes who probes. `on_change` is called when there is news to tell at once."""
        self._settings = settings
        self._worker = worker
        self._claim = claim
        self._on_change = on_change
        self._clock = clock
        self._wall = wall
        self._kept = Shelf(settings.window_s)
        self._changed: dict[CircuitKey, None] = {}
        self._watched: dict[CircuitKey, Kept] = {}
        """Those of which there may be news to tell: all others are closed, without failures and with limits enough."""
        self._transitions: deque[Transition] = deque(maxlen=MAX_TRANSITIONS)

    async def refusal(self, key: CircuitKey, project_id: str, *, is_only: bool) -> ProviderError | None:
        """See `CircuitBreaker`."""
        if key not in self._watched:
            return None
        kept = self._kept.get(key)
        if kept is None or kept.circuit.state == "closed":
            return None
        now_s = self._clock()
        is_concerned = key.owner != INSTALLATION or kept.totals(now_s).concern(slot_of(key, project_id))
        found = verdict(kept.circuit, now_s, is_only=is_only, is_concerned=is_concerned)
        if found.kind == "probe":
            before = kept.circuit
            kept.circuit = probing(before, self._clock())  # others of this process wait from now on
            if await self._claim(key, before.version):
                self._note_change(kept, before, kept.circuit)
                return None
            found = verdict(kept.circuit, self._clock(), is_only=is_only, is_concerned=is_concerned)
        return _refusal(kept, found.wait_s) if found.kind == "wait" else None

    def record(
        self,
        key: CircuitKey,
        project_id: str,
        error: GatewayError | None,
        *,
        began_s: float,
        hint: str | None = None,
        is_callers_limit: bool = False,
        credentials: int = 1,
    ) -> None:
        """See `CircuitBreaker`."""
        if not self._settings.is_on:
            return
        now_s = self._clock()
        signal = signal_of(
            error, now_s - began_s, is_shared=key.owner == INSTALLATION, is_callers_limit=is_callers_limit
        )
        is_counted = signal.kind == "answered" or signal.kind in FAILURES
        kept = self._kept.take(key) if is_counted else self._kept.get(key)
        if kept is None:
            return
        if is_counted:
            is_failure = signal.kind in FAILURES
            kept.window.count(now_s, slot=slot_of(key, project_id), is_failure=is_failure)
            kept.hint, kept.credentials = hint, credentials
            if error is not None:
                kept.last_errors.appendleft(self._last_error(error))
                self._watched[key] = kept
            else:
                kept.latencies_ms.append(round((now_s - began_s) * 1000))
        if signal.kind == "answered" and kept.circuit.state == "closed":
            return
        self._step(kept, signal, now_s, began_s)

    def began(self, key: CircuitKey, *, began_s: float) -> None:
        """See `CircuitBreaker`."""
        kept = self._kept.get(key) if key in self._watched else None
        if kept is not None and kept.circuit.state == "half_open":
            self._step(kept, Signal(kind="alive"), self._clock(), began_s)

    def heard(self, key: CircuitKey, headers: Mapping[str, str], *, credentials: int = 1) -> None:
        """See `CircuitBreaker`."""
        if not self._settings.is_on or not (limits := read_limits(headers, self._wall())):
            return
        kept = self._kept.take(key)
        kept.limits, kept.limits_at_s, kept.credentials = limits, self._clock(), credentials
        if headroom(limits, 0.0) < 1:
            self._watched[key] = kept

    def share(self, key: CircuitKey) -> float:
        """Return the share of its usual calls that a target should get: 0 while its circuit is open."""
        kept = self._kept.get(key)
        if kept is None:
            return 1.0
        now_s = self._clock()
        if verdict(kept.circuit, now_s, is_only=False).kind == "wait":
            return 0.0
        return headroom(kept.limits, now_s - kept.limits_at_s)

    def forget(self, owner: str) -> None:
        """Forget an owner's circuits: its keys or addresses may be others now."""
        self._kept.drop(owner)

    def take(self, news: WorkerNews) -> None:
        """Take what a worker tells. What is newer than what is known here counts."""
        if news.worker == self._worker:
            return
        now_s = self._clock()
        for told in news.circuits:
            self._adopt(told, now_s)
        for counts in news.counts:
            kept = self._kept.take(counts.key)
            if len(counts.calls) == len(counts.failures) == slots_of(counts.key):
                kept.others[news.worker] = (now_s, Totals(counts.calls, counts.failures))
                while len(kept.others) > MAX_WORKERS:
                    kept.others.pop(next(iter(kept.others)))
        for told_limits in news.limits:
            kept = self._kept.take(told_limits.key)
            if now_s - told_limits.age_s > kept.limits_at_s:
                kept.limits, kept.limits_at_s = told_limits.limits, now_s - told_limits.age_s
                kept.credentials = told_limits.credentials

    def news(self) -> WorkerNews | None:
        """What the others should know. None: all is well."""
        now_s = self._clock()
        circuits, counts, limits = [], [], []
        for key, kept in sorted(self._watched.items(), key=lambda item: item[0].owner != INSTALLATION):
            is_told = kept.circuit.state != "closed" or key in self._changed
            if is_told:
                circuits.append(self._told(kept, now_s))
            own = kept.window.totals(now_s)
            if own.all_failures:
                counts.append(ToldCounts(key=key, calls=own.calls, failures=own.failures))
            is_low = bool(kept.limits) and headroom(kept.limits, now_s - kept.limits_at_s) < 1
            if is_low:
                age_s = now_s - kept.limits_at_s
                limits.append(ToldLimits(key=key, limits=kept.limits, age_s=age_s, credentials=kept.credentials))
            if not (is_told or own.all_failures or is_low) or self._kept.get(key) is not kept:
                del self._watched[key]
        self._changed.clear()
        if not (circuits or counts or limits):
            return None
        return WorkerNews(
            worker=self._worker,
            circuits=tuple(circuits[:MAX_TOLD]),
            counts=tuple(counts[:MAX_TOLD]),
            limits=tuple(limits[:MAX_TOLD]),
        )

    def report(self, owner: str | None = None) -> Report:
        """Return what is known of the circuits of one owner, or of all, for people."""
        now_s = self._clock()
        chosen = [kept for kept in self._kept.all() if owner in (None, kept.key.owner)]
        return Report(
            worker=self._worker, circuits=tuple(self._reported(kept, now_s) for kept in chosen[:MAX_REPORTED])
        )

    def states(self) -> dict[str, int]:
        """Count the circuits by state."""
        counts = {"closed": 0, "open": 0, "half_open": 0}
        for kept in self._kept.all():
            counts[kept.circuit.state] += 1
        return counts

    def open_by_provider(self) -> dict[str, int]:
        """Count the circuits that are not closed, by provider."""
        return Counter(kept.key.provider for kept in self._kept.all() if kept.circuit.state != "closed")

    def taken_transitions(self) -> list[Transition]:
        """Return what has opened and closed here since the last call."""
        transitions = list(self._transitions)
        self._transitions.clear()
        return transitions

    @property
    def has_news(self) -> bool:
        """True if a circuit has changed since the news was last told."""
        return bool(self._changed)

    def _step(self, kept: Kept, signal: Signal, now_s: float, began_s: float) -> None:
        before = kept.circuit
        totals = kept.totals(now_s)
        is_probe = before.state == "half_open" and began_s >= before.since_s
        changed = after(before, signal, totals, self._settings, now_s, is_probe=is_probe)
        if changed is before:
            return
        since_ms = kept.since_ms
        self._note_change(kept, before, changed)
        if (before.state == "closed") != (changed.state == "closed"):
            self._transitions.append(
                Transition(
                    key=kept.key,
                    circuit=kept.circuit,
                    opened_ms=since_ms if changed.state == "closed" else kept.since_ms,
                    wait_ms=round((changed.until_s - now_s) * 1000) if changed.state == "open" else 0,
                    at=self._wall(),
                    totals=totals,
                    last_error=kept.last_errors[0] if kept.last_errors else None,
                    hint=kept.hint,
                )
            )
        if changed.state == "closed":
            kept.window.clear()
            kept.others.clear()

    def _note_change(self, kept: Kept, before: Circuit, changed: Circuit) -> None:
        """Number the new state by the clock, so that a worker that has just begun is not behind, and tell of it."""
        wall_ms = self._wall_ms()
        kept.circuit = replace(changed, version=max(before.version + 1, wall_ms))
        if (before.state == "closed") != (changed.state == "closed"):
            kept.since_ms = wall_ms
        self._changed[kept.key] = None
        self._watched[kept.key] = kept
        self._on_change()

    def _adopt(self, told: ToldCircuit, now_s: float) -> None:
        kept = self._kept.take(told.key)
        if told.version < kept.circuit.version:
            self._changed[kept.key] = None  # who told it is behind
            self._watched[kept.key] = kept
            self._on_change()
            return
        if told.version == kept.circuit.version:
            return
        longest_s = self._settings.max_open_s
        kept.circuit = Circuit(
            state=told.state,
            version=told.version,
            reason=told.reason,
            is_limit=told.is_limit,
            openings=told.openings,
            since_s=now_s,
            until_s=now_s + min(longest_s, told.until_in_s),
            only_until_s=now_s + min(longest_s, told.only_until_in_s),
        )
        kept.since_ms, kept.credentials = told.since_ms, told.credentials
        if told.state != "closed":
            self._watched[kept.key] = kept
        if told.state == "closed":
            kept.window.clear()
            kept.others.clear()

    def _told(self, kept: Kept, now_s: float) -> ToldCircuit:
        circuit = kept.circuit
        return ToldCircuit(
            key=kept.key,
            state=circuit.state,
            version=circuit.version,
            reason=circuit.reason,
            is_limit=circuit.is_limit,
            openings=circuit.openings,
            until_in_s=max(0.0, circuit.until_s - now_s),
            only_until_in_s=max(0.0, circuit.only_until_s - now_s),
            since_ms=kept.since_ms,
            credentials=kept.credentials,
        )

    def _reported(self, kept: Kept, now_s: float) -> ReportedCircuit:
        own = kept.window.totals(now_s)
        limits_age_ms = round((now_s - kept.limits_at_s) * 1000)
        return ReportedCircuit(
            told=self._told(kept, now_s),
            calls=own.all_calls,
            failures=own.all_failures,
            last_errors=tuple(kept.last_errors),
            latencies_ms=tuple(kept.latencies_ms),
            limits=kept.limits,
            limits_at_ms=self._wall_ms() - limits_age_ms if kept.limits else None,
            hint=kept.hint,
        )

    def _last_error(self, error: GatewayError) -> LastError:
        status = error.status if isinstance(error, ProviderError) else None
        return LastError(code=error.code, status=status, at_ms=self._wall_ms())

    def _wall_ms(self) -> int:
        return round(self._wall().timestamp() * 1000)


class ClaimProbe(Protocol):
    """Decides over all processes who probes."""

    async def __call__(self, key: CircuitKey, version: int) -> bool:
        """True: the caller probes this version of a circuit. False: another does."""
        ...


def _refusal(kept: Kept, wait_s: float) -> ProviderError:
    circuit, provider = kept.circuit, kept.key.provider
    last = kept.last_errors[0] if kept.last_errors else None
    met = f": its last error was {last.code}" + (f" (status {last.status})" if last.status else "") if last else ""
    if circuit.is_limit:
        message = f"{provider} limits calls of {kept.key.model}, and is not called again for {wait_s:.1f} s"
        return ProviderRateLimited(message, provider=provider, retry_after_s=wait_s)
    message = f"{provider} is not called for {kept.key.model} for {wait_s:.1f} s, since it does not answer{met}"
    return CircuitOpen(message, provider=provider, retry_after_s=wait_s)
