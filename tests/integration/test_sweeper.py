"""The sweeper ends overdue attempts: an unclaimed hold is released, a claimed hold is assumed to be spent."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from domain.events import AttemptLost, RequestFailed
from domain.habits import FEWEST
from domain.job_result import JobFailure
from domain.money import NanoUsd
from domain.pricing import ClassPrices, Price
from domain.request_decider import decide_completed
from infra.admission import Attempt, Progress, SeenStream
from infra.presence import IsGone
from projections.sweeper import GRACE_S, end_abandoned, sweep
from tests.support.ledger import RealLedger, ask, attempt, completed, cost

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRICE = Price(provider="echo", model="echo", source="tests", prices=ClassPrices(input=10**6, output=10**6))
"""One nano-dollar a token."""
LATE = NOW + timedelta(seconds=GRACE_S + 1)


class FailureRecorder:
    """Records the failures that were sent to callers."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, JobFailure]] = []

    async def __call__(self, reply_to: str, failure: JobFailure) -> None:
        self.failures.append((reply_to, failure))


async def gone(_worker: str) -> bool:
    return True


async def there(_worker: str) -> bool:
    return False


async def in_flight(ledger: RealLedger, hold: int, *, claimed: bool) -> tuple[str, Attempt]:
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=1_000)
    made = attempt(project, key, now=NOW, deadline=NOW)
    assert (await ledger.admission.admit(ask(made, hold=hold))).outcome == "admitted"
    if claimed:
        assert await ledger.claims.claim(made.identity.request_id, 1)
    return key, made


async def test_an_unclaimed_attempt_gives_its_hold_back(ledger: RealLedger) -> None:
    key, made = await in_flight(ledger, 70, claimed=False)
    recorder = FailureRecorder()
    assert await sweep(ledger.pool, ledger.log, LATE, recorder, is_gone=gone) == 1
    await ledger.fold()
    assert [type(event) for event in await ledger.history(made)] == [RequestFailed]
    assert (await ledger.balance(key), await ledger.held(key)) == ((0, 0), 0)
    assert [failure.code for _, failure in recorder.failures] == ["PROVIDER_TIMEOUT"]


async def test_a_claimed_attempt_is_assumed_to_have_cost_its_hold(ledger: RealLedger) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    assert await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone) == 1
    await ledger.fold()
    assert [type(event) for event in await ledger.history(made)] == [AttemptLost, RequestFailed]
    assert (await ledger.balance(key), await ledger.held(key)) == ((0, 70), 0)


async def test_nothing_is_swept_before_its_time_or_twice(ledger: RealLedger) -> None:
    _, made = await in_flight(ledger, 70, claimed=True)
    assert await sweep(ledger.pool, ledger.log, NOW, FailureRecorder(), is_gone=gone) == 0
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone)
    recorder = FailureRecorder()
    await sweep(ledger.pool, ledger.log, LATE, recorder, is_gone=gone)
    assert len(await ledger.history(made)) == 2
    assert recorder.failures == []


async def test_a_worker_that_comes_late_replaces_the_assumption(ledger: RealLedger) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone)
    history = await ledger.history(made)
    lost = history[0]
    assert isinstance(lost, AttemptLost)
    late = decide_completed(history, completed(made), cost(made, 12, hold=70, day=lost.budget_day))
    await ledger.append(made, 2, *late)
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((12, 0), 0)


async def test_an_answer_that_comes_first_is_left_alone(ledger: RealLedger) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    day = await ledger.pool.fetchval("SELECT budget_day FROM inflight")
    await ledger.append(made, 0, completed(made), cost(made, 12, hold=70, day=day))
    recorder = FailureRecorder()
    await sweep(ledger.pool, ledger.log, LATE, recorder, is_gone=gone)
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((12, 0), 0)
    assert recorder.failures == []


