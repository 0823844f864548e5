"""A job from its deliveries to its outcome: one call for each claim, at the price of the hold, despite redelivery."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatRequest, UserMessage
from domain.dialects.registry import DIALECTS
from domain.dialects.sse import SseEvent, SseParser, sse
from domain.errors import ProviderUnavailable
from domain.events import AttemptFailed, AttemptLost, CostIncurred, CostReconciled, RequestCompleted, RequestFailed
from domain.job_result import JobFailure, Receipt
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.sanitize import MAX_MESSAGE_CHARS
from infra.admission import Attempt, Claim, Claims
from infra.blobs import Blobs
from infra.broker import Broker
from infra.cancellations import CancellationListener
from infra.ids import new_id
from infra.jobs import Job, StreamFormat, encode_job
from infra.provider_keys import ProviderKeys
from infra.vault import Vault
from tests.support.jobs import make_job
from tests.support.ledger import RealLedger, ask, attempt
from tests.support.waiting import eventually
from workers.attempt_recorder import AttemptRecorder
from workers.calls import ProviderCalls
from workers.delivery import Maker
from workers.job_handler import LOOK_AGAIN_S, QUEUED_LONG_S, STOOD_STILL_S, JobHandler
from workers.lost_attempts import LostAttempts
from workers.progress import ProgressReports
from workers.providers.provider import ProviderCall
from workers.streaming import StreamedAttempts

PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**9, output=10**9))
POISON = "bad\x00thing" + "x" * 100_000
HOLD = 50_000
COST = 30_000
"""The cost of thirty tokens at a thousand nano-dollars each."""


class CountingProvider:
    """A provider that responds with thirty tokens, after `fails` failures. Counts its calls."""

    def __init__(self, *, fails: int = 0, waits: bool = False) -> None:
        self.calls = 0
        self._fails = fails
        self.go_on = asyncio.Event()
        if not waits:
            self.go_on.set()

    async def send(self, _content: bytes, _call: ProviderCall) -> bytes:
        self.calls += 1
        number, go_on = self.calls, self.go_on
        await go_on.wait()
        if number <= self._fails:
            raise ProviderUnavailable("down", provider="echo")
        return _completion(response_id=f"r{number}")

    @asynccontextmanager
    async def stream(self, _content: bytes, _call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        self.calls += 1
        raise ProviderUnavailable("down", provider="echo")
        yield

    async def close(self) -> None:
        return


class RecordingReplies:
    """Records the replies to the caller's API process."""

    def __init__(self) -> None:
        self.commits: list[Receipt] = []
        self.failures: list[JobFailure] = []
        self.caller_waits = True

    async def is_awaited(self, _reply_to: str) -> bool:
        return self.caller_waits

    async def send_body(self, _reply_to: str, _attempt: int, _body: bytes) -> None:
        return

    async def send_commit(self, _reply_to: str, _attempt: int, _digest: bytes, receipt: Receipt) -> None:
        self.commits.append(receipt)

    async def send_failed(self, _reply_to: str, failure: JobFailure) -> None:
        self.failures.append(failure)

    async def notify_followers(self, _job: Job) -> None:
        return


class ManualDelivery:
    """A delivery without a queue."""

    def __init__(self, job: Job, number: int) -> None:
        self.data = encode_job(job)
        self.number = number
        self.acknowledged = False
        self.is_last = False
        self.has_caller = True
        self.comes_again_after_s: float | None = None

    async def nak(self, delay_s: float) -> None:
        self.comes_again_after_s = delay_s

    async def ack(self) -> None:
        self.acknowledged = True

    async def term(self) -> None:
        self.acknowledged = True


class StatedAttempts:
    """The attempts that workers report as running. One that is gone reports nothing."""

    def __init__(self) -> None:
        self.is_alive = False

    def making(self, _request_id: str, _delivery: int) -> AbstractContextManager[None]:
        return nullcontext()

    async def maker_of(self, _request_id: str, _delivery: int, worker_id: str | None) -> Maker:
        assert worker_id == "tests", "the worker that claimed it is asked"
        return "at work" if self.is_alive else "gone"


