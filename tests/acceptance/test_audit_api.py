"""Auditing over HTTP: events as they are stored, an export, and verifications that a projector makes meanwhile."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from tests.support.gateway import Client, Gateway, new_project, operator_of
from tests.support.waiting import eventually_so

CANARY = "canary-of-the-audit"


async def events_of(client: Client, query: str = "") -> list[dict[str, Any]]:
    status, answer, _ = await client.call("GET", f"/audit/events?{query}")
    assert status == 200, answer
    return answer["data"]["events"]


async def verified(operator: Client, kind: str) -> dict[str, Any]:
    """Ask for a verification, and wait for its end."""
    status, asked, _ = await operator.call("POST", "/audit/verifications", {"kind": kind})
    assert status == 202, asked
    shown: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal shown
        _, answer, _ = await operator.call("GET", f"/audit/verifications/{asked['data']['id']}")
        shown = answer["data"]
        return shown["endedAt"] is not None

    await eventually_so(has_ended, within_s=60)  # it starts a process
    return shown


async def test_a_project_sees_its_own_events_and_the_operator_all(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client, other = await new_project(gateway, session), await new_project(gateway, session)
    assert (await client.chat(CANARY, model="echo"))[0] == 200
    own = await events_of(client)
    assert {event["type"] for event in own} == {"ProjectCreated", "ApiKeyIssued", "RequestCompleted", "CostIncurred"}
    assert CANARY not in json.dumps(own, default=str)
    project_id = own[0]["projectId"]
    (created,) = await events_of(operator_of(gateway, session), f"projectId={project_id}&type=ProjectCreated")
    assert created == own[0]
    refused, answer, _ = await other.call("GET", f"/audit/events?projectId={project_id}")
    assert (refused, answer["error"]["code"]) == (403, "FORBIDDEN")
    everything = await events_of(operator_of(gateway, session), "limit=1000")
    assert len({event["projectId"] for event in everything}) > 1
    unknown, answer, _ = await client.call("GET", "/audit/events?type=NothingHappened")
    assert (unknown, answer["error"]["details"]["field"]) == (400, "type")


async def test_events_are_paged_in_both_directions_and_found_by_time(client: Client) -> None:
    for number in range(3):
        assert (await client.chat(f"audit {number}", model="echo"))[0] == 200
    whole = await events_of(client)
    assert await events_of(client, f"limit=2&after={whole[1]['position']}") == whole[2:4]
    newest = await events_of(client, f"limit=3&before={whole[-1]['position'] + 1}")
    assert newest == whole[:-4:-1]
    assert await events_of(client, f"limit=3&before={newest[-1]['position']}") == whole[-4:-7:-1]
    now = datetime.now(UTC)
    soon, lately = (now + timedelta(minutes=1)).isoformat(), (now - timedelta(hours=1)).isoformat()
    times = {"since": lately.replace("+", "%2B"), "until": soon.replace("+", "%2B")}
    assert await events_of(client, f"since={times['since']}&until={times['until']}") == whole
    assert await events_of(client, f"since={times['until']}") == []
    assert await events_of(client, f"until={times['since']}") == []


async def test_an_export_is_what_the_command_prints(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    client = await new_project(gateway, session)
    project_id = (await events_of(client))[0]["projectId"]
    async with session.get(
        f"{gateway.address}/api/v1/audit/export", headers={"Authorization": f"Bearer {gateway.master_key}"}
    ) as answer:
        assert (answer.status, answer.content_type) == (200, "application/jsonl")
        lines = (await answer.text()).splitlines()
    printed = gateway.run("audit", "export").stdout.splitlines()
    assert lines == printed[: len(lines)]
    assert [json.loads(line)["position"] for line in lines] == list(range(1, len(lines) + 1))
    async with session.get(
        f"{gateway.address}/api/v1/audit/export", headers={"Authorization": f"Bearer {client.key}"}
    ) as answer:
        own = (await answer.text()).splitlines()
    assert own == [line for line in printed if json.loads(line)["project_id"] == project_id]


async def test_the_log_and_the_books_are_verified_while_requests_are_answered(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    client, operator = await new_project(gateway, session), operator_of(gateway, session)
    stop = asyncio.Event()

    async def keep_asking() -> int:
        answered = 0
        while not stop.is_set():
            status, answer, _ = await client.chat(f"meanwhile {answered}", model="echo")
            assert status == 200, answer
            answered += 1
        return answered

    asking = asyncio.create_task(keep_asking())
    log, books = await asyncio.gather(verified(operator, "verify"), verified(operator, "balance"))
    stop.set()
    assert await asking > 0
    assert (log["verdict"], log["lines"][0][:7]) == ("intact", "intact:"), log
    assert (books["verdict"], books["lines"][0][:3]) == ("agrees", "log"), books
    for ended in (log, books):
        assert ended["done"] == ended["total"] > 0
    _, listed, _ = await operator.call("GET", "/audit/verifications")
    assert [run for run in listed["data"] if run["id"] == log["id"]] == [log]
    refused, answer, _ = await client.call("POST", "/audit/verifications", {})
    assert (refused, answer["error"]["code"]) == (401, "UNAUTHORIZED"), answer
