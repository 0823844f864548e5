"""Every error has a row for both vendors' surfaces, and the SDKs raise the same classes as for the vendor's own."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import anthropic
import httpx2
import msgspec
import openai
import pytest

from api.vendors.errors import (
    VendorError,
    anthropic_error,
    anthropic_http_error,
    openai_error,
    openai_http_error,
)
from api.vendors.refusal_words import ANTHROPIC_WORDS, OPENAI_WORDS
from domain.errors import (
    AnswerNotKept,
    BodyTooLarge,
    BudgetExceeded,
    CircuitOpen,
    ClientDisconnected,
    CostUnknown,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidRequest,
    JobExpired,
    NotFound,
    Overloaded,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
    UnknownModel,
    UnsupportedEncoding,
)
from domain.limits import LimitStatus, Meter
from domain.provider_refusals import Reason, Refusal
from tests.support.canonical import anthropic_client, openai_client

INVALID = "invalid_request_error"
LIMITED = "rate_limit_exceeded"
SPENT = BudgetExceeded("the day budget is spent")
HELD = BudgetExceeded("the day budget is held", retry_after_s=1)

ROWS: list[tuple[GatewayError, tuple[int, str, str | None], tuple[int, str]]] = [
    (Unauthorized("m"), (401, INVALID, "invalid_api_key"), (401, "authentication_error")),
    (Forbidden("m"), (403, "permission_error", None), (403, "permission_error")),
    (NotFound("m"), (404, INVALID, None), (404, "not_found_error")),
    (InvalidRequest("m", field="n"), (400, INVALID, None), (400, INVALID)),
    (UnknownModel("x"), (404, INVALID, "model_not_found"), (404, "not_found_error")),
    (IdempotencyMismatch("m"), (422, INVALID, "idempotency_mismatch"), (422, INVALID)),
    (AnswerNotKept("m"), (410, INVALID, "answer_not_kept"), (410, INVALID)),
    (BodyTooLarge("m"), (413, INVALID, None), (413, "request_too_large")),
    (UnsupportedEncoding("m"), (415, INVALID, None), (415, INVALID)),
    (RateLimited("m"), (429, LIMITED, LIMITED), (429, "rate_limit_error")),
    (SPENT, (429, "insufficient_quota", "insufficient_quota"), (402, "billing_error")),
    (CostUnknown("m"), (429, "insufficient_quota", "insufficient_quota"), (402, "billing_error")),
    (HELD, (429, "insufficient_quota", "insufficient_quota"), (402, "billing_error")),
    (ProviderRejected("m", provider="p", status=422), (422, INVALID, None), (422, INVALID)),
    (ProviderRejected("m", provider="p", status=404), (404, INVALID, None), (404, "not_found_error")),
    (ProviderRejected("m", provider="p", status=413), (413, INVALID, None), (413, "request_too_large")),
    (ProviderRejected("m", provider="p"), (400, INVALID, None), (400, INVALID)),
    (ProviderRejected("m", provider="p", status=302), (400, INVALID, None), (400, INVALID)),
    (ProviderCredentials("m", provider="p", status=401), (502, "api_error", None), (502, "api_error")),
    (ProviderRateLimited("m", provider="p", status=429), (429, LIMITED, LIMITED), (429, "rate_limit_error")),
    (ProviderUnavailable("m", provider="p", status=503), (502, "api_error", None), (502, "api_error")),
    (CircuitOpen("m", provider="p", retry_after_s=2), (502, "api_error", None), (502, "api_error")),
    (ProviderLost("m", provider="p"), (502, "api_error", None), (502, "api_error")),
    (ProviderTimeout("m", provider="p"), (504, "api_error", None), (504, "timeout_error")),
    (JobExpired("m"), (504, "api_error", None), (504, "timeout_error")),
    (ResultLost("m"), (502, "api_error", None), (502, "api_error")),
    (ClientDisconnected("m"), (499, "api_error", None), (499, "api_error")),
    (Overloaded("m"), (503, "api_error", None), (529, "overloaded_error")),
    (Unavailable("m"), (503, "api_error", None), (529, "overloaded_error")),
]


def kinds(of: type[GatewayError]) -> set[type[GatewayError]]:
    return {of}.union(*(kinds(kind) for kind in of.__subclasses__() if kind.__module__ == of.__module__))


def sent(error: VendorError, calls: list[Any]) -> Any:
    def serve(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        return httpx2.Response(error.status, content=error.body, headers=error.headers)

    return serve


def ask_openai(error: VendorError, *, max_retries: int) -> tuple[openai.APIStatusError, int]:
    calls: list[Any] = []
    client = openai_client(sent(error, calls), max_retries=max_retries)
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    return raised.value, len(calls)


def ask_anthropic(error: VendorError, *, max_retries: int) -> tuple[anthropic.APIStatusError, int]:
    calls: list[Any] = []
    client = anthropic_client(sent(error, calls), max_retries=max_retries)
    with pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    return raised.value, len(calls)


def test_every_class_of_the_tree_has_a_row() -> None:
    assert {type(error) for error, _, _ in ROWS} == kinds(GatewayError) - {GatewayError, ProviderError}


@pytest.mark.parametrize(("error", "expected"), [(error, row) for error, row, _ in ROWS])
def test_openai_sdk_raises_the_contracts_errors(error: GatewayError, expected: tuple[int, str, str | None]) -> None:
    raised, _ = ask_openai(openai_error(error), max_retries=0)
    assert (raised.status_code, raised.type, raised.code) == expected
    assert raised.body == {
        "message": error.message,
        "type": expected[1],
        "param": raised.param,
        "code": expected[2],
    }


@pytest.mark.parametrize(("error", "expected"), [(error, row) for error, _, row in ROWS])
def test_anthropic_sdk_raises_the_contracts_errors(error: GatewayError, expected: tuple[int, str]) -> None:
    rendered = anthropic_error(error, "req_1")
    raised, _ = ask_anthropic(rendered, max_retries=0)
    assert (raised.status_code, raised.request_id) == (expected[0], "req_1")
    assert raised.body == {
        "type": "error",
        "error": {"type": expected[1], "message": error.message},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("error", "param"),
    [(InvalidRequest("m", field="messages[0].role"), "messages[0].role"), (UnknownModel("x"), "model"), (SPENT, None)],
)
def test_openai_error_names_the_field(error: GatewayError, param: str | None) -> None:
    assert msgspec.json.decode(openai_error(error).body)["error"]["param"] == param


def test_spent_budget_is_not_retried() -> None:
    assert ask_openai(openai_error(SPENT), max_retries=2)[1] == 1
    assert ask_anthropic(anthropic_error(SPENT, "r"), max_retries=2)[1] == 1
    assert "Retry-After" not in openai_error(SPENT).headers | anthropic_error(SPENT, "r").headers


def test_held_budget_refusal_asks_to_retry() -> None:
    soon = BudgetExceeded("held", retry_after_s=0)
    assert ask_openai(openai_error(soon), max_retries=1)[1] == 2
    assert ask_anthropic(anthropic_error(soon, "r"), max_retries=1)[1] == 2
    assert openai_error(HELD).headers == {"x-should-retry": "true", "Retry-After": "1"}
    assert anthropic_error(HELD, "r").headers == {"request-id": "r", "x-should-retry": "true", "Retry-After": "1"}


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (RateLimited("m", retry_after_s=2.2), "3"),
        (ProviderRateLimited("m", provider="p", retry_after_s=7), "7"),
        (ProviderRateLimited("m", provider="p"), "1"),
        (Overloaded("m"), "1"),
        (Unavailable("m", retry_after_s=5), "5"),
        (InvalidRequest("m"), None),
        (ProviderTimeout("m", provider="p"), None),
    ],
)
def test_retry_after_is_in_whole_seconds(error: GatewayError, retry_after: str | None) -> None:
    assert openai_error(error).headers.get("Retry-After") == retry_after
    assert anthropic_error(error, "r").headers.get("Retry-After") == retry_after


def test_a_refusal_shows_the_keys_limits() -> None:
    error = RateLimited("m", retry_after_s=1)
    error.limit_status = LimitStatus(requests=Meter(limit=5, remaining=0, reset_ns=12_000_000))
    assert openai_error(error).headers == {
        "Retry-After": "1",
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "12ms",
    }
    shown = anthropic_error(error, "r").headers
    until = datetime.fromisoformat(shown.pop("anthropic-ratelimit-requests-reset")) - datetime.now(UTC)
    assert abs(until) < timedelta(minutes=1)
    assert shown == {
        "request-id": "r",
        "Retry-After": "1",
        "anthropic-ratelimit-requests-limit": "5",
        "anthropic-ratelimit-requests-remaining": "0",
    }


@pytest.mark.parametrize(
    ("status", "openai_type", "anthropic_type"),
    [
        (404, INVALID, "not_found_error"),
        (405, INVALID, INVALID),
        (413, INVALID, "request_too_large"),
        (500, "api_error", "api_error"),
    ],
)
def test_framework_errors_have_the_vendors_shape(status: int, openai_type: str, anthropic_type: str) -> None:
    theirs = openai_http_error(status, "m")
    assert theirs.status == status
    assert msgspec.json.decode(theirs.body) == {
        "error": {"message": "m", "type": openai_type, "param": None, "code": None}
    }
    other = anthropic_http_error(status, "m", "r")
    assert (other.status, other.headers) == (status, {"request-id": "r"})
    assert msgspec.json.decode(other.body) == {
        "type": "error",
        "error": {"type": anthropic_type, "message": "m"},
        "request_id": "r",
    }


LONG = Refusal(reason="context_length", asked=9, limit=8)
BLANK = Refusal(reason="context_length")
WORDS: list[tuple[Refusal, tuple[int, str, str | None, str], tuple[int, str, str]]] = [
    (
        LONG,
        (400, INVALID, "context_length_exceeded", "maximum context length is 8 tokens"),
        (400, INVALID, "prompt is too long: 9 tokens > 8 maximum"),
    ),
    (
        BLANK,
        (400, INVALID, "context_length_exceeded", "exceeds the context window of this model"),
        (400, INVALID, "prompt is too long: the provider's words"),
    ),
    (
        Refusal(reason="output_cap", asked=9, limit=8),
        (400, INVALID, "invalid_value", "max_tokens is too large: 9"),
        (400, INVALID, "max_tokens: 9 > 8, which is the maximum allowed number of output tokens"),
    ),
    (
        Refusal(reason="content_filter"),
        (400, INVALID, "content_policy_violation", "the provider's words"),
        (400, INVALID, "Output blocked by content filtering policy"),
    ),
    (
        Refusal(reason="model_not_found"),
        (404, INVALID, "model_not_found", "The model does not exist"),
        (404, "not_found_error", "model: "),
    ),
    (
        Refusal(reason="billing"),
        (429, "insufficient_quota", "insufficient_quota", "no credit left"),
        (402, "billing_error", "Your credit balance is too low"),
    ),
]


@pytest.mark.parametrize("kind", [ProviderRejected, ProviderLost])
@pytest.mark.parametrize(("refusal", "for_openai", "for_anthropic"), WORDS)
def test_a_refusal_is_said_in_the_clients_own_words(
    kind: type[ProviderError], refusal: Refusal, for_openai: tuple[Any, ...], for_anthropic: tuple[Any, ...]
) -> None:
    error = kind("the provider's words", provider="p", status=418)
    error.refusal = refusal
    raised, calls = ask_openai(openai_error(error), max_retries=2)
    assert (raised.status_code, raised.type, raised.code, calls) == (*for_openai[:3], 1)
    assert for_openai[3] in str(raised.body)
    denied, calls = ask_anthropic(anthropic_error(error, "req_1"), max_retries=2)
    body: Any = denied.body
    assert (denied.status_code, body["error"]["type"], calls) == (*for_anthropic[:2], 1)
    assert body["error"]["message"].startswith(for_anthropic[2])


def test_a_refusal_that_is_passed_through_stays_the_providers_own() -> None:
    error = ProviderRejected("m", provider="p", status=400)
    error.refusal, error.own_body = LONG, b'{"error": {"message": "its own"}}'
    assert (openai_error(error).status, openai_error(error).body) == (400, error.own_body)
    assert b'"its own"' in anthropic_error(error, "req_1").body


def test_every_reason_has_words_for_both_vendors() -> None:
    assert set(OPENAI_WORDS) == set(ANTHROPIC_WORDS) == set(get_args(Reason))


@pytest.mark.parametrize("client", ["opencode", "QwenCode", "Cline", "ai"])
def test_a_client_that_repeats_every_429_is_told_to_pay(client: str) -> None:
    told = openai_error(SPENT, client)
    assert told.status == 402
    assert msgspec.json.decode(told.body)["error"]["code"] == "insufficient_quota"
    assert openai_error(HELD, client).status == 429  # it is to be repeated in a moment


@pytest.mark.parametrize("client", [None, "OpenAI/Python", "OpenAI/JS", "codex_cli_rs"])
def test_a_spent_budget_is_a_429_as_openais_own(client: str | None) -> None:
    assert openai_error(SPENT, client).status == 429
