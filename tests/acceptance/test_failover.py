"""A request that names several targets is answered by the next one when a target fails, on every surface.

The words of a prompt behind `[[on=gpt]]` count at OpenAI's models alone, so that one target fails and the other does
not.
"""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from infra.crash_points import VARIABLE
from tests.provider.running import RunningProvider
from tests.support.gateway import NEWS_S, Client, Gateway, environment_for, new_project
from tests.support.streams import (
    CHAT_GPT,
    CLAUDE,
    GPT,
    MESSAGES_CLAUDE,
    NATIVE_GPT,
    RESPONSES_GPT,
    StreamCall,
    Streamer,
    error_in,
    text_in,
    text_of,
)

CALLS = (NATIVE_GPT, CHAT_GPT, RESPONSES_GPT, MESSAGES_CLAUDE)
IDS = [call.name for call in CALLS]


def other(call: StreamCall) -> str:
    return CLAUDE if call.model == GPT else GPT


def failing(call: StreamCall, words: str, text: str) -> str:
    """A prompt of which `words` count at the call's own model, and which the other one answers with `text`."""
    return f"[[on={call.model[:3]}]] {words} {text} {call.path}"


@pytest.fixture
def caller(gateway: Gateway, session: aiohttp.ClientSession, client: Client) -> Streamer:
    assert client.key is not None
    return Streamer(session, gateway.address, client.key)


async def shown(client: Client, request_id: str) -> dict[str, Any]:
    """The request as `GET /requests/{id}` shows it."""
    status, answer, _ = await client.call("GET", f"/requests/{request_id}")
    assert status == 200, answer
    request: dict[str, Any] = answer["data"]
    return request


async def add_route(client: Client, name: str, *groups: list[Any], **fields: Any) -> None:
    status, answer, _ = await client.call("POST", "/routes", {"name": name, "groups": groups, **fields})
    assert status == 201, answer
    await asyncio.sleep(NEWS_S)


@pytest.mark.parametrize("call", CALLS, ids=IDS)
async def test_a_server_error_is_answered_by_the_other_vendor_in_the_clients_own_form(
    caller: Streamer, call: StreamCall
) -> None:
    body = call.body(failing(call, "[[status=500]] [[after=0]]", "whole"), stream=False)
    async with caller.opened(call, body | {"fallbacks": [other(call)]}) as answer:
        content = await answer.read()
        assert answer.status == 200, content
        assert text_of(call, content).startswith("answer to ")
        assert answer.headers["x-gateway-attempts"] == "3"
        assert answer.headers["x-gateway-provider"] == ("anthropic" if call.model == GPT else "openai")
        request = await shown(caller.native, answer.headers["x-request-id"])
    assert [(one["model"], one["outcome"]) for one in request["targets"]] == [
        (call.model, "failed"),
        (other(call), "answered"),
    ]
    assert [(one["model"], one["outcome"], one["status"]) for one in request["tries"]] == [
        (call.model, "failed", 500),
        (call.model, "failed", 500),
        (other(call), "answered", None),
    ]
    assert request["model"] == call.model, "as it was asked for"
    assert request["provider"] == request["tries"][-1]["provider"], "who answered"
    assert request["cost"] == request["tries"][-1]["cost"] > 0


@pytest.mark.parametrize("call", CALLS, ids=IDS)
async def test_a_stream_that_fails_before_its_first_byte_comes_from_the_other_vendor(
    caller: Streamer, call: StreamCall
) -> None:
    body = call.body(failing(call, "[[status=529]] [[after=0]]", "streamed"))
    async with caller.opened(call, body, **{"x-gateway-fallbacks": other(call)}) as answer:
        content = await answer.read()
        assert (answer.status, error_in(content)) == (200, None), content
        assert text_in(content).startswith("answer to ")
        assert answer.headers["x-gateway-attempts"] == "3"
        assert answer.headers["x-gateway-model"].startswith("claude" if call.model == GPT else "gpt")


async def test_a_stream_that_has_begun_goes_on_nowhere(caller: Streamer, upstream: RunningProvider) -> None:
    before = upstream.calls
    body = CHAT_GPT.body(failing(CHAT_GPT, "[[streamerror=3]]", "begun"))
    _, content = await caller.read(CHAT_GPT, body | {"fallbacks": [CLAUDE]})
    assert error_in(content) is not None
    assert upstream.calls == before + 1


async def test_a_refused_request_goes_on_nowhere(caller: Streamer, upstream: RunningProvider) -> None:
    before = upstream.calls
    body = CHAT_GPT.body(failing(CHAT_GPT, "[[status=400]]", "refused"), stream=False)
    async with caller.opened(CHAT_GPT, body | {"fallbacks": [CLAUDE]}) as answer:
        assert answer.status == 400
        assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-provider"]) == ("1", "openai")
    assert upstream.calls == before + 1


