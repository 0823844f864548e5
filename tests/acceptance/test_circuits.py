"""A provider that is down is not called by every request; when it is up again, callers have answers within seconds."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project, operator_of
from tests.support.waiting import eventually_so

KEY = "sk-own-canary-0123456789wxyz"
SETTINGS = {"GATEWAY_CIRCUIT_BREAKER": "yes", "GATEWAY_CIRCUIT_MIN_CALLS": "4", "GATEWAY_CIRCUIT_MAX_OPEN_S": "15"}
DOWN = "[[status=500]]"
BROUGHT_UP_S = 60
"""A probe is due after fifteen seconds at the most; the rest is for a busy machine."""


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with two workers, whose circuits open soon."""
    directory: Path = tmp_path_factory.mktemp("circuits") / "data"
    running = Gateway.start(directory, "--workers", "2", env=environment_for(upstream) | SETTINGS)
    yield running
    running.stop()


async def health_of(client: Client, model: str) -> dict[str, Any] | None:
    status, answer, _ = await client.call("GET", "/providers/health")
    assert status == 200, answer
    return next((one for one in answer["data"] if one["model"] == model), None)


async def bring_down(client: Client, model: str, *, watcher: Client | None = None) -> None:
    """Call a model that fails until its circuit is open, as `watcher` sees it.

    How many calls that takes is not certain: of two workers, each may have met too few failures alone before it has the
    other's news, and only a call that fails opens a circuit.
    """
    numbers = itertools.count()

    async def is_open() -> bool:
        prompt = f"{model} {next(numbers)} {DOWN}"
        status, answer, _ = await client.chat(prompt, model=model, cache=False)
        assert (status, answer["error"]["code"]) == (502, "PROVIDER_UNAVAILABLE")
        health = await health_of(watcher or client, model)
        return health is not None and health["state"] == "open"

    await eventually_so(is_open, within_s=BROUGHT_UP_S)


async def test_a_provider_that_is_down_is_left_alone_and_asked_again_by_one_call(
    gateway: Gateway, upstream: RunningProvider, session: aiohttp.ClientSession
) -> None:
    client = await new_project(gateway, session, openaiKey=KEY)
    model = "gpt-4o-mini"
    await bring_down(client, model)
    calls = upstream.calls
    answers = await asyncio.gather(*(client.chat(f"{number} {DOWN}", model=model, cache=False) for number in range(20)))
    assert {status for status, _, _ in answers} == {502}
    refused = [headers for _, answer, headers in answers if "is not called" in answer["error"]["message"]]
    assert len(refused) > 10
    assert all(int(headers["Retry-After"]) <= 15 for headers in refused)
    assert upstream.calls - calls < 20, "most were refused without a call"

    async def is_answered() -> bool:
        status, _, _ = await client.chat("are you there?", model=model, cache=False)
        return status == 200

    await eventually_so(is_answered, within_s=BROUGHT_UP_S)
    health = await health_of(client, model)
    assert health is not None
    assert (health["state"], health["credential"], health["scope"]) == ("closed", f"…{KEY[-4:]}", "project")
    assert health["lastErrors"][0]["status"] == 500

    events = [json.loads(line) for line in gateway.run("replay", "--json").stdout.splitlines()]
    opened = [one for one in events if one["type"] == "CircuitOpened" and one["event"]["model"] == model]
    assert [one["event"]["reason"] for one in opened] == ["down"]
    assert [one["type"] for one in events if one["stream"] == opened[0]["stream"]] == ["CircuitOpened", "CircuitClosed"]
    assert KEY not in json.dumps(events)


