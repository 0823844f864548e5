"""A hold is little more than a request can cost: a coding agent works under a small budget, and never passes it."""

import base64
import json
import statistics
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.agent_session import CAP, requests
from tests.support.gateway import Client, Gateway
from tests.unit.test_pdf_size import ONE_PAGE

OUTPUT_PRICE = Decimal("0.000015")
INPUT_PRICE = Decimal("0.000003")


class Agent:
    """A coding agent that calls Claude with a key of its own."""

    def __init__(self, session: aiohttp.ClientSession, gateway: Gateway, key: str) -> None:
        self._session = session
        self._gateway = gateway
        self._key = key
        self.native = Client(session, gateway.address, key)

    @classmethod
    async def with_budget(
        cls, admin: Client, session: aiohttp.ClientSession, gateway: Gateway, dollars: float, **limits: Any
    ) -> "Agent":
        fields = {"name": "agent", "dailyBudget": dollars} | limits
        _, issued, _ = await admin.call("POST", "/projects/api-keys", fields)
        return cls(session, gateway, issued["data"]["apiKey"])

    async def ask(self, body: dict[str, Any], path: str = "messages") -> tuple[int, str, Mapping[str, str]]:
        headers = {"x-api-key": self._key, "anthropic-version": "2023-06-01"}
        async with self._session.post(f"{self._gateway.address}/v1/{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def spent(self) -> Decimal:
        _, shown, _ = await self.native.call("GET", "/usage/budget")
        daily = shown["data"]["daily"]
        assert daily["held"] == 0
        return Decimal(daily["spent"])


def usage_in(stream: str) -> dict[str, Any]:
    starts = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data:")]
    return dict(starts[0]["message"]["usage"])


async def test_a_budget_of_two_and_a_half_dollars_lets_a_coding_agents_hello_through(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 2.5)
    status, answer, headers = await agent.ask(next(requests()))
    assert status == 200, answer
    assert "x-gateway-max-tokens" not in headers
    assert Decimal("0.05") < await agent.spent() < Decimal("0.2")


async def test_an_agents_next_request_holds_what_the_provider_counted_before_and_what_was_added(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 100)
    ratios, before = [], Decimal(100)
    for body in requests():
        status, answer, headers = await agent.ask(body)
        assert status == 200, answer
        hold = before - Decimal(headers["x-gateway-budget-remaining-usd"]) - CAP * OUTPUT_PRICE
        counted = usage_in(answer)["input_tokens"]
        left = 100 - await agent.spent()
        assert hold + CAP * OUTPUT_PRICE >= before - left
        ratios.append(hold / (counted * INPUT_PRICE))
        before = left
    assert len(ratios) == 30
    assert ratios[0] > 4
    assert max(ratios[1:]) < 2
    assert statistics.median(ratios) < Decimal("1.5")


@pytest.mark.parametrize("bytes_per_token", [1, 3])
async def test_no_request_of_an_agent_costs_more_than_it_holds(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway, bytes_per_token: int
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 100)
    before = Decimal(100)
    for body in requests(8, bytes_per_token=bytes_per_token):
        _, _, headers = await agent.ask(body)
        held = before - Decimal(headers["x-gateway-budget-remaining-usd"])
        left = 100 - await agent.spent()
        assert held >= before - left
        before = left


async def test_an_agent_whose_budget_ends_gets_shorter_answers_before_it_gets_none(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 0.6)
    caps = []
    for body in requests():
        status, answer, headers = await agent.ask(body)
        if status != 200:
            break
        caps.append(int(headers["x-gateway-max-tokens"]))
        assert json.loads(upstream.requests(last=1)[0].body)["max_tokens"] == caps[-1]
    assert (status, json.loads(answer)["error"]["type"]) == (402, "billing_error")
    assert "raise the daily budget" in answer
    assert len(caps) > 3
    assert all(1_024 <= cap < CAP for cap in caps)
    assert await agent.spent() <= Decimal("0.6")


async def test_a_lowered_cap_leaves_room_for_thinking_and_an_answer(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 0.05)
    thinking = {"type": "enabled", "budget_tokens": 30_000}
    question = {"role": "user", "content": "think [[tokens=20/9]]"}
    body = {"model": "claude-sonnet-4-5", "max_tokens": CAP, "thinking": thinking, "messages": [question]}
    status, answer, headers = await agent.ask(body)
    assert status == 200, answer
    sent = json.loads(upstream.requests(last=1)[0].body)
    assert sent["max_tokens"] == int(headers["x-gateway-max-tokens"]) >= 2_048
    assert 1_024 <= sent["thinking"]["budget_tokens"] == sent["max_tokens"] - 1_024


async def test_a_pdf_of_a_page_needs_no_budget_for_a_whole_window(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway
) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": ONE_PAGE}
    parts = [{"type": "document", "source": source}, {"type": "text", "text": "sum it up [[tokens=2300/50]]"}]
    body = {"model": "claude-sonnet-4-5", "max_tokens": 500, "messages": [{"role": "user", "content": parts}]}
    agent = await Agent.with_budget(client, session, gateway, 0.05)
    status, answer, _ = await agent.ask(body)
    assert status == 200, answer
    address = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    status, answer, _ = await agent.ask(body | {"messages": [{"role": "user", "content": [address]}]})
    assert status == 402
    assert "leave out images and files" in answer


async def test_an_image_of_a_megapixel_needs_no_budget_of_a_quarter_dollar(
    client: Client, session: aiohttp.ClientSession, gateway: Gateway
) -> None:
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1_024, 1_024) + bytes(2_000)
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    parts = [{"type": "text", "text": "what is this? [[count=1]]"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": parts}]}
    agent = await Agent.with_budget(client, session, gateway, 0.02)
    headers = {"Authorization": f"Bearer {agent.native.key}"}
    async with session.post(f"{gateway.address}/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    assert 0 < await agent.spent() < Decimal("0.02")


@pytest.mark.parametrize(
    ("mark", "dollars_per_million"),
    [({}, 3), ({"cache_control": {"type": "ephemeral"}}, Decimal("3.75"))],
)
async def test_a_translated_prompt_holds_the_price_of_the_cache_only_if_it_asks_for_it(
    client: Client,
    session: aiohttp.ClientSession,
    gateway: Gateway,
    mark: dict[str, Any],
    dollars_per_million: Decimal,
) -> None:
    agent = await Agent.with_budget(client, session, gateway, 10)
    text = {"type": "text", "text": "a long text, of which every byte may be a token. " * 1_000} | mark
    body = {"model": "claude-sonnet-4-5", "max_tokens": 1, "messages": [{"role": "user", "content": [text]}]}
    headers = {"Authorization": f"Bearer {agent.native.key}"}
    url = f"{gateway.address}/v1/chat/completions"
    async with session.post(url, json=body | {"stream": True}, headers=headers) as answer:
        held = 10 - Decimal(answer.headers["x-gateway-budget-remaining-usd"])
        assert answer.status == 200, await answer.text()
    tokens = len(str(text["text"]))
    assert tokens * dollars_per_million <= held * 1_000_000 < (tokens + 200) * dollars_per_million
