"""The circuits of a worker: what it refuses, what it tells the others, what it takes from them, and what it forgets."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.circuit import CircuitKey, CircuitSettings
from domain.errors import (
    CircuitOpen,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import INSTALLATION
from workers.circuit_shelf import MAX_OWN_CIRCUITS, MAX_OWNERS, MAX_SHARED_CIRCUITS
from workers.circuits import Circuits

SETTINGS = CircuitSettings(min_calls=4, open_s=2.0, max_open_s=60.0)
SHARED = CircuitKey(owner=INSTALLATION, provider="openai", model="gpt-4o-mini")
OWN = CircuitKey(owner="prj_a", provider="openai", model="gpt-4o-mini")
DOWN = ProviderUnavailable("down", provider="openai", status=500)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Claims:
    """Gives each probe to whoever asks first, as the broker does."""

    def __init__(self) -> None:
        self.taken: set[tuple[CircuitKey, int]] = set()

    async def __call__(self, key: CircuitKey, version: int) -> bool:
        is_first = (key, version) not in self.taken
        self.taken.add((key, version))
        return is_first


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims() -> Claims:
    return Claims()


def worker(name: str, clock: Clock, claims: Claims, settings: CircuitSettings = SETTINGS) -> Circuits:
    return Circuits(settings, worker=name, claim=claims, clock=clock)


def fail(circuits: Circuits, key: CircuitKey, clock: Clock, times: int = 4, error: ProviderError = DOWN) -> None:
    for _ in range(times):
        circuits.record(key, "prj_a", error, began_s=clock())


def tell(teller: Circuits, *hearers: Circuits) -> None:
    news = teller.news()
    if news is not None:
        for hearer in hearers:
            hearer.take(news)


async def test_calls_are_made_while_the_provider_answers(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    circuits.record(SHARED, "prj_a", None, began_s=clock())
    assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None
    assert circuits.news() is None


async def test_a_provider_that_is_down_is_not_called_and_the_caller_hears_when_it_will_be(
    clock: Clock, claims: Claims
) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    refusal = await circuits.refusal(SHARED, "prj_a", is_only=True)
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after_s, refusal.retryable) == (2.0, False)
    assert "does not answer" in refusal.message


async def test_a_provider_that_limits_us_is_told_as_one_that_limits_us(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    limited = ProviderRateLimited("slower", provider="openai", status=429, retry_after_s=1.5)
    fail(circuits, SHARED, clock, times=1, error=limited)
    refusal = await circuits.refusal(SHARED, "prj_a", is_only=True)
    assert isinstance(refusal, ProviderRateLimited)
    assert refusal.retry_after_s == 1.5


async def test_the_circuits_of_a_projects_own_credentials_concern_nobody_else(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, OWN, clock)
    other = CircuitKey(owner="prj_b", provider="openai", model="gpt-4o-mini")
    assert await circuits.refusal(OWN, "prj_a", is_only=True) is not None
    assert await circuits.refusal(other, "prj_b", is_only=True) is None
    assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None


async def test_what_one_project_meets_alone_keeps_nobody_else_from_a_shared_provider(
    clock: Clock, claims: Claims
) -> None:
    first, second = worker("w1", clock, claims), worker("w2", clock, claims)
    fail(first, SHARED, clock, times=10)
    tell(first, second)
    for circuits in (first, second):
        assert await circuits.refusal(SHARED, "prj_a", is_only=True) is not None
        assert await circuits.refusal(SHARED, "prj_b", is_only=True) is None
    clock.now_s += 2.0
    assert await first.refusal(SHARED, "prj_a", is_only=True) is None, "it probes"
    assert await first.refusal(SHARED, "prj_b", is_only=True) is None, "another's probe is not waited for"


async def test_what_two_projects_meet_holds_for_all(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    circuits.record(SHARED, "prj_b", DOWN, began_s=clock())
    assert await circuits.refusal(SHARED, "prj_c", is_only=True) is not None


def test_time_that_callers_limit_opens_no_shared_circuit(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    late = ProviderTimeout("late", provider="openai")
    for _ in range(10):
        circuits.record(SHARED, "prj_a", late, began_s=clock() - 10.0, is_callers_limit=True)
    assert circuits.report().circuits == ()


async def test_what_one_worker_finds_out_holds_for_all_of_them(clock: Clock, claims: Claims) -> None:
    first, second = worker("w1", clock, claims), worker("w2", clock, claims)
    fail(first, SHARED, clock)
    tell(first, second)
    assert await second.refusal(SHARED, "prj_a", is_only=False) is not None


async def test_failures_that_workers_have_seen_one_each_count_together(clock: Clock, claims: Claims) -> None:
    workers = [worker(f"w{number}", clock, claims) for number in range(4)]
    for one in workers:
        fail(one, SHARED, clock, times=1)
        tell(one, *workers)
    assert await workers[3].refusal(SHARED, "prj_a", is_only=False) is not None


async def test_one_call_over_all_workers_probes_and_its_answer_closes_the_circuit_for_all(
    clock: Clock, claims: Claims
) -> None:
    first, second = worker("w1", clock, claims), worker("w2", clock, claims)
    fail(first, SHARED, clock)
    tell(first, second)
    clock.now_s += 2.0
    refusals = [await one.refusal(SHARED, "prj_a", is_only=True) for one in (first, second, first, second)]
    assert [refusal is None for refusal in refusals] == [True, False, False, False]
    tell(first, second)
    first.record(SHARED, "prj_a", None, began_s=clock())
    tell(first, second)
    assert await second.refusal(SHARED, "prj_a", is_only=True) is None
    assert first.states()["closed"] == second.states()["closed"] == 1


async def test_a_stream_that_has_begun_closes_the_circuit_before_its_end(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    clock.now_s += 2.0
    assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None
    circuits.began(SHARED, began_s=clock())
    assert circuits.states() == {"closed": 1, "open": 0, "half_open": 0}


async def test_a_worker_that_is_behind_does_not_open_what_was_closed(clock: Clock, claims: Claims) -> None:
    first, behind = worker("w1", clock, claims), worker("w2", clock, claims)
    fail(first, SHARED, clock)
    tell(first, behind)
    clock.now_s += 2.0
    assert await first.refusal(SHARED, "prj_a", is_only=True) is None
    first.record(SHARED, "prj_a", None, began_s=clock())
    first.news()  # and this news is lost
    tell(behind, first)
    assert await first.refusal(SHARED, "prj_a", is_only=True) is None
    tell(first, behind)
    assert await behind.refusal(SHARED, "prj_a", is_only=True) is None


async def test_what_is_well_again_is_told_once_more_and_then_no_longer(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    clock.now_s += 2.0
    assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None
    circuits.record(SHARED, "prj_a", None, began_s=clock())
    news = circuits.news()
    assert news is not None
    assert [told.state for told in news.circuits] == ["closed"]
    assert circuits.news() is None


async def test_opening_and_closing_is_written_once_and_probes_that_fail_between_are_not(
    clock: Clock, claims: Claims
) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    for _ in range(3):
        clock.now_s += 60.0
        assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None
        fail(circuits, SHARED, clock, times=1)
    clock.now_s += 60.0
    assert await circuits.refusal(SHARED, "prj_a", is_only=True) is None
    circuits.record(SHARED, "prj_a", None, began_s=clock())
    assert [one.circuit.state for one in circuits.taken_transitions()] == ["open", "closed"]
    assert circuits.taken_transitions() == []


async def test_what_the_provider_refuses_a_request_for_opens_nothing_and_keeps_nothing(
    clock: Clock, claims: Claims
) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock, times=100, error=ProviderRejected("no", provider="openai", status=400))
    assert await circuits.refusal(SHARED, "prj_a", is_only=False) is None
    assert circuits.report().circuits == ()


def test_a_credential_that_is_nearly_used_up_gets_fewer_calls_on_every_worker(clock: Clock, claims: Claims) -> None:
    first, second = worker("w1", clock, claims), worker("w2", clock, claims)
    headers = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "30s",
    }
    first.heard(SHARED, headers)
    tell(first, second)
    assert first.share(SHARED) == second.share(SHARED) == pytest.approx(0.25)
    clock.now_s += 31.0
    assert second.share(SHARED) == 1.0


def test_the_news_of_a_credential_says_how_many_there_are(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    key = CircuitKey(owner=INSTALLATION, provider="openai", model="gpt-4o-mini", credential="eu")
    headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "5"}
    circuits.heard(key, headers | {"x-ratelimit-reset-requests": "30s"}, credentials=3)
    for _ in range(4):
        circuits.record(key, "prj_a", DOWN, began_s=clock(), credentials=3)
    news = circuits.news()
    assert news is not None
    assert [told.credentials for told in (*news.circuits, *news.limits)] == [3, 3]


def test_other_keys_or_addresses_are_other_circuits(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, OWN, clock)
    fail(circuits, SHARED, clock)
    circuits.forget("prj_a")
    assert [one.told.key for one in circuits.report().circuits] == [SHARED]


def test_a_project_that_names_ever_new_models_takes_no_room_from_others(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims)
    fail(circuits, SHARED, clock)
    for owner in range(2 * MAX_OWNERS):
        for model in range(2 * MAX_OWN_CIRCUITS if owner == 0 else 1):
            key = CircuitKey(owner=f"prj_{owner}", provider="mine", model=f"m{model}")
            circuits.record(key, key.owner, DOWN, began_s=clock())
    for model in range(2 * MAX_SHARED_CIRCUITS):
        made_up = CircuitKey(owner=INSTALLATION, provider="openai", model=f"gpt-{model}")
        circuits.record(made_up, "prj_a", ProviderRejected("no such model", provider="openai"), began_s=clock())
    assert circuits.states()["open"] == 1
    assert sum(circuits.states().values()) <= 1 + MAX_OWNERS - 1 + MAX_OWN_CIRCUITS


async def test_switched_off_nothing_is_kept_and_nothing_refused(clock: Clock, claims: Claims) -> None:
    circuits = worker("w1", clock, claims, CircuitSettings(is_on=False))
    fail(circuits, SHARED, clock, times=100)
    circuits.heard(SHARED, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"})
    assert await circuits.refusal(SHARED, "prj_a", is_only=False) is None
    assert circuits.report().circuits == ()


def test_a_worker_that_is_behind_is_told_at_once(clock: Clock, claims: Claims) -> None:
    behind = worker("a", clock, claims)
    told: list[bool] = []
    fail(behind, SHARED, clock)
    old = behind.news()
    later = datetime.now(UTC) + timedelta(hours=1)
    ahead = Circuits(
        SETTINGS,
        worker="b",
        claim=claims,
        clock=clock,
        wall=lambda: later,
        on_change=lambda: told.append(ahead.has_news),
    )
    fail(ahead, SHARED, clock)
    ahead.news()
    told.clear()
    assert old is not None
    ahead.take(old)
    assert told == [True]
