"""A job with several targets, over the ledger: a hold, an event and a cost for each attempt, and deaths in between."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from domain.errors import ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, CostIncurred, RequestCompleted, RequestFailed
from domain.money import NanoUsd
from domain.pricing import Price
from domain.routes import DEFAULT_CAUSES
from infra.ids import new_id
from infra.jobs import Job, JobFailover
from tests.integration.test_job_handler import COST, HOLD, Bench, CountingProvider
from tests.support.ledger import RealLedger, ask, attempt
from workers.providers.provider import ProviderCall


class ByModel(CountingProvider):
    """A provider that answers as some of its models, and is down as the others. Notes whom it was asked for."""

    def __init__(self, *answering: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._answering = answering

    async def send(self, content: bytes, call: ProviderCall) -> bytes:
        model = call.identity.upstream_model
        self.asked.append(model)
        if model in self._answering:
            return await super().send(content, call)
        raise ProviderUnavailable("down", provider=call.identity.provider, status=500)


class PlannedBench(Bench):
    """A job that may go on from `echo` to `second` and `third`, with holds of their own."""

    holds: dict[str, NanoUsd | None]
    most_tries = 1
    dies_before_the_next = False

    def job(self, price: Price | None) -> Job:
        first = super().job(price)
        further = tuple(
            replace(
                first,
                identity=replace(first.identity, model=model, upstream_model=model, provider=f"of-{model}"),
                body=None,
                hold_nano_usd=hold,
            )
            for model, hold in self.holds.items()
        )
        return replace(
            first, failover=JobFailover(further=further, fail_over_on=DEFAULT_CAUSES, attempts=self.most_tries)
        )

    async def _wait(self, wait_s: float) -> None:
        """Between two attempts, in which the projector counts what has ended; or the worker dies."""
        assert wait_s >= 0
        if self.dies_before_the_next:
            raise asyncio.CancelledError
        await self.ledger.fold()


async def planned(
    ledger: RealLedger, provider: ByModel, holds: dict[str, NanoUsd | None], **settings: Any
) -> PlannedBench:
    project = await ledger.new_project()
    made = attempt(project, await ledger.new_key(project, **settings), request_id=new_id("req"))
    assert (await ledger.admission.admit(ask(made, hold=HOLD))).outcome == "admitted"
    work = PlannedBench(ledger, provider, made)
    work.holds = holds
    return work


async def test_each_attempt_has_its_own_hold_event_and_cost(ledger: RealLedger) -> None:
    provider = ByModel("third")
    work = await planned(ledger, provider, {"second": NanoUsd(70_000), "third": NanoUsd(40_000)})
    await work.deliver(1)
    assert provider.asked == ["echo", "second", "third"]
    first, second, completed, cost = await ledger.history(work.made)
    assert isinstance(first, AttemptFailed)
    assert isinstance(second, AttemptFailed)
    assert isinstance(completed, RequestCompleted)
    assert isinstance(cost, CostIncurred)
    assert [(one.hold_nano_usd, one.target, one.next_target) for one in (first, second)] == [
        (HOLD, 0, 1),
        (70_000, 1, 2),
    ]
    assert (completed.model, completed.provider, completed.attempt) == ("third", "of-third", 3)
    assert [fate.outcome for fate in completed.targets] == ["failed", "failed", "answered"]
    assert (cost.hold_nano_usd, cost.cost_nano_usd) == (40_000, COST)
    await ledger.fold()
    assert await ledger.held(work.made.identity.key_id) == 0


async def test_a_target_beyond_the_budget_is_passed_over_for_a_cheaper_one(ledger: RealLedger) -> None:
    provider = ByModel("second", "third")
    holds = {"second": NanoUsd(HOLD + 1), "third": NanoUsd(HOLD)}
    work = await planned(ledger, provider, holds, daily_budget_nano_usd=HOLD)
    await work.deliver(1)
    assert provider.asked == ["echo", "third"]
    completed = (await ledger.history(work.made))[1]
    assert isinstance(completed, RequestCompleted)
    assert [(fate.outcome, fate.reason) for fate in completed.targets] == [
        ("failed", "PROVIDER_UNAVAILABLE"),
        ("skipped", "budget"),
        ("answered", None),
    ]


@pytest.mark.parametrize("hold", [NanoUsd(HOLD + 1), None], ids=["too dear", "without a bound"])
async def test_without_room_for_any_target_the_caller_has_the_last_error(
    ledger: RealLedger, hold: NanoUsd | None
) -> None:
    provider = ByModel("second")
    work = await planned(ledger, provider, {"second": hold}, daily_budget_nano_usd=HOLD)
    await work.deliver(1)
    assert provider.asked == ["echo"]
    assert await work.kinds() == [AttemptFailed, RequestFailed]
    assert [failure.code for failure in work.sent_replies.failures] == ["PROVIDER_UNAVAILABLE"]


async def test_a_target_without_a_bound_is_asked_where_there_is_no_budget(ledger: RealLedger) -> None:
    provider = ByModel("second")
    work = await planned(ledger, provider, {"second": None})
    await work.deliver(1)
    assert provider.asked == ["echo", "second"]


async def test_a_delivery_after_a_death_between_two_targets_asks_the_next_one_alone(ledger: RealLedger) -> None:
    provider = ByModel("second")
    work = await planned(ledger, provider, {"second": NanoUsd(HOLD)})
    work.dies_before_the_next = True
    with pytest.raises(asyncio.CancelledError):
        await work.deliver(1)
    work.dies_before_the_next = False
    await work.deliver(2)
    assert provider.asked == ["echo", "second"]
    assert await work.kinds() == [AttemptFailed, RequestCompleted, CostIncurred]


async def test_a_death_during_the_next_targets_call_is_written_off_as_that_targets(ledger: RealLedger) -> None:
    provider = ByModel("second")
    work = await planned(ledger, provider, {"second": NanoUsd(30_000), "third": NanoUsd(HOLD)})
    work.most_tries, work.dies_before_the_next = 1, True
    with pytest.raises(asyncio.CancelledError):
        await work.deliver(1)
    second = replace(work.made, identity=work.job(None).at(1).identity)
    day = await ledger.pool.fetchval("SELECT budget_day FROM inflight")
    assert await ledger.claims.admit_next(second, 2, 1, NanoUsd(30_000), day) is not None
    work.most_tries, work.dies_before_the_next = 2, False
    await work.deliver(2)
    assert provider.asked == ["echo", "second"]
    _, lost, completed, _ = await ledger.history(work.made)
    assert isinstance(lost, AttemptLost)
    assert (lost.provider, lost.target, lost.assumed_nano_usd) == ("of-second", 1, 30_000)
    assert isinstance(completed, RequestCompleted)
    assert completed.provider == "of-second", "a lost attempt says nothing against its target"
