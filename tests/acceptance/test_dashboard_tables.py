"""Every table of every page has its lines as a file, for each who sees the page and for nobody else."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import aiohttp
import pytest

from api.dashboard.router import PAGES
from tests.provider.running import RunningProvider
from tests.support.dashboard import Browser, signed_in
from tests.support.gateway import Client, Gateway, new_project, operator_of
from tests.support.hostile_project import HOSTILE, HostileProject
from tests.support.waiting import eventually_so

FORMULA = "=1+1"
VIEWS = (
    "/?range=1",
    "/usage?group=key&then=day",
    "/usage?group=hour&range=1",
    "/usage?group=metadata.{metadata}",
    "/requests?status=failed",
    "/requests/{failed}",
    "/requests/{planned}",
    "/providers?owner={project_id}",
    "/routes?owner={project_id}",
    "/providers/prices?differing=true",
    "/keys?state=all",
    "/audit?type=RequestCompleted",
)
EVERYBODYS = {
    "A dry run: no provider is called",
    "Budgets, the fullest first",
    "Caps",
    "Cost by day",
    "Errors",
    "Keys, newest first",
    "Newest first",
    "Open sessions",
    "Refused, the newest first",
    "Routes, by name",
}
ADMINS = EVERYBODYS | {
    "Attempts",
    "Budget alerts",
    "Calls are spread by weight",
    "Its plan",
    "Keys with the highest costs",
    "Models with the highest costs",
    "Newest first, as they are stored",
    "The installation's, which its requests may name too",
    "The project's",
    "US dollars per 1,000 tokens, input / output",
    "What was used, times its price",
}
OPERATORS = ADMINS | {
    "Projects with the highest costs",
    "Projects, newest first",
    "The installation's",
    "Verifications, newest first",
}


class Tables(HTMLParser):
    """The tables of a page: their captions, and the addresses of their files."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self._is_caption = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a table, and a link in one."""
        given = dict(attrs)
        if tag == "table":
            self.found.append(("", []))
        self._is_caption = tag == "span" if self._is_caption or tag == "caption" else False
        if tag == "caption":
            self._is_caption = True
        if tag == "a" and given.get("class") == "csv":
            self.found[-1][1].append(given["href"] or "")

    def handle_data(self, data: str) -> None:
        """Note the caption."""
        if self._is_caption and data.strip():
            self.found[-1] = (data.strip(), self.found[-1][1])
            self._is_caption = False


class Walk:
    """A project in which everything happened that a table is of, and a way through every page.

    What is in use at the moment has tables too; it may be over before they are looked at.
    """

    def __init__(self, gateway: Gateway, project: HostileProject, planned: str) -> None:
        self.gateway = gateway
        self.project = project
        self.planned = planned
        routes = {path for page in PAGES for one in page.HANDLERS if "GET" in one.http_methods for path in one.paths}
        self._paths = [path for path in sorted(routes) if not path.endswith((".csv", "/export"))] + [*VIEWS]

    async def tables(self, browser: Browser) -> dict[str, set[str]]:
        """Return the addresses of the files of every table that a browser sees, by caption."""
        found: dict[str, set[str]] = {}
        for path in self._paths:
            address = self.project.address(path.replace("{planned}", self.planned))
            status, page, _ = await browser.get(address)
            assert status in (200, 303, 403, 404), (address, page)
            for caption, files in Tables(page).found:
                assert len(files) == 1, (address, caption)
                found.setdefault(caption, set()).update(files)
        return found


@pytest.fixture
async def visitor() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no cookies: browsers keep their own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
async def walk(gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider) -> AsyncIterator[Walk]:
    """Everything happens: plans, failures, refusals, alerts, a shared provider, a verification."""
    project = await asyncio.to_thread(HostileProject, gateway, upstream)
    admin, operator = Client(session, gateway.address, project.key), operator_of(gateway, session)
    shared = {"name": "shared-two", "kind": "openai", "baseUrl": upstream.openai_base_url, "apiKey": "sk-shared-9999"}
    assert (await operator.call("POST", "/providers", shared))[0] == 201
    try:
        assert (await operator.call("POST", "/audit/verifications", {"kind": "balance"}))[0] == 202
        _, issued, _ = await admin.call(
            "POST", "/projects/api-keys", {"name": FORMULA, "role": "member", "dailyBudget": 0.001}
        )
        spender = Client(session, gateway.address, issued["data"]["apiKey"])
        status, _, headers = await spender.chat("[[tokens=900/700]] half of it", fallbacks=["echo"])
        assert status == 200

        async def is_alerted() -> bool:
            _, overview, _ = await admin.call("GET", "/usage/overview")
            return bool(overview["data"]["alerts"])

        await eventually_so(is_alerted)
        yield Walk(gateway, project, headers["x-request-id"])
    finally:
        assert (await operator.call("DELETE", "/providers/shared-two"))[0] == 200


async def test_every_table_has_its_lines_as_a_file_for_whoever_sees_it(
    walk: Walk, visitor: aiohttp.ClientSession
) -> None:
    keys = ((None, OPERATORS), (walk.project.key, ADMINS), (walk.project.member_key, EVERYBODYS))
    for key, expected in keys:
        browser = await signed_in(walk.gateway, visitor, key)
        tables = await walk.tables(browser)
        assert expected - tables.keys() == set()
        for address in {one for files in tables.values() for one in files}:
            status, text, headers = await browser.get(address)
            assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8"), (address, text)
            assert headers["content-disposition"].startswith("attachment"), address
            header, *lines = csv.reader(io.StringIO(text))
            assert {len(line) for line in lines} <= {len(header)}, address
            assert [value for line in lines for value in line if value.startswith(("=", "@", "\t"))] == [], address


async def test_a_file_shows_nobody_more_than_its_page(
    walk: Walk, session: aiohttp.ClientSession, visitor: aiohttp.ClientSession
) -> None:
    admin = await signed_in(walk.gateway, visitor, walk.project.key)
    member = await signed_in(walk.gateway, visitor, walk.project.member_key)
    stranger = await signed_in(walk.gateway, visitor, (await new_project(walk.gateway, session)).key)
    project_id = walk.project.project_id
    of_request = [f"/requests/{walk.planned}/{name}.csv" for name in ("plan", "attempts", "charges")]
    of_provider = [f"/providers/{project_id}/mine/credentials.csv", f"/providers.csv?owner={project_id}"]
    assert [(await admin.get(path))[0] for path in (*of_request, *of_provider)] == [200] * 5
    assert [(await stranger.get(path))[0] for path in (*of_request, *of_provider)] == [404] * 5
    assert [(await member.get(path))[0] for path in (*of_request, *of_provider)] == [404] * 3 + [403] * 2
    assert [(await one.get("/audit/verifications.csv"))[0] for one in (admin, member)] == [403, 403]
    for name, shown in (("alerts", "50"), ("errors", "BUDGET_EXCEEDED")):
        path = f"/{name}.csv?project={project_id}"
        assert (shown in (await admin.get(path))[1], shown in (await stranger.get(path))[1]) == (True, False), path
    charges = list(csv.DictReader(io.StringIO((await admin.get(of_request[2]))[1])))
    assert [line["what"] for line in charges] == ["input", "output", "rounding", "cost"]
    assert [line["amount USD"] for line in charges] == ["0.000135", "0.00042", "0", "0.000555"]
    assert HOSTILE in (await admin.get("/keys.csv?state=all"))[1].replace('""', '"')