class StagedClaims:
    """The real claims; a test may put its own first claim in front of them."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.in_flight = claims.in_flight
        self.admit_next = claims.admit_next
        self.granted: Claim | None = None
        """Given to every delivery, claimed or not."""
        self.after_claim: Callable[[], None] = lambda: None

    async def claim(self, request_id: str, delivery: int) -> Claim | None:
        claim = self.granted or await self._claims.claim(request_id, delivery)
        self.after_claim()
        return claim


class Bench:
    """A job handler in front of a counting provider, and one admitted job."""

    def __init__(self, ledger: RealLedger, provider: CountingProvider, made: Attempt) -> None:
        vault = Vault(bytes(32))
        self.ledger = ledger
        self.made = made
        self.sent_replies = RecordingReplies()
        self.cancellations = CancellationListener(Broker())
        self.claims: Any = StagedClaims(ledger.claims)
        self.disconnects_between_attempts = False
        self.between_attempts: Callable[[], Awaitable[None]] | None = None
        """Done once before a next attempt, instead of waiting."""
        self.passed_s = 0.0
        """By which the handler's clock is ahead."""
        self.stream: StreamFormat | None = None
        self.cancel_on_disconnect = False
        self.progress = ProgressReports(ledger.claims)
        blobs = Blobs(ledger.pool, ledger.log, vault)
        calls = ProviderCalls(
            providers={"echo": provider},
            dialects=DIALECTS,
            keys=ProviderKeys(ledger.pool, vault, {}),
            base_urls={},
            blobs=blobs,
        )
        replies: Any = self.sent_replies  # only its protocol matters
        self.attempts: Any = StatedAttempts()
        recorder = AttemptRecorder(event_log=ledger.log, blobs=blobs, replies=replies, now=lambda: datetime.now(UTC))
        self.handler = JobHandler(
            event_log=ledger.log,
            claims=self.claims,
            calls=calls,
            recorder=recorder,
            streams=StreamedAttempts(calls=calls, recorder=recorder, replies=replies, progress=self.progress),
            cancellations=self.cancellations,
            attempts=self.attempts,
            lost_attempts=LostAttempts(ledger.pool, ledger.log),
            replies=replies,
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.passed_s),
            sleep=self._wait,
        )

    async def _wait(self, wait_s: float) -> None:
        """Wait before the next attempt, in which the caller may disconnect."""
        if self.between_attempts is not None:
            doing, self.between_attempts = self.between_attempts, None
            await doing()
        elif self.disconnects_between_attempts:
            self.disconnect()
        else:
            await asyncio.sleep(wait_s)

    def disconnect(self) -> None:
        self.cancellations.note(self.made.identity.request_id, is_caller=True)

    async def deliver(self, number: int, price: Price | None = PRICE) -> ManualDelivery:
        delivered = ManualDelivery(self.job(price), number)
        await self.handler.handle(delivered)  # type: ignore[arg-type]  # by hand
        return delivered

    def job(self, price: Price | None) -> Job:
        made = self.made
        return make_job(
            identity=made.identity,
            price=price,
            body=msgspec.json.encode(ChatRequest(messages=[UserMessage(content="x")], model="echo")),
            stream=self.stream,
            cancel_on_disconnect=self.cancel_on_disconnect,
            reply_to=made.reply_to,
            admitted_at_ms=round(made.admitted_at.timestamp() * 1000),
            deadline_ms=round((datetime.now(UTC) + timedelta(minutes=5)).timestamp() * 1000),
        )

    async def kinds(self) -> list[type]:
        return [type(event) for event in await self.ledger.history(self.made)]


async def bench(ledger: RealLedger, provider: CountingProvider, **settings: Any) -> Bench:
    project = await ledger.new_project()
    made = attempt(project, await ledger.new_key(project, **settings), request_id=new_id("req"))
    assert (await ledger.admission.admit(ask(made, hold=HOLD))).outcome == "admitted"
    return Bench(ledger, provider, made)


