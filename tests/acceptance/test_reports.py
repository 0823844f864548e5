"""Reports over HTTP: the same figures for whoever may see them, and nobody else's."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from typing import Any

import aiohttp
import pytest

from tests.support.dashboard import signed_in
from tests.support.gateway import Client, Gateway, new_project, operator_of
from tests.support.streams import CHAT_GPT, Streamer


async def data_of(client: Client, path: str) -> Any:
    status, answer, _ = await client.call("GET", path)
    assert status == 200, answer
    return answer["data"]


@pytest.fixture
async def member(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    body = {"name": "of a member", "dailyBudget": 1, "monthlyBudget": 0.5}
    _, issued, _ = await client.call("POST", "/projects/api-keys", body)
    return Client(session, gateway.address, issued["data"]["apiKey"])


async def test_a_member_an_admin_and_the_operator_see_what_is_theirs(
    client: Client, member: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    operator, other = operator_of(gateway, session), await new_project(gateway, session)
    await client.chat("of the admin [[tokens=10/10]]")
    await member.chat("of the member [[tokens=20/20]]", metadata={"team": "red"})
    await other.chat("of another [[tokens=30/30]]")
    project = (await data_of(client, "/projects/me"))["id"]
    for path in ("/usage/report", "/usage/costs", "/usage/stats", "/usage/overview"):
        assert (await member.call("GET", f"{path}?projectId=prj_0"))[0] == 403
        assert (await member.call("GET", f"{path}?keyId=key_0"))[0] == 403
        assert (await client.call("GET", f"{path}?projectId=prj_0"))[0] == 403
    seen = [
        (await data_of(who, f"/usage/report?groupBy=key,metadata.team{narrowed}"))["totals"]
        for who, narrowed in ((member, ""), (client, ""), (operator, f"&projectId={project}"), (operator, ""))
    ]
    assert [totals["requests"] for totals in seen[:3]] == [1, 2, 2]
    assert seen[3]["requests"] >= 3
    assert seen[1] == seen[2]
    by_project = await data_of(operator, "/usage/report?groupBy=project")
    assert by_project["labels"][project] == "a project"
    assert len(await data_of(operator, f"/requests?projectId={project}&limit=9")) == 2
    assert {one["projectId"] for one in (await data_of(operator, "/requests"))["requests"]} >= {project}


async def test_an_overview_says_what_is_spent_and_what_of_each_cap_is_left(client: Client, member: Client) -> None:
    _, answer, _ = await member.chat("spends [[tokens=1000/1000]]")
    assert (await client.chat("[[status=400]] fails"))[0] == 400
    overview = await data_of(client, "/usage/overview?days=7")
    assert overview["today"]["spent"] == overview["month"]["spent"] == answer["data"]["cost"] > 0
    assert [(cap["name"], cap["window"], cap["limit"]) for cap in overview["caps"]] == [
        ("of a member", "monthly", Decimal("0.5")),
        ("of a member", "daily", 1),
    ]
    assert overview["caps"][0]["remaining"] == Decimal("0.5") - answer["data"]["cost"]
    assert overview["errors"] == [{"code": "PROVIDER_REJECTED", "requests": 1}]
    assert overview["totals"]["errorRate"] == Decimal("0.5")
    assert [(top["id"], top["requests"]) for top in overview["topModels"]] == [("gpt-4o-mini", 2)]
    assert (overview["topProjects"], overview["alerts"], overview["away"]) == ([], [], [])
    own = await data_of(member, "/usage/overview")
    assert (own["totals"]["requests"], len(own["topKeys"])) == (1, 1)


async def test_a_stream_has_a_time_to_its_first_token(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    streamer = Streamer(session, gateway.address, str(client.key))
    async with streamer.opened(CHAT_GPT, CHAT_GPT.body("slowly [[chunks=4]] [[pace=300]]")) as answer:
        await answer.read()
    await client.chat("at once")
    streamed, at_once = sorted(
        (await data_of(client, "/requests"))["requests"], key=lambda one: one["firstTokenMs"] is None
    )
    assert at_once["firstTokenMs"] is None
    assert 0 <= streamed["firstTokenMs"] <= streamed["latencyMs"] - 600  # three pauses come after it
    report = await data_of(client, "/usage/report?groupBy=hour&days=2")
    assert report["totals"]["p50FirstTokenMs"] < report["totals"]["p95LatencyMs"]


async def test_a_charge_is_explained_line_by_line(client: Client) -> None:
    _, answer, _ = await client.chat("[[tokens=1001/333]] [[cached=801]] why", model="claude-3.5-sonnet")
    found = await data_of(client, f"/requests/{answer['data']['requestId']}")
    (charge,) = found["charges"]
    lines = {line["what"]: line for line in charge["lines"]}
    assert {name: line["count"] for name, line in lines.items()} == {"input": 200, "cache_read": 801, "output": 333}
    assert lines["output"]["price"] == 15
    assert all(line["amount"] == line["count"] * Decimal(line["price"]) / 10**6 for line in charge["lines"])
    assert sum(line["amount"] for line in charge["lines"]) + charge["rounding"] == charge["cost"] == found["cost"]
    assert charge["price"]["source"] == "specification"


async def test_a_stored_answer_is_read_by_its_own_project_alone(
    client: Client, member: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    _, kept, _ = await client.chat("to be read again")
    _, gone, _ = await client.chat("not kept", cache=False)
    path = f"/requests/{kept['data']['requestId']}/answer"
    found = await data_of(client, path)
    assert json.loads(found["body"])["choices"] == kept["data"]["choices"]
    _, again, _ = await client.chat("to be read again")
    assert again["data"]["cached"] is True
    served = await data_of(client, f"/requests/{again['data']['requestId']}/answer")
    assert served["body"] == found["body"]  # from the cache, as the one that it is from
    other = await new_project(gateway, session)
    for who, asked in ((member, path), (other, path), (client, f"/requests/{gone['data']['requestId']}/answer")):
        assert (await who.call("GET", asked))[0] == 404
    assert (await operator_of(gateway, session).call("GET", path))[0] == 401


async def test_requests_are_paged_both_ways_and_filtered(client: Client) -> None:
    await asyncio.gather(*(client.chat(f"request {n} [[tokens=1/{n + 1}]]", metadata={"n": n % 2}) for n in range(5)))
    first = await data_of(client, "/requests?limit=3")
    rest = await data_of(client, f"/requests?limit=3&before={first['next']}")
    every = [one["requestId"] for one in first["requests"] + rest["requests"]]
    assert (len(every), every, rest["next"]) == (5, sorted(every, reverse=True), None)
    newer = await data_of(client, f"/requests?after={every[2]}")
    assert [one["requestId"] for one in newer["requests"]] == every[:2]
    assert {one["metadata"]["n"] for one in (await data_of(client, "/requests?metadata=n%3D1"))["requests"]} == {1}
    dear = (await data_of(client, "/requests?minCost=0.0000025"))["requests"]
    assert 0 < len(dear) < 5
    for wrong in ("metadata=n", "minCost=much", "minLatencyMs=-1", "status=none"):
        assert (await client.call("GET", f"/requests?{wrong}"))[0] == 400


async def test_requests_are_found_by_the_model_that_served_them_and_by_the_time_of_day(
    client: Client, gateway: Gateway
) -> None:
    route = {"name": "cheapest", "groups": [["gpt-4o-mini"]]}
    assert (await client.call("POST", "/routes", route))[0] == 201
    before = datetime.now(UTC)
    _, routed, _ = await client.chat("by the route", model="cheapest")
    _, asked, _ = await client.chat("by its own name", model="echo")
    ids = {name: one["data"]["requestId"] for name, one in (("routed", routed), ("asked", asked))}
    for query, expected in (
        ("served=gpt-4o-mini", {"routed"}),
        ("served=echo", {"asked"}),
        ("served=cheapest", set()),
        ("model=cheapest", {"routed"}),
        ("operation=embeddings", set()),
        (f"since={before.isoformat().replace('+', '%2B')}", {"routed", "asked"}),
        (f"until={before.isoformat().replace('+', '%2B')}", set()),
    ):
        found = (await data_of(client, f"/requests?{query}"))["requests"]
        assert {one["requestId"] for one in found} == {ids[name] for name in expected}, query
    one = await data_of(client, f"/requests/{ids['routed']}")
    assert (one["model"], one["servedModel"], one["provider"]) == ("cheapest", "gpt-4o-mini", "openai")
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as visitor:
        browser = await signed_in(gateway, visitor, client.key)
        at = f"{before:%Y-%m-%dT%H:%M:%S}"
        for query, expected in (
            (f"served=gpt-4o-mini&since={at}", {"routed"}),
            (f"operation=chat&since={at}", {"routed", "asked"}),
            (f"until={at}", set()),
        ):
            status, text, _ = await browser.get(f"/requests?{query}")
            assert status == 200, text
            assert {name for name, id_ in ids.items() if f'"/requests/{id_}"' in text} == expected, query
            assert f'value="{at}"' in text
        _, text, _ = await browser.get("/usage?group=model&range=1")
        assert "/requests?served=gpt-4o-mini" in unescape(text)
        assert (await browser.get("/requests?since=noon"))[0] == 400


async def test_days_are_asked_for_by_their_dates(client: Client) -> None:
    await client.chat("today")
    today = datetime.now(UTC).date()
    stats = await data_of(client, f"/usage/stats?from={today}&to={today}")
    assert (stats["period"], stats["totals"]["requests"]) == ({"from": f"{today}", "to": f"{today}"}, 1)
    assert (await data_of(client, "/usage/stats?from=2026-01-01&to=2026-01-31"))["totals"]["requests"] == 0
    for wrong in ("from=2026-13-01", "from=2026-02-02&to=2026-02-01", "days=3&from=2026-02-02", "from=0001-01-01"):
        status, answer, _ = await client.call("GET", f"/usage/report?{wrong}")
        assert (status, answer["error"]["code"]) == (400, "VALIDATION_ERROR"), wrong
