"""The page of events: who sees what, its filters, its files, and verifications that are started from it."""

import html
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.dashboard import signed_in
from tests.support.gateway import Client, Gateway, new_project
from tests.support.waiting import eventually_so

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def plain() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session without cookies: each browser of a test has its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def test_an_admin_sees_its_own_events_as_they_are_stored(gateway: Gateway, plain: aiohttp.ClientSession) -> None:
    admin, other = await new_project(gateway, plain, name=HOSTILE), await new_project(gateway, plain)
    assert (await admin.chat("hello", model="echo"))[0] == 200
    _, own, _ = await admin.call("GET", "/audit/events")
    browser = await signed_in(gateway, plain, admin.key)
    _, text, _ = await browser.get("/audit")
    assert html.escape(HOSTILE) in text
    assert HOSTILE not in text
    assert all(event["digest"] in text for event in own["data"]["events"])
    _, costs, _ = await browser.get("/audit?type=CostIncurred")
    assert costs.count("<summary>CostIncurred</summary>") == 1
    assert "<summary>RequestCompleted</summary>" not in costs
    _, exported, headers = await browser.get("/audit/export?type=CostIncurred")
    assert headers["content-type"].startswith("application/jsonl")
    (line,) = exported.splitlines()
    assert json.loads(line)["type"] == "CostIncurred"
    _, saved, _ = await browser.get("/audit.csv?type=ProjectCreated")
    assert saved.splitlines()[0].startswith("position,at,type,stream")
    project_id = own["data"]["events"][0]["projectId"]
    foreign = await signed_in(gateway, plain, other.key)
    _, theirs, _ = await foreign.get(f"/audit?project={project_id}")
    assert html.escape(HOSTILE) not in theirs
    assert (await foreign.post("/audit/verifications", {"kind": "verify"}))[0] == 403


async def test_a_wrong_filter_is_named_and_pages_lead_back_in_time(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    browser = await signed_in(gateway, plain, client.key)
    for query, field in (("type=Nothing", "“Type”"), ("since=yesterday", "“Logged since”"), ("before=x", "“Before”")):
        status, text, _ = await browser.get(f"/audit?{query}")
        assert (status, field in text) == (400, True), text
    operator = await signed_in(gateway, plain)
    for number in range(30):
        assert (await client.chat(f"page {number}", model="echo"))[0] == 200
    _, text, _ = await operator.get("/audit")
    older = html.unescape(text.partition('rel="next" href="')[2].partition('"')[0])
    status, page, _ = await operator.get(older)
    assert (status, 'rel="prev" href="/audit"' in page) == (200, True)


async def test_a_verification_is_started_from_the_page_and_its_end_is_shown(
    gateway: Gateway, plain: aiohttp.ClientSession
) -> None:
    browser = await signed_in(gateway, plain)
    await browser.get("/audit")
    status, _, headers = await browser.post("/audit/verifications", {"kind": "balance"})
    assert (status, headers["location"]) == (303, "/audit")

    async def has_agreed() -> bool:
        _, piece, _ = await browser.get("/audit/verifications")
        return "agrees</span>" in piece and "budgets per key and day" in piece

    await eventually_so(has_agreed, within_s=60)  # it starts a process