async def test_two_deliveries_at_once_make_one_call(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    await asyncio.gather(work.deliver(1), work.deliver(1))
    assert provider.calls == 1
    assert await work.kinds() == [RequestCompleted, CostIncurred]


async def test_calling_without_a_claim_would_be_noticed(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    day = await ledger.pool.fetchval("SELECT budget_day FROM inflight")
    work.claims.granted = Claim(attempt=1, hold_nano_usd=NanoUsd(HOLD), budget_day=day)
    await asyncio.gather(work.deliver(1), work.deliver(1))
    assert provider.calls == 2, "without the claim, the test above would fail"


async def test_unadmitted_job_is_not_called(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    assert await ledger.admission.drop([work.made.identity.request_id])
    assert (await work.deliver(1)).acknowledged
    assert provider.calls == 0


async def test_a_later_delivery_republishes_the_outcome(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    await work.deliver(1)
    assert (await work.deliver(2)).acknowledged
    assert provider.calls == 1
    assert [receipt.cost_nano_usd for receipt in work.sent_replies.commits] == [COST, COST]


async def test_the_cost_uses_the_price_of_the_hold(ledger: RealLedger) -> None:
    work = await bench(ledger, CountingProvider())
    await work.deliver(1)
    cost = (await ledger.history(work.made))[-1]
    assert isinstance(cost, CostIncurred)
    assert (cost.cost_nano_usd, cost.price, cost.hold_nano_usd) == (COST, PRICE, HOLD)


async def test_retry_has_its_own_hold(ledger: RealLedger) -> None:
    provider = CountingProvider(fails=2)
    work = await bench(ledger, provider)
    await work.deliver(1)
    assert provider.calls == 3
    assert await work.kinds() == [AttemptFailed, AttemptFailed, RequestCompleted, CostIncurred]
    await ledger.fold()
    assert await ledger.held(work.made.identity.key_id) == 0


async def test_a_worker_that_was_overtaken_answers_nobody_and_its_true_cost_replaces_the_assumed_one(
    ledger: RealLedger,
) -> None:
    provider = CountingProvider(waits=True)
    work = await bench(ledger, provider)
    stopped = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    of_first, provider.go_on = provider.go_on, asyncio.Event()
    second = asyncio.create_task(work.deliver(2))
    await eventually(lambda: provider.calls == 2)
    assert await work.kinds() == [AttemptLost]
    of_first.set()
    assert not (await stopped).acknowledged, "the second delivery's acknowledgement counts"
    assert await work.kinds() == [AttemptLost, CostIncurred]
    assert work.sent_replies.commits == [], "the caller is answered by the second attempt"
    provider.go_on.set()
    await second
    *_, late, completed, cost = await ledger.history(work.made)
    assert isinstance(late, CostIncurred)
    assert isinstance(cost, CostIncurred)
    assert isinstance(completed, RequestCompleted)
    assert (late.attempt, late.replaces_assumed_nano_usd) == (1, HOLD)
    assert (completed.attempt, cost.attempt, cost.replaces_assumed_nano_usd) == (2, 2, 0)
    assert [receipt.cost_nano_usd for receipt in work.sent_replies.commits] == [COST]
    await ledger.fold()
    key_id = work.made.identity.key_id
    assert (await ledger.balance(key_id), await ledger.held(key_id)) == ((2 * COST, 0), 0)


async def test_a_worker_that_stood_still_after_its_claim_makes_no_call_if_it_was_overtaken(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    claim = await ledger.claims.claim(work.made.identity.request_id, 1)

    async def late_claim(_request_id: str, delivery: int) -> Claim | None:
        if delivery > 1:
            return None
        await work.deliver(2)  # while the first delivery's process is stopped
        await asyncio.sleep(STOOD_STILL_S)
        return claim

    work.claims.claim = late_claim
    first = await work.deliver(1)
    assert provider.calls == 1, "the second delivery's"
    assert not first.acknowledged, "the second delivery's acknowledgement counts"
    assert await work.kinds() == [AttemptLost, RequestCompleted, CostIncurred]


async def test_a_late_failure_of_an_overtaken_attempt_ends_nothing(ledger: RealLedger) -> None:
    provider = CountingProvider(waits=True, fails=1)
    work = await bench(ledger, provider)
    stopped = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    of_first, provider.go_on = provider.go_on, asyncio.Event()
    second = asyncio.create_task(work.deliver(2))
    await eventually(lambda: provider.calls == 2)
    of_first.set()
    assert not (await stopped).acknowledged
    assert await work.kinds() == [AttemptLost, CostReconciled], "it cost nothing: nothing is assumed any more"
    assert work.sent_replies.failures == []
    provider.go_on.set()
    await second
    assert provider.calls == 2
    await ledger.fold()
    assert await ledger.balance(work.made.identity.key_id) == (COST, 0)


async def answered_by_another(work: Bench) -> None:
    """A second delivery gives the first one's attempt up or goes on after it, answers, and is counted."""
    await work.deliver(2)
    await work.ledger.fold()


async def assert_one_answer_and_nothing_held(work: Bench, stopped: ManualDelivery, spent: int) -> None:
    assert not stopped.acknowledged, "the second delivery's acknowledgement counts"
    assert len(work.sent_replies.commits) == 1
    assert work.sent_replies.failures == [], "the caller has its answer"
    await work.ledger.fold()
    key_id = work.made.identity.key_id
    assert (await work.ledger.balance(key_id), await work.ledger.held(key_id)) == ((spent, 0), 0)


@pytest.mark.parametrize("deadline_s", [300, 0], ids=["with time for another attempt", "without"])
async def test_a_worker_that_wakes_up_failing_after_anothers_answer_calls_nobody(
    ledger: RealLedger, deadline_s: float
) -> None:
    provider = CountingProvider(waits=True, fails=1)
    work = await bench(ledger, provider)
    stopped = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    of_first, provider.go_on = provider.go_on, asyncio.Event()
    provider.go_on.set()
    await answered_by_another(work)
    work.passed_s = 300 - deadline_s
    of_first.set()
    first = await stopped
    assert provider.calls == 2, "the first's, and the second delivery's"
    assert await work.kinds() == [AttemptLost, RequestCompleted, CostIncurred, CostReconciled]
    await assert_one_answer_and_nothing_held(work, first, COST)


async def test_a_worker_that_stood_still_before_its_next_attempt_makes_none_after_anothers_answer(
    ledger: RealLedger,
) -> None:
    provider = CountingProvider(fails=1)
    work = await bench(ledger, provider)
    work.between_attempts = lambda: answered_by_another(work)
    first = await work.deliver(1)
    assert provider.calls == 2, "the first's, and the second delivery's"
    assert await work.kinds() == [AttemptFailed, RequestCompleted, CostIncurred]
    await assert_one_answer_and_nothing_held(work, first, COST)


async def test_a_worker_that_stood_still_does_not_make_an_attempt_that_failed_in_the_meantime(
    ledger: RealLedger,
) -> None:
    provider = CountingProvider(fails=2)
    work = await bench(ledger, provider)

    async def another_dies_after_its_attempt() -> None:
        work.between_attempts = dies
        with pytest.raises(asyncio.CancelledError):
            await work.deliver(2)
        await ledger.fold()

    async def dies() -> None:
        raise asyncio.CancelledError

    work.between_attempts = another_dies_after_its_attempt
    first = await work.deliver(1)
    assert provider.calls == 2
    assert not first.acknowledged
    assert await work.kinds() == [AttemptFailed, AttemptFailed]
    work.between_attempts = None
    assert (await work.deliver(3)).acknowledged
    assert provider.calls == 3
    await assert_one_answer_and_nothing_held(work, first, COST)


async def test_a_lost_attempt_is_not_repeated_for_a_caller_that_is_gone(ledger: RealLedger) -> None:
    provider = CountingProvider(waits=True)
    work = await bench(ledger, provider)
    dead = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    work.sent_replies.caller_waits = False
    assert (await work.deliver(2)).acknowledged
    assert provider.calls == 1
    lost, failed = await ledger.history(work.made)
    assert isinstance(lost, AttemptLost)
    assert isinstance(failed, RequestFailed)
    assert failed.code == "CALLER_LEFT"
    dead.cancel()


@pytest.mark.parametrize("age_s", [0, QUEUED_LONG_S + 1])
async def test_a_job_that_waited_long_is_not_called_for_a_caller_that_is_gone(ledger: RealLedger, age_s: float) -> None:
    provider = CountingProvider()
    project = await ledger.new_project()
    admitted_at = datetime.now(UTC) - timedelta(seconds=age_s)
    made = attempt(project, await ledger.new_key(project), admitted_at=admitted_at)
    assert (await ledger.admission.admit(ask(made, hold=HOLD))).outcome == "admitted"
    work = Bench(ledger, provider, made)
    work.sent_replies.caller_waits = False
    await work.deliver(1)
    assert provider.calls == (0 if age_s else 1), "a job that has just come is not asked about"
    await ledger.fold()
    assert await ledger.held(made.identity.key_id) == 0


async def test_a_job_of_the_lane_without_callers_is_called_although_nobody_waits(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    work.sent_replies.caller_waits = False
    delivered = ManualDelivery(work.job(PRICE), 2)
    delivered.has_caller = False
    await work.handler.handle(delivered)  # type: ignore[arg-type]  # by hand
    assert provider.calls == 1


async def test_a_delivery_that_was_overtaken_leaves_the_acknowledgement_to_the_later_one(ledger: RealLedger) -> None:
    provider = CountingProvider(waits=True)
    work = await bench(ledger, provider)
    second = asyncio.create_task(work.deliver(2))
    await eventually(lambda: provider.calls == 1)
    stale = await work.deliver(1)
    assert not stale.acknowledged
    provider.go_on.set()
    assert (await second).acknowledged


async def test_running_attempt_is_not_lost(ledger: RealLedger) -> None:
    provider = CountingProvider(waits=True)
    work = await bench(ledger, provider)
    first = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    work.attempts.is_alive = True  # its heartbeats were lost, and the queue delivers again
    second = await work.deliver(2)
    assert (second.acknowledged, second.comes_again_after_s) == (False, LOOK_AGAIN_S)
    provider.go_on.set()
    assert (await first).acknowledged
    assert (await work.deliver(3)).acknowledged
    assert provider.calls == 1
    assert await work.kinds() == [RequestCompleted, CostIncurred]


async def test_attempt_beyond_the_budget_is_not_made(ledger: RealLedger) -> None:
    provider = CountingProvider(fails=9)
    work = await bench(ledger, provider, daily_budget_nano_usd=HOLD)
    await work.deliver(1)
    assert provider.calls == 1
    assert await work.kinds() == [AttemptFailed, RequestFailed]
    assert [failure.code for failure in work.sent_replies.failures] == ["PROVIDER_UNAVAILABLE"], (
        "why the first one failed"
    )


async def test_disconnect_before_the_call_prevents_it(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    work.stream = StreamFormat(surface="native")
    work.claims.after_claim = work.disconnect
    assert (await work.deliver(1)).acknowledged
    assert provider.calls == 0
    cost, failed = await ledger.history(work.made)
    assert isinstance(cost, CostIncurred)
    assert isinstance(failed, RequestFailed)
    assert (cost.cost_nano_usd, failed.code) == (0, "CALLER_LEFT")
    await ledger.fold()
    assert await ledger.held(work.made.identity.key_id) == 0


async def test_disconnect_between_attempts_prevents_the_next(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    work.stream = StreamFormat(surface="native")
    work.disconnects_between_attempts = True
    await work.deliver(1)
    assert provider.calls == 1
    assert await work.kinds() == [AttemptFailed, CostIncurred, RequestFailed]
    assert await ledger.balance(work.made.identity.key_id) == (0, 0)


async def test_disconnected_request_makes_no_call(ledger: RealLedger) -> None:
    provider = CountingProvider()
    work = await bench(ledger, provider)
    work.cancel_on_disconnect = True
    work.claims.after_claim = work.disconnect
    assert (await work.deliver(1)).acknowledged
    assert provider.calls == 0
    not_made, failed = await ledger.history(work.made)
    assert isinstance(not_made, AttemptFailed)
    assert isinstance(failed, RequestFailed)
    assert (not_made.code, failed.code) == ("CALLER_LEFT", "CALLER_LEFT")
    await ledger.fold()
    assert (await ledger.balance(work.made.identity.key_id), await ledger.held(work.made.identity.key_id)) == (
        (0, 0),
        0,
    )


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_disconnect_cancels_a_call_only_if_configured(ledger: RealLedger, is_cancelled: bool) -> None:
    provider = CountingProvider(waits=True)
    work = await bench(ledger, provider)
    work.cancel_on_disconnect = is_cancelled
    working = asyncio.create_task(work.deliver(1))
    await eventually(lambda: provider.calls == 1)
    work.disconnect()
    if not is_cancelled:
        provider.go_on.set()
    assert (await working).acknowledged
    kinds = [AttemptLost, RequestFailed] if is_cancelled else [RequestCompleted, CostIncurred]
    assert await work.kinds() == kinds
    await ledger.fold()
    spent, assumed = (0, HOLD) if is_cancelled else (COST, 0)
    assert (await ledger.balance(work.made.identity.key_id), await ledger.held(work.made.identity.key_id)) == (
        (spent, assumed),
        0,
    )


class HostileProvider(CountingProvider):
    """Sends values that no read model can hold, in its response and in its stream."""

    async def send(self, _content: bytes, _call: ProviderCall) -> bytes:
        return _completion(response_id=POISON, model=POISON, finish_reason=POISON)

    @asynccontextmanager
    async def stream(self, _content: bytes, _call: ProviderCall) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        async def events() -> AsyncIterator[list[SseEvent]]:
            yield SseParser().feed(sse(msgspec.json.encode({"error": {"message": POISON, "code": POISON}})))

        yield events()


@pytest.mark.parametrize(
    ("stream", "ending"), [(None, RequestCompleted), (StreamFormat(surface="native"), RequestFailed)]
)
async def test_hostile_responses_do_not_stop_the_projector(
    ledger: RealLedger, stream: StreamFormat | None, ending: type
) -> None:
    work = await bench(ledger, HostileProvider())
    work.stream = stream
    assert (await work.deliver(1)).acknowledged
    assert set(await work.kinds()) == {CostIncurred, ending}
    await ledger.fold()
    assert await ledger.held(work.made.identity.key_id) == 0
    assert max((len(failure.message) for failure in work.sent_replies.failures), default=0) <= MAX_MESSAGE_CHARS


def _completion(*, response_id: str, model: str = "echo", finish_reason: str = "stop") -> bytes:
    return msgspec.json.encode(
        {
            "id": response_id,
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20},
        }
    )
