"""Projects, keys and the playground on the dashboard: each does what the API does, for whom the API does it."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import pytest

from api.dashboard.field_words import FIELDS
from api.dashboard.snippets import KEY_VARIABLE, snippets
from tests.support.dashboard import Browser, signed_in
from tests.support.gateway import Client, Gateway, new_project, operator_of
from tests.support.waiting import eventually_so

MARKUP = '<script>alert("x")</script>'
_SECRET = re.compile(r'<pre id="secret"[^>]*>(gw_live_\w+)</pre>')
_KEY_ID = re.compile(r'href="/keys/(key_\w+)"')


@pytest.fixture
async def plain() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session without cookies: each browser of a test has its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def issued(browser: Browser, **fields: str) -> tuple[str, str]:
    """Issue a key on its page. Return its id and its text."""
    await browser.get("/keys/new")
    status, text, _ = await browser.post("/keys", {"name": "a key", "role": "member"} | fields)
    assert status == 200, text
    key_id, secret = _KEY_ID.search(text), _SECRET.search(text)
    assert key_id is not None
    assert secret is not None
    return key_id[1], secret[1]


async def test_a_key_is_issued_used_changed_and_revoked(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    key_id, secret = await issued(admin, name=MARKUP, dailyBudget="0.25", models="echo, gpt-4o-mini", rateLimit="")
    _, shown, _ = await client.call("GET", f"/projects/api-keys/{key_id}")
    settings = shown["data"]
    assert (settings["dailyBudget"], settings["models"], settings["rateLimit"]) == (
        Decimal("0.25"),
        ["echo", "gpt-4o-mini"],
        None,
    )
    assert settings["lastUsedAt"] is None
    status, answer, _ = await Client(session, gateway.address, secret).chat("hello", model="echo")
    assert status == 200, answer

    async def is_used() -> bool:
        _, shown, _ = await client.call("GET", f"/projects/api-keys/{key_id}")
        return shown["data"]["lastUsedAt"] is not None

    await eventually_so(is_used)
    _, text, _ = await admin.get("/keys")
    assert ("&lt;script&gt;" in text, MARKUP in text) == (True, False)
    assert "never" not in text.partition(key_id)[2].partition("</tr>")[0]
    _, text, _ = await admin.get(f"/keys/{key_id}")
    assert " left</span>" in text
    status, _, headers = await admin.post(
        f"/keys/{key_id}", {"name": "renamed", "role": "member", "dailyBudget": "", "models": "", "rateLimit": "7"}
    )
    assert (status, headers["location"]) == (303, f"/keys/{key_id}?saved=yes")
    _, shown, _ = await client.call("GET", f"/projects/api-keys/{key_id}")
    settings = shown["data"]
    assert (settings["name"], settings["dailyBudget"], settings["models"], settings["rateLimit"]) == (
        "renamed",
        None,
        None,
        7,
    )
    status, text, _ = await admin.post(f"/keys/{key_id}", {"name": "of an old page", "seen": "0" * 24})
    assert (status, "was changed while the page was open" in text, "of an old page" in text) == (409, True, False)
    status, _, _ = await admin.post(f"/keys/{key_id}/revoke", {})
    assert status == 303
    status, text, _ = await admin.post(f"/keys/{key_id}", {"name": "again", "role": "member"})
    assert status == 403
    await asyncio.sleep(1)
    status, _, _ = await Client(session, gateway.address, secret).chat("hello", model="echo")
    assert status == 401


async def test_a_wrong_field_is_named_and_what_was_written_stays(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    for field, value in (
        ("dailyBudget", "-1"),
        ("rateLimit", "many"),
        ("expiresAt", "2020-01-01T00:00"),
        ("role", "x"),
    ):
        fields = {"name": "kept name", "role": "member"} | {field: value}
        status, text, _ = await admin.post("/keys", fields)
        assert (status, f"“{FIELDS[field].label}”" in text, "kept name" in text) == (400, True, True), field
    status, text, _ = await admin.get("/keys?state=nonsense")
    assert (status, "“State” must be one of those in the list" in text) == (400, True)


async def test_nobody_sees_or_changes_what_is_not_theirs(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    mine, secret = await issued(admin, name="mine")
    other, _ = await issued(admin, name="another of the project")
    _, project, _ = await client.call("GET", "/projects/me")
    project_id = project["data"]["id"]
    member = await signed_in(gateway, plain, secret)
    stranger = await signed_in(gateway, plain, (await new_project(gateway, session)).key)
    _, text, _ = await member.get(f"/keys?project={project_id}&state=all")
    assert set(_KEY_ID.findall(text)) == {mine}
    assert other not in (await member.get("/keys.csv?state=all"))[1]
    assert (await member.get(f"/keys/{other}"))[0] == 404
    for path in ("/projects", f"/projects/{project_id}", "/keys/new"):
        assert (await member.get(path))[0] == 403, path
    for path, fields in ((f"/keys/{mine}", {"name": "x"}), (f"/keys/{mine}/revoke", {}), ("/keys", {"name": "x"})):
        assert (await member.post(path, fields))[0] == 403, path
    for path in (f"/keys/{mine}", f"/projects/{project_id}"):
        assert (await stranger.get(path))[0] == 404, path
        assert (await stranger.post(path, {"name": "taken"}))[0] == 404, path
    assert (await stranger.post("/projects", {"name": "x"}))[0] == 403
    assert mine not in (await stranger.get(f"/keys?project={project_id}&state=all"))[1]


async def test_the_operator_does_for_any_project_what_its_admin_does(
    gateway: Gateway, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    operator, calls = await signed_in(gateway, plain), operator_of(gateway, session)
    await operator.get("/projects")
    status, text, _ = await operator.post("/projects", {"name": MARKUP, "openaiKey": "sk-of-the-project-1234"})
    assert (status, MARKUP in text) == (200, False)
    secret, project_id = _SECRET.search(text), re.search(r'href="/projects/(prj_\w+)"', text)
    assert secret is not None
    assert project_id is not None
    _, text, _ = await operator.get(f"/projects/{project_id[1]}")
    assert "sk-…1234" in text
    fields = {"name": "renamed", "dailyBudget": "12.5", "installationDailyBudget": "3", "removeOpenaiKey": "true"}
    status, text, _ = await operator.post(f"/projects/{project_id[1]}", fields)
    assert status == 303, text
    status, shown, _ = await calls.call("GET", f"/projects/{project_id[1]}")
    changed = shown["data"]
    assert (changed["name"], changed["dailyBudget"], changed["installationDailyBudget"], changed["openaiKey"]) == (
        "renamed",
        Decimal("12.5"),
        Decimal(3),
        None,
    )
    status, text, _ = await operator.post(f"/projects/{project_id[1]}", fields | {"seen": "0" * 24})
    assert (status, "was changed while the page was open" in text) == (409, True)
    key_id, _ = await issued(operator, name="by the operator", project=project_id[1])
    status, listed, _ = await calls.call("GET", f"/projects/{project_id[1]}/api-keys")
    assert key_id in [one["id"] for one in listed["data"]]
    assert project_id[1] in (await operator.get("/projects.csv"))[1]
    status, made, _ = await calls.call("POST", f"/projects/{project_id[1]}/api-keys", {"name": "by the API"})
    assert status == 201
    path = f"/projects/{project_id[1]}/api-keys/{made['data']['id']}"
    status, shown, _ = await calls.call("PATCH", path, {"dailyBudget": 1})
    assert (status, shown["data"]["dailyBudget"]) == (200, 1)
    assert (await calls.call("DELETE", path))[0] == 200
    for method in ("GET", "PATCH", "DELETE"):
        body = {"name": "x"} if method == "PATCH" else None
        status, _, _ = await Client(session, gateway.address, secret[1]).call(method, path, body)
        assert status == 401  # an admin key is not the master key
    assert (await calls.call("POST", "/projects/prj_nobody/api-keys", {"name": "x"}))[0] == 404


async def test_the_playground_charges_the_key_and_obeys_its_budget(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    admin = await signed_in(gateway, plain, client.key)
    key_id, secret = await issued(admin, name="small", dailyBudget="0.0005")
    member = await signed_in(gateway, plain, secret)
    await member.get("/connect")
    trial = {"model": "echo", "prompt": MARKUP, "maxTokens": "50"}
    status, text, _ = await member.post("/connect", trial)
    assert (status, MARKUP in text, "&lt;script&gt;alert" in text, " tokens in" in text) == (200, False, True, True)
    status, text, headers = await member.post("/connect", trial, Accept="text/event-stream")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    words = "".join(choice["delta"].get("content") or "" for one in events for choice in one.get("choices", []))
    assert MARKUP in words
    assert events[-1]["cost"] > 0
    refused, text, _ = await member.post("/connect", trial | {"prompt": "x" * 20_000})
    assert (refused, "does not cover this request" in text) == (402, True)
    refused, text, _ = await member.post("/connect", trial | {"prompt": "x" * 20_000}, Accept="text/event-stream")
    error = json.loads(text)["error"]
    assert (refused, error["code"]) == (402, "BUDGET_EXCEEDED")
    assert [one["address"] for one in error["links"]] == [f"/keys/{key_id}", f"/requests/{error['requestId']}"]
    for one in error["links"]:
        assert (await member.get(one["address"]))[0] == 200, one
    _, budget, _ = await client.call("GET", f"/usage/budget?keyId={key_id}")
    assert 0 < budget["data"]["daily"]["spent"] <= Decimal("0.0005")
    operator = await signed_in(gateway, plain)
    assert (await operator.post("/connect", trial))[0] == 400  # no key to charge
    status, text, _ = await operator.post("/connect", trial | {"keyId": key_id, "prompt": "hello"})
    assert status == 200, text
    _, listed, _ = await Client(session, gateway.address, secret).call("GET", "/requests")
    assert len([one for one in listed["data"]["requests"] if one["status"] == "completed"]) == 3


async def test_what_is_copied_runs(gateway: Gateway, client: Client) -> None:
    assert client.key is not None
    environment = {**os.environ, KEY_VARIABLE: client.key}
    runners = {"shell": ("bash", "-c"), "python": (sys.executable, "-c")}
    texts = [one for one in snippets(gateway.address) if one.name in {"curl", "openai", "anthropic", "langchain"}]
    assert len(texts) == 4

    async def run(language: str, text: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *runners[language], text, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        return output.decode()

    for output in await asyncio.gather(*(run(one.language, one.text) for one in texts)):
        assert "Hello!" in output, output
