"""The operator's work with money: setting prices, settling assumed costs, sharing budgets."""

import asyncio
import json
import re
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import aiohttp

from tests.provider.running import RunningProvider
from tests.support.gateway import NEWS_S, Client, Gateway, operator_of
from tests.support.waiting import eventually, eventually_so


async def lost_request(client: Client) -> str:
    """Send a request whose connection breaks after the provider has charged for it. Return its id."""
    _, answer, _ = await client.chat("[[reset]] [[tokens=10/10]] broken", maxTokens=20)
    return str(answer["error"]["requestId"])


async def limited(client: Client, gateway: Gateway, session: aiohttp.ClientSession, **settings: Any) -> Client:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "limited"} | settings)
    return Client(session, gateway.address, issued["data"]["apiKey"])


async def test_assumed_cost_is_settled_by_the_providers_bill(client: Client, gateway: Gateway) -> None:
    request = await lost_request(client)
    _, before, _ = await client.call("GET", "/usage/costs")
    assert before["data"]["assumedCost"] > 0
    reconciled = await asyncio.to_thread(gateway.run, "audit", "reconcile", request, "--cost", "0.0000075")
    assert reconciled.returncode == 0, reconciled.stderr
    _, after, _ = await client.call("GET", "/usage/costs")
    assert (after["data"]["assumedCost"], after["data"]["totalCost"]) == (0, Decimal("0.0000075"))
    again = await asyncio.to_thread(gateway.run, "audit", "reconcile", request, "--cost", "0.1")
    assert (again.returncode, again.stderr.strip()) == (2, f"gateway: the cost of {request} is known")
    wrong = await asyncio.to_thread(gateway.run, "audit", "reconcile", request, "--cost", "-1")
    assert wrong.returncode == 2
    assert "--cost is '-1'" in wrong.stderr


async def test_a_cost_that_nobody_knew_is_entered_by_hand(client: Client, gateway: Gateway) -> None:
    _, answer, _ = await client.chat("hello", model="gpt-unheard-of")
    assert answer["data"]["cost"] is None
    request = answer["data"]["requestId"]

    async def sums() -> tuple[int, Decimal]:
        _, costs, _ = await client.call("GET", "/usage/costs?groupBy=model")
        row = next(row for row in costs["data"]["breakdown"] if row["model"] == "gpt-unheard-of")
        return row["unpricedRequests"], row["cost"]

    assert await sums() == (1, 0)
    entered = await asyncio.to_thread(gateway.run, "audit", "reconcile", request, "--cost", "0.0000075")
    assert (entered.returncode, entered.stderr) == (0, "")
    assert entered.stdout == f"attempt 1 of {request} cost $0.0000075, which was not known\n"
    await eventually_so(lambda: _equals(sums(), (0, Decimal("0.0000075"))), within_s=NEWS_S)
    again = await asyncio.to_thread(gateway.run, "audit", "reconcile", request, "--cost", "0.1")
    assert (again.returncode, again.stderr.strip()) == (2, f"gateway: the cost of {request} is known")


async def _equals(value: Awaitable[object], wanted: object) -> bool:
    return await value == wanted


async def test_new_price_applies_to_the_next_request(client: Client, gateway: Gateway) -> None:
    call: dict[str, Any] = {"model": "gpt-4.1", "cache": False}
    _, before, _ = await client.chat("priced [[tokens=1000/1000]]", **call)
    assert before["data"]["cost"] == Decimal("0.01")
    arguments = ("price", "set", "gpt-4.1", "--input", "0.001", "--output", "0.002")
    made = await asyncio.to_thread(gateway.run, *arguments)
    assert made.returncode == 0, made.stderr

    async def costs_what_was_set() -> bool:
        _, answer, _ = await client.chat("priced [[tokens=1000/1000]]", **call)
        return bool(answer["data"]["cost"] == Decimal("0.003"))

    await eventually_so(costs_what_was_set, within_s=NEWS_S)
    _, after, _ = await client.chat("priced [[tokens=1000/1000]]", **call)
    assert after["data"]["cost"] == Decimal("0.003")
    _, one, _ = await client.call("GET", f"/requests/{after['data']['requestId']}")
    assert one["data"]["price"]["source"] == "override"
    _, prices, _ = await client.call("GET", "/prices")
    row = next(row for row in prices["data"] if row["model"] == "gpt-4.1")
    assert (row["used"]["inputPer1K"], row["library"]["inputPer1K"]) == (Decimal("0.001"), Decimal("0.002"))
    assert row["differs"] is True
    shown = await asyncio.to_thread(gateway.run, "prices", "--model", "gpt-4.1", "--differing")
    assert "0.001 / 0.002" in shown.stdout
    assert "0.002 / 0.008" in shown.stdout


async def test_a_new_price_does_not_change_admitted_requests(
    client: Client, gateway: Gateway, upstream: RunningProvider
) -> None:
    slow = asyncio.create_task(client.chat("slow [[tokens=1000/0]] [[delay=1500]]", model="gpt-4.1-mini", cache=False))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    arguments = ("price", "set", "gpt-4.1-mini", "--input", "1", "--output", "1")
    assert (await asyncio.to_thread(gateway.run, *arguments)).returncode == 0
    _, answer, _ = await slow
    assert answer["data"]["cost"] == Decimal("0.0004")


