"""What a request is known by to its retries, and which ends they get again."""

import pytest
from msgspec.structs import replace

from api.replays import WaitingRetries
from domain.errors import ClientDisconnected, ProviderTimeout, RateLimited
from domain.events import AttemptFailed, AttemptLost, CostIncurred, Event, RequestCompleted, RequestFailed
from domain.idempotency import Idempotency, derived_key, fingerprint_of, sent_key
from domain.request_decider import is_replayable_end
from tests.support.ledger import START, attempt, completed, cost, failed, lost

BODY = b'{"model": "gpt-4o-mini"}'
SENT = Idempotency(key="0" * 64, fingerprint="1" * 64, received_at_ms=0, ttl_s=60)
DERIVED = replace(SENT, derived="retry")
MADE = attempt("prj", "key", now=START)
DAY = START.date()
FAILED = failed(MADE, hold=1, day=DAY)
LOST = lost(MADE, hold=1, day=DAY)
COMPLETED = completed(MADE)
COST = cost(MADE, 1, hold=1, day=DAY)


def ended(code: str = ProviderTimeout.code, known_by: Idempotency = SENT) -> RequestFailed:
    return RequestFailed(
        **replace(MADE.identity, idempotency=known_by).event_fields(), code=code, message="m", latency_ms=1
    )


def test_a_key_is_of_one_api_key_of_one_project() -> None:
    keys = {sent_key(*parts) for parts in (("p", "k", "t"), ("q", "k", "t"), ("p", "l", "t"), ("p", "k", "u"))}
    assert len(keys | {derived_key("p", "k", "t")}) == 5


def test_parts_do_not_run_together() -> None:
    assert sent_key("ab", "c", "d") != sent_key("a", "bc", "d")
    assert fingerprint_of("/v1", b"x=1", BODY) != fingerprint_of("/v1x=1", b"", BODY)


def test_a_fingerprint_is_of_the_address_and_the_body() -> None:
    first = fingerprint_of("/v1/messages", b"beta=true", BODY)
    assert first == fingerprint_of("/v1/messages", b"beta=true", BODY)
    assert first not in {
        fingerprint_of("/v1/messages", b"", BODY),
        fingerprint_of("/v1/chat/completions", b"beta=true", BODY),
        fingerprint_of("/v1/messages", b"beta=true", BODY + b" "),
    }


def test_a_derived_key_answers_retries_alone() -> None:
    modes = ("first", "retry", None)
    assert [replace(SENT, derived=mode).is_replayable for mode in modes] == [False, True, True]


def test_the_text_of_a_key_is_not_in_it() -> None:
    assert "my-secret" not in sent_key("p", "k", "my-secret")


@pytest.mark.parametrize(
    ("history", "is_kept"),
    [
        ([], False),
        ([FAILED], False),
        ([LOST], False),
        ([COMPLETED, COST], True),
        ([FAILED, ended()], False),
        ([LOST, ended()], True),
        ([COST, ended()], True),
        ([LOST, FAILED, ended()], True),
        ([COST, ended(ClientDisconnected.code)], False),
        ([LOST, ended(known_by=DERIVED)], False),
    ],
)
def test_an_end_is_kept_if_a_provider_was_paid_or_may_have_been(
    history: list[AttemptFailed | AttemptLost | CostIncurred | RequestCompleted | RequestFailed], is_kept: bool
) -> None:
    events: list[Event] = list(history)
    assert is_replayable_end(events) is is_kept


def test_only_so_many_retries_of_one_api_key_wait_at_a_time() -> None:
    waiting = WaitingRetries(limit=2)
    with waiting.place("one"), waiting.place("other"):
        with waiting.place("one"), pytest.raises(RateLimited) as refused, waiting.place("one"):
            pass
        with waiting.place("one"):
            assert refused.value.retry_after_s == 1
