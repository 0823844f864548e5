"""What is used beside tokens: bounded before, charged after, compared with the provider's own bill."""

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.unit.test_audio_tokens import wav

SEARCH = {"type": "web_search"}
CLAUDES_SEARCH = {"type": "web_search_20250305", "name": "web_search"}


async def keyed(client: Client, gateway: Gateway, session: aiohttp.ClientSession, **settings: Any) -> Client:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "limited"} | settings)
    return Client(session, gateway.address, issued["data"]["apiKey"])


async def ask(
    key: Client, gateway: Gateway, session: aiohttp.ClientSession, path: str, prompt: str, **fields: Any
) -> tuple[int, dict[str, Any], Any]:
    """Send a request of a vendor's dialect; return its status, its JSON, and its headers."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    if path == "responses":
        body = {"input": prompt}
    elif path == "messages":
        body["max_tokens"] = 100
    headers = {"Authorization": f"Bearer {key.key}"}
    async with session.post(f"{gateway.address}/v1/{path}", json=body | fields, headers=headers) as answer:
        return answer.status, json.loads(await answer.text(), parse_float=Decimal), answer.headers


def last_charge(upstream: RunningProvider) -> Decimal:
    """Return the last row of the provider's bill, in dollars."""
    return Decimal(upstream.bill()[-1]["nano_usd"]) / 10**9


def received(upstream: RunningProvider) -> dict[str, Any]:
    """Return the body of the last request as the provider got it."""
    body: dict[str, Any] = json.loads(upstream.requests(last=1)[-1].body)
    return body


CHARGED = [
    (
        "responses",
        "gpt-5",
        "[[tokens=900/80]] [[searches=2]] [[files=1]]",
        {"tools": [SEARCH, {"type": "file_search"}]},
    ),
    ("responses", "gpt-4o", "[[searches=3]] [[preview]]", {"tools": [{"type": "web_search_preview"}]}),
    (
        "responses",
        "gpt-5",
        "[[containers=1]]",
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}], "stream": False},
    ),
    ("responses", "gpt-5", "[[tier=flex]] [[tokens=1000/100]]", {"service_tier": "flex"}),
    ("chat/completions", "gpt-5", "[[tier=priority]] [[tokens=1000/100]]", {"service_tier": "priority"}),
    ("chat/completions", "gpt-4o", "[[tier=priority]] [[tokens=10/10]]", {}),
    ("chat/completions", "gpt-4o", "[[searches=1]] [[tokens=10/10]]", {"web_search_options": {}}),
    ("messages", "claude-opus-4-8", "[[searches=2]] [[tokens=1000/9]]", {"tools": [CLAUDES_SEARCH]}),
    ("messages", "claude-opus-4-8", "[[geo=us]] [[speed=fast]]", {"inference_geo": "us", "speed": "fast"}),
]


@pytest.mark.parametrize(("path", "model", "prompt", "fields"), CHARGED)
async def test_what_an_answer_says_that_it_used_is_charged(
    client: Client,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    upstream: RunningProvider,
    path: str,
    model: str,
    prompt: str,
    fields: dict[str, Any],
) -> None:
    key = await keyed(client, gateway, session, dailyBudget=500)
    status, answer, headers = await ask(key, gateway, session, path, prompt, model=model, **fields)
    assert status == 200, answer
    assert Decimal(headers["x-gateway-cost-usd"]) == last_charge(upstream)
    assert "x-gateway-cost-is-lower-bound" not in headers
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    assert (one["data"]["cost"], one["data"]["costIsLowerBound"]) == (last_charge(upstream), False)


