"""A lost attempt is compared with what the same model has answered: by the same route, to the same key or project."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from domain.events import AttemptLost, StoredEvent
from domain.habits import FEWEST
from domain.job_result import JobFailure
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.tokens import TokenUsage
from infra.admission import Attempt, ClaimedAttempt
from projections.sweeper import GRACE_S, sweep
from tests.support.jobs import make_identity, make_job
from tests.support.ledger import RealLedger, ask, attempt, completed, cost
from workers.lost_attempts import LostAttempts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = NOW + timedelta(seconds=GRACE_S + 1)
HOLD = 1_000
PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**6, output=10**6))
"""One nano-dollar a token."""
OTHER = replace(PRICE, model="echo-large")
WRITTEN = 50


async def routed(ledger: RealLedger, price: Price) -> Attempt:
    """Return a claimed attempt through a route at `echo`, of a key whose answers through it had such a price."""
    project = await ledger.new_project()
    key = await ledger.new_key(project)

    def through_the_route(number: int) -> Attempt:
        identity = make_identity(request_id=f"req_{number:03}", project_id=project, key_id=key, asked_as="cheapest")
        return attempt(project, key, now=NOW, deadline=NOW, identity=identity)

    for number in range(FEWEST):
        answered = through_the_route(number)
        usage = TokenUsage(input=10, output=WRITTEN)
        paid = replace(cost(answered, 10 + WRITTEN, hold=HOLD, day=NOW.date()), price=price)
        await ledger.append(answered, 0, replace(completed(answered), usage=usage, request_bytes=40), paid)
    made = through_the_route(FEWEST)
    assert (await ledger.admission.admit(ask(made, hold=HOLD, token_bound=25))).outcome == "admitted"
    assert await ledger.claims.claim(made.identity.request_id, 1)
    await ledger.fold()
    return made


async def swept(ledger: RealLedger, made: Attempt) -> int:
    """Return what the sweeper assumes of an attempt."""

    async def is_gone(_worker: str) -> bool:
        return True

    async def tell(_reply_to: str, _failure: JobFailure) -> None:
        return

    await sweep(ledger.pool, ledger.log, LATE, tell, is_gone=is_gone)
    lost = (await ledger.history(made))[0]
    assert isinstance(lost, AttemptLost)
    return lost.assumed_nano_usd


async def found(ledger: RealLedger, made: Attempt) -> int:
    """Return what a worker assumes of an attempt that it finds lost."""
    return await assumed_by(LostAttempts(ledger.pool, ledger.log), made)


async def assumed_by(lost_attempts: LostAttempts, made: Attempt) -> int:
    """Return what this worker's `lost_attempts` assumes of an attempt."""
    lost = ClaimedAttempt(
        attempt=1,
        hold_nano_usd=NanoUsd(HOLD),
        budget_day=NOW.date(),
        delivery=1,
        worker="wrk_1",
        provider="echo",
        upstream_model="echo",
    )
    job = make_job(identity=made.identity, price=PRICE, input_bound=100, output_bound=HOLD)
    return await lost_attempts.assumed(job, lost, 40, is_gone=True)


async def test_the_sweeper_compares_with_the_answers_of_the_same_model(ledger: RealLedger) -> None:
    assert await swept(ledger, await routed(ledger, PRICE)) == 25 + WRITTEN


async def test_a_worker_compares_with_the_answers_of_the_same_model(ledger: RealLedger) -> None:
    assert await found(ledger, await routed(ledger, PRICE)) == 10 + WRITTEN


async def test_many_lost_attempts_of_a_key_wait_for_one_read_of_its_answers(
    ledger: RealLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await routed(ledger, PRICE)
    reads = 0
    read_streams = ledger.log.read_streams

    async def counted(streams: Sequence[str], types: Sequence[str]) -> list[StoredEvent]:
        nonlocal reads
        reads += 1
        return await read_streams(streams, types)

    monkeypatch.setattr(ledger.log, "read_streams", counted)
    worker = LostAttempts(ledger.pool, ledger.log)
    assert await asyncio.gather(*(assumed_by(worker, made) for _ in range(10))) == [10 + WRITTEN] * 10
    assert reads == 1


async def test_nobody_compares_with_another_model_of_the_route(ledger: RealLedger) -> None:
    made = await routed(ledger, OTHER)
    assert await found(ledger, made) == HOLD
    assert await swept(ledger, made) == HOLD


@pytest.mark.parametrize("same_project", [True, False])
async def test_a_new_key_is_compared_with_no_other(ledger: RealLedger, same_project: bool) -> None:
    known = await routed(ledger, PRICE)
    project = known.identity.project_id if same_project else await ledger.new_project()
    key = await ledger.new_key(project)
    identity = replace(known.identity, request_id="req_new", project_id=project, key_id=key)
    made = attempt(project, key, now=NOW, deadline=NOW, identity=identity)
    assert (await ledger.admission.admit(ask(made, hold=HOLD, token_bound=25))).outcome == "admitted"
    assert await ledger.claims.claim(made.identity.request_id, 1)
    assert await found(ledger, made) == HOLD
    assert await swept(ledger, made) == HOLD