async def test_only_the_operator_sets_prices(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> None:
    call = {"model": "gpt-4o", "inputPer1K": 1, "outputPer1K": 1}
    status, answer, _ = await client.call("POST", "/prices", call)
    assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED")
    operator = operator_of(gateway, session)
    status, answer, _ = await operator.call("POST", "/prices", call | {"inputPer1K": -1})
    assert (status, answer["error"]["details"]["field"]) == (400, "inputPer1K")


async def test_a_projects_budget_binds_all_its_keys(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    first = await limited(client, gateway, session)
    second = await limited(client, gateway, session)
    status, shown, _ = await client.call("PATCH", "/projects/me", {"dailyBudget": 0.0001})
    assert (status, shown["data"]["dailyBudget"]) == (200, Decimal("0.0001"))
    one_cent_of_it: dict[str, Any] = {"maxTokens": 60, "cache": False}
    status, answer, headers = await first.chat("first [[tokens=100/60]]", **one_cent_of_it)
    assert status == 200
    left = Decimal("0.0001") - answer["data"]["cost"]
    assert Decimal(headers["x-gateway-budget-remaining-usd"]) == left
    refused = 0
    for n in range(8):
        status, answer, _ = await (first, second)[n % 2].chat(f"{n} [[tokens=100/60]]", **one_cent_of_it)
        refused += status == 402
    assert refused
    assert answer["error"]["details"]["window"] == "project's daily"
    _, budget, _ = await second.call("GET", "/usage/budget")
    daily = budget["data"]["project"]["daily"]
    assert daily["spent"] <= daily["limit"]
    assert budget["data"]["daily"] is None


async def test_unset_cap_is_lowered_to_the_budget(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    lowering = await limited(client, gateway, session, dailyBudget=0.001)
    status, answer, headers = await lowering.chat("short [[tokens=5/5]]")
    assert (status, headers["x-gateway-cache"]) == (200, "BYPASS")
    assert 256 <= int(headers["x-gateway-max-tokens"]) < 16_384
    assert answer["data"]["cost"] > 0
    refusing = await limited(client, gateway, session, dailyBudget=0.001, outputCap="refuse")
    status, answer, _ = await refusing.chat("short [[tokens=5/5]]")
    assert (status, answer["error"]["code"]) == (402, "BUDGET_EXCEEDED")


async def test_a_cap_that_the_caller_set_is_lowered_to_the_budget(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    lowering = await limited(client, gateway, session, dailyBudget=0.001)
    status, _, headers = await lowering.chat("capped [[tokens=5/5]]", maxTokens=5_000)
    assert status == 200
    assert 1_024 <= int(headers["x-gateway-max-tokens"]) < 5_000
    poor = await limited(client, gateway, session, dailyBudget=0.0005)
    status, answer, headers = await poor.chat("capped [[tokens=5/5]]", maxTokens=5_000)
    assert (status, "x-gateway-max-tokens" in headers) == (402, False)
    advised = re.search(r"set `max_tokens` to (\d+) or less, or raise the daily budget", answer["error"]["message"])
    assert advised is not None, answer
    status, _, headers = await poor.chat("capped [[tokens=5/5]]", maxTokens=int(advised[1]))
    assert (status, "x-gateway-max-tokens" in headers) == (200, False)


async def test_a_budget_that_has_no_room_for_the_input_says_so(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    poor = await limited(client, gateway, session, dailyBudget=0.0001)
    status, answer, _ = await poor.chat("long " * 1_000)
    assert status == 402
    assert "send less: the input alone, of 5" in answer["error"]["message"]
    assert "or raise the daily budget" in answer["error"]["message"]


async def test_a_refusal_is_logged_with_its_figures(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    blocked = await limited(client, gateway, session, monthlyBudget=0)
    status, answer, _ = await blocked.chat("anything")
    assert (status, answer["error"]["details"]["window"]) == (402, "monthly")
    _, one, _ = await client.call("GET", f"/requests/{answer['error']['requestId']}")
    assert one["data"]["status"] == "rejected"
    (event,) = one["data"]["events"]
    assert (event["type"], event["data"]["window"], event["data"]["limit_nano_usd"]) == (
        "RequestRejected",
        "monthly",
        0,
    )
    replayed = gateway.run("replay", "--request", answer["error"]["requestId"], "--json")
    assert json.loads(replayed.stdout)["type"] == "RequestRejected"


async def test_request_waits_for_held_budget(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> None:
    hold = Decimal("0.0001")
    waiting = await limited(client, gateway, session, dailyBudget=float(hold), budgetWaitMs=20_000)
    requests = [
        waiting.chat(f"{n} [[tokens=10/2]] [[delay=300]]", maxTokens=100, cache=False, metadata={"n": n})
        for n in range(4)
    ]
    answers = await asyncio.gather(*requests)
    assert [status for status, _, _ in answers] == [200] * 4
    impatient = await limited(client, gateway, session, dailyBudget=float(hold), budgetWaitMs=0)
    requests = [impatient.chat(f"{n} [[tokens=10/2]] [[delay=300]]", maxTokens=100, cache=False) for n in range(4)]
    answers = await asyncio.gather(*requests)
    refused = [headers for status, _, headers in answers if status == 402]
    assert refused
    assert all(headers["Retry-After"] == "1" for headers in refused)


async def test_an_unpriced_model_is_refused_to_a_budget_by_name(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    budgeted = await limited(client, gateway, session, dailyBudget=5)
    status, answer, _ = await budgeted.chat("hello", model="gpt-unheard-of")
    assert (status, answer["error"]["code"]) == (402, "BUDGET_EXCEEDED")
    assert "gateway price set openai/gpt-unheard-of" in answer["error"]["message"]


async def test_one_at_a_time_is_never_refused_in_turn(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    single = await limited(client, gateway, session, concurrencyLimit=1)
    for n in range(5):
        status, answer, _ = await single.chat(f"turn {n}", model="echo", cache=False)
        assert status == 200, answer