async def test_a_streams_searches_are_charged(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    for path, model, tool in (("responses", "gpt-5", SEARCH), ("messages", "claude-opus-4-8", CLAUDES_SEARCH)):
        key = await keyed(client, gateway, session, dailyBudget=500)
        body: dict[str, Any] = {"model": model, "tools": [tool], "stream": True, "max_tokens": 99}
        prompt = "[[searches=2]] [[tokens=500/50]]"
        body |= {"input": prompt} if path == "responses" else {"messages": [{"role": "user", "content": prompt}]}
        if path == "responses":
            del body["max_tokens"]
        headers = {"Authorization": f"Bearer {key.key}"}
        async with session.post(f"{gateway.address}/v1/{path}", json=body, headers=headers) as answer:
            assert answer.status == 200
            await answer.read()
        _, costs, _ = await key.call("GET", "/usage/costs")
        assert costs["data"]["totalCost"] == last_charge(upstream)


async def test_hosted_tools_are_limited_to_what_the_budget_has_room_for(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    rich = await keyed(client, gateway, session, dailyBudget=500)
    _, _, headers = await ask(rich, gateway, session, "responses", "hi", model="gpt-5", tools=[SEARCH])
    assert headers["x-gateway-max-tool-calls"] == "5"
    assert received(upstream)["max_tool_calls"] == 5
    # a call may read 400,000 tokens at $1.25 per million, and costs a cent
    poor = await keyed(client, gateway, session, dailyBudget=1.2)
    capped = {"model": "gpt-5", "tools": [SEARCH], "max_output_tokens": 1_000}
    status, _, headers = await ask(poor, gateway, session, "responses", "hi", **capped)
    assert (status, headers["x-gateway-max-tool-calls"]) == (200, "2")
    assert received(upstream)["max_tool_calls"] == 2
    status, answer, _ = await ask(poor, gateway, session, "messages", "hi", model="claude-opus-4-8", tools=[SEARCH])
    assert (status, answer["error"]["type"]) == (402, "billing_error")


async def test_each_tool_of_claude_is_limited_in_place(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    key = await keyed(client, gateway, session, dailyBudget=6)
    tools = [{"name": "f", "input_schema": {"type": "object"}}, CLAUDES_SEARCH]
    status, _, headers = await ask(key, gateway, session, "messages", "hi", model="claude-opus-4-8", tools=tools)
    assert (status, headers["x-gateway-max-tool-calls"]) == (200, "1")
    assert received(upstream)["tools"] == [tools[0], CLAUDES_SEARCH | {"max_uses": 1}]


async def test_another_model_that_a_tool_asks_is_held_for_and_limited_in_place(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    key = await keyed(client, gateway, session, dailyBudget=15)
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8", "max_tokens": 2_048}
    status, answer, headers = await ask(
        key, gateway, session, "messages", "hi", model="claude-haiku-4-5", tools=[advisor]
    )
    assert (status, headers.get("x-gateway-max-tool-calls")) == (200, "1"), answer
    assert received(upstream)["tools"] == [advisor | {"max_uses": 1}]
    draws = {"type": "image_generation", "model": "gpt-image-1.5", "quality": "low"}
    status, answer, headers = await ask(key, gateway, session, "responses", "hi", model="gpt-5", tools=[draws])
    assert status == 200, answer
    assert received(upstream)["max_tool_calls"] == int(headers["x-gateway-max-tool-calls"])


@pytest.mark.parametrize(
    ("path", "fields", "marked"),
    [
        ("responses", {"model": "gpt-5", "tools": [{"type": "image_generation"}]}, "true"),
        ("responses", {"model": "gpt-5", "tools": [{"type": "of_tomorrow\u0000"}]}, "true"),
        ("chat/completions", {"model": "gpt-4o-mini", "plugins": [{"id": "web"}]}, "true"),
        ("chat/completions", {"model": "gpt-4o-mini", "models": ["gpt-5-pro"]}, "true"),
        ("chat/completions", {"model": "gpt-4o-mini", "modalities": ["text", "image"]}, "true"),
        ("responses", {"model": "gpt-5", "service_tier": "ultrafast"}, None),
        ("responses", {"model": "gpt-5", "background": True}, "true"),
        ("chat/completions", {"model": "gpt-4o-mini", "service_tier": "scale"}, None),
        ("messages", {"model": "claude-opus-4-8", "fallbacks": [{"model": "claude-haiku-4-5"}]}, "true"),
        ("messages", {"model": "claude-sonnet-4-5", "speed": "fast"}, "true"),
    ],
)
async def test_what_nobody_can_price_passes_without_a_budget_and_is_refused_like_one_with_it(
    client: Client,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    path: str,
    fields: dict[str, Any],
    marked: str | None,
) -> None:
    """Of a term, the answer says whether it was served on that."""
    status, answer, headers = await ask(client, gateway, session, path, "hi", **fields)
    assert status == 200, answer
    assert headers.get("x-gateway-cost-is-lower-bound") == marked
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    assert one["data"]["costIsLowerBound"] is (marked == "true")
    budgeted = await keyed(client, gateway, session, dailyBudget=500)
    status, answer, headers = await ask(budgeted, gateway, session, path, "hi", **fields)
    assert status == (402 if path == "messages" else 429)
    assert headers["x-should-retry"] == "false"
    assert "leave it out" in answer["error"]["message"]


def whole(usage: dict[str, Any]) -> str:
    """Return steering words for an answer with this usage."""
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    counted = {"prompt_tokens": 1_000, "completion_tokens": 1_000, "total_tokens": 2_000}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message]}
    return f"[[exactly={quote(json.dumps(answer | {'usage': counted | usage}))}]]"


@pytest.mark.parametrize(
    ("model", "usage", "dollars", "is_lower_bound"),
    [
        ("gpt-audio", {"prompt_tokens_details": {"audio_tokens": 900, "cached_tokens": 950}}, "0.03905", False),
        ("gpt-audio", {"completion_tokens_details": {"audio_tokens": 900}}, "0.0611", False),
        ("gpt-4o-audio-preview", {"completion_tokens_details": {"audio_tokens": 900}}, "0.0035", True),
        ("gpt-4o", {"completion_tokens_details": {"image_tokens": 900}}, "0.02", True),
    ],
)
async def test_no_class_of_tokens_is_charged_at_the_price_of_a_cheaper_one(
    client: Client,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    model: str,
    usage: dict[str, Any],
    dollars: str,
    is_lower_bound: bool,
) -> None:
    _, _, headers = await ask(client, gateway, session, "chat/completions", whole(usage), model=model)
    assert headers["x-gateway-cost-usd"] == dollars
    assert headers.get("x-gateway-cost-is-lower-bound") == ("true" if is_lower_bound else None)


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}, "0.064"),
        ({"audio": {"voice": "x", "format": "wav"}}, "0.064"),
        ({"modalities": ["text"]}, "0.01"),
    ],
)
async def test_an_answer_that_may_be_spoken_is_held_at_the_price_of_speech(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, fields: dict[str, Any], dollars: str
) -> None:
    key = await keyed(client, gateway, session, dailyBudget=1)
    asked = {"model": "gpt-audio", "max_tokens": 1_000} | fields
    _, _, headers = await ask(key, gateway, session, "chat/completions", "hi", **asked)
    held = await hold_of(client, headers)
    assert Decimal(dollars) <= held < Decimal(dollars) + Decimal("0.001")


