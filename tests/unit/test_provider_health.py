"""What an API process makes of what the workers tell and report of the providers' circuits."""

import pytest
from msgspec.structs import replace

from api.overview import providers_away, targets_away
from api.provider_health import NEWS_AGE_S, ProviderHealth, calls_state, merged
from domain.circuit import CircuitKey
from domain.events import INSTALLATION
from domain.provider_limits import ProviderLimit
from infra.broker import Broker
from infra.circuit_news import (
    CircuitNews,
    LastError,
    Report,
    ReportedCircuit,
    ToldCircuit,
    ToldCounts,
    ToldLimits,
    WorkerNews,
)

KEY = CircuitKey(owner=INSTALLATION, provider="openai", model="gpt-4o-mini")
OPEN = ToldCircuit(key=KEY, state="open", version=2, reason="down", until_in_s=3.0)


def health_at(times: list[float]) -> ProviderHealth:
    return ProviderHealth(CircuitNews(Broker()), clock=lambda: times[0])


def test_a_target_whose_circuit_is_open_comes_last_until_its_probe_is_due() -> None:
    times = [100.0]
    health = health_at(times)
    health.take(WorkerNews(worker="w1", circuits=(OPEN,)))
    assert health.share(KEY) == 0.0
    assert health.open_circuits() == health.left_alone() == ("openai/gpt-4o-mini",)
    assert [one.state for one in targets_away(health)] == ["not called, because it failed too often"]
    times[0] = 103.0
    assert health.share(KEY) == 1.0
    assert (health.open_circuits(), health.left_alone()) == (("openai/gpt-4o-mini",), ())
    assert [one.state for one in targets_away(health)] == ["failed too often; the next request tries it again"]


def test_which_models_others_ask_for_is_told_with_their_owners_circuits_alone() -> None:
    health = health_at([100.0])
    own = replace(OPEN, key=replace(KEY, owner="prj_1", provider="anthropic", model="m"))
    health.take(WorkerNews(worker="w1", circuits=(OPEN, own)))
    assert health.open_circuits("prj_1") == ("anthropic/m",)
    assert health.open_circuits("prj_2") == ()
    assert health.open_providers() == ("openai",)


def test_a_target_that_names_no_credential_is_as_well_as_the_best_of_them() -> None:
    health = health_at([100.0])
    one, two = replace(KEY, credential="default"), replace(KEY, credential="eu")
    health.take(WorkerNews(worker="w1", circuits=(replace(OPEN, key=one, credentials=2),)))
    assert (health.share(KEY), health.share(one), health.share(two)) == (1.0, 0.0, 1.0)
    limits = (ProviderLimit(kind="requests", remaining=5, limit=100, reset_s=60.0),)
    health.take(WorkerNews(worker="w1", limits=(ToldLimits(key=two, limits=limits, age_s=0.0, credentials=2),)))
    assert health.share(KEY) == health.share(two) == pytest.approx(0.25)
    health.take(WorkerNews(worker="w1", circuits=(replace(OPEN, key=two, credentials=2),)))
    assert health.share(KEY) == 0.0


def test_a_credential_that_has_been_removed_makes_no_target_well() -> None:
    times = [100.0]
    health = health_at(times)
    one, two = replace(KEY, credential="default"), replace(KEY, credential="eu")
    health.take(WorkerNews(worker="w1", circuits=tuple(replace(OPEN, key=key, credentials=2) for key in (one, two))))
    for _ in range(3):
        times[0] += NEWS_AGE_S / 2
        health.take(WorkerNews(worker="w1", circuits=(replace(OPEN, version=3, credentials=1),)))
    assert health.share(KEY) == 0.0


def test_the_only_credential_is_found_by_its_name() -> None:
    health = health_at([100.0])
    health.take(WorkerNews(worker="w1", circuits=(OPEN,)))
    assert health.share(replace(KEY, credential="default")) == 0.0


def test_older_news_of_another_worker_changes_nothing() -> None:
    health = health_at([100.0])
    health.take(WorkerNews(worker="w1", circuits=(ToldCircuit(key=KEY, state="closed", version=3),)))
    health.take(WorkerNews(worker="w2", circuits=(OPEN,)))
    assert health.share(KEY) == 1.0