async def test_the_last_targets_error_is_the_callers(caller: Streamer) -> None:
    body = MESSAGES_CLAUDE.body("[[status=503]] [[after=0]] nobody answers", stream=False)
    async with caller.opened(MESSAGES_CLAUDE, body | {"fallbacks": [GPT]}) as answer:
        assert answer.status == 502
        assert (await answer.json())["type"] == "error", "in the client's own form"
        assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-provider"]) == ("4", "openai")
        request = await shown(caller.native, answer.headers["x-request-id"])
    assert [(one["outcome"], one["reason"]) for one in request["targets"]] == [
        ("failed", "PROVIDER_UNAVAILABLE"),
        ("failed", "PROVIDER_UNAVAILABLE"),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_route_leaves_a_target_that_does_not_begin_to_answer(caller: Streamer, *, stream: bool) -> None:
    first = {"model": GPT, "firstByteTimeoutS": 0.5}
    await add_route(caller.native, "quick", [first], [CLAUDE])
    prompt = failing(CHAT_GPT, "[[delay=20000]]", f"slow {stream}")
    body = CHAT_GPT.body(prompt, stream=stream) | {"model": "quick"}
    async with caller.opened(CHAT_GPT, body) as answer:
        content = await answer.read()
        assert answer.status == 200, content
        assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-provider"]) == ("2", "anthropic")
        request = await shown(caller.native, answer.headers["x-request-id"])
    slow = request["tries"][0]
    assert (slow["outcome"], slow["errorCode"]) == ("lost", "timeout")
    assert "did not begin to answer" in slow["errorMessage"]
    assert request["assumedCost"] == slow["assumedCost"] > 0, "it may have been charged"
    assert request["model"] == "quick"


async def test_a_stream_comes_from_the_first_target_that_can_serve_it(caller: Streamer) -> None:
    await add_route(caller.native, "keeps", [CLAUDE], [GPT])
    body = RESPONSES_GPT.body("the first turn", stream=False)
    async with caller.opened(RESPONSES_GPT, body) as answer:
        made = await answer.json()
        assert answer.status == 200, made
    body = RESPONSES_GPT.body("the second turn") | {"model": "keeps", "previous_response_id": made["id"]}
    async with caller.opened(RESPONSES_GPT, body) as answer:
        content = await answer.read()
        assert answer.status == 200, content
        assert answer.headers["x-gateway-provider"] == "openai"
        assert b"response.completed" in content


async def test_each_time_limit_has_its_own_error(caller: Streamer) -> None:
    stalls = {"model": GPT, "idleTimeoutS": 0.5}
    slow = {"model": CLAUDE, "timeoutS": 0.5}
    await add_route(caller.native, "stalls", [stalls])
    await add_route(caller.native, "slow", [slow])
    _, content = await caller.read(CHAT_GPT, CHAT_GPT.body("[[stall=3]] idle") | {"model": "stalls"})
    assert "stopped in the middle" in str(error_in(content))
    status, answer, _ = await caller.native.chat("[[delay=20000]] total", model="slow", cache=False)
    assert (status, answer["error"]["details"]["timeout"]) == (504, "total")


async def test_a_fallback_that_the_budget_has_no_room_for_is_passed_over(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    admin = await new_project(gateway, session)
    fields = {"name": "small", "dailyBudget": 0.0005, "outputCap": "refuse"}
    status, key, _ = await admin.call("POST", "/projects/api-keys", fields)
    assert status == 201, key
    client = Client(session, gateway.address, key["data"]["apiKey"])
    prompt = "[[on=gpt-4o-mini]] [[status=500]] [[after=0]] [[tokens=10/10]] dear"
    fallbacks = ["claude-3-opus", "claude-3-haiku"]
    status, answer, headers = await client.chat(prompt, maxTokens=100, cache=False, fallbacks=fallbacks)
    assert (status, headers["x-gateway-model"]) == (200, "claude-3-haiku-20240307"), answer
    request = await shown(admin, headers["x-request-id"])
    assert [(one["outcome"], one["reason"]) for one in request["targets"]] == [
        ("failed", "PROVIDER_UNAVAILABLE"),
        ("skipped", "budget"),
        ("answered", None),
    ]
    _, budget, _ = await client.call("GET", "/usage/budget")
    assert budget["data"]["daily"]["spent"] == answer["data"]["cost"]
    assert Decimal(headers["x-gateway-budget-remaining-usd"]) == Decimal("0.0005") - answer["data"]["cost"]

    status, answer, headers = await client.chat(prompt + "er", maxTokens=100, cache=False, fallbacks=fallbacks[:1])
    assert (status, answer["error"]["code"]) == (502, "PROVIDER_UNAVAILABLE"), "with the last error"
    assert headers["x-gateway-provider"] == "openai"


async def test_a_fallbacks_answer_is_no_answer_to_a_request_that_did_not_name_it(client: Client) -> None:
    prompt = "[[on=gpt]] [[once=500]] [[after=0]] [[delay=300]] cached"
    route_less = {"maxTokens": 50, "cache": True}
    await add_route(client, "one-try", [GPT], [CLAUDE], attempts=1)
    first = await client.chat(prompt, model="one-try", **route_less)
    assert first[2]["x-gateway-provider"] == "anthropic", first
    plain = await client.chat(prompt, **route_less)
    assert (plain[0], plain[2]["x-gateway-cache"], plain[2]["x-gateway-provider"]) == (200, "MISS", "openai")
    again = await client.chat(prompt, model="one-try", **route_less)
    assert (again[2]["x-gateway-cache"], again[2]["x-gateway-provider"]) == ("HIT", "openai"), "its first target's"


async def test_a_key_may_fall_back_to_its_own_models_alone(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client
) -> None:
    fields = {"name": "held", "models": [GPT]}
    _, key, _ = await client.call("POST", "/projects/api-keys", fields)
    held = Streamer(session, gateway.address, key["data"]["apiKey"])
    for call in (NATIVE_GPT, CHAT_GPT, RESPONSES_GPT):
        status, content = await held.read(call, call.body("x", stream=False) | {"fallbacks": [CLAUDE]})
        assert (status, b"fallbacks[0]" in content or b"may not use model" in content) == (403, True)
    status, answer, _ = await client.chat("x", fallbacks=["no-such-model"])
    assert (status, answer["error"]["code"]) == (404, "UNKNOWN_MODEL")
    status, answer, _ = await client.chat("x", fallbacks=[CLAUDE] * 5)
    assert (status, answer["error"]["details"]["field"]) == (400, "fallbacks")


async def test_the_vendors_sdks_read_an_answer_of_the_other_vendor(gateway: Gateway, client: Client) -> None:
    openai = AsyncOpenAI(api_key=client.key, base_url=f"{gateway.address}/v1", max_retries=0)
    anthropic = AsyncAnthropic(api_key=client.key, base_url=gateway.address, max_retries=0)
    chat = await openai.chat.completions.create(
        model=GPT,
        messages=[{"role": "user", "content": failing(CHAT_GPT, "[[status=500]] [[after=0]]", "sdk")}],
        extra_body={"fallbacks": [CLAUDE]},
    )
    assert (chat.model, chat.choices[0].finish_reason) == (CLAUDE, "stop")
    prompt = failing(MESSAGES_CLAUDE, "[[status=500]] [[after=0]]", "sdk")
    async with anthropic.messages.stream(
        model=CLAUDE,
        max_tokens=50,
        messages=[{"role": "user", "content": prompt}],
        extra_headers={"x-gateway-fallbacks": GPT},
    ) as stream:
        message = await stream.get_final_message()
    assert (message.model, message.stop_reason) == (GPT, "end_turn")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, upstream: RunningProvider) -> Iterator[tuple[Gateway, Path]]:
    """A gateway whose workers die where a file says."""
    directory = tmp_path_factory.mktemp("mortal")
    armed = directory / "crash"
    environment = environment_for(upstream) | {VARIABLE: str(armed)}
    running = Gateway.start(directory / "data", "--workers", "2", env=environment)
    yield running, armed
    running.stop()


@pytest.mark.parametrize("point", ["worker.after_failure", "worker.after_next", "worker.after_append 2 0"])
async def test_a_worker_that_dies_between_two_targets_is_followed_at_the_next_one(
    mortal: tuple[Gateway, Path], session: aiohttp.ClientSession, point: str
) -> None:
    gateway, armed = mortal
    client = await new_project(gateway, session)
    await add_route(client, "one-try", [GPT], [CLAUDE], attempts=1)
    armed.write_text(point)
    prompt = f"[[on=gpt]] [[status=500]] [[after=0]] [[tokens=20/10]] dies {point}"
    status, answer, headers = await client.chat(prompt, model="one-try", maxTokens=50, cache=False)
    assert (status, headers["x-gateway-provider"]) == (200, "anthropic"), answer
    assert not armed.exists(), "a worker has died there"
    request = await shown(client, headers["x-request-id"])
    gpt = [one["outcome"] for one in request["tries"] if one["model"] == GPT]
    assert gpt == ["failed"], "the first target is not asked again"
    assert [one["outcome"] for one in request["targets"]] == ["failed", "answered"]
    assert request["cost"] == answer["data"]["cost"] > 0
    balance = gateway.run("audit", "balance")
    assert balance.returncode == 0, balance.stdout + balance.stderr