async def test_audio_is_held_by_how_long_its_file_can_last_not_by_its_bytes(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    """100 samples a second: 10,000 bytes are 100 seconds, at ten tokens each and $32 a million."""
    key = await keyed(client, gateway, session, dailyBudget=5)
    audio = {"format": "wav", "data": wav(1, 1, 100, 8, 10_000)}
    messages = [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]
    asked = {"model": "gpt-audio", "max_tokens": 10, "messages": messages}
    status, answer, headers = await ask(key, gateway, session, "chat/completions", "", **asked)
    assert status == 200, answer
    assert Decimal("0.032") <= await hold_of(client, headers) < Decimal("0.12")


async def hold_of(client: Client, headers: Any) -> Decimal:
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    (held,) = (event["data"]["hold_nano_usd"] for event in one["data"]["events"] if event["type"] == "CostIncurred")
    return Decimal(held) / 10**9


async def test_the_calls_of_one_request_are_each_priced_by_the_length_of_their_own_prompt(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    """Two prompts of 150,000 tokens are none of 300,000, for which the model costs twice as much."""
    key, before = await keyed(client, gateway, session, dailyBudget=10), len(upstream.bill())
    asked = {"model": "claude-sonnet-4-5", "n": 2, "max_tokens": 100}
    prompt = "[[tokens=150000/10]]"
    status, answer, headers = await ask(key, gateway, session, "chat/completions", prompt, **asked)
    assert (status, len(answer["choices"]), len(upstream.bill())) == (200, 2, before + 2)
    assert headers["x-gateway-cost-usd"] == "0.9003"


@pytest.mark.parametrize(
    ("path", "fields", "dollars"),
    [
        # the prediction's 4,000 tokens cost $10 a million as output
        ("chat/completions", {"model": "gpt-4.1", "prediction": {"type": "content", "content": "x" * 4_000}}, "0.032"),
        ("messages", {"model": "claude-opus-4-8", "compaction": {"type": "summarize"}}, "3.2"),
        (
            "messages",
            {"model": "claude-opus-4-8", "context_management": {"edits": [{"type": "compact_20260112"}]}},
            "0",
        ),
    ],
)
async def test_a_predicted_answer_and_a_summary_are_bounded_under_a_budget(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, path: str, fields: dict[str, Any], dollars: str
) -> None:
    key = await keyed(client, gateway, session, dailyBudget=50)
    status, answer, headers = await ask(key, gateway, session, path, "hi", **{"max_tokens": 100} | fields)
    assert status == 200, answer
    assert "x-gateway-cost-is-lower-bound" not in headers
    assert Decimal(dollars) <= await hold_of(client, headers) < Decimal(dollars) + Decimal("0.05")


async def test_a_cost_without_something_is_marked_everywhere(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    key = await keyed(client, gateway, session)
    prompt = "[[tier=ultrafast]] [[tokens=10/10]]"
    _, _, headers = await ask(key, gateway, session, "chat/completions", prompt, model="gpt-4.1")
    assert (headers["x-gateway-cost-usd"], headers["x-gateway-cost-is-lower-bound"]) == ("0.0001", "true")
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    assert one["data"]["costIsLowerBound"] is True
    (cost,) = (event["data"] for event in one["data"]["events"] if event["type"] == "CostIncurred")
    assert cost["breakdown"]["unpriced"] == ["service_tier=ultrafast"]
    _, native, headers = await key.chat(prompt, model="gpt-4.1", cache=False)
    assert (native["data"]["costIsLowerBound"], headers["x-gateway-cost-is-lower-bound"]) == (True, "true")
    for path in ("/usage/costs", "/usage/stats"):
        _, sums, _ = await key.call("GET", path)
        assert sums["data"].get("totals", sums["data"])["costIsLowerBound"] is True


async def test_a_sellers_own_cost_counts_where_there_is_no_price(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    prompt = "[[cost=0.0125]]"
    _, answer, headers = await ask(client, gateway, session, "chat/completions", prompt, model="gpt-unheard-of")
    assert (answer["usage"]["cost"], headers["x-gateway-cost-usd"]) == (Decimal("0.0125"), "0.0125")
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    assert (one["data"]["cost"], one["data"]["price"]["source"]) == (Decimal("0.0125"), "provider")
    _, answer, headers = await ask(client, gateway, session, "chat/completions", prompt, model="gpt-4o-mini")
    assert answer["usage"]["cost"] == Decimal(headers["x-gateway-cost-usd"]) != Decimal("0.0125")
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    (cost,) = (event["data"] for event in one["data"]["events"] if event["type"] == "CostIncurred")
    assert cost["provider_cost_nano_usd"] == 12_500_000


async def test_a_cut_streams_tokens_are_shown_and_marked(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    key = await keyed(client, gateway, session)
    body = {"model": "claude-3-haiku", "max_tokens": 500, "stream": True}
    body |= {"messages": [{"role": "user", "content": "[[tokens=40/200]] [[chunks=20]] [[cut=5]]"}]}
    headers = {"x-api-key": key.key, "anthropic-version": "2023-06-01"}
    async with session.post(f"{gateway.address}/v1/messages", json=body, headers=headers) as answer:
        request_id = answer.headers["x-request-id"]
        await answer.read()
    _, one, _ = await client.call("GET", f"/requests/{request_id}")
    shown = one["data"]
    assert (shown["status"], shown["promptTokens"], shown["tokensEstimated"]) == ("failed", 40, True)
    assert shown["completionTokens"] > 0
    assert (
        shown["cost"] == (shown["promptTokens"] * Decimal("0.25") + shown["completionTokens"] * Decimal("1.25")) / 10**6
    )
    _, costs, _ = await key.call("GET", "/usage/costs")
    (line,) = costs["data"]["breakdown"]
    assert (line["promptTokens"], line["tokensEstimated"], line["cost"]) == (40, True, shown["cost"])
