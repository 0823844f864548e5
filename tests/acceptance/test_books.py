"""Costs agree: in responses, usage figures, the log, the read models and the provider's own bill."""

import asyncio
import json
from decimal import Decimal

import aiohttp

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, new_project

NANO = Decimal(10**9)


async def test_answers_usage_and_log_agree_to_the_nano_dollar(
    gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    client = await new_project(gateway, session)
    _, project, _ = await client.call("GET", "/projects/me")
    billed_before = upstream.billed_nano_usd()
    prompts = [f"question {n % 40} [[tokens={n % 40 + 3}/{n % 7 + 1}]] [[cached={n % 3}]]" for n in range(60)]
    models = ["gpt-4o", "gpt-4o-mini", "claude-3-haiku", "claude-3.5-sonnet"]
    answers = await asyncio.gather(*(client.chat(p, model=models[n % 4]) for n, p in enumerate(prompts)))
    assert {status for status, _, _ in answers} == {200}
    answered = sum(Decimal(answer["data"]["cost"]) for _, answer, _ in answers)

    _, costs, _ = await client.call("GET", "/usage/costs?groupBy=day")
    assert costs["data"]["totalCost"] == answered
    assert sum(line["cost"] for line in costs["data"]["breakdown"]) == answered

    replayed = gateway.run("replay", "--project", project["data"]["id"], "--type", "CostIncurred", "--json")
    logged = sum(json.loads(line)["event"]["cost_nano_usd"] for line in replayed.stdout.splitlines())
    assert Decimal(logged) / NANO == answered

    billed = upstream.billed_nano_usd() - billed_before
    rounding = Decimal(len(replayed.stdout.splitlines())) / 2
    assert abs(billed - logged) <= rounding  # the provider's bill has fractions of nano-dollars


async def test_costs_by_any_group_add_up_to_the_total(client: Client) -> None:
    for n in range(6):
        await client.chat(f"group {n} [[tokens={n + 1}/{n + 2}]]", metadata={"team": f"t{n % 2}"})
    await client.chat("no team [[tokens=5/5]]")
    for group in ("model", "provider", "key", "day", "operation", "metadata.team"):
        _, costs, _ = await client.call("GET", f"/usage/costs?groupBy={group}")
        lines = costs["data"]["breakdown"]
        assert sum(line["cost"] for line in lines) == costs["data"]["totalCost"] > 0, group
        assert sum(line["requests"] for line in lines) == 7, group


async def test_cached_input_has_the_providers_price(client: Client) -> None:
    _, answer, _ = await client.chat("[[tokens=1000/0]] [[cached=800]] again", model="claude-3.5-sonnet")
    assert answer["data"]["usage"]["cachedPromptTokens"] == 800
    assert answer["data"]["cost"] == 200 * Decimal("0.000003") + 800 * Decimal("0.0000003")


async def test_two_hundred_identical_requests_make_one_call(
    gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    client = await new_project(gateway, session)
    before = upstream.calls
    answers = await asyncio.gather(*(client.chat("the same [[delay=400]]") for _ in range(200)))
    assert {status for status, _, _ in answers} == {200}
    assert upstream.calls == before + 1
    contents = {answer["data"]["choices"][0]["message"]["content"] for _, answer, _ in answers}
    assert len(contents) == 1
    assert [answer["data"]["cached"] for _, answer, _ in answers].count(False) == 1
    assert sum(answer["data"]["cost"] for _, answer, _ in answers if answer["data"]["cached"]) == 0
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert (stats["data"]["totals"]["requests"], stats["data"]["totals"]["cachedRequests"]) == (200, 199)


async def test_a_leaders_failure_is_not_shared(client: Client, upstream: RunningProvider) -> None:
    before = upstream.calls
    answers = await asyncio.gather(*(client.chat("fails [[delay=100]] [[status=400]]") for _ in range(3)))
    assert {status for status, _, _ in answers} == {400}
    assert upstream.calls == before + 3


async def test_a_model_without_a_price_has_a_null_cost(client: Client) -> None:
    status, answer, headers = await client.chat("hello", model="gpt-99-unheard-of")
    assert (status, answer["data"]["cost"]) == (200, None)
    assert "no known price" in headers["x-gateway-warning"]
    assert "x-gateway-cost-usd" not in headers


async def test_a_prompt_of_five_megabytes_passes(client: Client) -> None:
    status, answer, _ = await client.chat("long " * 1_048_576 + "[[tokens=100/5]] [[big=2000000]]")
    assert status == 200, answer
    assert len(answer["data"]["choices"][0]["message"]["content"]) > 2_000_000
    status, again, _ = await client.chat("long " * 1_048_576 + "[[tokens=100/5]] [[big=2000000]]")
    assert (status, again["data"]["cached"]) == (200, True)


async def test_the_log_verifies_and_balances(gateway: Gateway, client: Client) -> None:
    await client.chat("one more")
    verified = gateway.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.startswith("intact: ")
    balanced = gateway.run("audit", "balance")
    assert balanced.returncode == 0, balanced.stdout
    assert "DIFFERS" not in balanced.stdout
