"""The cache serves a passed-through response as it was received, and a canonical one as a stream or in one piece."""

import json
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.prompts import CHAT_TOOLS, MESSAGE_TOOLS, RESPONSE_TOOLS
from tests.support.stream_assembly import NATIVE, from_json, from_stream
from tests.support.surfaces import CHAT, CLAUDE, GPT, MESSAGES, RESPONSES, Comparison, chat, message, response, written

TOKENS = "[[tokens=90/40]] [[cached=16]] [[reasoning=7]]"
CACHE = {"x-gateway-cache": "on"}
WITH_USAGE = {"stream_options": {"include_usage": True}}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}


def native(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "model": GPT, "maxTokens": 300} | fields


EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    "chat-text": (CHAT, chat(TOKENS, **WITH_USAGE)),
    "chat-long": (CHAT, chat(f"{TOKENS} [[big=70000]] [[split=utf8]]", **WITH_USAGE)),
    "chat-calls": (CHAT, chat(f"{TOKENS} [[calls=3]]", tools=CHAT_TOOLS, **WITH_USAGE)),
    "chat-refusal": (CHAT, chat(f"{TOKENS} [[refuse]]", **WITH_USAGE)),
    "chat-length": (CHAT, chat(f"{TOKENS} [[finish=length]]", **WITH_USAGE)),
    "chat-tomorrow": (CHAT, chat(f"{TOKENS} [[tomorrow]]", **WITH_USAGE)),
    "chat-of-claude-text": (CHAT, chat(TOKENS, model=CLAUDE, **WITH_USAGE)),
    "chat-of-claude-calls": (CHAT, chat(f"{TOKENS} [[calls=3]]", model=CLAUDE, tools=CHAT_TOOLS, **WITH_USAGE)),
    "chat-of-claude-length": (CHAT, chat(f"{TOKENS} [[finish=max_tokens]]", model=CLAUDE, **WITH_USAGE)),
    "responses-text": (RESPONSES, response(TOKENS)),
    "responses-calls": (RESPONSES, response(f"{TOKENS} [[calls=3]]", tools=RESPONSE_TOOLS)),
    "responses-refusal": (RESPONSES, response(f"{TOKENS} [[refuse]]")),
    "responses-incomplete": (RESPONSES, response(f"{TOKENS} [[finish=max_output_tokens]]")),
    "messages-text": (MESSAGES, message(f"{TOKENS} [[cachewrite=9/4]]")),
    "messages-calls": (MESSAGES, message(f"{TOKENS} [[calls=3]]", tools=MESSAGE_TOOLS)),
    "messages-thinking": (MESSAGES, message("[[tokens=90/40]]", **THINKING)),
    "messages-length": (MESSAGES, message(f"{TOKENS} [[finish=max_tokens]]")),
    "messages-of-gpt-text": (MESSAGES, message(TOKENS, model=GPT)),
    "messages-of-gpt-calls": (MESSAGES, message(f"{TOKENS} [[calls=3]]", model=GPT, tools=MESSAGE_TOOLS)),
    "messages-of-gpt-refusal": (MESSAGES, message(f"{TOKENS} [[refuse]]", model=GPT)),
    "native-of-gpt-text": (NATIVE, native(TOKENS)),
    "native-of-gpt-calls": (NATIVE, native(f"{TOKENS} [[calls=3]]", tools=CHAT_TOOLS)),
    "native-of-claude-text": (NATIVE, native(TOKENS, model=CLAUDE)),
    "native-of-claude-calls": (NATIVE, native(f"{TOKENS} [[calls=3]]", model=CLAUDE, tools=CHAT_TOOLS)),
    "native-of-echo": (NATIVE, native("Hello, echo!", model="echo")),
}

CUT_OR_FILTERED = [
    name
    for name in EVERY
    if name.endswith(("-length", "-incomplete")) or name in ("chat-refusal", "messages-of-gpt-refusal")
]
CANONICAL = [name for name in EVERY if "-of-" in name and name not in CUT_OR_FILTERED]
PASSED_THROUGH = [name for name in EVERY if "-of-" not in name and name not in CUT_OR_FILTERED]


@pytest.fixture
def comparison(
    session: aiohttp.ClientSession, gateway: Gateway, upstream: RunningProvider, client: Client
) -> Comparison:
    return Comparison(session, gateway, upstream, client)


