"""A provider that keeps its responses is asked what a lost attempt has cost, and its word replaces the assumption."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from domain.credentials import DEFAULT_CREDENTIAL
from domain.dialects.codec import ProviderResponse, passed_through
from domain.errors import GatewayError, ProviderCredentials, ProviderRejected, ProviderUnavailable
from domain.events import AttemptLost, CostIncurred, CostReconciled, KeptResponse
from domain.extras import Extras
from domain.job_result import JobFailure
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.request_decider import decide_completed
from domain.tokens import TokenUsage
from infra.admission import Attempt, Progress, SeenStream
from infra.jobs import Job
from projections.rebuild import rebuild
from projections.registry import EVERY
from projections.sweeper import sweep
from tests.support.ledger import RealLedger, ask, attempt, completed, cost, lost
from workers.settlements import MAX_ASKED_AT_ONCE, WAITS_S, Settlements

HOLD = 1_000
USAGE = TokenUsage(input=30, output=12)
PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**6, output=10**6))
"""One nano-dollar a token."""
HOW = KeptResponse(response_id="resp_1", operation="chat", kind="echo", credential="second", price=PRICE)


def kept(usage: TokenUsage | None = USAGE, response_id: str = "resp_1", **extras: Any) -> ProviderResponse:
    return passed_through(b"{}", usage=usage, model="echo", response_id=response_id, extras=Extras(**extras))


class KeptResponses:
    """A provider that gives one answer after the other to whoever asks for a response, the last one for ever."""

    def __init__(self, answers: Sequence[ProviderResponse | GatewayError | None]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []

    async def kept_response(self, _job: Job, kept: KeptResponse) -> ProviderResponse | None:
        self.asked.append((kept.response_id, kept.credential))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, GatewayError):
            raise answer
        return answer


class Lost:
    """An attempt that stands in the log as lost, and the provider that is asked by whichever worker."""

    def __init__(
        self, ledger: RealLedger, key: str, made: Attempt, event: AttemptLost | CostIncurred, provider: KeptResponses
    ) -> None:
        self.ledger, self.key, self.made, self.event, self.provider = ledger, key, made, event, provider
        self.settlements = settlements(ledger, provider)

    async def settle(self, times: int = 1) -> None:
        for _ in range(times):
            await make_due(self.ledger)
            await self.settlements.settle()
            await self.ledger.fold()

    async def balance(self) -> tuple[int, int]:
        return await self.ledger.balance(self.key)


def settlements(ledger: RealLedger, provider: Any) -> Settlements:
    """Make those of one worker; `provider` has only the protocol that matters."""
    return Settlements(pool=ledger.pool, calls=provider, event_log=ledger.log, now=lambda: datetime.now(UTC))


async def make_due(ledger: RealLedger) -> None:
    """Let the time pass until the next try."""
    await ledger.owner.execute("UPDATE settlements SET ended_at = ended_at - interval '1 minute'")
    await ledger.owner.execute("UPDATE settlement_tries SET due_at = now()")


async def made_attempt(ledger: RealLedger, **fields: Any) -> tuple[str, Attempt, date]:
    """Admit and claim an attempt of a new key, and return the day of its budget too."""
    project = await ledger.new_project()
    key = await ledger.new_key(project)
    made = attempt(project, key, **fields)
    await ledger.admission.admit(ask(made, hold=HOLD))
    claim = await ledger.claims.claim(made.identity.request_id, 1)
    assert claim is not None
    return key, made, claim.budget_day


async def lose(ledger: RealLedger, *answers: ProviderResponse | GatewayError | None) -> Lost:
    key, made, day = await made_attempt(ledger)
    event = replace(lost(made, hold=HOLD, day=day), response_id="resp_1", credential="second", kept=HOW)
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
    assert settled.source == "provider"
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


async def test_an_attempt_whose_provider_cannot_be_asked_is_not_asked_for(ledger: RealLedger) -> None:
    key, made, day = await made_attempt(ledger)
    event = lost(made, hold=HOLD, day=day)
    await ledger.append(made, 0, event)
    await ledger.fold()
    one = Lost(ledger, key, made, event, KeptResponses([kept()]))
    await one.settle()
    assert one.provider.asked == []
    assert await one.balance() == (0, HOLD)


async def test_what_the_sweeper_ends_is_asked_for_too(ledger: RealLedger) -> None:
    now = datetime.now(UTC)
    key, made, _ = await made_attempt(ledger, deadline=now - timedelta(minutes=1))
    seen = SeenStream(received_bytes=5, covered_bytes=9, response_id="resp_1", credential="second", kept=HOW)
    await ledger.claims.report([Progress(made.identity.request_id, 1, NanoUsd(HOLD // 2), seen)])
    await sweep(ledger.pool, ledger.log, now, untold, is_gone=is_gone)
    await ledger.fold()
    ended, _ = await ledger.history(made)
    assert isinstance(ended, AttemptLost)
    one = Lost(ledger, key, made, ended, KeptResponses([kept()]))
    assert await one.balance() == (0, HOLD // 2)
    await one.settle()
    assert one.provider.asked == [("resp_1", "second")]
    assert await one.balance() == (42, 0)


async def untold(_reply_to: str, _failure: JobFailure) -> None:
    """Nobody waits."""


async def is_gone(_worker: str) -> bool:
    return True


async def test_what_a_worker_that_died_since_was_asking_for_another_one_asks_for(ledger: RealLedger) -> None:
    one = await lose(ledger, kept(None), kept())
    await one.settle()
    one.settlements = settlements(ledger, one.provider)
    await one.settle()
    assert await one.balance() == (42, 0)


async def test_a_response_in_the_background_costs_what_its_provider_says_when_it_is_done(ledger: RealLedger) -> None:
    key, made, day = await made_attempt(ledger)
    unknown = replace(
        cost(made, 0, hold=HOLD, day=day),
        cost_nano_usd=None,
        breakdown=None,
        kept=replace(HOW, credential=DEFAULT_CREDENTIAL),
    )
    await ledger.append(made, 0, completed(made), unknown)
    await ledger.fold()
    under_way = kept(TokenUsage(), unpriced=("in_progress",))
    one = Lost(ledger, key, made, unknown, KeptResponses([under_way, kept()]))
    await one.settle()
    assert (await one.balance(), await unpriced(ledger)) == ((0, 0), 1)
    await one.settle()
    assert (await one.balance(), await unpriced(ledger)) == ((42, 0), 0)
    await one.settle()
    assert len(one.provider.asked) == 2, "it is not asked again"
    row = await ledger.pool.fetchrow("SELECT cost_nano_usd FROM requests")
    assert row["cost_nano_usd"] == 42


async def unpriced(ledger: RealLedger) -> int:
    """Return how many requests count as unpriced."""
    return int(await ledger.pool.fetchval("SELECT sum(unpriced_requests) FROM usage_daily"))


async def test_the_table_of_what_is_asked_for_is_what_the_log_says(ledger: RealLedger) -> None:
    settled = await lose(ledger, kept())
    await settled.settle()
    open_ = await lose(ledger, kept())
    live = await ledger.pool.fetch("SELECT request_id, attempt, project_id FROM settlements ORDER BY request_id")
    await rebuild(ledger.owner, ledger.log, EVERY["settlements"])
    again = await ledger.pool.fetch("SELECT request_id, attempt, project_id FROM settlements ORDER BY request_id")
    assert live == again
    assert [row["request_id"] for row in again] == [open_.made.identity.request_id]


async def test_an_attempt_whose_events_cannot_be_read_stops_no_worker(ledger: RealLedger) -> None:
    await lose(ledger, kept())

    class Unreadable:
        async def read_stream(self, _stream: str) -> None:
            raise KeyError("an event of another release")

    unreadable, nobody = Unreadable(), KeptResponses([None])
    await make_due(ledger)
    asking = Settlements(pool=ledger.pool, calls=nobody, event_log=unreadable, now=lambda: datetime.now(UTC))  # type: ignore[arg-type]
    assert (await asking.settle(), nobody.asked) == (1, [])


async def test_a_worker_that_stops_waits_for_no_provider(ledger: RealLedger) -> None:
    one = await lose(ledger, kept())
    is_asked, stop = asyncio.Event(), asyncio.Event()

    class Hanging:
        async def kept_response(self, *_: object) -> None:
            is_asked.set()
            await asyncio.Event().wait()

    await make_due(ledger)
    running = asyncio.create_task(settlements(ledger, Hanging()).run(stop))
    await is_asked.wait()
    stop.set()
    await running
    assert await one.balance() == (0, HOLD)


async def test_however_many_are_due_few_are_asked_for_at_once_and_none_twice_before_its_next_time(
    ledger: RealLedger,
) -> None:
    for _ in range(MAX_ASKED_AT_ONCE + 1):
        one = await lose(ledger, kept(None))
    await make_due(ledger)
    asked = [await one.settlements.settle() for _ in range(3)]
    assert asked == [MAX_ASKED_AT_ONCE, 1, 0]
