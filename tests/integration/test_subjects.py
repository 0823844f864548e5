"""Whoever writes an event of a request says the same of it: its worker, the sweeper, the API, those that reconcile."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from api.request_recorder import RequestRecorder
from domain.call_origin import Origin
from domain.errors import ProviderTimeout, ProviderUnavailable
from domain.events import (
    SUBJECT_FIELDS,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
    subject_of,
)
from domain.idempotency import Idempotency
from domain.job_result import JobFailure
from domain.money import NanoUsd
from domain.request_decider import decide_reconciled
from domain.request_identity import RequestIdentity
from domain.tokens import TokenUsage
from infra.admission import Attempt, Claim
from projections.sweeper import GRACE_S, end_abandoned, sweep
from projections.unfinished import SELECT_ATTEMPTS, attempt_lost, request_failed
from tests.support.jobs import make_identity
from tests.support.ledger import RealLedger, ask, attempt
from workers import outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = NOW + timedelta(seconds=GRACE_S + 1)
HOLD = NanoUsd(70)


async def in_flight(ledger: RealLedger, *, number: int = 1) -> Attempt:
    """Admit an attempt of a request of which everything is known that can be."""
    project = await ledger.new_project()
    key = await ledger.new_key(project)
    identity = make_identity(
        request_id=f"req_{number}",
        project_id=project,
        key_id=key,
        metadata={"team": "search"},
        origin=Origin(session="s", agent="a", client="c"),
        dropped=("seed",),
        asked_as="cheapest",
        idempotency=Idempotency(key="ab" * 32, fingerprint="cd" * 32, received_at_ms=1, ttl_s=60),
    )
    assert {name for name, value in subject(identity).items() if value} == set(SUBJECT_FIELDS)
    made = attempt(project, key, now=NOW, deadline=NOW, identity=identity)
    assert (await ledger.admission.admit(ask(made, hold=HOLD))).outcome == "admitted"
    return made


def subject(identity: RequestIdentity) -> dict[str, Any]:
    return identity.event_fields()


def assert_all_say(identity: RequestIdentity, events: Sequence[Event]) -> None:
    assert events
    for event in events:
        assert subject_of(event) == subject(identity), type(event).__name__  # type: ignore[arg-type]  # of a request


async def untold(_reply_to: str, _failure: JobFailure) -> None:
    """Nobody waits."""


async def is_gone(_worker: str) -> bool:
    return True


async def test_a_worker_says_all_of_a_request(ledger: RealLedger) -> None:
    identity = (await in_flight(ledger)).identity
    claim = Claim(attempt=1, hold_nano_usd=HOLD, budget_day=NOW.date())
    completed = outcome.completed(
        identity,
        claim,
        answered_by="echo",
        response_id="r",
        finish_reason=None,
        usage=TokenUsage(),
        request_bytes=1,
        answer_bytes=1,
        answer_digest=b"",
        cached_copy=None,
        latency_ms=1,
    )
    error = ProviderUnavailable("down", provider="echo")
    events: list[Event] = [
        completed,
        outcome.cost_incurred(identity, claim, usage=TokenUsage(), price=None),
        outcome.attempt_ended(identity, claim, error, HOLD),
        outcome.attempt_not_made(identity, claim, error),
        outcome.attempt_lost(identity, claim, "timeout", HOLD),
        outcome.request_failed(identity, code="x", message="y", status=None, latency_ms=1),
    ]
    assert_all_say(identity, events)
    assert isinstance(events[0], RequestCompleted)


async def test_those_that_have_the_row_and_not_the_job_say_what_a_worker_says(ledger: RealLedger) -> None:
    made = await in_flight(ledger)
    row = await ledger.pool.fetchrow(SELECT_ATTEMPTS)
    failed = request_failed(row, LATE, ProviderTimeout, "late")
    assert_all_say(made.identity, [failed, attempt_lost(row, HOLD)])


async def test_a_swept_request_says_what_its_worker_would_and_so_does_its_reconciled_cost(ledger: RealLedger) -> None:
    made = await in_flight(ledger)
    assert await ledger.claims.claim(made.identity.request_id, 1)
    await sweep(ledger.pool, ledger.log, LATE, untold, is_gone=is_gone)
    history = await ledger.history(made)
    assert [type(event) for event in history] == [AttemptLost, RequestFailed]
    lost = history[0]
    assert isinstance(lost, AttemptLost)
    reconciled = decide_reconciled(history, lost, NanoUsd(7), source="operator")
    assert [type(event) for event in reconciled] == [CostReconciled]
    assert_all_say(made.identity, [*history, *reconciled])


async def test_a_next_attempt_is_swept_with_all_that_the_first_one_said(ledger: RealLedger) -> None:
    made = await in_flight(ledger)
    claim = await ledger.claims.claim(made.identity.request_id, 1)
    assert claim is not None
    assert await ledger.claims.admit_next(made, 2, 1, HOLD, claim.budget_day)
    assert await end_abandoned(ledger.pool, ledger.log, made.identity.request_id, 0, LATE)
    history = await ledger.history(made)
    assert isinstance(history[0], AttemptLost)
    assert history[0].attempt == 2
    assert_all_say(made.identity, history)


async def test_a_request_that_its_api_process_gives_up_says_all_that_was_admitted(ledger: RealLedger) -> None:
    made = await in_flight(ledger)
    unclaimed = await ledger.admission.unclaimed_attempt(made.identity.request_id)
    assert unclaimed is not None
    assert unclaimed.identity == made.identity
    recorder = RequestRecorder(ledger.log, now=lambda: LATE)
    assert_all_say(made.identity, recorder.abandoned(unclaimed.identity).events)


async def test_the_cost_of_a_response_in_the_background_says_what_its_answer_said(ledger: RealLedger) -> None:
    made = await in_flight(ledger)
    unknown = CostIncurred(
        **made.identity.attempt_fields(1),
        cost_nano_usd=None,
        price=None,
        breakdown=None,
        hold_nano_usd=HOLD,
        budget_day=NOW.date(),
    )
    settled = decide_reconciled([unknown], unknown, NanoUsd(7), source="provider")
    assert_all_say(made.identity, settled)
    assert decide_reconciled([unknown, *settled], unknown, NanoUsd(7), source="provider") == ()