@pytest.mark.parametrize("name", PASSED_THROUGH)
async def test_a_stream_is_replayed_as_it_came(comparison: Comparison, upstream: RunningProvider, name: str) -> None:
    path, request_body = EVERY[name]
    first = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    calls = upstream.calls
    second = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    assert [seen.headers["x-gateway-cache"] for seen in (first, second)] == ["MISS", "HIT"]
    assert (second.own, second.costs, upstream.calls) == (first.own, first.costs, calls)
    assert (second.content_type, second.costs) == ("text/event-stream", 1)
    assert (from_stream(path, first.body).cost > 0, from_stream(path, second.body).cost) == (True, 0)


@pytest.mark.parametrize("name", PASSED_THROUGH)
async def test_an_answer_in_one_piece_is_served_as_it_came(
    comparison: Comparison, upstream: RunningProvider, name: str
) -> None:
    path, request_body = EVERY[name]
    first = await comparison.through(path, written(without_options(request_body)), **CACHE)
    calls = upstream.calls
    second = await comparison.through(path, written(without_options(request_body) | {"stream": False}), **CACHE)
    assert [seen.headers["x-gateway-cache"] for seen in (first, second)] == ["MISS", "HIT"]
    assert (second.own, second.content_type, upstream.calls) == (first.own, "application/json", calls)
    assert (from_json(path, first.body).cost > 0, from_json(path, second.body).cost) == (True, 0)


@pytest.mark.parametrize("name", PASSED_THROUGH)
async def test_a_stream_and_an_answer_in_one_piece_are_different_entries(
    comparison: Comparison, upstream: RunningProvider, name: str
) -> None:
    path, request_body = EVERY[name]
    calls = upstream.calls
    stream, whole = written(request_body | {"stream": True}), written(without_options(request_body))
    seen = [await comparison.through(path, body, **CACHE) for body in (stream, whole, stream, whole)]
    assert [one.headers["x-gateway-cache"] for one in seen] == ["MISS", "MISS", "HIT", "HIT"]
    assert [one.content_type for one in seen] == ["text/event-stream", "application/json"] * 2
    assert upstream.calls == calls + 2


@pytest.mark.parametrize("name", CUT_OR_FILTERED)
async def test_an_answer_that_is_cut_or_filtered_is_not_cached(
    comparison: Comparison, upstream: RunningProvider, name: str
) -> None:
    path, request_body = EVERY[name]
    calls = upstream.calls
    for body in (written(request_body | {"stream": True}), written(without_options(request_body))):
        seen = [await comparison.through(path, body, **CACHE) for _ in range(2)]
        assert [one.headers["x-gateway-cache"] for one in seen] == ["MISS", "MISS"]
    assert upstream.calls == calls + 4


@pytest.mark.parametrize("name", CANONICAL)
async def test_a_canonical_answer_is_served_as_a_stream_with_all_of_it(
    comparison: Comparison, upstream: RunningProvider, name: str
) -> None:
    path, request_body = EVERY[name]
    first = await comparison.through(path, written(without_options(request_body)), **CACHE)
    calls = upstream.calls
    second = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    assert (first.headers["x-gateway-cache"], second.headers["x-gateway-cache"]) == ("MISS", "HIT")
    assert (second.content_type, upstream.calls) == ("text/event-stream", calls)
    whole, replayed = from_json(path, first.body), from_stream(path, second.body)
    assert replayed.answer == whole.answer
    assert (whole.cost > 0, replayed.cost) == (True, 0)
    assert (whole.is_cached, replayed.is_cached) in ((False, True), (None, None))


@pytest.mark.parametrize("name", CANONICAL)
async def test_a_canonical_stream_is_served_in_one_piece_with_all_of_it(
    comparison: Comparison, upstream: RunningProvider, name: str
) -> None:
    path, request_body = EVERY[name]
    first = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    calls = upstream.calls
    second = await comparison.through(path, written(without_options(request_body)), **CACHE)
    third = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    assert [seen.headers["x-gateway-cache"] for seen in (first, second, third)] == ["MISS", "HIT", "HIT"]
    assert (second.content_type, third.content_type) == ("application/json", "text/event-stream")
    assert upstream.calls == calls
    streamed, whole, replayed = (
        from_stream(path, first.body),
        from_json(path, second.body),
        from_stream(path, third.body),
    )
    assert whole.answer == streamed.answer
    assert replayed.answer == streamed.answer
    assert (streamed.cost > 0, whole.cost, replayed.cost) == (True, 0, 0)
    assert (streamed.is_cached, whole.is_cached, replayed.is_cached) in ((False, True, True), (None, None, None))


