"""Signing in to the dashboard: who sees what, how a session ends, and what other sites cannot do."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.dashboard import PAGE, Browser, signed_in
from tests.support.gateway import Client, Gateway, new_project

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


@pytest.fixture
async def plain() -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session without cookies: each browser of a test has its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


async def issued(admin: Client, **fields: object) -> tuple[str, str]:
    status, answer, _ = await admin.call("POST", "/projects/api-keys", {"name": "a key"} | fields)
    assert status == 201, answer
    return answer["data"]["id"], answer["data"]["apiKey"]


async def test_a_browser_gets_the_dashboard_where_programs_get_what_they_got(
    gateway: Gateway, plain: aiohttp.ClientSession
) -> None:
    status, _, headers = await Browser(plain, gateway.address).get("/")
    assert (status, headers["location"]) == (303, "/sign-in?next=%2F")
    assert headers["content-security-policy"] == POLICY
    async with plain.get(gateway.address + "/") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    async with plain.head(gateway.address + "/") as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    async with plain.get(gateway.address + "/", headers=PAGE | {"anthropic-version": "2023-06-01"}) as answer:
        assert answer.status == 200


async def test_a_browser_sees_a_page_where_there_is_none_and_programs_get_json(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    member = await signed_in(gateway, plain, client.key)
    for browser, menu in ((member, True), (Browser(plain, gateway.address), False)):
        for method, path, expected in (
            ("GET", "/nothing-here", 404),
            ("GET", "/sign-out", 405),
            ("GET", "/keys/", 200),
        ):
            if not menu and expected == 200:
                continue
            status, text, headers = await browser.get(path)
            assert (status, headers["content-type"].partition(";")[0]) == (expected, "text/html"), (method, path)
            assert headers["content-security-policy"] == POLICY
            assert ('aria-label="Pages"' in text) is menu
    async with plain.get(gateway.address + "/nothing-here") as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")
    async with plain.delete(gateway.address + "/keys") as answer:
        assert (answer.status, answer.content_type) == (405, "application/json")
    for path in ("/api/v1/nothing-here", "/v1/nothing-here", "/metrics/nothing-here"):
        async with plain.get(gateway.address + path, headers=PAGE) as answer:
            assert (answer.status, answer.content_type) == (404, "application/json"), path


async def test_a_session_is_its_keys_and_ends_with_it(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    key_id, key = await issued(client)
    member, admin = await signed_in(gateway, plain, key), await signed_in(gateway, plain, client.key)
    _, text, headers = await member.get("/sessions")
    assert key_id in text
    assert text.count('name="sessionId"') == 1
    assert (headers["content-security-policy"], headers["cache-control"]) == (POLICY, "no-store")
    assert key_id in (await admin.get("/sessions"))[1]
    status, _, _ = await client.call("DELETE", f"/projects/api-keys/{key_id}")
    assert status == 200
    await asyncio.sleep(1)
    status, _, headers = await member.get("/sessions")
    assert (status, headers["location"]) == (303, "/sign-in?next=%2Fsessions&why=key")
    assert "was revoked, or has expired" in (await member.get(headers["location"]))[1]
    status, text, headers = await member.get(
        "/budgets", **{"HX-Request": "true", "HX-Current-URL": "http://x/keys?a=1"}
    )
    assert (status, headers["hx-redirect"]) == (401, "/sign-in?next=%2Fkeys%3Fa%3D1&why=key")


async def test_a_cookie_is_of_no_use_to_scripts_and_other_sites(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    assert client.key is not None
    form = {"key": client.key}
    async with plain.post(gateway.address + "/sign-in", data=form, allow_redirects=False) as answer:
        cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(f"gateway-session-{gateway.address.rpartition(':')[2]}=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "max-age=43200" in cookie
    assert "secure" not in cookie
    elsewhere = {"Host": "gateway.example.com"}
    async with plain.post(gateway.address + "/sign-in", data=form, headers=elsewhere, allow_redirects=False) as answer:
        cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-gateway-session=")
    assert "Secure" in cookie


async def test_a_key_that_does_not_work_opens_nothing(gateway: Gateway, plain: aiohttp.ClientSession) -> None:
    browser = Browser(plain, gateway.address)
    for key in ("", "gw_live_" + "x" * 36, gateway.master_key + "x", "<script>alert(1)</script>"):
        status, text, _ = await browser.post("/sign-in", {"key": key})
        assert status == 401
        assert "<script>alert" not in text
    status, _, _ = await browser.post("/sign-in", {"key": "x" * 10_000})
    assert status == 413
    async with plain.post(gateway.address + "/sign-in", json={"key": gateway.master_key}) as answer:
        assert answer.status == 400
    assert not browser.cookies


async def test_a_form_of_another_site_changes_nothing(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    browser = await signed_in(gateway, plain, client.key)
    for fields, headers in (
        ({"csrf": ""}, {}),
        ({"csrf": "0" * 64}, {}),
        ({}, {"Origin": "https://evil.example.com"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ):
        status, text, _ = await browser.post("/sign-out", fields, **headers)
        assert (status, "was not sent by a page of this gateway" in text) == (403, True)
    status, _, _ = await browser.post("/sign-in", {"key": client.key or ""}, Origin="https://evil.example.com")
    assert status == 403
    assert (await browser.get("/sessions"))[0] == 200


async def test_a_link_from_another_site_asks_for_no_key_before_the_cookie_can_come(
    gateway: Gateway, plain: aiohttp.ClientSession
) -> None:
    browser = Browser(plain, gateway.address)
    status, text, _ = await browser.get("/keys", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert (status, 'http-equiv="refresh" content="0"' in text) == (200, True)
    status, _, headers = await browser.get("/keys", **{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"})
    assert (status, headers["location"]) == (303, "/sign-in?next=%2Fkeys")


async def test_signing_out_ends_the_session_on_every_process(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    browser = await signed_in(gateway, plain, client.key)
    kept = dict(browser.cookies)
    status, _, _ = await browser.post("/sign-out", {})
    assert status == 303
    browser.cookies = kept
    for _ in range(4):  # over both API processes
        assert (await browser.get("/sessions"))[0] == 303


async def test_others_end_no_session_of_mine(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession, session: aiohttp.ClientSession
) -> None:
    mine = await signed_in(gateway, plain, client.key)
    _, text, _ = await mine.get("/sessions")
    session_id = text.split('name="sessionId" value="')[1].split('"')[0]
    stranger = await signed_in(gateway, plain, (await new_project(gateway, session)).key)
    assert session_id not in (await stranger.get("/sessions"))[1]
    status, _, _ = await stranger.post("/sessions/end", {"sessionId": session_id})
    assert status == 404
    assert (await mine.get("/sessions"))[0] == 200
    operator = await signed_in(gateway, plain)
    assert session_id in (await operator.get("/sessions"))[1]
    status, _, _ = await operator.post("/sessions/end", {"sessionId": session_id})
    assert status == 303
    status, _, headers = await mine.get("/sessions")
    assert (status, headers["location"]) == (303, "/sign-in?next=%2Fsessions&why=ended")
    assert "Your session was ended" in (await mine.get(headers["location"]))[1]


async def test_whoever_was_signed_in_for_twelve_hours_is_told_so(
    gateway: Gateway, client: Client, plain: aiohttp.ClientSession
) -> None:
    browser = await signed_in(gateway, plain, client.key)
    name = f"gateway-session-{gateway.address.rpartition(':')[2]}"
    browser.cookies = {kept: value for kept, value in browser.cookies.items() if kept != name}  # as browsers do then
    status, _, headers = await browser.get("/keys")
    assert (status, headers["location"]) == (303, "/sign-in?next=%2Fkeys&why=expired")
    assert "after twelve hours" in (await browser.get(headers["location"]))[1]
    assert "Signed out" not in (await browser.get("/sign-in?why=Signed+out"))[1]
    await browser.sign_in(client.key or "")
    await browser.post("/sign-out", {})
    _, _, headers = await browser.get("/keys")
    assert headers["location"] == "/sign-in?next=%2Fkeys"