async def test_a_provider_whose_few_calls_all_fail_is_said_to_fail_though_its_circuit_is_closed(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client = await new_project(gateway, session, openaiKey=KEY)
    status, _, _ = await client.chat(DOWN, model="gpt-4.1", cache=False)
    assert status == 502
    health = await health_of(client, "gpt-4.1")
    assert health is not None
    assert (health["state"], health["lastCalls"]) == ("closed", "failing")

    async def is_told() -> bool:
        _, answer, _ = await client.call("GET", "/usage/overview")
        return [(one["what"], one["isPartly"]) for one in answer["data"]["away"]] == [("openai/gpt-4.1", False)]

    await eventually_so(is_told)


async def test_one_tenants_broken_key_and_endpoint_stop_no_other_tenant(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    broken = await new_project(gateway, session, openaiKey=KEY)
    await bring_down(broken, "gpt-4o")
    other = await new_project(gateway, session, openaiKey="sk-other-canary-0123456789abcd")
    shared = await new_project(gateway, session)
    for client in (other, shared):
        status, answer, _ = await client.chat("hello", model="gpt-4o", cache=False)
        assert status == 200, answer
    assert await health_of(shared, "gpt-4o") is None, "the installation's are the operator's to see"
    seen = await health_of(other, "gpt-4o")
    assert seen is not None
    assert seen["state"] == "closed"


async def test_a_provider_that_still_answers_some_calls_is_called_for_callers_without_another_target(
    upstream: RunningProvider, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """With one worker: of two, one may have met failures alone before it has the other's news."""
    gateway = await asyncio.to_thread(Gateway.start, tmp_path / "data", env=environment_for(upstream) | SETTINGS)
    try:
        client = await new_project(gateway, session, openaiKey=KEY)
        for number in range(8):
            word = "[[status=500]]" if number % 2 else ""
            await client.chat(f"half {number} {word}", model="gpt-4.1-mini", cache=False)
        answers = [await client.chat(f"half again {number}", model="gpt-4.1-mini", cache=False) for number in range(10)]
    finally:
        await asyncio.to_thread(gateway.stop)
    assert {status for status, _, _ in answers} == {200}


async def test_while_a_target_is_not_to_be_called_a_route_answers_with_the_next(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client = await new_project(gateway, session, openaiKey=KEY, anthropicKey=KEY)
    route = {"name": "spared", "groups": [["gpt-4.1-nano"], ["claude-haiku-4-5"]]}
    status, answer, _ = await client.call("POST", "/routes", route)
    assert status == 201, answer
    status, answer, headers = await client.chat("[[status=429]][[after=60]]", model="gpt-4.1-nano", cache=False)
    assert (status, answer["error"]["code"]) == (429, "PROVIDER_RATE_LIMITED")

    async def is_open() -> bool:
        health = await health_of(client, "gpt-4.1-nano")
        return health is not None and health["state"] == "open"

    assert await is_open()
    status, answer, headers = await client.chat("hello", model="spared", cache=False)
    assert status == 200, answer
    assert headers["x-gateway-provider"] == "anthropic"


async def test_the_operator_sees_every_circuit_and_others_are_ready_all_the_same(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client, operator = await new_project(gateway, session), operator_of(gateway, session)
    await bring_down(client, "gpt-4.1", watcher=operator)
    health = await health_of(operator, "gpt-4.1")
    assert health is not None
    assert (health["scope"], health["projectId"], health["failureRatio"]) == ("installation", None, 1)

    async def is_listed_and_ready() -> bool:
        async with session.get(f"{gateway.address}/health/ready") as ready:
            assert ready.status == 200
            return "openai/gpt-4.1" in (await ready.json())["openCircuits"]

    await eventually_so(is_listed_and_ready)
    shown = gateway.run("provider", "health").stdout
    assert "openai/gpt-4.1 " in shown, shown
    member_status, _, _ = await Client(session, gateway.address, None).call("GET", "/providers/health")
    assert member_status == 401
    named = {"name": "health", "kind": "openai", "baseUrl": "http://127.0.0.1:1/v1", "apiKey": KEY}
    status, answer, _ = await operator.call("POST", "/providers", named)
    assert (status, answer["error"]["details"]) == (400, {"field": "name"}), "its address is this call's"
