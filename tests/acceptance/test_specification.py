"""The product specification, line by line, against a gateway that `gateway up` started."""

from decimal import Decimal

import aiohttp

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, new_project

CAPITAL = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France? [[tokens=25/8]]"},
    ],
    "temperature": 0.7,
    "cache": True,
}


async def test_creates_a_project_with_its_own_provider_key(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    anonymous = Client(session, gateway.address, None)
    status, answer, headers = await anonymous.call(
        "POST", "/projects", {"name": "My App", "openaiKey": "sk-your-openai-key"}
    )
    assert (status, answer["success"]) == (201, True)
    assert set(answer["data"]) == {"id", "name", "apiKey", "apiKeyId", "createdAt"}
    assert answer["data"]["apiKey"].startswith("gw_live_")
    assert headers["x-request-id"].startswith("req_")
    owner = Client(session, gateway.address, answer["data"]["apiKey"])
    _, shown, _ = await owner.call("GET", "/projects/me")
    assert shown["data"]["openaiKey"] == "sk-…-key"


async def test_answers_a_chat_completion_in_the_shape_of_the_specification(client: Client) -> None:
    status, answer, headers = await client.call("POST", "/completions/chat", CAPITAL)
    assert status == 200, answer
    data = answer["data"]
    assert data["id"].startswith("chatcmpl-")
    assert data["model"] == "gpt-4o-mini"
    assert data["choices"][0]["message"]["role"] == "assistant"
    assert data["choices"][0]["message"]["content"].startswith("answer to ")
    assert data["usage"] == {"promptTokens": 25, "completionTokens": 8, "totalTokens": 33, "cachedPromptTokens": 0}
    assert data["cost"] == Decimal("0.00000855")
    assert data["cached"] is False
    assert isinstance(data["latencyMs"], int)
    assert headers["x-gateway-cost-usd"] == "0.00000855"
    assert (headers["x-gateway-cache"], headers["x-gateway-provider"]) == ("MISS", "openai")


async def test_gives_a_cached_answer_for_nothing(client: Client, upstream: RunningProvider) -> None:
    _, first, _ = await client.call("POST", "/completions/chat", CAPITAL)
    before = upstream.calls
    status, second, headers = await client.call("POST", "/completions/chat", CAPITAL)
    assert status == 200
    assert (second["data"]["cached"], second["data"]["cost"]) == (True, 0)
    assert second["data"]["choices"] == first["data"]["choices"]
    assert second["data"]["usage"] == first["data"]["usage"]
    assert headers["x-gateway-cache"] == "HIT"
    assert upstream.calls == before


async def test_answers_embeddings(client: Client) -> None:
    body = {"model": "text-embedding-3-small", "input": "Hello, world!", "cache": True}
    status, answer, _ = await client.call("POST", "/completions/embeddings", body)
    assert status == 200, answer
    data = answer["data"]
    assert data["embeddings"] == [{"index": 0, "embedding": [Decimal("0.125")] * 8}]
    assert data["usage"]["completionTokens"] == 0
    assert data["cost"] == data["usage"]["promptTokens"] * Decimal("0.00000002")


async def test_counts_usage_and_costs_at_once(client: Client) -> None:
    await client.call("POST", "/completions/chat", CAPITAL)
    await client.call("POST", "/completions/chat", CAPITAL)
    await client.chat("[[status=400]] refused", cache=False)
    _, stats, _ = await client.call("GET", "/usage/stats?days=30")
    totals = stats["data"]["totals"]
    assert (totals["requests"], totals["cachedRequests"], totals["failedRequests"]) == (3, 1, 1)
    assert (totals["promptTokens"], totals["completionTokens"], totals["totalTokens"]) == (50, 16, 66)
    assert (totals["cost"], totals["savedCost"]) == (Decimal("0.00000855"), Decimal("0.00000855"))
    assert totals["cacheHitRate"] == Decimal("0.5")
    assert [day["requests"] for day in stats["data"]["daily"]] == [3]
    _, costs, _ = await client.call("GET", "/usage/costs")
    assert costs["data"]["totalCost"] == Decimal("0.00000855")
    assert [line["model"] for line in costs["data"]["breakdown"]] == ["gpt-4o-mini"]


async def test_a_limited_key_shows_its_budget(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> None:
    body = {"name": "Limited Key", "dailyBudget": 5.00, "monthlyBudget": 50.00}
    status, issued, _ = await client.call("POST", "/projects/api-keys", body)
    assert status == 201
    limited = Client(session, gateway.address, issued["data"]["apiKey"])
    await limited.call("POST", "/completions/chat", CAPITAL)
    _, budget, _ = await limited.call("GET", "/usage/budget")
    daily, monthly = budget["data"]["daily"], budget["data"]["monthly"]
    assert (daily["limit"], daily["spent"], daily["held"]) == (5, Decimal("0.00000855"), 0)
    assert daily["remaining"] == Decimal("4.99999145")
    assert (monthly["limit"], monthly["remaining"]) == (50, Decimal("49.99999145"))
    assert daily["resetsAt"].endswith("T00:00:00Z")


async def test_every_model_of_the_specification_has_its_price(client: Client) -> None:
    prices = {
        "gpt-4o": ("0.005", "0.015"),
        "gpt-4o-mini": ("0.00015", "0.0006"),
        "gpt-4-turbo": ("0.01", "0.03"),
        "gpt-3.5-turbo": ("0.0005", "0.0015"),
        "claude-3.5-sonnet": ("0.003", "0.015"),
        "claude-3-opus": ("0.015", "0.075"),
        "claude-3-haiku": ("0.00025", "0.00125"),
    }
    _, listed, _ = await client.call("GET", "/models")
    shown = {model["name"]: (model["inputPricePer1K"], model["outputPricePer1K"]) for model in listed["data"]}
    assert {name: shown[name] for name in prices} == {
        name: (Decimal(per_in), Decimal(per_out)) for name, (per_in, per_out) in prices.items()
    }
    for model, (price_in, price_out) in prices.items():
        status, answer, _ = await client.chat("[[tokens=1000/1000]] hello", model=model)
        assert status == 200, answer
        assert answer["data"]["cost"] == Decimal(price_in) + Decimal(price_out)


async def test_two_projects_never_share_a_response(
    gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    ours, theirs = await new_project(gateway, session), await new_project(gateway, session)
    before = upstream.calls
    _, first, _ = await ours.call("POST", "/completions/chat", CAPITAL)
    _, second, _ = await theirs.call("POST", "/completions/chat", CAPITAL)
    assert (first["data"]["cached"], second["data"]["cached"]) == (False, False)
    assert upstream.calls == before + 2
