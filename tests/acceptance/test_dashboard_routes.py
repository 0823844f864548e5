"""Routes on the dashboard: each page does what the API does, for whom the API does it."""

import csv
import html
import io
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.dashboard import Browser, signed_in
from tests.support.gateway import Client, Gateway, new_project, operator_of

ROW = {"group-1": "1", "weight-1": "1", "on-timeout": "true", "attempts": "2"}
_SEEN = re.compile(r'name="seen" value="(\w+)"')


@pytest.fixture
async def plain() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session without cookies: each browser of a test has its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def member_of(client: Client, *models: str) -> str:
    """Issue a member key that may ask for these models."""
    status, issued, _ = await client.call(
        "POST", "/projects/api-keys", {"name": "a member", "role": "member", "models": list(models) or None}
    )
    assert status == 201, issued
    return str(issued["data"]["apiKey"])


async def made(browser: Browser, owner: str, name: str, **fields: str) -> str:
    """Make a route on its page. Return the page's address."""
    status, text, headers = await browser.post(
        "/routes", {**ROW, "owner": owner, "name": name, "model-1": "echo", **fields}
    )
    assert status == 303, text
    return headers["location"].partition("?")[0]


async def test_a_route_of_the_form_is_the_api_s_and_back(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    address = await made(admin, "", "fast", **{"model-2": "gpt-4o-mini", "group-2": "2", "idleTimeoutS-2": "7.5"})
    _, shown, _ = await client.call("GET", "/routes/fast")
    assert [[(one["model"], one["idleTimeoutS"]) for one in group] for group in shown["data"]["groups"]] == [
        [("echo", None)],
        [("gpt-4o-mini", 7.5)],
    ]
    assert (shown["data"]["failOverOn"], shown["data"]["attempts"]) == (["timeout"], 2)
    _, text, _ = await admin.get(address)
    seen = _SEEN.search(text)
    assert seen is not None
    assert (await client.call("PATCH", "/routes/fast", {"attempts": 4}))[0] == 200
    status, text, _ = await admin.post(address, {**ROW, "model-1": "echo", "seen": seen[1]})
    assert (status, "Nothing is saved: this route was changed" in text) == (409, True)
    assert (await admin.post(f"{address}/remove", {"seen": seen[1]}))[0] == 409
    status, text, _ = await admin.post(address, {**ROW, "model-1": "fast"})
    assert (status, "“Model” of target 1: &#39;fast&#39; is a route, and a target is a model" in text) == (400, True)
    assert (await admin.post("/routes", {**ROW, "name": "fast", "model-1": "echo"}))[0] == 400
    assert (await admin.post(address, {**ROW, "model-1": "echo", "attempts": "1"}))[0] == 303
    _, shown, _ = await client.call("GET", "/routes/fast")
    assert ([len(group) for group in shown["data"]["groups"]], shown["data"]["attempts"]) == ([1], 1)
    assert (await admin.post(f"{address}/remove", {}))[0] == 303
    assert (await client.call("GET", "/routes/fast"))[0] == 404


async def test_who_sees_and_changes_a_route(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    other = await new_project(gateway, session)
    stranger = await signed_in(gateway, plain, other.key)
    address = await made(admin, "", "mine-alone")
    owner = address.split("/")[2]
    member = await signed_in(gateway, plain, await member_of(client, "mine-alone"))
    outside = await signed_in(gateway, plain, await member_of(client, "gpt-4o"))
    assert [(await one.get(address))[0] for one in (admin, member, outside, stranger)] == [200, 200, 404, 404]
    assert [(await one.get(f"{address}/plan.csv"))[0] for one in (member, outside, stranger)] == [200, 404, 404]
    assert [("mine-alone" in (await one.get("/routes.csv"))[1]) for one in (member, outside, stranger)] == [
        True,
        False,
        False,
    ]
    _, text, _ = await member.get(address)
    assert ('<form method="post" action="/routes' in text, "An admin key of the project changes it" in text) == (
        False,
        True,
    )
    await member.get("/sessions")
    for path in ("/routes", address, f"{address}/remove"):
        assert (await member.post(path, {**ROW, "name": "x", "model-1": "echo"}))[0] == 403
    assert (await member.get("/routes/new"))[0] == 403
    for path in (address, f"{address}/remove"):
        assert (await stranger.post(path, {**ROW, "model-1": "echo"}))[0] == 404
    assert (await stranger.post("/routes", {**ROW, "owner": owner, "name": "x", "model-1": "echo"}))[0] == 404
    for path in ("/routes", address, f"{address}/remove"):
        assert (await admin.post(path, {**ROW, "name": "x", "model-1": "echo", "csrf": "0"}))[0] == 403
        assert (await admin.post(path, ROW, **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
    assert (await client.call("GET", "/routes/mine-alone"))[0] == 200


async def test_the_operator_s_route_serves_a_project_until_it_has_its_own(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    operator, admin = await signed_in(gateway, plain), await signed_in(gateway, plain, client.key)
    address = await made(operator, "installation", "everybodys")
    try:
        _, text, _ = await admin.get("/routes")
        found = re.search(r'href="(/routes/prj_\w+)/everybodys"', text)
        assert found is not None
        of_project = f"{found[1]}/everybodys"
        _, text, _ = await admin.get(of_project)
        assert "This is the installation's route" in text
        assert (await admin.post(of_project, {**ROW, "model-1": "gpt-4o-mini"}))[0] == 404
        assert (await admin.get(address))[0] == 404
        assert await made(admin, "", "everybodys", **{"model-1": "gpt-4o-mini"}) == of_project
        _, text, _ = await admin.get(of_project)
        assert "gpt-4o-mini" in text
        _, keys, _ = await client.call("GET", "/projects/api-keys")
        _, text, _ = await operator.get(f"{address}?key={keys['data'][0]['id']}")
        assert "its requests do not come here" in text
        _, shown, _ = await operator_of(gateway, session).call("GET", "/routes/everybodys")
        assert shown["data"]["groups"][0][0]["model"] == "echo"
    finally:
        assert (await operator.post(f"{address}/remove", {}))[0] == 303


async def test_the_dry_run_is_the_api_s(gateway: Gateway, client: Client, plain: aiohttp.ClientSession) -> None:
    admin = await signed_in(gateway, plain, client.key)
    turns = {"model-2": "elsewhere/llama", "group-2": "2", "model-3": "gpt-4o-mini", "group-3": "3"}
    provider = {"name": "elsewhere", "kind": "openai", "baseUrl": "https://llm.example.com/v1", "apiKey": "sk-1234"}
    assert (await client.call("POST", "/projects/providers", provider))[0] == 201
    address = await made(admin, "", "planned", **turns)
    assert (await client.call("DELETE", "/projects/providers/elsewhere"))[0] == 200

    lines = list(csv.DictReader(io.StringIO((await admin.get(f"{address}/plan.csv"))[1])))
    _, plan, _ = await client.call("POST", "/routes/planned/plan")
    assert [one["target"] for one in lines if one["turn"]] == [one["model"] for one in plan["data"]["targets"]]
    left_out = [(one["target"], one["left out because"]) for one in lines if not one["turn"]]
    assert left_out == [(one["model"], one["message"]) for one in plan["data"]["leftOut"]]
    assert "elsewhere/llama" in dict(left_out)
    assert dict(left_out)["elsewhere/llama"] in html.unescape((await admin.get(address))[1])

    member = await signed_in(gateway, plain, await member_of(client, "echo"))
    lines = list(csv.DictReader(io.StringIO((await member.get(f"{address}/plan.csv"))[1])))
    assert [one["target"] for one in lines if one["turn"]] == ["echo"]
    assert {one["target"] for one in lines if not one["turn"]} == {"elsewhere/llama", "gpt-4o-mini"}
