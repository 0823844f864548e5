"""Several credentials of one provider: calls are spread over them, and each can be replaced by itself."""

from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import NEWS_S, Client, Gateway, operator_of
from tests.support.waiting import eventually_so

FIRST, SECOND, THIRD = "sk-of-the-project-aaaa", "sk-of-the-project-bbbb", "sk-of-the-project-cccc"
PATH = "/projects/providers/openai/credentials"


async def add(client: Client, path: str, **fields: Any) -> dict[str, Any]:
    status, answer, _ = await client.call("POST", path, fields)
    assert status == 201, answer
    shown: dict[str, Any] = answer["data"]
    return shown


async def asked_with(client: Client, upstream: RunningProvider, calls: int = 12, **fields: Any) -> Counter[str]:
    """Return how often each key was used by some calls."""
    for number in range(calls):
        status, answer, _ = await client.chat(f"hello {number}", cache=False, **fields)
        assert status == 200, answer
    sent = [request.header("authorization") or "" for request in upstream.requests(calls)]
    return Counter(value.removeprefix("Bearer ") for value in sent)


async def test_calls_are_spread_over_a_projects_credentials(client: Client, upstream: RunningProvider) -> None:
    await client.call("PATCH", "/projects/me", {"openaiKey": FIRST})
    shown = await add(client, PATH, name="second", apiKey=SECOND)
    assert shown == {"provider": "openai", "name": "second", "apiKey": "…bbbb", "weight": 1}
    assert set(await asked_with(client, upstream, calls=16)) == {FIRST, SECOND}

    _, answer, _ = await client.call("PATCH", f"{PATH}/default", {"weight": 0})
    assert (answer["data"]["weight"], answer["data"]["apiKey"]) == (0, "…aaaa")

    async def only_the_second() -> bool:
        return set(await asked_with(client, upstream, calls=4)) == {SECOND}

    await eventually_so(only_the_second, within_s=NEWS_S)
    await client.call("PATCH", f"{PATH}/second", {"apiKey": THIRD})

    async def only_the_third() -> bool:
        return set(await asked_with(client, upstream, calls=4)) == {THIRD}

    await eventually_so(only_the_third, within_s=NEWS_S)
    _, listed, _ = await client.call("GET", PATH)
    assert [(one["name"], one["apiKey"], one["weight"]) for one in listed["data"]] == [
        ("default", "…aaaa", 0),
        ("second", "…cccc", 1),
    ]


async def test_the_log_says_which_credential_was_used_and_shows_no_key(
    client: Client, upstream: RunningProvider
) -> None:
    await client.call("PATCH", "/projects/me", {"openaiKey": FIRST})
    await add(client, PATH, name="second", apiKey=SECOND, weight=1000)
    used = await asked_with(client, upstream, calls=1)
    _, page, _ = await client.call("GET", "/requests?limit=1")
    _, one, _ = await client.call("GET", f"/requests/{page['data']['requests'][0]['requestId']}")
    credentials = {event["data"].get("credential") for event in one["data"]["events"]}
    assert credentials == {"default" if FIRST in used else "second"}
    _, events, _ = await client.call("GET", "/audit/events?limit=1000")
    assert "CredentialSet" in {event["type"] for event in events["data"]["events"]}
    assert not any(key in str(events) for key in (FIRST, SECOND))


async def test_an_answer_that_repeats_another_credential_is_shown_without_it(
    client: Client, upstream: RunningProvider
) -> None:
    await client.call("PATCH", "/projects/me", {"openaiKey": FIRST})
    await add(client, PATH, name="second", apiKey=SECOND)
    for _ in range(6):
        _, answer, _ = await client.chat(f"[[say={FIRST} {SECOND}]]", cache=False)
        assert answer["data"]["choices"][0]["message"]["content"] == "… …"
    assert upstream.requests(6)


async def test_what_is_no_credential_is_refused(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    await client.call("PATCH", "/projects/me", {"openaiKey": FIRST})
    await add(client, PATH, name="second", apiKey=SECOND)
    operator = operator_of(gateway, session)
    for caller, method, path, body, status, said in (
        (client, "POST", PATH, {"name": "second", "apiKey": THIRD}, 400, "taken"),
        (client, "POST", PATH, {"name": "default", "apiKey": THIRD}, 400, "taken"),
        (client, "POST", PATH, {"name": "Über", "apiKey": THIRD}, 400, "matching"),
        (client, "PATCH", f"{PATH}/default", {"apiKey": THIRD}, 400, "PATCH /api/v1/projects/me"),
        (client, "DELETE", f"{PATH}/default", None, 400, "PATCH /api/v1/projects/me"),
        (client, "DELETE", f"{PATH}/third", None, 404, "no credential"),
        (client, "GET", "/projects/providers/mine/credentials", None, 404, "no provider"),
        (client, "GET", "/projects/providers/echo/credentials", None, 404, "without a credential"),
        (operator, "GET", "/providers/openai/credentials", None, 404, "GATEWAY_OPENAI_API_KEYS"),
        (client, "GET", "/providers/openai/credentials", None, 401, "master key"),
    ):
        found, answer, _ = await caller.call(method, path, body)
        assert (found, said in answer["error"]["message"]) == (status, True), answer


async def test_a_providers_further_credentials_go_to_no_other_address_and_go_with_it(
    client: Client, upstream: RunningProvider
) -> None:
    mine = {"name": "mine", "kind": "openai", "baseUrl": upstream.openai_base_url, "apiKey": FIRST}
    path = "/projects/providers/mine"
    assert (await client.call("POST", "/projects/providers", mine))[0] == 201
    await add(client, f"{path}/credentials", name="second", apiKey=SECOND)
    moved = {"baseUrl": f"{upstream.address}/elsewhere", "apiKey": THIRD}
    status, answer, _ = await client.call("PATCH", path, moved)
    assert (status, answer["error"]["details"]) == (400, {"field": "baseUrl"})
    assert (await client.call("PATCH", path, {"apiKey": THIRD}))[0] == 200
    assert set(await asked_with(client, upstream, calls=16, model="mine/m")) == {SECOND, THIRD}
    assert (await client.call("DELETE", path))[0] == 200
    assert (await client.call("POST", "/projects/providers", mine))[0] == 201
    _, listed, _ = await client.call("GET", f"{path}/credentials")
    assert [one["name"] for one in listed["data"]] == ["default"]


@pytest.mark.parametrize("status", [401, 429])
async def test_a_credential_that_is_refused_or_limited_gives_way_to_the_next(
    client: Client, upstream: RunningProvider, status: int
) -> None:
    await client.call("PATCH", "/projects/me", {"openaiKey": FIRST})
    await add(client, PATH, name="second", apiKey=SECOND)
    answered, _, headers = await client.chat(f"[[once={status}]] and then", cache=False)
    assert (answered, headers["x-gateway-attempts"]) == (200, "2")
    sent = [request.header("authorization") for request in upstream.requests(2)]
    assert sorted(filter(None, sent)) == [f"Bearer {FIRST}", f"Bearer {SECOND}"]
    _, one, _ = await client.call("GET", f"/requests/{headers['x-request-id']}")
    tried = [(event["type"], event["data"].get("credential")) for event in one["data"]["events"]]
    first, second = ("default", "second") if sent[0] == f"Bearer {FIRST}" else ("second", "default")
    assert tried == [("AttemptFailed", first), ("RequestCompleted", second), ("CostIncurred", second)]
