"""Each row of the contract's table of errors has the class and the fields that the vendor's SDK gives to its own."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.support.sdk_clients import CLAUDE, ECHO, GPT, UNKNOWN_KEY, Project, SdkClients, resolved, user

TOO_LARGE = "x" * 34_000_000


async def refused_by_openais(client: Any, **fields: Any) -> Any:
    """Send a chat completion. Return its error."""
    with pytest.raises(openai_sdk.APIStatusError) as refused:
        await resolved(client.chat.completions.create(**({"model": GPT, "messages": user("hello")} | fields)))
    error: Any = refused.value
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.request_id.startswith("req_")
    assert error.body["message"] in error.message
    return error


async def refused_by_anthropics(client: Any, **fields: Any) -> Any:
    """Send a message. Return its error."""
    request_body = {"model": CLAUDE, "max_tokens": 50, "messages": user("hello")} | fields
    with pytest.raises(anthropic_sdk.APIStatusError) as refused:
        await resolved(client.messages.create(**request_body))
    error: Any = refused.value
    assert set(error.body) == {"type", "error", "request_id"}
    assert error.body["type"] == "error"
    assert error.request_id == error.body["request_id"] == error.response.headers["x-request-id"]
    assert error.request_id.startswith("req_")
    assert error.api_message in error.message
    return error


def is_openais(error: Any, kind: type, status: int, type_: str, code: str | None = None) -> bool:
    """Return whether an error of OpenAI's SDK is this row of the table."""
    return (type(error), error.status_code, error.type, error.code) == (kind, status, type_, code)


def is_anthropics(error: Any, kind: type, status: int, type_: str) -> bool:
    """Return whether an error of Anthropic's SDK is this row of the table."""
    return (type(error), error.status_code, error.type) == (kind, status, type_)


@pytest.fixture(scope="module")
def revoked(project: Project) -> str:
    issued = project.issue()
    project.revoke(issued["id"])
    return str(issued["apiKey"])


@pytest.fixture(scope="module")
def expired(project: Project) -> str:
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    issued = project.issue(expiresAt=expires_at.isoformat())
    time.sleep(1)  # until the key has expired
    return str(issued["apiKey"])


@pytest.mark.parametrize(
    "text", [UNKNOWN_KEY, "gw_live_short", "sk-of-the-vendor", "x" * 5_000], ids=["unknown", "short", "vendors", "long"]
)
async def test_an_unknown_key_is_an_authentication_error(openai: Any, anthropic: Any, text: str) -> None:
    error = await refused_by_openais(openai.with_options(api_key=text))
    assert is_openais(error, openai_sdk.AuthenticationError, 401, "invalid_request_error", "invalid_api_key")
    error = await refused_by_anthropics(anthropic.with_options(api_key=text))
    assert is_anthropics(error, anthropic_sdk.AuthenticationError, 401, "authentication_error")


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_key_that_works_no_longer_is_an_authentication_error(
    openai: Any, anthropic: Any, request: pytest.FixtureRequest, how: str
) -> None:
    key = request.getfixturevalue(how)
    error = await refused_by_openais(openai.with_options(api_key=key))
    assert is_openais(error, openai_sdk.AuthenticationError, 401, "invalid_request_error", "invalid_api_key")
    error = await refused_by_anthropics(anthropic.with_options(api_key=key))
    assert is_anthropics(error, anthropic_sdk.AuthenticationError, 401, "authentication_error")


async def test_models_are_not_listed_without_a_key(openai: Any, anthropic: Any) -> None:
    with pytest.raises(openai_sdk.AuthenticationError) as refused:
        await resolved(openai.with_options(api_key=UNKNOWN_KEY).models.list())
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(anthropic_sdk.AuthenticationError) as denied:
        await resolved(anthropic.with_options(api_key=UNKNOWN_KEY).models.list())
    assert denied.value.type == "authentication_error"


async def test_a_key_that_may_not_ask_a_model_is_denied(openai: Any, anthropic: Any, project: Project) -> None:
    held = project.issue(models=[ECHO])["apiKey"]
    error = await refused_by_openais(openai.with_options(api_key=held))
    assert is_openais(error, openai_sdk.PermissionDeniedError, 403, "permission_error")
    error = await refused_by_anthropics(anthropic.with_options(api_key=held))
    assert is_anthropics(error, anthropic_sdk.PermissionDeniedError, 403, "permission_error")


