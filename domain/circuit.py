"""The circuit breaker of one provider, model and credential: whether a call is worth making, by what calls have met.

Closed, open, half-open, as in Nygard's "Release It!". A circuit opens if too many of the calls in a sliding window
failed, or at once if the provider says for how long it wants no calls. Then one call probes it; an answer closes it.
A pure state machine: times come in as seconds of any clock that only goes forward, and nothing here knows who calls.
`workers/circuits.py` keeps the circuits of a process, and shares them with the others.
"""

from collections import deque
from typing import Annotated, Literal
from zlib import crc32

from msgspec import Meta, Struct
from msgspec.structs import replace

from domain.errors import (
    GatewayError,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import INSTALLATION

State = Literal["closed", "open", "half_open"]
OpenReason = Literal["wait_asked", "down", "failing", "credentials"]
"""Why a circuit is open. `wait_asked`: the provider named a time. `down`: no call of the window was answered.
`failing`: some were. `credentials`: the provider refuses the key, or its account is empty.
"""
SignalKind = Literal["answered", "failed", "limited", "refused_key", "alive", "nothing"]
"""What a call says of its provider. `alive`: it refused the request for what that says, so it works. `nothing`: it was
not asked, or nobody waited for what it would have said.
"""
_REFUSED_BY: frozenset[OpenReason] = frozenset({"wait_asked", "down"})
"""The reasons for which a caller without another choice is refused: nothing was answered that would be lost."""
FAILURES: frozenset[SignalKind] = frozenset({"failed", "limited", "refused_key"})
BUCKETS = 10
"""Of a window: its end is exact to a tenth of it."""
SLOTS = 16
"""Groups of projects whose calls under a shared credential are counted apart."""
PROBE_LEASE_S = 5.0
"""For so long a probe keeps others away. A call may take longer, and its prober may have died: then another probes."""
PROBE_WAIT_S = 1.0
"""What is told to others who ask during a probe: most are over by then."""
MAX_OPENINGS = 16
"""In a row, that double the wait."""
TELLING_TIMEOUT_S = 10.0
"""A call under a shared credential that had less time says nothing of its provider, whoever set the time."""


class CircuitKey(Struct, frozen=True, kw_only=True):
    """What a circuit is of. A project's own credentials have circuits of their own: nobody else's calls go there."""

    owner: str
    """The project whose credential is used, or `INSTALLATION`."""
    provider: str
    model: str
    """As the provider knows it."""
    credential: str = ""
    """The name of one of several credentials; empty: the only one. Never the key, nor anything made from it."""


class CircuitSettings(Struct, frozen=True, kw_only=True):
    """When circuits open, and for how long."""

    is_on: bool = True
    """False: every call is made, and nothing is kept."""
    window_s: Annotated[float, Meta(gt=0)] = 60.0
    min_calls: Annotated[int, Meta(ge=1)] = 10
    """Fewer calls in the window open no circuit."""
    failure_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    open_s: Annotated[float, Meta(gt=0)] = 2.0
    """Until the first probe; each that fails doubles it."""
    max_open_s: Annotated[float, Meta(gt=0)] = 60.0
    """No circuit keeps calls away for longer without a probe, whatever the provider asks for."""


class Signal(Struct, frozen=True, kw_only=True):
    """What a call says of its provider."""

    kind: SignalKind
    wait_s: float | None = None
    """The provider wants no calls for so long. None: it does not say."""


class Totals(Struct, frozen=True):
    """The calls of a window, and those of them that failed, by slot."""

    calls: tuple[int, ...] = ()
    failures: tuple[int, ...] = ()

    def plus(self, other: "Totals") -> "Totals":
        """Add what another process has counted."""
        return Totals(_sums(self.calls, other.calls), _sums(self.failures, other.failures))

    @property
    def all_calls(self) -> int:
        """The number of calls."""
        return sum(self.calls)

    @property
    def all_failures(self) -> int:
        """The number of calls that failed."""
        return sum(self.failures)

    def concern(self, slot: int) -> bool:
        """True if calls of this slot have failed, or of two others: what one project's calls meet is one voice."""
        return sum(map(bool, self.failures)) > 1 or any(self.failures[slot : slot + 1])

    @property
    def ratio(self) -> float:
        """The mean of the slots' failure ratios: one project that fails alone is one voice, however often it calls."""
        ratios = [failed / calls for calls, failed in zip(self.calls, self.failures, strict=True) if calls]
        return sum(ratios) / len(ratios) if ratios else 0.0


NO_CALLS = Totals()


class Window:
    """Counts calls of the last `width_s` seconds, in buckets: its size does not depend on the number of calls."""

    __slots__ = ("_bucket_s", "_buckets", "_slots")

    def __init__(self, width_s: float, *, slots: int = 1) -> None:
        self._bucket_s = width_s / BUCKETS
        self._slots = slots
        self._buckets: deque[tuple[int, list[int], list[int]]] = deque(maxlen=BUCKETS)

    def count(self, now_s: float, *, slot: int, is_failure: bool) -> None:
        """Count one call."""
        number = int(now_s / self._bucket_s)
        if not self._buckets or self._buckets[-1][0] < number:
            self._buckets.append((number, [0] * self._slots, [0] * self._slots))
        _, calls, failures = self._buckets[-1]
        calls[slot] += 1
        failures[slot] += is_failure

    def totals(self, now_s: float) -> Totals:
        """Sum up what is not too old."""
        oldest = int(now_s / self._bucket_s) - BUCKETS + 1
        while self._buckets and self._buckets[0][0] < oldest:
            self._buckets.popleft()
        if not self._buckets:
            return NO_CALLS
        return Totals(
            tuple(map(sum, zip(*(calls for _, calls, _ in self._buckets), strict=True))),
            tuple(map(sum, zip(*(failures for _, _, failures in self._buckets), strict=True))),
        )

    def clear(self) -> None:
        """Forget every call."""
        self._buckets.clear()


class Circuit(Struct, frozen=True, kw_only=True):
    """The state of one circuit."""

    state: State = "closed"
    version: int = 0
    """One more with each transition: of two processes' states the one with the higher version counts."""
    reason: OpenReason | None = None
    """None: it is closed."""
    is_limit: bool = False
    """The provider limits us: it is not down."""
    openings: int = 0
    """In a row, without an answer between them."""
    since_s: float = 0.0
    """When it came into this state."""
    until_s: float = 0.0
    """Open: when a probe may go. Half-open: when another may."""
    only_until_s: float = 0.0
    """Open: when a caller without another choice may probe. That is sooner if the provider asked for a long wait."""


CLOSED = Circuit()


class Verdict(Struct, frozen=True, kw_only=True):
    """What is to be done with a call. `probe`: it may be made by whoever is first to ask for it."""

    kind: Literal["call", "probe", "wait"]
    wait_s: float = 0.0
    """Seconds until it may be otherwise."""


_CALL = Verdict(kind="call")
_PROBE = Verdict(kind="probe")


def verdict(circuit: Circuit, now_s: float, *, is_only: bool, is_concerned: bool = True) -> Verdict:
    """Say whether to call. `is_only`: the caller has no other target. `is_concerned`: see `Totals.concern`.

    A caller with another target leaves an open circuit alone. One without is refused only if calls have not been
    answered at all, or the provider asked for the wait, and if that concerns it: otherwise some answers would be lost
    that would have come.
    """
    if circuit.state == "closed":
        return _CALL
    due_s = circuit.only_until_s if is_only else circuit.until_s
    if now_s >= due_s:
        return _PROBE
    if is_only and (circuit.reason not in _REFUSED_BY or not is_concerned):
        return _CALL
    wait_s = due_s - now_s
    return Verdict(kind="wait", wait_s=wait_s if circuit.state == "open" else min(PROBE_WAIT_S, wait_s))


def probing(circuit: Circuit, now_s: float) -> Circuit:
    """A probe begins now."""
    until_s = now_s + PROBE_LEASE_S
    return replace(
        circuit,
        state="half_open",
        version=circuit.version + 1,
        since_s=now_s,
        until_s=until_s,
        only_until_s=until_s,
    )


def after(
    circuit: Circuit, signal: Signal, totals: Totals, settings: CircuitSettings, now_s: float, *, is_probe: bool
) -> Circuit:
    """Return the state after a call; the same one if it changes nothing.

    `totals`: of the window, with this call. `is_probe`: the call began since the circuit is half-open.
    """
    if circuit.state == "half_open" and is_probe:
        return _after_probe(circuit, signal, settings, now_s)
    if signal.kind not in FAILURES:
        return circuit
    if signal.wait_s is not None:
        opened = _opened(circuit, signal, "wait_asked", settings, now_s)
        is_longer = circuit.state == "closed" or (circuit.state == "open" and opened.until_s > circuit.until_s)
        return opened if is_longer else circuit
    if circuit.state != "closed" or totals.all_calls < settings.min_calls or totals.ratio < settings.failure_ratio:
        return circuit
    return _opened(circuit, signal, _reason(signal, totals), settings, now_s)


def signal_of(
    error: GatewayError | None, elapsed_s: float, *, is_shared: bool, is_callers_limit: bool = False
) -> Signal:
    """Read what a call says of its provider. `error` None: it was answered. `is_shared`: others use the credential.

    `is_callers_limit`: the time that was over is one that the caller's target sets.
    """
    if error is None:
        return Signal(kind="answered")
    if not isinstance(error, ProviderError):
        return Signal(kind="nothing")
    if isinstance(error, ProviderCredentials) and error.status is None:
        return Signal(kind="nothing")  # there is no key, so nothing was called
    is_too_short = is_shared and (is_callers_limit or elapsed_s < TELLING_TIMEOUT_S)
    if isinstance(error, ProviderTimeout) and is_too_short and error.status is None:
        return Signal(kind="nothing")
    if error.refusal is not None and error.refusal.reason == "billing":
        return Signal(kind="refused_key")
    kind: SignalKind = next((kind for one, kind in _KINDS if isinstance(error, one)), "nothing")
    return Signal(kind=kind, wait_s=error.retry_after_s if kind in ("failed", "limited") else None)


def slot_of(key: CircuitKey, project_id: str) -> int:
    """The slot of a project's calls in the window of a circuit."""
    return crc32(project_id.encode()) % SLOTS if key.owner == INSTALLATION else 0


def slots_of(key: CircuitKey) -> int:
    """The number of slots in the window of a circuit."""
    return SLOTS if key.owner == INSTALLATION else 1


_KINDS: tuple[tuple[type[ProviderError], SignalKind], ...] = (
    (ProviderRejected, "alive"),
    (ProviderCredentials, "refused_key"),
    (ProviderRateLimited, "limited"),
    (ProviderUnavailable, "failed"),
    (ProviderLost, "failed"),
    (ProviderTimeout, "failed"),
)


def _after_probe(circuit: Circuit, signal: Signal, settings: CircuitSettings, now_s: float) -> Circuit:
    if signal.kind in ("answered", "alive"):
        return Circuit(version=circuit.version + 1, since_s=now_s)
    if signal.kind == "nothing":  # the next call probes
        return replace(circuit, state="open", version=circuit.version + 1, until_s=now_s, only_until_s=now_s)
    reason: OpenReason = "wait_asked" if signal.wait_s is not None else circuit.reason or "down"
    return _opened(circuit, signal, reason, settings, now_s)


def _opened(circuit: Circuit, signal: Signal, reason: OpenReason, settings: CircuitSettings, now_s: float) -> Circuit:
    openings = min(MAX_OPENINGS, circuit.openings + (circuit.state != "open"))
    own_s = min(settings.max_open_s, settings.open_s * 2 ** (openings - 1))
    wait_s = own_s if signal.wait_s is None else min(settings.max_open_s, signal.wait_s)
    return Circuit(
        state="open",
        version=circuit.version + 1,
        reason=reason,
        is_limit=signal.kind == "limited",
        openings=openings,
        since_s=now_s if circuit.state == "closed" else circuit.since_s,
        until_s=now_s + wait_s,
        only_until_s=now_s + min(wait_s, own_s),
    )


def _reason(signal: Signal, totals: Totals) -> OpenReason:
    if signal.kind == "refused_key":
        return "credentials"
    return "down" if totals.all_failures == totals.all_calls else "failing"


def _sums(ours: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[int, ...]:
    if not ours or not theirs:
        return ours or theirs
    return tuple(map(sum, zip(ours, theirs, strict=True)))
