"""The SDKs retry a request that a rate limit refused, but not one that a spent budget refused."""

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.support.gateway import Gateway
from tests.support.sdk_clients import CLAUDE, GPT, Project, SdkClients, user

CONTENT_FIELDS: Any = {"messages": user("hello"), "max_tokens": 16}
MOST: Any = {"messages": user(f"[[tokens=118900/1]] {'x' * 118_900}"), "max_tokens": 16}
"""Leaves fewer of a minute's tokens than the next request needs."""
NEXT: Any = {"messages": user("x" * 2_500), "max_tokens": 16}


@pytest.fixture
def quickly_refilled(project: Project) -> str:
    """Return a key with 2,000 tokens per second."""
    return str(project.issue(rateLimit=None, tokenLimit=120_000)["apiKey"])


def test_openai_sdk_honours_retry_after(gateway: Gateway, quickly_refilled: str) -> None:
    clients = SdkClients(gateway, quickly_refilled, max_retries=2)
    clients.openai.chat.completions.create(model=GPT, **MOST)
    raw = clients.openai.chat.completions.with_raw_response.create(model=GPT, **NEXT)
    assert clients.statuses == [200, 429, 200]
    assert clients.retry_counts == ["0", "0", "1"]
    assert raw.retries_taken == 1


def test_anthropic_sdk_honours_retry_after(gateway: Gateway, quickly_refilled: str) -> None:
    clients = SdkClients(gateway, quickly_refilled, max_retries=2)
    clients.anthropic.messages.create(model=CLAUDE, **MOST)
    raw = clients.anthropic.messages.with_raw_response.create(model=CLAUDE, **NEXT)
    assert clients.statuses == [200, 429, 200]
    assert clients.retry_counts == ["0", "0", "1"]
    assert raw.retries_taken == 1


def test_a_stream_is_tried_again_before_it_has_begun(gateway: Gateway, quickly_refilled: str) -> None:
    clients = SdkClients(gateway, quickly_refilled, max_retries=2)
    clients.openai.chat.completions.create(model=GPT, **MOST)
    assert list(clients.openai.chat.completions.create(model=GPT, stream=True, **NEXT))
    assert clients.statuses == [200, 429, 200]


def test_spent_budget_refusal_has_no_retry_after(gateway: Gateway, project: Project) -> None:
    clients = SdkClients(gateway, project.issue(dailyBudget=0)["apiKey"], max_retries=3)
    with pytest.raises(openai.RateLimitError):
        clients.openai.chat.completions.create(model=GPT, **CONTENT_FIELDS)
    with pytest.raises(openai.RateLimitError):
        clients.openai.responses.create(model=GPT, input="hello", stream=True)
    with pytest.raises(anthropic.PaymentRequiredError):
        clients.anthropic.messages.create(model=CLAUDE, **CONTENT_FIELDS)
    assert clients.statuses == [429, 429, 402]


def test_an_agent_that_repeats_every_429_gets_another_status(gateway: Gateway, project: Project) -> None:
    headers = {"user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14"}
    clients = SdkClients(gateway, project.issue(dailyBudget=0)["apiKey"], max_retries=3)
    with pytest.raises(openai.APIStatusError, match="budget"):
        clients.openai.chat.completions.create(model=GPT, extra_headers=headers, **CONTENT_FIELDS)
    assert clients.statuses == [402]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_refused_request_is_not_retried(gateway: Gateway, key: str, status: int) -> None:
    clients = SdkClients(gateway, key, max_retries=3)
    with pytest.raises(openai.APIStatusError):
        clients.openai.chat.completions.create(model=GPT, messages=user(f"[[status={status}]]"))
    with pytest.raises(anthropic.APIStatusError):
        clients.anthropic.messages.create(model=CLAUDE, max_tokens=16, messages=user(f"[[status={status}]]"))
    assert clients.statuses == [status, status]


async def test_request_is_retried_while_others_hold_the_budget(gateway: Gateway, project: Project) -> None:
    issued = project.issue(dailyBudget=0.0015, budgetWaitMs=0, outputCap="refuse")
    clients = SdkClients(gateway, issued["apiKey"], max_retries=4)
    slow: Any = {"model": GPT, "messages": user("[[delay=1500]] [[tokens=10/10]]"), "max_tokens": 2000}
    async with clients.async_openai as client:
        first = asyncio.create_task(client.chat.completions.create(**slow))
        await asyncio.sleep(0.5)
        second = await asyncio.to_thread(
            clients.openai.chat.completions.with_raw_response.create, model=GPT, messages=user("x"), max_tokens=2000
        )
        await first
    assert clients.statuses[0] == 429
    assert clients.statuses[-1] == 200
    assert second.retries_taken == len(clients.statuses) - 1
