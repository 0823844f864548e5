"""The circuit breaker as a state machine: when it opens, who may probe, and when it closes."""

from hypothesis import given
from hypothesis import strategies as st

from domain.circuit import (
    CLOSED,
    NO_CALLS,
    PROBE_LEASE_S,
    SLOTS,
    Circuit,
    CircuitKey,
    CircuitSettings,
    Signal,
    Totals,
    Window,
    after,
    probing,
    signal_of,
    slot_of,
    verdict,
)
from domain.errors import (
    ClientDisconnected,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import INSTALLATION
from domain.provider_refusals import Refusal

SETTINGS = CircuitSettings(min_calls=4, open_s=2.0, max_open_s=60.0)
FAILED = Signal(kind="failed")
ANSWERED = Signal(kind="answered")
ALL_FAILED = Totals((4,), (4,))
HALF_FAILED = Totals((4,), (2,))
SHARED = CircuitKey(owner=INSTALLATION, provider="openai", model="gpt-4o-mini")


def opened(signal: Signal = FAILED, totals: Totals = ALL_FAILED, now_s: float = 100.0) -> Circuit:
    return after(CLOSED, signal, totals, SETTINGS, now_s, is_probe=False)


def test_opens_when_too_many_calls_of_the_window_have_failed() -> None:
    assert opened().state == "open"
    assert opened().reason == "down"
    assert opened(totals=HALF_FAILED).reason == "failing"


def test_stays_closed_below_the_least_number_of_calls_and_below_the_ratio() -> None:
    assert opened(totals=Totals((3,), (3,))) is CLOSED
    assert opened(totals=Totals((100,), (49,))) is CLOSED


def test_opens_at_once_for_as_long_as_the_provider_asks() -> None:
    circuit = opened(Signal(kind="limited", wait_s=7.0), Totals((1,), (1,)))
    assert (circuit.state, circuit.reason, circuit.is_limit) == ("open", "wait_asked", True)
    assert verdict(circuit, 106.9, is_only=False).kind == "wait"
    assert verdict(circuit, 107.0, is_only=False).kind == "probe"


def test_no_wait_that_a_provider_asks_for_goes_beyond_the_longest() -> None:
    circuit = opened(Signal(kind="limited", wait_s=86_400.0), NO_CALLS)
    assert circuit.until_s == 100.0 + SETTINGS.max_open_s


def test_a_caller_without_another_target_may_probe_before_a_long_wait_is_over() -> None:
    circuit = opened(Signal(kind="limited", wait_s=30.0), NO_CALLS)
    assert verdict(circuit, 102.0, is_only=True).kind == "probe"
    assert verdict(circuit, 102.0, is_only=False).kind == "wait"


def test_a_caller_without_another_target_is_refused_only_if_nothing_was_answered() -> None:
    assert verdict(opened(), 100.5, is_only=True).kind == "wait"
    assert verdict(opened(totals=HALF_FAILED), 100.5, is_only=True).kind == "call"
    assert verdict(opened(totals=HALF_FAILED), 100.5, is_only=False).kind == "wait"
    assert verdict(opened(Signal(kind="refused_key")), 100.5, is_only=True).kind == "call"


def test_one_probe_keeps_the_others_waiting_until_it_is_answered_or_given_up() -> None:
    probed = probing(opened(), 102.0)
    assert verdict(probed, 102.1, is_only=False).kind == "wait"
    assert verdict(probed, 102.1, is_only=True).kind == "wait"
    assert verdict(probed, 102.0 + PROBE_LEASE_S, is_only=False).kind == "probe"


def test_closes_when_the_probe_is_answered_or_refused_for_what_it_says() -> None:
    probed = probing(opened(), 102.0)
    for kind in ("answered", "alive"):
        assert after(probed, Signal(kind=kind), NO_CALLS, SETTINGS, 103.0, is_probe=True).state == "closed"


def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    circuit, waits, now_s = opened(), [], 100.0
    for _ in range(8):
        waits.append(circuit.until_s - now_s)
        now_s = circuit.until_s
        circuit = after(probing(circuit, now_s), FAILED, NO_CALLS, SETTINGS, now_s, is_probe=True)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_call_that_began_before_the_probe_does_not_stand_for_it() -> None:
    probed = probing(opened(), 102.0)
    assert after(probed, FAILED, ALL_FAILED, SETTINGS, 103.0, is_probe=False) is probed
    assert after(probed, ANSWERED, ALL_FAILED, SETTINGS, 103.0, is_probe=False) is probed


def test_a_probe_that_nobody_waited_for_leaves_the_next_one_to_the_next_call() -> None:
    given_up = after(probing(opened(), 102.0), Signal(kind="nothing"), NO_CALLS, SETTINGS, 103.0, is_probe=True)
    assert verdict(given_up, 103.0, is_only=False).kind == "probe"


def test_what_a_caller_did_is_no_failure_of_the_provider() -> None:
    filtered = ProviderRejected("no", provider="openai", status=400)
    assert signal_of(filtered, 1.0, is_shared=True).kind == "alive"
    assert signal_of(ClientDisconnected("gone"), 1.0, is_shared=True).kind == "nothing"
    assert signal_of(ProviderCredentials("no key", provider="openai"), 1.0, is_shared=True).kind == "nothing"


def test_an_empty_account_is_a_matter_of_the_credential() -> None:
    empty = ProviderRejected("you exceeded your quota", provider="openai", status=429)
    empty.refusal = Refusal(reason="billing")
    assert signal_of(empty, 1.0, is_shared=True).kind == "refused_key"


def test_connections_timeouts_server_errors_and_limits_are_failures() -> None:
    expected: dict[ProviderError, str] = {
        ProviderUnavailable("down", provider="openai", status=529): "failed",
        ProviderUnavailable("no connection", provider="openai"): "failed",
        ProviderLost("broke", provider="openai"): "failed",
        ProviderTimeout("late", provider="openai"): "failed",
        ProviderRateLimited("slower", provider="openai", status=429): "limited",
        ProviderCredentials("bad key", provider="openai", status=401): "refused_key",
    }
    assert {error: signal_of(error, 30.0, is_shared=True).kind for error in expected} == expected


def test_a_short_timeout_of_a_callers_own_says_nothing_of_a_shared_provider() -> None:
    late = ProviderTimeout("late", provider="openai")
    assert signal_of(late, 0.5, is_shared=True).kind == "nothing"
    assert signal_of(late, 0.5, is_shared=False).kind == "failed"


def test_no_limit_that_a_caller_sets_is_a_failure_of_a_shared_provider() -> None:
    late = ProviderTimeout("late", provider="openai")
    assert signal_of(late, 30.0, is_shared=True, is_callers_limit=True).kind == "nothing"
    assert signal_of(late, 30.0, is_shared=True).kind == "failed"
    assert signal_of(late, 30.0, is_shared=False, is_callers_limit=True).kind == "failed"


def test_a_caller_without_another_target_is_called_if_the_failures_do_not_concern_it() -> None:
    probed = probing(opened(), 102.0)
    for circuit in (opened(), opened(Signal(kind="limited", wait_s=30.0)), probed):
        assert verdict(circuit, circuit.since_s, is_only=True, is_concerned=False).kind == "call"
        assert verdict(circuit, circuit.since_s, is_only=False, is_concerned=False).kind == "wait"


def test_failures_concern_those_who_had_some_and_all_if_two_had() -> None:
    calls = tuple([9, 9, 9] + [0] * (SLOTS - 3))
    assert Totals(calls, tuple([9] + [0] * (SLOTS - 1))).concern(0)
    assert not Totals(calls, tuple([9] + [0] * (SLOTS - 1))).concern(1)
    assert Totals(calls, tuple([9, 1] + [0] * (SLOTS - 2))).concern(2)
    assert not NO_CALLS.concern(2)


def test_one_project_that_fails_alone_opens_no_circuit_that_others_use() -> None:
    calls, failures = [0] * SLOTS, [0] * SLOTS
    noisy, quiet, other = (slot_of(SHARED, project) for project in ("project_a", "project_b", "project_c"))
    calls[noisy], failures[noisy] = 1_000, 1_000
    calls[quiet] = calls[other] = 1
    totals = Totals(tuple(calls), tuple(failures))
    assert len({noisy, quiet, other}) == 3
    assert after(CLOSED, FAILED, totals, SETTINGS, 1.0, is_probe=False) is CLOSED


def test_calls_older_than_the_window_do_not_count() -> None:
    window = Window(60.0)
    window.count(0.0, slot=0, is_failure=True)
    window.count(59.0, slot=0, is_failure=False)
    assert window.totals(59.0) == Totals((2,), (1,))
    assert window.totals(61.0) == Totals((1,), (0,))
    assert window.totals(200.0) == NO_CALLS


calls = st.lists(st.tuples(st.floats(0, 30), st.integers(0, SLOTS - 1), st.booleans()), max_size=300)


@given(calls)
def test_a_window_counts_what_it_should_and_its_size_is_bounded(found: list[tuple[float, int, bool]]) -> None:
    window, now_s, taken = Window(10.0, slots=SLOTS), 0.0, []
    for pause_s, slot, is_failure in found:
        now_s += pause_s / 10
        window.count(now_s, slot=slot, is_failure=is_failure)
        taken.append((now_s, is_failure))
    totals = window.totals(now_s)
    certain = [failed for at_s, failed in taken if now_s - at_s < 9.0]
    possible = [failed for at_s, failed in taken if now_s - at_s <= 10.0]
    assert len(certain) <= totals.all_calls <= len(possible)
    assert sum(certain) <= totals.all_failures <= sum(possible)
    assert 0.0 <= totals.ratio <= 1.0


signals = st.sampled_from(
    [
        ANSWERED,
        FAILED,
        Signal(kind="alive"),
        Signal(kind="nothing"),
        Signal(kind="refused_key"),
        Signal(kind="limited"),
        Signal(kind="limited", wait_s=1_000.0),
        Signal(kind="failed", wait_s=0.0),
    ]
)
ROUNDING_S = 1e-6
steps = st.lists(st.tuples(st.floats(0, 100), signals, st.booleans(), st.sampled_from([ALL_FAILED, HALF_FAILED])))


@given(steps)
def test_whatever_calls_meet_a_circuit_keeps_nobody_away_for_longer_than_its_bound(
    found: list[tuple[float, Signal, bool, Totals]],
) -> None:
    circuit, now_s = CLOSED, 0.0
    for pause_s, signal, is_only, totals in found:
        now_s += pause_s
        said = verdict(circuit, now_s, is_only=is_only)
        assert 0.0 <= said.wait_s <= SETTINGS.max_open_s + ROUNDING_S
        assert said.kind != "wait" or circuit.state != "closed"
        if said.kind == "probe":
            circuit = probing(circuit, now_s)
        if said.kind != "wait":
            changed = after(circuit, signal, totals, SETTINGS, now_s, is_probe=said.kind == "probe")
            assert changed is circuit or changed.version == circuit.version + 1
            circuit = changed
        assert (circuit.state == "closed") == (circuit.reason is None)


@given(steps)
def test_when_the_provider_answers_again_a_circuit_closes_within_its_bound(
    found: list[tuple[float, Signal, bool, Totals]],
) -> None:
    circuit, now_s = CLOSED, 0.0
    for pause_s, signal, is_only, totals in found:
        now_s += pause_s
        if verdict(circuit, now_s, is_only=is_only).kind == "probe":
            circuit = probing(circuit, now_s)
        circuit = after(circuit, signal, totals, SETTINGS, now_s, is_probe=circuit.state == "half_open")
    now_s += SETTINGS.max_open_s
    assert verdict(circuit, now_s, is_only=False).kind in ("call", "probe")
    if circuit.state != "closed":
        circuit = after(probing(circuit, now_s), ANSWERED, NO_CALLS, SETTINGS, now_s, is_probe=True)
    assert circuit.state == "closed"