def test_what_no_worker_repeats_is_forgotten() -> None:
    times = [100.0]
    health = health_at(times)
    limits = (ProviderLimit(kind="requests", remaining=0, limit=10, reset_s=60.0),)
    health.take(WorkerNews(worker="w1", limits=(ToldLimits(key=KEY, limits=limits, age_s=0.0),)))
    assert health.share(KEY) == 0.0
    times[0] += NEWS_AGE_S
    assert health.share(KEY) == 1.0


def test_the_workers_reports_are_one() -> None:
    def reported(told: ToldCircuit, failures: int, at_ms: int, *latencies_ms: int) -> ReportedCircuit:
        return ReportedCircuit(
            told=told,
            calls=10,
            failures=failures,
            last_errors=(LastError(code="PROVIDER_UNAVAILABLE", status=500, at_ms=at_ms),),
            latencies_ms=latencies_ms,
            hint="wxyz",
        )

    closed = ToldCircuit(key=KEY, state="closed", version=1)
    (one,) = merged(
        [
            Report(worker="w1", circuits=(reported(closed, 3, 1, 10, 20),)),
            Report(worker="w2", circuits=(reported(OPEN, 7, 2, 30),)),
        ]
    )
    assert (one.told, one.calls, one.failures, one.hint) == (OPEN, 20, 10, "wxyz")
    assert (one.p50_ms, one.p95_ms) == (20, 30)
    assert [error.at_ms for error in one.last_errors] == [2, 1]


def counts(key: CircuitKey, calls: int, failures: int) -> ToldCounts:
    return ToldCounts(key=key, calls=(calls,), failures=(failures,))


def test_a_target_whose_few_calls_all_fail_is_failing_though_its_circuit_is_closed() -> None:
    times = [100.0]
    health = health_at(times)
    own = replace(KEY, owner="prj_1")
    health.take(WorkerNews(worker="w1", counts=(counts(KEY, 3, 3), counts(own, 1, 1))))
    assert [(one.name, one.state) for one in health.failing()] == [("openai/gpt-4o-mini", "failing")]
    assert (health.open_circuits(), health.share(KEY)) == ((), 1.0)
    assert [one.state for one in targets_away(health)] == ["failing: 3 of the last 3 calls failed"]
    times[0] += NEWS_AGE_S + 1
    assert health.failing() == ()


def test_what_one_worker_is_answered_makes_the_failures_of_another_partial() -> None:
    health = health_at([100.0])
    health.take(WorkerNews(worker="w1", counts=(counts(KEY, 4, 4),)))
    health.take(WorkerNews(worker="w2", counts=(counts(KEY, 6, 1),)))
    (found,) = health.failing()
    assert (found.calls, found.failures, found.state) == (10, 5, "failingPartly")
    health.take(WorkerNews(worker="w1", counts=(counts(KEY, 100, 1),)))
    health.take(WorkerNews(worker="w2", counts=(counts(KEY, 100, 1),)))
    assert health.failing() == ()


def test_a_reader_of_one_project_learns_which_of_the_installations_providers_fail_and_no_model() -> None:
    health = health_at([100.0])
    told = (counts(KEY, 2, 2), counts(replace(KEY, owner="prj_1", provider="mine", model="m"), 4, 1))
    health.take(WorkerNews(worker="w1", counts=told))
    assert [(one.what, one.state, one.is_partly) for one in targets_away(health, "prj_1")] == [
        ("mine/m", "failing partly: 1 of the last 4 calls failed", True)
    ]
    assert [(one.what, one.state) for one in providers_away(health)] == [("openai", "failing for some models")]
    health.take(WorkerNews(worker="w1", circuits=(OPEN,)))
    assert [one.what for one in targets_away(health)] == ["openai/gpt-4o-mini"]
    assert "not called" in targets_away(health)[0].state


@pytest.mark.parametrize(
    ("calls", "failures", "state"),
    [
        (0, 0, "notCalled"),
        (1, 1, "failing"),
        (20, 1, "failingPartly"),
        (100, 1, "answering"),
        (3, 0, "answering"),
    ],
)
def test_what_calls_have_met_is_said_by_how_many_failed(calls: int, failures: int, state: str) -> None:
    assert calls_state(calls, failures) == state
