"""Budgets, limits, providers and prices: pages and calls say the same, each to those whom it concerns."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from html import unescape

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.dashboard import signed_in
from tests.support.gateway import Client, Gateway, new_project, operator_of
from tests.support.waiting import eventually_so

HELD_MS = 4_000
_SEEN = re.compile(r'name="seen" value="(\w+)"')


@pytest.fixture
async def visitor() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no cookies: browsers keep their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def test_who_holds_what_is_seen_while_it_is_held(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, visitor: aiohttp.ClientSession
) -> None:
    stranger = await new_project(gateway, session)
    admin = await signed_in(gateway, visitor, client.key)
    call = asyncio.create_task(client.chat(f"[[delay={HELD_MS}]] held", cache=False))

    async def is_held() -> bool:
        _, shown, _ = await client.call("GET", "/usage/holds")
        return bool(shown["data"]["attempts"] == 1 and shown["data"]["holds"][0]["isClaimed"])

    await eventually_so(is_held)
    _, shown, _ = await client.call("GET", "/usage/holds")
    (hold,) = shown["data"]["holds"]
    assert hold["held"] == shown["data"]["held"] > 0
    _, limits, _ = await client.call("GET", "/usage/limits")
    assert [(one["keyId"], one["requestsInFlight"]) for one in limits["data"]] == [(hold["keyId"], 1)]
    _, foreign, _ = await stranger.call("GET", "/usage/holds")
    assert foreign["data"] == {"attempts": 0, "held": 0, "oldest": None, "holds": []}
    _, text, _ = await admin.get("/budgets")
    assert hold["requestId"] in text
    _, saved, _ = await admin.get("/budgets/holds.csv")
    assert [row["request"] for row in csv.DictReader(io.StringIO(saved))] == [hold["requestId"]]
    status, _, headers = await call
    assert (status, headers["x-request-id"]) == (200, hold["requestId"])
    _, after, _ = await client.call("GET", "/usage/budget")
    assert after["success"]


async def test_a_refusal_is_told_with_its_figures_to_its_own(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, visitor: aiohttp.ClientSession
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "nearly empty", "dailyBudget": 0.000001})
    poor = Client(session, gateway.address, issued["data"]["apiKey"])
    for _ in range(2):
        status, refused, _ = await poor.chat("too dear")
        assert status == 402
    for reader in (client, poor):
        _, shown, _ = await reader.call("GET", "/usage/refusals?days=2")
        (line,) = shown["data"]["last"]
        assert (line["keyId"], line["window"], line["requests"]) == (issued["data"]["id"], "daily", 2)
        assert line["lastRequestId"] == refused["error"]["requestId"]
        assert line["asked"] == refused["error"]["details"]["asked"] > line["limit"]
    _, foreign, _ = await (await new_project(gateway, session)).call("GET", "/usage/refusals")
    assert foreign["data"] == {"requests": 0, "days": [], "last": []}
    member = await signed_in(gateway, visitor, poor.key)
    _, text, _ = await member.get("/budgets")
    assert [
        words for words in ("nearly empty", "the key's day", line["lastRequestId"]) if words not in unescape(text)
    ] == []
    _, saved, _ = await member.get("/budgets/refusals.csv")
    assert [row["requests"] for row in csv.DictReader(io.StringIO(saved))] == ["2"]


async def test_no_tenant_sees_or_changes_another_s_providers(
    client: Client,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    visitor: aiohttp.ClientSession,
    upstream: RunningProvider,
) -> None:
    operator = await signed_in(gateway, visitor)
    await operator.get("/providers")
    form = {"kind": "openai", "baseUrl": f"{upstream.openai_base_url}/", "apiKey": "sk-shared-4321", "models": "m"}
    status, text, _ = await operator.post("/providers", {"owner": "installation", "name": "shared-one"} | form)
    assert status == 303, text
    _, listed, _ = await operator_of(gateway, session).call("GET", "/providers")
    assert "…4321" in [one["apiKey"] for one in listed["data"]]
    try:
        admin = await signed_in(gateway, visitor, client.key)
        _, text, _ = await admin.get("/providers")
        assert text.count("none of its own: the installation's") == 2
        assert ("shared-one" in text, upstream.openai_base_url in text, "4321" in text) == (True, False, False)
        assert (await admin.get("/providers?owner=installation"))[0] == 404
        assert (await admin.get("/providers/installation/shared-one"))[0] == 404
        assert (await admin.post("/providers/installation/shared-one/remove", {}))[0] == 404
        assert (await admin.post("/providers/prices", {"model": "gpt-4o", "inputPer1K": "1"}))[0] == 403
        stranger = await signed_in(gateway, visitor, (await new_project(gateway, session)).key)
        project_id = (await client.call("GET", "/projects/me"))[1]["data"]["id"]
        assert (await admin.post("/providers", {"owner": project_id, "name": "mine"} | form))[0] == 303
        assert (await admin.get(f"/providers/{project_id}/mine"))[0] == 200
        for path in (f"/providers/{project_id}/mine", f"/providers?owner={project_id}"):
            assert (await stranger.get(path))[0] == 404, path
        assert (await stranger.post("/providers", {"owner": project_id, "name": "taken"} | form))[0] == 404
        _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "a member"})
        member = await signed_in(gateway, visitor, issued["data"]["apiKey"])
        for path in ("/providers", "/providers/prices", "/providers/health"):
            assert (await member.get(path))[0] == 403, path
    finally:
        assert (await operator.post("/providers/installation/shared-one/remove", {}))[0] == 303


async def test_a_form_that_was_left_open_undoes_nothing_of_a_provider(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    admin = await signed_in(gateway, visitor, client.key)
    project_id = (await client.call("GET", "/projects/me"))[1]["data"]["id"]
    url, page = upstream.openai_base_url, f"/providers/{project_id}/mine"
    configured = {"name": "mine", "kind": "openai", "baseUrl": url, "apiKey": "sk-mine-1111", "models": ["a"]}
    assert (await client.call("POST", "/projects/providers", configured))[0] == 201
    credential = {"name": "second", "apiKey": "sk-second-2222", "weight": 1}
    assert (await client.call("POST", "/projects/providers/mine/credentials", credential))[0] == 201
    of_provider, of_default, weight, remove, of_removal = _SEEN.findall((await admin.get(page))[1])
    assert (of_provider, weight, of_default != weight) == (of_removal, remove, True)
    second = f"{page}/credentials/second"
    assert (await client.call("PATCH", "/projects/providers/mine", {"models": ["a", "b"]}))[0] == 200
    assert (await client.call("PATCH", "/projects/providers/mine/credentials/second", {"weight": 5}))[0] == 200
    for path, fields in (
        (page, {"baseUrl": url, "models": "a", "seen": of_provider}),
        (f"{page}/remove", {"seen": of_provider}),
        (second, {"weight": "2", "seen": weight}),
        (f"{second}/remove", {"seen": remove}),
    ):
        status, text, _ = await admin.post(path, fields)
        assert (status, "was changed while the page was open" in text) == (409, True), path
    (mine,) = (await client.call("GET", "/projects/providers"))[1]["data"]
    assert mine["models"] == ["a", "b"]
    credentials = (await client.call("GET", "/projects/providers/mine/credentials"))[1]["data"]
    assert {one["name"]: one["weight"] for one in credentials} == {"default": 1, "second": 5}
    of_provider, _, weight, *_ = _SEEN.findall((await admin.get(page))[1])
    assert (await admin.post(second, {"weight": "2", "seen": weight}))[0] == 303
    assert (await admin.post(page, {"baseUrl": url, "models": "c", "seen": of_provider}))[0] == 303
