"""No request or setting of a project disturbs another project's figures; readiness reports it if one does."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, new_project
from tests.support.waiting import eventually

VIEWS = ("/usage/stats", "/usage/costs", "/usage/budget", "/requests")


@pytest.fixture
async def bystander(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    admin = await new_project(gateway, session)
    status, answer, _ = await admin.call("POST", "/projects/api-keys", {"name": "limited", "dailyBudget": 0.02})
    assert status == 201, answer
    return Client(session, gateway.address, answer["data"]["apiKey"])


async def own_key(client: Client) -> str:
    _, keys, _ = await client.call("GET", "/projects/api-keys")
    return str(keys["data"][0]["id"])


def images(count: int, prompt: str) -> dict[str, Any]:
    """Return a chat whose input is bounded at 50,000 tokens for each image."""
    content = [{"type": "text", "text": prompt}, *[{"type": "image_url", "imageUrl": {"url": "https://a.b/c"}}] * count]
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], "maxTokens": 5}


async def test_lowered_token_limit_during_a_huge_call_poisons_nothing(
    client: Client, bystander: Client, upstream: RunningProvider
) -> None:
    key_id = await own_key(client)
    await client.call("PATCH", f"/projects/api-keys/{key_id}", {"tokenLimit": 1_000_000_000})
    attack = [  # settled together, by the sum of their bounds
        asyncio.create_task(
            client.call("POST", "/completions/chat", images(1_900, f"{n} [[delay=9000]] [[status=400]]"))
        )
        for n in range(4)
    ]
    before = upstream.calls
    await eventually(lambda: upstream.calls == before + 4, within_s=8)
    assert (await client.call("PATCH", f"/projects/api-keys/{key_id}", {"tokenLimit": 1}))[0] == 200
    assert [(await one)[0] for one in attack] == [400] * 4
    for _ in range(8):  # each holds far more than it costs: unreleased holds would use up the budget
        status, answer, _ = await bystander.chat("hello [[tokens=10/10]]", cache=False)
        assert status == 200, answer
    for caller in (bystander, client):
        assert [(await caller.call("GET", view))[0] for view in VIEWS] == [200] * len(VIEWS)
    _, budget, _ = await bystander.call("GET", "/usage/budget")
    assert budget["data"]["daily"]["held"] == 0


async def test_uncountable_request_is_refused_by_name(client: Client) -> None:
    status, answer, _ = await client.call("POST", "/completions/chat", images(3_100, "hello"))
    assert (status, answer["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert "tokens, of which 100000000 are allowed" in answer["error"]["message"]


async def test_readiness_shows_the_projectors_state(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{gateway.address}/health/ready") as answer:
        ready = await answer.json()
    assert (answer.status, ready["projector"], ready["quarantinedProjects"]) == (200, "ok", 0)
    async with session.get(f"{gateway.address}/metrics") as answer:
        assert 'gateway_quarantined_projects{process="api-1"} 0.0' in await answer.text()
