"""Strange requests of one tenant get clear refusals or answers, and the tenant beside it notices nothing."""

import asyncio
import gzip
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.app import MAX_SETTINGS_BODY_BYTES
from tests.fuzz.seeds import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from tests.fuzz.strange_json import strange_json
from tests.support.bystander import Bystander
from tests.support.gateway import Client, Gateway, new_project

REQUESTS = 200
AT_ONCE = 8
CLEAR = {200, 400, 403, 404, 413, 422, 429, 502}
"""502: the test provider itself does not understand a request that was passed on as it came."""
MODELS = ("gpt-4o-mini", "claude-3-haiku", "echo")
SEEDS: dict[str, tuple[Any, ...]] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
}


def strange_requests() -> list[tuple[str, bytes]]:
    """Return the same paths and bodies in every run."""
    found: list[tuple[str, bytes]] = []

    @given(st.sampled_from(sorted(SEEDS)), st.sampled_from(MODELS), st.data())
    @settings(
        max_examples=REQUESTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def add(path: str, model: str, data: st.DataObject) -> None:
        seeds = tuple({**seed, "model": model} for seed in SEEDS[path])
        found.append((path, data.draw(strange_json(seeds))))

    add()
    return found


async def test_strange_requests_hurt_nobody_else(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    neighbour = await new_project(gateway, session, name="neighbour")
    headers = {"authorization": f"Bearer {client.key}", "content-type": "application/json"}
    odd: list[tuple[int, str, bytes, bytes]] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def attack(path: str, body: bytes) -> None:
        async with turns, session.post(gateway.address + path, data=body, headers=headers) as answer:
            said = await answer.read()
            if answer.status not in CLEAR or b"Traceback" in said:
                odd.append((answer.status, path, body[:500], said[:500]))

    async def ask(number: int) -> int:
        status, _, _ = await neighbour.chat(f"hello {number} [[tokens=10/5]]", cache=False)
        return status

    bystander = Bystander()
    async with bystander.asking(ask):
        await asyncio.gather(*(attack(path, body) for path, body in strange_requests()))
    assert odd == []
    assert set(bystander.statuses) == {200}
    _, stats, _ = await neighbour.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["requests"] == len(bystander.statuses)
    assert stats["data"]["totals"]["failedRequests"] == 0
    _, costs, _ = await neighbour.call("GET", "/usage/costs")
    each = Decimal("0.00000450")  # 10 tokens in and 5 out of gpt-4o-mini
    assert costs["data"]["totalCost"] == each * len(bystander.statuses)


async def test_a_call_that_sets_something_up_takes_no_large_body_not_even_a_packed_one(
    gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    body = msgspec.json.encode({"name": "x" * MAX_SETTINGS_BODY_BYTES})
    for path in ("/projects", "/projects/api-keys", "/routes", "/projects/providers", "/prices"):
        for sent, packed in ((body, {}), (gzip.compress(body), {"content-encoding": "gzip"})):
            headers = {"authorization": f"Bearer {client.key}", "content-type": "application/json", **packed}
            if path in ("/projects", "/prices"):
                headers["authorization"] = f"Bearer {gateway.master_key}"
            async with session.post(f"{gateway.address}/api/v1{path}", data=sent, headers=headers) as answer:
                said = await answer.json()
            assert (answer.status, said["error"]["code"]) == (413, "TOO_LARGE"), path
            assert str(MAX_SETTINGS_BODY_BYTES) in said["error"]["message"]
    status, said, _ = await client.call("POST", "/jobs", {"operation": "chat", "request": {"messages": body.decode()}})
    assert (status, said["error"]["details"]) == (400, {"field": "messages"}), "what has content may be large"
