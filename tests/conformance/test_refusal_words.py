"""A provider's refusal reaches a client of the other vendor in words that it knows, before a stream and inside one."""

from typing import Any
from urllib.parse import quote

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.support.gateway import Client
from tests.support.sdk_clients import CLAUDE, GPT, resolved, user

TOO_LONG = {
    GPT: "This model's maximum context length is 128000 tokens. However, your messages resulted in 150001 tokens.",
    CLAUDE: "prompt is too long: 150001 tokens > 128000 maximum",
}


def refused(message: str, status: int = 400, code: str = "") -> str:
    return f"[[status={status}]] [[message={quote(message)}]] [[code={code}]]"


@pytest.mark.parametrize("stream", [False, True])
async def test_gpts_context_error_is_claudes_to_anthropics_clients(anthropic: Any, stream: bool) -> None:
    with pytest.raises(anthropic_sdk.BadRequestError) as error:
        await resolved(
            anthropic.messages.create(model=GPT, max_tokens=9, messages=user(refused(TOO_LONG[GPT])), stream=stream)
        )
    assert error.value.type == "invalid_request_error"
    assert error.value.api_message == "prompt is too long: 150001 tokens > 128000 maximum"


@pytest.mark.parametrize("stream", [False, True])
async def test_claudes_context_error_has_openais_code_to_its_clients(openai: Any, stream: bool) -> None:
    with pytest.raises(openai_sdk.BadRequestError) as error:
        await resolved(
            openai.chat.completions.create(model=CLAUDE, messages=user(refused(TOO_LONG[CLAUDE])), stream=stream)
        )
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")
    assert "150001 tokens" in error.value.message


async def test_a_context_error_that_comes_with_a_failures_status_is_one(anthropic: Any) -> None:
    with pytest.raises(anthropic_sdk.BadRequestError) as error:
        await resolved(
            anthropic.messages.create(
                model=GPT, max_tokens=9, messages=user(refused("the input length exceeds the context length", 500))
            )
        )
    assert error.value.api_message.startswith("prompt is too long: ")


async def test_a_refusal_that_passes_through_is_the_providers_own(openai: Any, anthropic: Any) -> None:
    prompt = user(refused("my own words: prompt is too long", code="own_code"))
    with pytest.raises(openai_sdk.BadRequestError) as refusal:
        await resolved(openai.chat.completions.create(model=GPT, messages=prompt))
    assert (refusal.value.body["message"], refusal.value.code) == ("my own words: prompt is too long", "own_code")
    with pytest.raises(anthropic_sdk.BadRequestError) as denial:
        await resolved(anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=prompt))
    assert denial.value.body["error"]["message"] == "my own words: prompt is too long"
    assert denial.value.body["error"]["code"] == "own_code"


async def test_an_empty_account_at_the_provider_is_no_rate_limit(openai: Any, anthropic: Any) -> None:
    prompt = user(refused("You exceeded your current quota", 429, "insufficient_quota"))
    with pytest.raises(anthropic_sdk.PaymentRequiredError) as unpaid:
        await resolved(anthropic.with_options(max_retries=2).messages.create(model=GPT, max_tokens=9, messages=prompt))
    assert unpaid.value.type == "billing_error"
    assert unpaid.value.response.headers["x-should-retry"] == "false"
    prompt = user(refused("Your credit balance is too low to access the Anthropic API."))
    with pytest.raises(openai_sdk.RateLimitError) as empty:
        await resolved(openai.with_options(max_retries=2).chat.completions.create(model=CLAUDE, messages=prompt))
    assert (empty.value.code, empty.value.response.headers["x-should-retry"]) == ("insufficient_quota", "false")


async def test_a_context_error_inside_a_stream_has_the_clients_words(openai: Any, anthropic: Any) -> None:
    broken = f"[[streamerror=3]] [[pace=80]] [[message={quote(TOO_LONG[GPT])}]]"
    with pytest.raises(anthropic_sdk.APIStatusError) as error:
        await _read(anthropic.messages.create(model=GPT, max_tokens=50, messages=user(broken), stream=True))
    assert "prompt is too long: 150001 tokens > 128000 maximum" in str(error.value)
    broken = f"[[streamerror=3]] [[pace=80]] [[message={quote(TOO_LONG[CLAUDE])}]]"
    with pytest.raises(openai_sdk.APIError) as failed:
        await _read(openai.chat.completions.create(model=CLAUDE, messages=user(broken), stream=True))
    assert failed.value.code == "context_length_exceeded"


async def test_the_native_api_names_the_reason(client: Client) -> None:
    status, answer, _ = await client.chat(refused(TOO_LONG[GPT]))
    assert (status, answer["error"]["code"]) == (400, "PROVIDER_REJECTED")
    assert answer["error"]["details"]["reason"] == "context_length"
    status, answer, _ = await client.chat(refused("spent", 429, "insufficient_quota"))
    assert (status, answer["error"]["details"]["reason"]) == (402, "billing")


async def _read(stream: Any) -> None:
    opened = await resolved(stream)
    if hasattr(opened, "__aiter__"):
        async for _ in opened:
            pass
    else:
        for _ in opened:
            pass
