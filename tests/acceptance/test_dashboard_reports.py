"""The pages of reports: each shows what its viewer may see, says how it came about, and takes all text for text."""

import csv
import io
import re
from collections.abc import AsyncIterator
from html import unescape

import aiohttp
import pytest

from api.dashboard.field_words import FIELDS
from tests.support.dashboard import Browser, signed_in
from tests.support.gateway import Client, Gateway, new_project

HOSTILE = "<script>alert(1)</script>"
FORMULA = "=1+1"


@pytest.fixture
async def visitor() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no cookies: browsers keep their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def seen(browser: Browser, path: str) -> str:
    status, text, _ = await browser.get(path)
    assert status == 200, text
    return text


async def rows_of(browser: Browser, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(await seen(browser, path))))


async def test_each_page_shows_what_its_viewer_may_see(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, visitor: aiohttp.ClientSession
) -> None:
    other = await new_project(gateway, session)
    _, mine, _ = await client.chat("mine [[tokens=1000/1000]]", metadata={"team": HOSTILE})
    _, theirs, _ = await other.chat("theirs [[tokens=9/9]]", metadata={"team": FORMULA})
    admin, operator = await signed_in(gateway, visitor, client.key), await signed_in(gateway, visitor)
    own, foreign = mine["data"]["requestId"], theirs["data"]["requestId"]
    listed = await seen(admin, "/requests")
    assert (own in listed, foreign in listed) == (True, False)
    assert foreign in await seen(operator, "/requests")
    assert (await admin.get(f"/requests/{foreign}"))[0] == 404
    project = (await client.call("GET", "/projects/me"))[1]["data"]["id"]
    assert foreign not in await seen(operator, f"/requests?project={project}")
    pages = (
        "/",
        "/usage",
        "/usage?group=metadata.team&then=day",
        "/usage?metric=latency&group=hour&range=1",
        "/requests",
    )
    for path in (*pages, f"/requests/{own}", "/usage?metric=tokens&group=key&then=model", "/requests?status=failed"):
        for browser in (admin, operator):
            assert HOSTILE not in await seen(browser, path), path
    assert HOSTILE in unescape(await seen(admin, "/usage?group=metadata.team"))
    lines = await rows_of(operator, "/usage.csv?group=metadata.team")
    assert {HOSTILE, f"'{FORMULA}"} <= {line["metadata.team"] for line in lines}
    assert [line["Cost USD"] for line in await rows_of(admin, "/usage.csv?group=model")] == [
        f"{mine['data']['cost']:f}"
    ]


async def test_a_request_explains_its_charge_and_shows_its_answer_to_its_own(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession
) -> None:
    _, answer, _ = await client.chat("[[tokens=1001/333]] explained", model="claude-3.5-sonnet")
    path = f"/requests/{answer['data']['requestId']}"
    admin, operator = await signed_in(gateway, visitor, client.key), await signed_in(gateway, visitor)
    for browser in (admin, operator):
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", await seen(browser, path)))
        assert "input 1,001 $3 a million specification $0.003003" in text
        assert "output 333 $15 a million specification $0.004995" in text
        assert "Exact sum $0.007998" in text
        assert f"Cost ${answer['data']['cost']:f}" in text
    content = answer["data"]["choices"][0]["message"]["content"]
    assert content in unescape(await seen(admin, path))
    assert content not in unescape(await seen(operator, path))  # it reads no project's content


async def test_a_list_stands_still_and_counts_what_is_new(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession
) -> None:
    await client.chat("the first")
    admin = await signed_in(gateway, visitor, client.key)
    asks = unescape(re.findall(r'hx-get="([^"]+)"', await seen(admin, "/requests?status=completed"))[0])
    assert "new" not in await seen(admin, asks)
    for number in range(3):
        await client.chat(f"newer {number}")
    assert (await client.chat("[[status=400]] of another status"))[0] == 400
    await client.call("GET", "/requests")  # waits until they are folded
    assert "3 new" in await seen(admin, asks)


async def test_an_overview_says_what_is_spent_held_and_refused(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, visitor: aiohttp.ClientSession
) -> None:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "nearly empty", "dailyBudget": 0.000001})
    status, refused, _ = await Client(session, gateway.address, issued["data"]["apiKey"]).chat("too dear")
    assert status == 402
    await client.call("GET", "/usage/overview")  # it waits for the refusal, which the page does not
    admin = await signed_in(gateway, visitor, client.key)
    text = await seen(admin, "/")
    assert "nearly empty" in text
    assert "BUDGET_EXCEEDED" in text
    assert "did not cover it" in await seen(admin, f"/requests/{refused['error']['requestId']}")
    (cap,) = [row for row in await rows_of(admin, "/caps.csv") if row["name"] == "nearly empty"]
    assert (cap["limit USD"], cap["spent USD"]) == ("0.000001", "0")


async def test_a_page_that_is_open_asks_for_its_live_piece_alone(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession
) -> None:
    await client.call("POST", "/projects/api-keys", {"name": "has a cap", "dailyBudget": 1})
    admin = await signed_in(gateway, visitor, client.key)
    for path in ("/?range=30", "/budgets?range=30"):
        page = await seen(admin, path)
        asks = unescape(re.findall(r'<div id="live" hx-get="([^"]+)"', page)[0])
        status, piece, _ = await admin.get(asks, **{"HX-Request": "true"})
        assert (status, asks) == (200, path)
        assert piece.lstrip().startswith('<div id="live"')
        assert ("has a cap" in piece, "has a cap" in page) == (True, True)
        assert ("<html" in piece, 'class="filters"' in piece, "<figure" in piece) == (False, False, False)


async def test_groups_that_do_not_go_together_keep_the_filters(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, visitor, client.key)
    status, text, _ = await admin.get("/usage?group=session&then=model&range=30")
    assert status == 400
    assert "can be grouped further by day, key, project" in text
    assert re.search(r'<option value="30" selected', text)
    text = await seen(admin, "/usage?metric=latency&group=key&then=model")
    assert ("Today is not over" in text, "is not kept by model" in text) == ("In all" in text, "In all" in text)


@pytest.mark.parametrize(
    "path",
    ["/usage?group=none", "/usage?metric=none", "/?range=0", "/requests?cost=much", "/requests?from=never", "/?from=1"],
)
async def test_a_filter_that_is_none_is_named(
    client: Client, gateway: Gateway, visitor: aiohttp.ClientSession, path: str
) -> None:
    admin = await signed_in(gateway, visitor, client.key)
    status, text, _ = await admin.get(path)
    assert status == 400
    name = path.partition("?")[2].partition("=")[0]
    assert f"“{FIELDS[name].label}”" in text


async def test_the_list_names_the_times_by_which_it_is_filtered(
    gateway: Gateway, client: Client, visitor: aiohttp.ClientSession
) -> None:
    status, _, headers = await client.chat("when did it come", model="echo")
    assert status == 200
    admin = await signed_in(gateway, visitor, client.key)
    _, shown, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    logged = shown["data"]["at"][:19]
    _, text, _ = await admin.get("/requests")
    assert ("Came (UTC)" in text, "Logged (UTC)" in text, "Logged since (UTC)" in text) == (True, False, True)
    _, text, _ = await admin.get(f"/requests?since={logged}")
    assert ("Logged (UTC)" in text, headers["x-request-id"] in text) == (True, True)
    line = next(csv.DictReader(io.StringIO((await admin.get(f"/requests.csv?since={logged}"))[1])))
    assert line["came"] <= line["logged"]
    assert line["logged"][:19] == logged
