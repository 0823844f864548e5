"""Bad input gets an error that names the field. A provider's failure gets the contract's error, and costs nothing."""

import asyncio
import json
import time

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, new_project


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": []}, "messages"),
        ({}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "foo": 1}, "foo"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 2.5}, "temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "maxTokens": 0}, "maxTokens"),
        ({"messages": [{"role": "user", "content": "x"}], "maxTokens": "7"}, "maxTokens"),
        ({"messages": [{"role": "user", "content": "x"}], "cacheTtl": 59}, "cacheTtl"),
        ({"messages": [{"role": "user", "content": "x"}], "cacheTtl": 86_401}, "cacheTtl"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "x"}], "metadata": {"a": "\x00"}}, "metadata"),
        (
            {"messages": [{"role": "user", "content": "x"}], "metadata": {"a": json.loads("[" * 20 + "]" * 20)}},
            "metadata",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}], "model": "claude-3-haiku", "temperature": 1.5},
            "temperature",
        ),
    ],
)
async def test_names_the_field_that_is_wrong(client: Client, body: dict[str, object], field: str) -> None:
    status, answer, _ = await client.call("POST", "/completions/chat", body)
    assert (status, answer["success"], answer["error"]["code"]) == (400, False, "VALIDATION_ERROR"), answer
    assert answer["error"]["details"]["field"] == field
    assert field in answer["error"]["message"]
    assert answer["error"]["requestId"].startswith("req_")


async def test_what_a_model_has_no_word_for_is_dropped_and_told(client: Client) -> None:
    asked = {"messages": [{"role": "user", "content": "x", "name": "ann"}], "model": "claude-3-haiku", "seed": 1}
    status, _, headers = await client.call("POST", "/completions/chat", asked)
    assert (status, headers["x-gateway-dropped"]) == (200, "seed, name")


@pytest.mark.parametrize(
    ("query", "field"),
    [("/usage/stats?days=0", "days"), ("/usage/stats?dayz=3", "dayz"), ("/usage/costs?groupBy=colour", "groupBy")],
)
async def test_names_the_parameter_that_is_wrong(client: Client, query: str, field: str) -> None:
    status, answer, _ = await client.call("GET", query)
    assert (status, answer["error"]["details"]["field"]) == (400, field)


async def test_an_unknown_model_is_404(client: Client) -> None:
    status, answer, _ = await client.chat("hello", model="llama-nowhere")
    assert (status, answer["error"]["code"]) == (404, "UNKNOWN_MODEL")


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("[[status=400]]", 400, "PROVIDER_REJECTED"),
        ("[[status=422]]", 422, "PROVIDER_REJECTED"),
        ("[[status=429]] [[after=30]]", 429, "PROVIDER_RATE_LIMITED"),
        ("[[status=500]]", 502, "PROVIDER_UNAVAILABLE"),
        ("[[status=529]]", 502, "PROVIDER_UNAVAILABLE"),
        ("[[reset]]", 502, "PROVIDER_UNAVAILABLE"),
        ("[[garbage]]", 502, "PROVIDER_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-3-haiku"])
async def test_a_providers_failure_has_the_contracts_error(
    client: Client, prompt: str, status: int, code: str, model: str
) -> None:
    got, answer, headers = await client.chat(f"{prompt} of {model}", model=model)
    assert (got, answer["error"]["code"]) == (status, code), answer
    if status == 429:
        assert headers["Retry-After"] == "30"


async def test_lost_attempt_is_assumed_at_its_hold(client: Client) -> None:
    await client.chat("[[reset]] [[tokens=10/10]]", maxTokens=20)
    _, costs, _ = await client.call("GET", "/usage/costs")
    assert costs["data"]["totalCost"] == 0
    assert costs["data"]["assumedCost"] >= 10 * 15e-8 + 10 * 6e-7
    _, found, _ = await client.call("GET", "/requests?status=failed")
    request_id = found["data"]["requests"][0]["requestId"]
    _, one, _ = await client.call("GET", f"/requests/{request_id}")
    assert [event["type"] for event in one["data"]["events"]] == ["AttemptLost", "RequestFailed"]


async def test_a_refused_attempt_is_made_again(client: Client, upstream: RunningProvider) -> None:
    before = upstream.calls
    status, answer, _ = await client.chat("[[once=500]] try again")
    assert status == 200, answer
    assert upstream.calls == before + 2
    _, one, _ = await client.call("GET", f"/requests/{answer['data']['requestId']}")
    kinds = [event["type"] for event in one["data"]["events"]]
    assert kinds == ["AttemptFailed", "RequestCompleted", "CostIncurred"]


async def test_our_credential_is_in_no_error(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    project = await new_project(gateway, session, openaiKey="sk-wrong-canary")
    status, answer, _ = await project.chat("hello")
    assert (status, answer["error"]["code"]) == (502, "PROVIDER_CREDENTIALS")
    assert "canary" not in str(answer)
    assert "canary" not in gateway.errors()
    assert "canary" not in gateway.run("replay").stdout


async def test_a_member_sees_itself_only(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> None:
    await client.chat("the admin's")
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "member"})
    member = Client(session, gateway.address, issued["data"]["apiKey"])
    await member.chat("the member's")
    _, mine, _ = await member.call("GET", "/usage/stats")
    _, everyones, _ = await client.call("GET", "/usage/stats")
    assert (mine["data"]["totals"]["requests"], everyones["data"]["totals"]["requests"]) == (1, 2)
    for method, path in (("GET", "/projects/me"), ("GET", "/projects/api-keys"), ("GET", "/audit/events")):
        status, answer, _ = await member.call(method, path)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")


async def test_a_revoked_key_stops_on_every_process_within_a_second(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "short-lived"})
    key = Client(session, gateway.address, issued["data"]["apiKey"])
    statuses = await asyncio.gather(*(key.call("GET", "/usage/budget") for _ in range(20)))
    assert {status for status, _, _ in statuses} == {200}
    await client.call("DELETE", f"/projects/api-keys/{issued['data']['id']}")
    revoked_at = time.monotonic()
    await asyncio.sleep(max(0.0, revoked_at + 1.0 - time.monotonic()))
    statuses = await asyncio.gather(*(key.call("GET", "/usage/budget") for _ in range(20)))
    assert {status for status, _, _ in statuses} == {401}


async def test_a_body_above_the_limit_is_413(client: Client) -> None:
    status, answer, _ = await client.chat("x" * 34_000_000)
    assert (status, answer["error"]["code"]) == (413, "TOO_LARGE")


async def test_keys_of_other_projects_are_not_there(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    anonymous = Client(session, gateway.address, None)
    _, other, _ = await anonymous.call("POST", "/projects", {"name": "other"})
    status, _, _ = await client.call("DELETE", f"/projects/api-keys/{other['data']['apiKeyId']}")
    assert status == 404


async def test_a_key_may_be_held_to_models(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "echo only", "models": ["echo"]})
    key = Client(session, gateway.address, issued["data"]["apiKey"])
    status, answer, _ = await key.chat("hello")
    assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    status, _, _ = await key.chat("hello", model="echo")
    assert status == 200


@pytest.mark.parametrize("path", ["/chat/completion", "/v1/v1/message", "/nothing"])
async def test_wrong_base_url_error_names_the_right_ones(
    gateway: Gateway, session: aiohttp.ClientSession, path: str
) -> None:
    async with session.post(f"{gateway.address}{path}", json={}) as answer:
        assert answer.status == 404
        message = (await answer.json())["error"]["message"]
    assert f"POST {path}" in message
    assert "ends in /v1" in message