@pytest.mark.parametrize("name", ["chat-text", "chat-of-claude-text"])
async def test_replay_has_usage_only_on_request(comparison: Comparison, name: str) -> None:
    path, request_body = EVERY[name]
    with_usage, without_usage = (
        written(request_body | {"stream": True}),
        written(without_options(request_body) | {"stream": True}),
    )
    await comparison.through(path, with_usage, **CACHE)
    replayed = await comparison.through(path, without_usage, **CACHE)
    assert (replayed.headers["x-gateway-cache"], b"usage" in replayed.body) == ("HIT", False)
    assert replayed.body.endswith(b"data: [DONE]\n\n")
    again = await comparison.through(path, with_usage, **CACHE)
    assert (again.headers["x-gateway-cache"], from_stream(path, again.body).cost) == ("HIT", 0)


async def test_a_replay_shows_usage_that_the_first_client_did_not_ask_for(comparison: Comparison) -> None:
    path, request_body = EVERY["chat-text"]
    first = await comparison.through(path, written(without_options(request_body) | {"stream": True}), **CACHE)
    replayed = await comparison.through(path, written(request_body | {"stream": True}), **CACHE)
    assert (b"usage" in first.body, replayed.headers["x-gateway-cache"]) == (False, "HIT")
    assert from_stream(path, replayed.body).cost == 0


async def test_another_stream_option_asks_for_another_stream(comparison: Comparison) -> None:
    path, request_body = EVERY["chat-text"]
    options = {"include_usage": True, "include_obfuscation": False}
    bodies = [
        written(request_body | {"stream": True}),
        written(request_body | {"stream": True, "stream_options": options}),
    ]
    seen = [await comparison.through(path, body, **CACHE) for body in bodies * 2]
    assert [one.headers["x-gateway-cache"] for one in seen] == ["MISS", "MISS", "HIT", "HIT"]


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        (CHAT, chat("[[pace=20]] [[cut=5]]", stream=True)),
        (RESPONSES, response("[[streamerror=5]]", stream=True)),
        (MESSAGES, message("[[streamerror=5]]", stream=True)),
        (NATIVE, native("[[streamerror=5]]", stream=True)),
    ],
)
async def test_broken_stream_is_not_cached(comparison: Comparison, path: str, request_body: dict[str, Any]) -> None:
    first = await comparison.through(path, written(request_body), **CACHE)
    second = await comparison.through(path, written(request_body), **CACHE)
    assert [seen.headers["x-gateway-cache"] for seen in (first, second)] == ["MISS", "MISS"]


def without_options(request_body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request_body.items() if name != "stream_options"}


async def test_a_response_that_failed_is_no_answer_for_others(
    comparison: Comparison, upstream: RunningProvider
) -> None:
    request_body = written(response(f"{TOKENS} [[finish=failed]]"))
    calls = upstream.calls
    seen = [await comparison.through(RESPONSES, request_body, **CACHE) for _ in range(3)]
    assert [one.headers["x-gateway-cache"] for one in seen] == ["MISS", "MISS", "MISS"]
    assert {json.loads(one.body)["status"] for one in seen} == {"failed"}
    assert float(seen[0].headers["x-gateway-cost-usd"]) > 0
    assert upstream.calls == calls + 3


async def test_forwarded_headers_are_in_the_cache_key(comparison: Comparison) -> None:
    body = written(message("[[say=beta]]"))
    request_body = [{}, {"anthropic-beta": "one"}, {"anthropic-beta": "two"}]
    first = [await comparison.through(MESSAGES, body, **CACHE, **told) for told in request_body]
    again = [await comparison.through(MESSAGES, body, **CACHE, **told) for told in request_body]
    queried = await comparison.through(f"{MESSAGES}?beta=true", body, **CACHE)
    assert [seen.headers["x-gateway-cache"] for seen in (*first, *again, queried)] == ["MISS"] * 3 + ["HIT"] * 3 + [
        "MISS"
    ]
