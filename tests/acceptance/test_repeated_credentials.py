"""A provider that repeats the key that it was called with tells it to nobody: not to callers, not to the log."""

import asyncio
import base64
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.gateway import Client, Gateway, new_project
from tests.support.streams import ALL_CALLS, CHAT_GPT, MESSAGES_CLAUDE, StreamCall, Streamer, text_in
from workers.escaped_text import MAX_WORK

KEYS = {"gpt-4o-mini": "sk-test-openai-canary", "claude-3-haiku": "sk-test-anthropic-canary"}
ENCODED = "".join(f"\\u{ord(character):04x}" for character in "canary")
SAID = {
    "in an error inside the stream": "[[streamerror=1]] [[message=wrong key {key}!]]",
    "in the text": "[[say=your key is {key}, I think]]",
    "in the text of many deltas": "[[say=your key is {key}, I think]] [[chunks=200]]",
    "as base64 in the text": "[[say=Basic {basic}]]",
    "in the response's id": "[[id={key}]]",
    "in a refusal": "[[status=400]] [[message=wrong key {key}!]] [[code={key}]]",
    "in a failure": "[[status=500]] [[message=wrong key {key}!]]",
    "in a refused credential": "[[status=401]] [[message=wrong key {key}!]]",
    "in an error with status 200": "[[exactly={error}]]",
    "escaped in an error with status 200": "[[exactly={escaped}]]",
    "in a page": "[[exactly=<html>{key}</html>]]",
}


def prompt_with(said: str, key: str) -> str:
    """Return the prompt to which the provider answers with its key."""
    error = f'{{"type": "error", "error": {{"type": "server_error", "message": "wrong key {key}"}}}}'
    return said.format(
        key=quote(key),
        basic=quote(base64.b64encode(f"user:{key}".encode()).decode()),
        error=quote(error),
        escaped=quote(error.replace("canary", ENCODED)),
    )


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
@pytest.mark.parametrize("call", ALL_CALLS, ids=lambda call: call.name)
async def test_nobody_is_told_the_installations_key(
    call: StreamCall, said: str, gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    assert client.key is not None
    caller, key = Streamer(session, gateway.address, client.key), KEYS[call.model]
    encoded = base64.b64encode(f"user:{key}".encode()).decode()[8:-4]
    for stream in (True, False):
        async with caller.opened(call, call.body(prompt_with(said, key), stream=stream)) as answer:
            body = await answer.read()
            told = str(answer.headers) + body.decode() + text_in(body)
        assert key[4:] not in told.replace(ENCODED, "canary")
        assert encoded not in body.decode()
    _, events, _ = await client.call("GET", "/audit/events?limit=1000")
    assert len(events["data"]["events"]) > 2
    assert "canary" not in str(events)
    assert encoded not in str(events)


async def test_nothing_of_it_stays_in_the_log_or_the_log_lines(gateway: Gateway, client: Client) -> None:
    for model, key in KEYS.items():
        for said in SAID.values():
            await client.chat(prompt_with(said, key), model=model)
    assert "canary" not in gateway.errors()
    assert "canary" not in gateway.run("replay").stdout


@pytest.mark.parametrize("call", [CHAT_GPT, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_the_cache_keeps_none_of_it(
    call: StreamCall, gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    assert client.key is not None
    caller = Streamer(session, gateway.address, client.key)
    prompt = prompt_with(SAID["in the text of many deltas"], KEYS[call.model])
    for expected in ("MISS", "HIT"):
        async with caller.opened(call, call.body(prompt), **{"x-gateway-cache": "on"}) as answer:
            assert answer.headers["x-gateway-cache"] == expected
            told = text_in(await answer.read())
        assert told.startswith("your key is ")
        assert told.endswith("…, I think")
        assert "canary" not in told


async def test_a_bystander_is_told_what_its_model_says(
    gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    bystander = await new_project(gateway, session)
    await client.chat(prompt_with(SAID["in the text"], KEYS["gpt-4o-mini"]))
    _, answer, _ = await bystander.chat("[[say=sk-test-openai is the start of a key, and 50%25 of it]]")
    assert answer["data"]["choices"][0]["message"]["content"] == "sk-test-openai is the start of a key, and 50% of it"
    _, stats, _ = await bystander.call("GET", "/usage/stats")
    assert (stats["data"]["totals"]["requests"], stats["data"]["totals"]["failedRequests"]) == (1, 0)


async def test_an_answer_full_of_escapes_of_its_key_is_refused_and_others_are_answered(
    gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    bystander = await new_project(gateway, session)
    said = '[[exactly={"text": "' + "%5Cu0073" * (MAX_WORK + 1) + '"}]]'
    (status, refused, _), (_, answer, _) = await asyncio.gather(client.chat(said), bystander.chat("[[say=well]]"))
    assert status == 502
    assert "escapes what its request's key has too often" in refused["error"]["message"]
    assert answer["data"]["choices"][0]["message"]["content"] == "well"
