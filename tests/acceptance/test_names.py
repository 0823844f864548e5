"""Names that steer a terminal or that no header can carry, and JSON that nobody can follow, over real HTTP."""

import json
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.provider.running import RunningProvider
from tests.support.bystander import Bystander
from tests.support.gateway import Client, Gateway, new_project
from tests.support.streams import CHAT_GPT, MESSAGES_GPT, NATIVE_GPT, RESPONSES_GPT, StreamCall, Streamer

each_call = pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_GPT, MESSAGES_GPT, RESPONSES_GPT], ids=lambda c: c.name)
DEEPEST_LEVELS = 990
"""Python follows no more. Fewer may be passed on as they came; the test provider's own error is a 502."""
VIEWS = ("/usage/stats", "/usage/costs", "/usage/budget", "/requests")


@pytest.fixture
def streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    assert client.key is not None
    return Streamer(session, gateway.address, client.key)


@each_call
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_model_with_a_name_in_any_language_is_answered(
    call: StreamCall, streamer: Streamer, client: Client, *, stream: bool
) -> None:
    body = call.body("hello", stream=stream) | {"model": "openai/模型"}
    async with streamer.opened(call, body) as answer:
        assert answer.status == 200, await answer.read()
        assert answer.headers["x-gateway-model"] == quote("模型")
        await answer.read()
    _, page, _ = await client.call("GET", "/requests")
    assert [one["model"] for one in page["data"]["requests"]] == ["openai/模型"]


@each_call
@pytest.mark.parametrize("name", ["openai/a\x1b[2J", "openai/a\nb", "openai/a\u202eb", "openai/" + "x" * 300])
async def test_a_model_whose_name_steers_its_reader_is_refused_by_name(
    call: StreamCall, name: str, streamer: Streamer, upstream: RunningProvider
) -> None:
    calls = upstream.calls
    status, answer = await streamer.read(call, call.body("hello", stream=False) | {"model": name})
    assert (status, b"model" in answer, upstream.calls) == (400, True, calls), answer


async def test_the_operators_terminal_shows_names_and_metadata_without_their_control_characters(
    client: Client, gateway: Gateway
) -> None:
    status, _, _ = await client.chat("hello", model="echo", metadata={"team": "a\x1b[2J\u009bb\nc"})
    assert status == 200
    status, answer, _ = await client.call("POST", "/projects/api-keys", {"name": "key\x1b[2J"})
    assert (status, answer["error"]["details"]["field"]) == (400, "name")
    _, project, _ = await client.call("GET", "/projects/me")
    of_project = ("--project", project["data"]["id"])
    shown = [
        gateway.run("usage", "--group-by", "metadata.team", *of_project).stdout,
        gateway.run("replay", *of_project).stdout,
        gateway.run("key", "list", *of_project).stdout,
    ]
    assert all(shown)
    assert r"a\u001b[2J\u009bb\nc" in shown[0].replace(r"\u000a", r"\n")
    for text in shown:
        assert "".join(text.split("\n")).isprintable()


async def test_events_are_exported_and_replayed_as_json_that_says_what_was_said(
    client: Client, gateway: Gateway
) -> None:
    said = "a\x1b[2J\u009bb\nc\u202e"
    status, _, _ = await client.chat("hello", model="echo", metadata={"team": said})
    assert status == 200
    for command in (("audit", "export"), ("replay", "--json")):
        events = [json.loads(line) for line in gateway.run(*command).stdout.split("\n") if line]
        told = [event.get("data") or event["event"] for event in events]
        assert said in [(one.get("metadata") or {}).get("team") for one in told]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "metadata", [{"a": nested(900)}, {"a": nested(17)}, {"a": 10**3_999}], ids=["900 deep", "17 deep", "4,000 digits"]
)
async def test_metadata_that_nobody_can_follow_is_refused(client: Client, metadata: dict[str, Any]) -> None:
    status, answer, _ = await client.chat("hello", model="echo", metadata=metadata)
    assert (status, answer["error"]["details"]["field"]) == (400, "metadata")


@pytest.mark.parametrize("levels", [400, 700, 900, 970, 5_000])
async def test_a_request_or_an_answer_that_nobody_can_follow_is_refused_and_disturbs_nobody(
    levels: int, client: Client, gateway: Gateway, session: aiohttp.ClientSession, streamer: Streamer
) -> None:
    calm, bystander = await new_project(gateway, session), Bystander()

    async def ask(number: int) -> int:
        status, _, _ = await calm.chat(f"{levels} {number}", model="echo", cache=False)
        return status

    deep = "[" * levels + "]" * levels
    hello = '"messages": [{"role": "user", "content": "hello"}]'
    answered = f'{{"id": "c", "choices": [{{"index": 0, "message": {{"content": "x"}}}}], "extra": {deep}}}'
    async with bystander.asking(ask):
        for path in ("/v1/chat/completions", "/v1/messages", "/api/v1/completions/chat"):
            body = f'{{"model": "gpt-4o-mini", {hello}, "tools": [{{"type": "function", "function": {deep}}}]}}'
            async with session.post(
                gateway.address + path, data=body, headers={"Authorization": f"Bearer {streamer.key}"}
            ) as answer:
                refused = (400,) if levels > DEEPEST_LEVELS else (200, 400, 502)
                assert answer.status in refused, await answer.read()
        for call in (CHAT_GPT, MESSAGES_GPT, NATIVE_GPT):
            for stream in (False, True):
                said = f"data: {answered}\n\n" if stream else answered
                prompt = f"{levels} {stream} [[exactly={quote(said, safe='')}]]"
                status, text = await streamer.read(call, call.body(prompt, stream=stream))
                assert status in (200, 502), text
    assert set(bystander.statuses) == {200}
    for caller in (client, calm):
        assert [(await caller.call("GET", view))[0] for view in VIEWS] == [200] * len(VIEWS)
    _, stats, _ = await calm.call("GET", "/usage/stats")
    totals = stats["data"]["totals"]
    assert (totals["requests"], totals["failedRequests"]) == (len(bystander.statuses), 0)


@pytest.mark.parametrize("strange", ["%00", "%ED%A0%80", "a%0D%0Ax-evil:1", "..%2F..%2F", "%FF", "x" * 4_000])
async def test_a_strange_name_in_a_path_is_answered_by_every_call_that_has_one(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, strange: str
) -> None:
    """Every call of the native API that has a name or an id in its path, as its schema says."""
    async with session.get(f"{gateway.address}/schema/openapi.json") as schema:
        paths = {path: set(calls) for path, calls in (await schema.json())["paths"].items() if "{" in path}
    assert len(paths) >= 8
    wrong = []
    for path, methods in paths.items():
        address = URL(gateway.address + re.sub(r"{[^}]*}", strange, path), encoded=True)
        for method in methods & {"get", "post", "patch", "delete"}:
            head = {"Authorization": f"Bearer {client.key}"}
            async with session.request(method, address, headers=head, json={}) as answer:
                if not 400 <= answer.status < 500 or "x-evil" in answer.headers:
                    wrong.append((method, path, answer.status, await answer.text()))
    assert wrong == []