STRICT = {"x-gateway-translation": "strict"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": CLAUDE, "temperature": 2.5}, "temperature"),
        ({"model": CLAUDE, "messages": []}, "messages"),
        ({"model": CLAUDE, "extra_body": {"a_field_of_tomorrow": 1}, "extra_headers": STRICT}, "a_field_of_tomorrow"),
        ({"model": GPT, "max_tokens": -1}, "max_tokens"),
        ({"model": GPT, "n": 1_000_000}, "n"),
        ({"model": ECHO, "messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
    ],
)
async def test_a_wrong_field_is_named_to_openais_clients(openai: Any, fields: Any, param: str) -> None:
    error = await refused_by_openais(openai, **fields)
    assert is_openais(error, openai_sdk.BadRequestError, 400, "invalid_request_error")
    assert error.param == param
    assert f"`{param}`" in error.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": GPT, "extra_body": {"temperature": 2.5}}, "temperature"),
        ({"model": GPT, "messages": []}, "messages"),
        ({"model": GPT, "extra_body": {"a_field_of_tomorrow": 1}, "extra_headers": STRICT}, "a_field_of_tomorrow"),
        ({"model": CLAUDE, "max_tokens": -1}, "max_tokens"),
        ({"model": ECHO, "messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
    ],
)
async def test_a_wrong_field_is_named_to_anthropics_clients(anthropic: Any, fields: Any, field: str) -> None:
    error = await refused_by_anthropics(anthropic, **fields)
    assert is_anthropics(error, anthropic_sdk.BadRequestError, 400, "invalid_request_error")
    assert f"`{field}`" in error.api_message


def test_invalid_json_is_a_bad_request(sync_sdks: SdkClients) -> None:
    with pytest.raises(openai_sdk.BadRequestError) as refused:
        sync_sdks.openai.post("/chat/completions", cast_to=object, content=b'{"model": ')
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(anthropic_sdk.BadRequestError) as denied:
        sync_sdks.anthropic.post("/v1/messages", cast_to=object, content=b'{"model": ')
    assert denied.value.type == "invalid_request_error"


def test_another_route_is_not_found(sync_sdks: SdkClients) -> None:
    with pytest.raises(openai_sdk.NotFoundError) as missing:
        sync_sdks.openai.files.list()
    assert missing.value.type == "invalid_request_error"
    with pytest.raises(anthropic_sdk.NotFoundError) as absent:
        sync_sdks.anthropic.messages.batches.list()
    assert absent.value.type == "not_found_error"
    assert absent.value.request_id == absent.value.body["request_id"]
    with pytest.raises(openai_sdk.APIStatusError) as unmethodical:
        sync_sdks.openai.chat.completions.list()
    assert (unmethodical.value.status_code, unmethodical.value.type) == (405, "invalid_request_error")


async def test_an_unknown_model_is_not_found(openai: Any, anthropic: Any) -> None:
    error = await refused_by_openais(openai, model="llama-nowhere")
    assert is_openais(error, openai_sdk.NotFoundError, 404, "invalid_request_error", "model_not_found")
    assert error.param == "model"
    error = await refused_by_anthropics(anthropic, model="llama-nowhere")
    assert is_anthropics(error, anthropic_sdk.NotFoundError, 404, "not_found_error")
    with pytest.raises(openai_sdk.NotFoundError) as unlisted:
        await resolved(openai.models.retrieve("llama-nowhere"))
    assert unlisted.value.code == "model_not_found"
    with pytest.raises(anthropic_sdk.NotFoundError) as unknown:
        await resolved(anthropic.models.retrieve("llama-nowhere"))
    assert unknown.value.type == "not_found_error"


async def test_a_body_above_the_limit_is_too_large(sync_sdks: SdkClients) -> None:
    error = await refused_by_openais(sync_sdks.openai, messages=user(TOO_LARGE))
    assert is_openais(error, openai_sdk.APIStatusError, 413, "invalid_request_error")
    error = await refused_by_anthropics(sync_sdks.anthropic, messages=user(TOO_LARGE))
    assert is_anthropics(error, anthropic_sdk.ContentTooLargeError, 413, "request_too_large")


async def test_a_limit_is_a_rate_limit_error(openai: Any, anthropic: Any, project: Project) -> None:
    slow, other = project.issue(rateLimit=1)["apiKey"], project.issue(rateLimit=1)["apiKey"]
    limited, also_limited = openai.with_options(api_key=slow), anthropic.with_options(api_key=other)
    await resolved(limited.chat.completions.create(model=ECHO, messages=user("hello")))
    await resolved(also_limited.messages.create(model=ECHO, max_tokens=9, messages=user("hello")))
    error = await refused_by_openais(limited)
    assert is_openais(error, openai_sdk.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_exceeded")
    assert 50 < int(error.response.headers["retry-after"]) <= 60
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    error = await refused_by_anthropics(also_limited)
    assert is_anthropics(error, anthropic_sdk.RateLimitError, 429, "rate_limit_error")
    assert 50 < int(error.response.headers["retry-after"]) <= 60
    assert error.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


async def test_a_spent_budget_is_each_vendors_own_error(openai: Any, anthropic: Any, project: Project) -> None:
    spent = project.issue(dailyBudget=0)["apiKey"]
    error = await refused_by_openais(openai.with_options(api_key=spent))
    assert is_openais(error, openai_sdk.RateLimitError, 429, "insufficient_quota", "insufficient_quota")
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.headers["x-gateway-budget-remaining-usd"] == "0"
    assert "retry-after" not in error.response.headers
    error = await refused_by_anthropics(anthropic.with_options(api_key=spent))
    assert is_anthropics(error, anthropic_sdk.PaymentRequiredError, 402, "billing_error")
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize(
    ("status", "for_openai", "for_anthropic"),
    [
        (400, openai_sdk.BadRequestError, anthropic_sdk.BadRequestError),
        (404, openai_sdk.NotFoundError, anthropic_sdk.NotFoundError),
        (409, openai_sdk.ConflictError, anthropic_sdk.ConflictError),
        (413, openai_sdk.APIStatusError, anthropic_sdk.ContentTooLargeError),
        (422, openai_sdk.UnprocessableEntityError, anthropic_sdk.UnprocessableEntityError),
    ],
)
async def test_provider_refusal_keeps_status_and_message(
    sync_sdks: SdkClients, model: str, status: int, for_openai: type, for_anthropic: type
) -> None:
    request_body: Any = {"model": model, "messages": user(f"[[status={status}]]")}
    error = await refused_by_openais(sync_sdks.openai, **request_body)
    assert (type(error), error.status_code) == (for_openai, status)
    assert error.body["message"] == f"refused with {status}"
    error = await refused_by_anthropics(sync_sdks.anthropic, **request_body)
    assert (type(error), error.status_code) == (for_anthropic, status)
    assert error.api_message == f"refused with {status}"


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("status", [401, 403])
async def test_our_credential_is_our_fault_and_stays_ours(sync_sdks: SdkClients, model: str, status: int) -> None:
    request_body: Any = {"model": model, "messages": user(f"[[status={status}]]")}
    error = await refused_by_openais(sync_sdks.openai, **request_body)
    assert is_openais(error, openai_sdk.InternalServerError, 502, "api_error")
    assert "canary" not in str(error.body)
    error = await refused_by_anthropics(sync_sdks.anthropic, **request_body)
    assert is_anthropics(error, anthropic_sdk.InternalServerError, 502, "api_error")
    assert "canary" not in str(error.body)


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_a_provider_that_limits_us_is_a_rate_limit_error(sync_sdks: SdkClients, model: str) -> None:
    request_body: Any = {"model": model, "messages": user("[[status=429]] [[after=30]]")}
    error = await refused_by_openais(sync_sdks.openai, **request_body)
    assert is_openais(error, openai_sdk.RateLimitError, 429, "rate_limit_exceeded", "rate_limit_exceeded")
    assert error.response.headers["retry-after"] == "30"
    error = await refused_by_anthropics(sync_sdks.anthropic, **request_body)
    assert is_anthropics(error, anthropic_sdk.RateLimitError, 429, "rate_limit_error")
    assert error.response.headers["retry-after"] == "30"


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("word", ["[[status=500]]", "[[status=529]]", "[[reset]]", "[[garbage]]"])
async def test_a_provider_that_is_down_is_a_server_error(sync_sdks: SdkClients, model: str, word: str) -> None:
    error = await refused_by_openais(sync_sdks.openai, model=model, messages=user(word))
    assert is_openais(error, openai_sdk.InternalServerError, 502, "api_error")
    error = await refused_by_anthropics(sync_sdks.anthropic, model=model, messages=user(word))
    assert is_anthropics(error, anthropic_sdk.InternalServerError, 502, "api_error")


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_a_provider_that_takes_too_long_is_a_timeout(sync_sdks: SdkClients, model: str) -> None:
    error = await refused_by_openais(sync_sdks.openai, model=model, messages=user("[[status=408]]"))
    assert is_openais(error, openai_sdk.InternalServerError, 504, "api_error")
    error = await refused_by_anthropics(sync_sdks.anthropic, model=model, messages=user("[[status=408]]"))
    assert is_anthropics(error, anthropic_sdk.GatewayTimeoutError, 504, "timeout_error")
