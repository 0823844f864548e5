"""A provider that keeps its responses is asked what a lost attempt has cost, and its word replaces the assumption."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from domain.dialects.codec import ProviderResponse, passed_through
from domain.errors import GatewayError, ProviderCredentials, ProviderRejected, ProviderUnavailable
from domain.events import AttemptLost, CostReconciled
from domain.extras import Extras
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.request_decider import decide_completed
from domain.tokens import TokenUsage
from infra.admission import Attempt
from infra.jobs import Job
from tests.support.jobs import make_job
from tests.support.ledger import RealLedger, ask, attempt, completed, cost, lost
from workers.settlements import WAITS_S, Settlements

HOLD = 1_000
USAGE = TokenUsage(input=30, output=12)
PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**6, output=10**6))
"""One nano-dollar a token."""
LATER_S = time.monotonic() + 10 * sum(WAITS_S)


def kept(usage: TokenUsage | None = USAGE, response_id: str = "resp_1", **extras: Any) -> ProviderResponse:
    return passed_through(b"{}", usage=usage, model="echo", response_id=response_id, extras=Extras(**extras))


class KeptResponses:
    """A provider that gives one answer after the other to whoever asks for a response, the last one for ever."""

    def __init__(self, answers: Sequence[ProviderResponse | GatewayError | None]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []

    async def kept_response(self, _job: Job, response_id: str, credential: str | None) -> ProviderResponse | None:
        self.asked.append((response_id, credential))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, GatewayError):
            raise answer
        return answer


class Lost:
    """An attempt that stands in the log as lost, and the provider that is asked."""

    def __init__(
        self, ledger: RealLedger, key: str, made: Attempt, event: AttemptLost, provider: KeptResponses
    ) -> None:
        self.ledger, self.key, self.made, self.event, self.provider = ledger, key, made, event, provider
        calls: Any = provider  # only its protocol matters
        self.settlements = Settlements(calls=calls, event_log=ledger.log, now=lambda: datetime.now(UTC))
        self.settlements.add(make_job(identity=made.identity, price=PRICE), event)

    async def settle(self, times: int = 1) -> None:
        for number in range(times):
            await self.settlements.settle(LATER_S * (number + 1))
        await self.ledger.fold()

    async def balance(self) -> tuple[int, int]:
        return await self.ledger.balance(self.key)


async def lose(ledger: RealLedger, *answers: ProviderResponse | GatewayError | None) -> Lost:
    project = await ledger.new_project()
    key = await ledger.new_key(project)
    made = attempt(project, key)
    await ledger.admission.admit(ask(made, hold=HOLD))
    claim = await ledger.claims.claim(made.identity.request_id, 1)
    assert claim is not None
    event = replace(lost(made, hold=HOLD, day=claim.budget_day), response_id="resp_1", credential="second")
    await ledger.append(made, 0, event)
    await ledger.fold()
    return Lost(ledger, key, made, event, KeptResponses(answers))


async def test_what_the_provider_has_counted_replaces_what_was_assumed(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    assert await one.balance() == (0, HOLD)
    await one.settle()
    assert one.provider.asked == [("resp_1", "second")], "under the credential that the call was made with"
    assert await one.balance() == (42, 0)
    *_, settled = await ledger.history(one.made)
    assert isinstance(settled, CostReconciled)
    assert (settled.cost_nano_usd, settled.replaces_assumed_nano_usd, settled.usage) == (42, HOLD, USAGE)
    for table in ("requests", "usage_daily"):
        counted = await one.ledger.pool.fetchrow(f"SELECT prompt_tokens, completion_tokens FROM {table}")
        assert tuple(counted) == (30, 12), f"its tokens are in {table}"
    await one.settle()
    assert len(one.provider.asked) == 1, "it is not asked again"


@pytest.mark.parametrize(
    "not_yet",
    [
        ProviderRejected("no such response", provider="echo", status=404),
        ProviderUnavailable("overloaded", provider="echo", status=529),
        kept(None),
        kept(TokenUsage(), unpriced=("in_progress",)),
    ],
)
async def test_a_provider_that_does_not_say_yet_is_asked_again(
    ledger: RealLedger, not_yet: ProviderResponse | GatewayError
) -> None:
    one = await lose(ledger, not_yet, kept())
    await one.settle()
    assert await one.balance() == (0, HOLD)
    await one.settle(times=2)
    assert await one.balance() == (42, 0)


async def test_a_provider_that_never_says_is_asked_so_often_and_the_assumption_stays(ledger: RealLedger) -> None:
    one = await lose(ledger, kept(None))
    await one.settle(times=len(WAITS_S) + 3)
    assert len(one.provider.asked) == len(WAITS_S)
    assert await one.balance() == (0, HOLD)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        ProviderRejected("not here", provider="echo", status=405),
        ProviderCredentials("refused", provider="echo", status=401),
    ],
)
async def test_a_provider_that_cannot_be_asked_is_asked_once(ledger: RealLedger, answer: GatewayError | None) -> None:
    one = await lose(ledger, answer)
    await one.settle(times=3)
    assert len(one.provider.asked) == 1
    assert await one.balance() == (0, HOLD)


async def test_another_response_than_the_attempts_settles_nothing(ledger: RealLedger) -> None:
    one = await lose(ledger, kept(response_id="resp_2"))
    await one.settle()
    assert await one.balance() == (0, HOLD)


async def test_a_late_result_after_the_providers_word_costs_nothing_more(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    await one.settle()
    late = cost(one.made, 42, hold=HOLD, day=one.event.budget_day)
    assert decide_completed(await ledger.history(one.made), completed(one.made), late) == ()


async def test_the_providers_word_after_a_late_result_costs_nothing_more(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    late = cost(one.made, 41, hold=HOLD, day=one.event.budget_day)
    history = await ledger.history(one.made)
    await ledger.append(one.made, 1, *decide_completed(history, completed(one.made), late))
    await one.settle()
    assert await one.balance() == (41, 0)
    assert len(one.provider.asked) == 1


async def test_an_attempt_whose_response_has_no_id_is_not_asked_for(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    one.provider.asked.clear()
    nameless = Lost(ledger, one.key, one.made, replace(one.event, response_id=None), one.provider)
    await nameless.settle()
    assert one.provider.asked == []
    assert NanoUsd(HOLD) == one.event.assumed_nano_usd


async def test_a_worker_that_stops_waits_for_no_provider(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    is_asked, stop = asyncio.Event(), asyncio.Event()

    async def hang(*_: object) -> None:
        is_asked.set()
        await asyncio.Event().wait()

    calls: Any = SimpleNamespace(kept_response=hang)
    settlements = Settlements(calls=calls, event_log=ledger.log, now=lambda: datetime.now(UTC))
    settlements.add(make_job(identity=one.made.identity, price=PRICE), one.event)
    running = asyncio.create_task(settlements.run(stop))
    await is_asked.wait()
    stop.set()
    await running
    assert await one.balance() == (0, HOLD)