async def test_a_row_that_came_after_its_outcome_was_counted_is_deleted(ledger: RealLedger) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    day = await ledger.pool.fetchval("SELECT budget_day FROM inflight")
    async with ledger.owner.acquire() as connection:
        await connection.execute("CREATE TEMPORARY TABLE late AS SELECT * FROM inflight")
        await ledger.append(made, 0, completed(made), cost(made, 12, hold=70, day=day))
        await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone)
        assert await ledger.held(key) == 70, "it is not counted yet"
        await ledger.fold()
        await connection.execute("INSERT INTO inflight SELECT * FROM late")
    assert await ledger.held(key) == 70
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone)
    assert (await ledger.balance(key), await ledger.held(key)) == ((12, 0), 0)


async def test_of_a_reported_stream_whose_worker_is_gone_no_more_is_assumed_than_it_can_have_cost(
    ledger: RealLedger,
) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    await ledger.claims.report([Progress(made.identity.request_id, 1, NanoUsd(30), SeenStream(received_bytes=9))])
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=gone)
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((0, 30), 0)


async def test_of_a_stream_whose_worker_stands_still_the_hold_is_assumed_if_nothing_is_usual(
    ledger: RealLedger,
) -> None:
    key, made = await in_flight(ledger, 70, claimed=True)
    await ledger.claims.report([Progress(made.identity.request_id, 1, NanoUsd(30), SeenStream(received_bytes=9))])
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=there)
    await ledger.fold()
    assert (await ledger.balance(key), await ledger.held(key)) == ((0, 70), 0)


async def with_usual_answers(ledger: RealLedger) -> Attempt:
    """Return a claimed attempt of a prompt of at most 25 tokens, of a key whose answers usually cost 21."""
    key, made = await in_flight(ledger, 70, claimed=True)
    for number in range(FEWEST):
        answered = attempt(made.identity.project_id, key, now=NOW, deadline=LATE)
        priced = replace(cost(answered, 20 + number % 2, hold=70, day=NOW.date()), price=PRICE)
        await ledger.append(answered, 0, completed(answered), priced)
    async with ledger.owner.acquire() as connection:
        await connection.execute("UPDATE inflight SET token_bound = 25")
    await ledger.fold()
    return made


async def swept(ledger: RealLedger, made: Attempt, is_gone: IsGone) -> int:
    """Return what is assumed of an attempt."""
    await sweep(ledger.pool, ledger.log, LATE, FailureRecorder(), is_gone=is_gone)
    lost = (await ledger.history(made))[0]
    assert isinstance(lost, AttemptLost)
    return lost.assumed_nano_usd


async def test_of_an_answer_in_one_piece_so_much_is_assumed_as_such_answers_usually_cost(ledger: RealLedger) -> None:
    made = await with_usual_answers(ledger)
    assert await swept(ledger, made, there) == 25 + 1, "its longest prompt, and a usual answer"


async def test_of_a_stream_whose_worker_stands_still_no_less_is_assumed_than_was_reported(ledger: RealLedger) -> None:
    made = await with_usual_answers(ledger)
    await ledger.claims.report([Progress(made.identity.request_id, 1, NanoUsd(40), SeenStream(received_bytes=9))])
    assert await swept(ledger, made, there) == 40


async def test_a_request_that_the_queue_has_lost_is_assumed_at_no_less_than_was_reported(ledger: RealLedger) -> None:
    made = await with_usual_answers(ledger)
    await ledger.claims.report([Progress(made.identity.request_id, 1, NanoUsd(40), SeenStream(received_bytes=9))])
    assert await end_abandoned(ledger.pool, ledger.log, made.identity.request_id, 0, NOW)
    lost = (await ledger.history(made))[0]
    assert isinstance(lost, AttemptLost)
    assert lost.assumed_nano_usd == 40


async def test_a_report_of_a_name_alone_says_nothing_of_the_cost(ledger: RealLedger) -> None:
    made = await with_usual_answers(ledger)
    await ledger.claims.report([Progress(made.identity.request_id, 1, None, SeenStream(response_id="resp_1"))])
    (reported,) = await ledger.claims.in_flight(made.identity.request_id)
    assert reported.assumed_nano_usd is None
    assert await swept(ledger, made, gone) == 25 + 1
