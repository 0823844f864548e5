"""The session, the agent and the program of calls are dimensions of usage, as their clients send them."""

from decimal import Decimal
from typing import Any

import aiohttp
import anthropic as anthropic_sdk
import pytest

from tests.support.gateway import Client, Gateway, new_project
from tests.support.sdk_clients import CLAUDE, GPT, user

SESSION = "0b5e4c9e-7f3a-4d53-9f6b-8d1c2f3a4b5c"
PRICED = "[[tokens=1000/1000]]"


@pytest.fixture
async def mine(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    return await new_project(gateway, session)


async def ask(gateway: Gateway, session: aiohttp.ClientSession, key: str | None, body: Any, **headers: str) -> None:
    headers |= {"authorization": f"Bearer {key}"}
    async with session.post(f"{gateway.address}/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def costs(client: Client, group: str) -> dict[str | None, tuple[int, Decimal]]:
    status, answer, _ = await client.call("GET", f"/usage/costs?groupBy={group}")
    assert status == 200, answer
    lines = answer["data"]["breakdown"]
    assert sum(line["cost"] for line in lines) == answer["data"]["totalCost"]
    return {line[group]: (line["requests"], line["cost"]) for line in lines}


async def test_costs_are_grouped_by_what_clients_say_of_themselves(
    gateway: Gateway, session: aiohttp.ClientSession, mine: Client
) -> None:
    body = {"model": GPT, "messages": user(PRICED)}
    codex = {"user-agent": "codex_cli_rs/0.63.0 (Debian)", "originator": "codex_cli_rs", "session_id": "one"}
    await ask(gateway, session, mine.key, body, **codex)
    await ask(gateway, session, mine.key, body, **codex)
    await ask(gateway, session, mine.key, body, **(codex | {"session_id": "two", "x-agent-id": "reviewer"}))
    await ask(gateway, session, mine.key, body | {"prompt_cache_key": "three"}, **{"user-agent": "curl/8"})
    each = Decimal("0.00075")
    assert await costs(mine, "session") == {"one": (2, 2 * each), "two": (1, each), "three": (1, each)}
    assert await costs(mine, "agent") == {"codex_cli_rs": (2, 2 * each), "reviewer": (1, each), None: (1, each)}
    assert await costs(mine, "client") == {"codex_cli_rs": (3, 3 * each), "curl": (1, each)}
    _, found, _ = await mine.call("GET", "/requests?session=one")
    assert [row["session"] for row in found["data"]["requests"]] == ["one", "one"]
    assert {row["client"] for row in found["data"]["requests"]} == {"codex_cli_rs"}
    _, shown, _ = await mine.call("GET", f"/requests/{found['data']['requests'][0]['requestId']}")
    origin = {"session": "one", "agent": "codex_cli_rs", "client": "codex_cli_rs"}
    assert [event["data"]["origin"] for event in shown["data"]["events"]] == [origin, origin]


async def test_claude_codes_session_is_found_in_its_body(gateway: Gateway, mine: Client) -> None:
    async with anthropic_sdk.AsyncAnthropic(base_url=gateway.address, api_key=mine.key, max_retries=0) as client:
        for model in (CLAUDE, GPT):
            await client.messages.create(
                model=model,
                max_tokens=1000,
                messages=user(PRICED),
                metadata={"user_id": f"user_{'a' * 64}_account__session_{SESSION}"},
            )
    assert {name: requests for name, (requests, _) in (await costs(mine, "session")).items()} == {SESSION: 2}
    assert set(await costs(mine, "client")) == {"AsyncAnthropic/Python"}


async def test_answers_from_the_cache_count_for_who_asked(mine: Client) -> None:
    for session in ("first", "second"):
        status, answer, _ = await mine.call(
            "POST", "/completions/chat", {"model": GPT, "messages": user(PRICED)}, **{"x-session-id": session}
        )
        assert status == 200, answer
    assert await costs(mine, "session") == {"first": (1, Decimal("0.00075")), "second": (1, Decimal(0))}


async def test_a_callers_own_metadata_is_another_thing(mine: Client) -> None:
    body = {"model": "echo", "messages": user("x"), "metadata": {"session": "of the caller"}}
    await mine.call("POST", "/completions/chat", body, **{"x-session-id": "of the client"})
    assert set(await costs(mine, "session")) == {"of the client"}
    _, answer, _ = await mine.call("GET", "/usage/costs?groupBy=metadata.session")
    assert [line["metadata"] for line in answer["data"]["breakdown"]] == ["of the caller"]
