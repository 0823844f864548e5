"""Idempotency keys on PostgreSQL: one request has a key, over processes, deaths and any state of the projector."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from domain.errors import ClientDisconnected
from domain.events import AttemptFailed, AttemptLost, CostIncurred, Event, RequestFailed, request_stream
from domain.idempotency import Idempotency, sent_key
from domain.money import NanoUsd
from domain.request_decider import decide_completed, decide_failed
from infra.admission import Admission, AdmissionDecision, Attempt
from infra.database import HeldConnection
from infra.event_log import Blob, Commit
from infra.ids import new_id
from projections.idempotency import remove_expired_keys
from tests.support.ledger import RealLedger, ask, attempt, completed, cost, failed, lost

HOLD = 10


def today() -> date:
    return datetime.now(UTC).date()


class Caller:
    """A key of a project, which sends requests with the same idempotency key."""

    def __init__(self, ledger: RealLedger, project_id: str, key_id: str) -> None:
        self.ledger = ledger
        self.project_id = project_id
        self.key_id = key_id

    def sends(self, body: str = "a body", text: str = "a key", **fields: object) -> Attempt:
        """A request with an idempotency key."""
        made = attempt(self.project_id, self.key_id)
        known_by = Idempotency(
            key=sent_key(self.project_id, self.key_id, text),
            fingerprint=body,
            received_at_ms=round(made.admitted_at.timestamp() * 1000),
            ttl_s=3_600,
        )
        identity = replace(made.identity, idempotency=replace(known_by, **fields))
        return replace(made, identity=identity)

    async def decided(self, made: Attempt, by: Admission | None = None) -> AdmissionDecision:
        return await (by or self.ledger.admission).admit(ask(made, hold=HOLD))

    async def admitted(self) -> Attempt:
        made = self.sends()
        assert (await self.decided(made)).outcome == "admitted"
        return made

    async def append(self, made: Attempt, *events: Event) -> None:
        await self.ledger.append(made, len(await self.ledger.history(made)), *events)

    async def answered(self, made: Attempt) -> None:
        await self.append(made, completed(made), cost(made, 7, hold=HOLD, day=today()))

    async def failed(self, made: Attempt) -> None:
        """The only attempt has failed and cost nothing, and so has the request."""
        await self.append(made, failed(made, hold=HOLD, day=today()), ended(made))


def ended(made: Attempt) -> RequestFailed:
    return RequestFailed(**made.identity.event_fields(), code="PROVIDER_UNAVAILABLE", message="m", latency_ms=1)


def found(decision: AdmissionDecision) -> tuple[str, str | None]:
    return decision.outcome, decision.origin


@pytest.fixture
async def caller(ledger: RealLedger) -> Caller:
    project = await ledger.new_project()
    return Caller(ledger, project, await ledger.new_key(project))


@pytest.fixture
async def processes(database_url: str, ledger: RealLedger) -> AsyncIterator[list[Admission]]:
    """Return the admission of four API processes."""
    opened = [Admission(HeldConnection(database_url, name="tests"), ledger.pool) for _ in range(4)]
    yield opened
    for one in opened:
        await one.close()


async def settled(caller: Caller, made: Attempt, process: Admission) -> AdmissionDecision:
    """Ask as the API does: again, if two processes met."""
    while (decision := await caller.decided(made, process)).outcome == "retry":
        continue
    return decision


async def test_of_a_burst_under_one_key_one_is_admitted(caller: Caller, processes: list[Admission]) -> None:
    asked = [caller.sends() for _ in range(40)]
    decisions = await asyncio.gather(
        *(settled(caller, made, processes[n % len(processes)]) for n, made in enumerate(asked))
    )
    assert Counter(decision.outcome for decision in decisions) == {"admitted": 1, "replay": 39}
    (leader,) = (made for made, one in zip(asked, decisions, strict=True) if one.outcome == "admitted")
    assert {one.origin for one in decisions if one.outcome == "replay"} == {leader.identity.request_id}
    assert await caller.ledger.held(caller.key_id) == HOLD


async def test_another_body_under_the_key_is_a_mismatch_in_flight_and_afterwards(caller: Caller) -> None:
    made = await caller.admitted()
    expected = ("mismatch", made.identity.request_id)
    assert found(await caller.decided(caller.sends("another"))) == expected
    await caller.answered(made)
    await caller.ledger.fold()
    assert found(await caller.decided(caller.sends("another"))) == expected


async def test_another_text_is_another_request(caller: Caller) -> None:
    await caller.admitted()
    assert (await caller.decided(caller.sends("another", text="another key"))).outcome == "admitted"


async def test_a_request_is_found_at_every_moment_of_its_fold(caller: Caller, processes: list[Admission]) -> None:
    for _ in range(5):
        made = caller.sends(text=f"key {_}")
        assert (await caller.decided(made)).outcome == "admitted"
        await caller.answered(made)
        folding = asyncio.create_task(caller.ledger.fold())
        while not folding.done():
            asked = [caller.sends(text=f"key {_}") for _ in processes]
            asked = [
                replace(one, identity=replace(one.identity, idempotency=made.identity.idempotency)) for one in asked
            ]
            decisions = await asyncio.gather(
                *(settled(caller, one, process) for one, process in zip(asked, processes, strict=True))
            )
            assert {found(one) for one in decisions} == {("replay", made.identity.request_id)}
        await folding


async def test_between_two_attempts_the_key_is_taken(caller: Caller) -> None:
    made = await caller.admitted()
    await caller.append(made, failed(made, hold=HOLD, day=today()))
    await caller.ledger.fold()
    assert await caller.ledger.held(caller.key_id) == 0
    assert found(await caller.decided(caller.sends())) == ("replay", made.identity.request_id)
    await caller.ledger.claims.admit_next(made, 2, 1, NanoUsd(HOLD), today())
    assert found(await caller.decided(caller.sends())) == ("replay", made.identity.request_id)


async def test_a_request_that_cost_nothing_leaves_its_key(caller: Caller) -> None:
    made = await caller.admitted()
    await caller.failed(made)
    await caller.ledger.fold()
    assert (await caller.decided(caller.sends("another"))).outcome == "admitted"


async def test_a_key_is_freed_before_the_projector_has_seen_the_end(caller: Caller) -> None:
    made = await caller.admitted()
    await caller.failed(made)
    assert found(await caller.decided(caller.sends())) == ("replay", made.identity.request_id)
    await caller.ledger.admission.free_idempotency_key(made.identity.request_id)
    following = await caller.admitted()
    await caller.ledger.fold()
    assert found(await caller.decided(caller.sends())) == ("replay", following.identity.request_id)


async def test_a_request_that_may_have_been_charged_keeps_its_key(caller: Caller) -> None:
    made = await caller.admitted()
    await caller.append(made, lost(made, hold=HOLD, day=today()), ended(made))
    await caller.ledger.fold()
    assert found(await caller.decided(caller.sends())) == ("replay", made.identity.request_id)


async def test_a_key_is_free_once_it_has_expired(caller: Caller) -> None:
    made = await caller.admitted()
    await caller.answered(made)
    await caller.ledger.fold()
    later = caller.sends()
    late = replace(later, admitted_at=later.admitted_at + timedelta(seconds=3_601))
    assert (await caller.decided(late)).outcome == "admitted"


async def test_a_replay_needs_no_budget_and_counts_toward_the_rate(ledger: RealLedger) -> None:
    project = await ledger.new_project()
    key = await ledger.new_key(project, daily_budget_nano_usd=NanoUsd(HOLD), rate_limit=3)
    caller = Caller(ledger, project, key)
    made = await caller.admitted()
    assert (await caller.decided(caller.sends())).outcome == "replay"
    assert (await caller.decided(caller.sends(text="another key"))).outcome == "budget_held"
    assert (await caller.decided(caller.sends())).outcome == "rate_limit"
    assert await ledger.held(key) == HOLD
    await caller.answered(made)


async def test_a_derived_key_never_keeps_equal_requests_apart(caller: Caller) -> None:
    first, equal = caller.sends(derived="first"), caller.sends(derived="first")
    retry = caller.sends(derived="retry")
    assert [(await caller.decided(one)).outcome for one in (first, equal)] == ["admitted", "admitted"]
    assert found(await caller.decided(retry)) == ("replay", first.identity.request_id)
    await caller.append(first, failed(first, hold=HOLD, day=today()))
    await caller.ledger.fold()
    assert (await caller.decided(caller.sends(derived="first"))).outcome == "admitted"
    assert await caller.ledger.claims.admit_next(first, 2, 1, NanoUsd(HOLD), today()) is not None


async def test_only_the_newest_answers_of_a_project_are_kept_and_no_older_one_is_paid_again(caller: Caller) -> None:
    texts, pool = [f"key {number}" for number in range(5)], caller.ledger.pool
    blob_ids, expires_at = [new_id("blob") for _ in texts], datetime.now(UTC) + timedelta(hours=1)
    for text, blob_id in zip(texts, blob_ids, strict=True):
        made = caller.sends(text=text)
        await caller.decided(made)
        await caller.ledger.log.append(
            Commit(
                stream=request_stream(made.identity.request_id),
                expected_version=0,
                project_id=caller.project_id,
                at=datetime.now(UTC),
                events=(replace(completed(made), kept_blob_id=blob_id), cost(made, 7, hold=HOLD, day=today())),
                blobs=(Blob(blob_id=blob_id, project_id=caller.project_id, body=b"sealed", expires_at=expires_at),),
            )
        )
        await asyncio.sleep(0.002)  # they are told apart by the millisecond
    await caller.ledger.fold()
    assert await remove_expired_keys(pool, max_answers=2, max_bytes=2**30) == 3
    assert await remove_expired_keys(pool, max_answers=2, max_bytes=2**30) == 0, "they are counted no more"
    kept = await pool.fetch("SELECT blob_id FROM blobs WHERE blob_id = ANY($1::text[])", blob_ids)
    assert {row["blob_id"] for row in kept} == set(blob_ids[3:])
    found_by = [(await caller.decided(caller.sends(text=text))).outcome for text in texts]
    assert found_by == ["replay"] * 5


@pytest.mark.parametrize("assumed", [0, HOLD])
async def test_a_cost_that_comes_late_does_not_take_a_freed_key_again(caller: Caller, assumed: int) -> None:
    made = await caller.admitted()
    left = replace(ended(made), code=ClientDisconnected.code)
    await caller.append(made, lost(made, hold=assumed, day=today()), left)
    await caller.ledger.fold()
    history = await caller.ledger.history(made)
    late = decide_completed(history, completed(made), cost(made, 7, hold=0, day=today()))
    assert [type(event) for event in late] == [CostIncurred]
    await caller.append(made, *late)
    await caller.ledger.fold()
    assert (await caller.decided(caller.sends("another"))).outcome == "admitted"


@pytest.mark.parametrize("event", [lost, failed])
async def test_an_attempt_that_ends_after_its_request_does_not_take_a_freed_key_again(
    caller: Caller, event: Callable[..., AttemptLost | AttemptFailed]
) -> None:
    made = await caller.admitted()
    await caller.append(made, replace(ended(made), code=ClientDisconnected.code))
    await caller.ledger.fold()
    history = await caller.ledger.history(made)
    await caller.append(made, *decide_failed(history, event(made, hold=HOLD, day=today()), None))
    await caller.ledger.fold()
    assert (await caller.decided(caller.sends("another"))).outcome == "admitted"
