"""A retry with the same Idempotency-Key gets the same bytes and costs nothing, whatever broke in between."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from infra.crash_points import REACHED_SUFFIX, VARIABLE
from infra.ids import new_id
from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.lossy_front import Moment, lossy_front
from tests.support.streams import (
    ALL_CALLS,
    CHAT_GPT,
    MESSAGES_GPT,
    NATIVE_GPT,
    StreamCall,
    Streamer,
    answer_to,
    digest_of,
    events_in,
    first_delta,
    text_in,
)
from tests.support.waiting import eventually, eventually_so

HEADER = "Idempotency-Key"
REPLAYED = "idempotent-replayed"
OTHER_CALLS: dict[str, Any] = {
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "some text"},
    "/v1/completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "some text"},
    "/v1/moderations": {"model": "omni-moderation-latest", "input": "some text"},
    "/api/v1/completions/embeddings": {"model": "text-embedding-3-small", "input": "some text"},
}

each_call = pytest.mark.parametrize("call", ALL_CALLS, ids=lambda call: call.name)
at_each_moment = pytest.mark.parametrize("moment", ["in flight", "answered"])


@pytest.fixture
def streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    assert client.key is not None
    return Streamer(session, gateway.address, client.key)


def bill_of(upstream: RunningProvider, prompt: str) -> list[dict[str, Any]]:
    return [row for row in upstream.bill() if row["prompt"] == digest_of(prompt)]


async def post(streamer: Streamer, path: str, body: Any, key: str) -> tuple[int, bytes, Any]:
    call = StreamCall(name="", path=path, model="")
    async with streamer.opened(call, body, **{HEADER: key}) as answer:
        return answer.status, await answer.read(), answer.headers


@pytest.mark.parametrize("is_stream", [True, False])
@each_call
async def test_the_same_bytes_come_again_at_no_cost(
    call: StreamCall, is_stream: bool, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt, key = f"twice {call.name} {is_stream}", new_id("try")
    body = call.body(prompt, stream=is_stream)
    status, first, headers = await post(streamer, call.path, body, key)
    assert (status, REPLAYED in headers) == (200, False)
    await asyncio.sleep(0.01)
    status, again, headers = await post(streamer, call.path, body, key)
    assert (status, again, headers[REPLAYED]) == (200, first, "true")
    assert headers.get("x-gateway-cost-usd") == (None if is_stream else "0")
    assert len(bill_of(upstream, prompt)) == 1


@pytest.mark.parametrize("path", OTHER_CALLS)
async def test_every_call_that_costs_money_has_its_replay(path: str, streamer: Streamer) -> None:
    key = new_id("try")
    status, first, _ = await post(streamer, path, OTHER_CALLS[path], key)
    assert status == 200, first
    status, again, headers = await post(streamer, path, OTHER_CALLS[path], key)
    assert (status, again, headers[REPLAYED]) == (200, first, "true")


async def test_the_log_shows_a_replay_and_the_budget_does_not(streamer: Streamer) -> None:
    key, body = new_id("try"), CHAT_GPT.body("in the log", stream=False)
    for _ in range(2):
        await post(streamer, CHAT_GPT.path, body, key)
    _, page, _ = await streamer.native.call("GET", "/requests")
    replayed, first = page["data"]["requests"]
    assert (replayed["status"], replayed["cost"], replayed["originRequestId"]) == ("cached", None, first["requestId"])
    assert first["cost"] == replayed["savedCost"] > 0
    _, shown, _ = await streamer.native.call("GET", f"/requests/{replayed['requestId']}")
    (event,) = shown["data"]["events"]
    assert (event["type"], event["data"]["replayed"]) == ("RequestServedFromCache", True)
    _, costs, _ = await streamer.native.call("GET", "/usage/costs")
    assert costs["data"]["totalCost"] == first["cost"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (NATIVE_GPT, {"success": False, "error": {"code": "IDEMPOTENCY_MISMATCH"}}),
        (CHAT_GPT, {"error": {"type": "invalid_request_error", "code": "idempotency_mismatch"}}),
        (MESSAGES_GPT, {"type": "error", "error": {"type": "invalid_request_error"}}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_another_body_under_the_key_is_refused_in_each_dialect(
    call: StreamCall, expected: Any, streamer: Streamer
) -> None:
    key = new_id("try")
    await post(streamer, call.path, call.body("the first"), key)
    async with streamer.opened(call, call.body("the second"), **{HEADER: key}) as answer:
        status, refusal = answer.status, await answer.json()
    assert status == 422
    assert {name: value for name, value in refusal.items() if name in expected and name != "error"} == {
        name: value for name, value in expected.items() if name != "error"
    }
    assert refusal["error"].items() >= expected["error"].items()


@pytest.mark.parametrize("text", ["", "with space", "x" * 256, "caf\u00e9"])
async def test_a_key_is_visible_ascii(text: str, streamer: Streamer) -> None:
    status, answer, _ = await post(streamer, CHAT_GPT.path, CHAT_GPT.body("never sent"), text)
    assert (status, b"Idempotency-Key" in answer) == (400, True)


async def test_a_key_is_of_its_api_key_alone(streamer: Streamer, gateway: Gateway, client: Client) -> None:
    key, body = new_id("try"), CHAT_GPT.body("whose", stream=False)
    await post(streamer, CHAT_GPT.path, body, key)
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "another"})
    other = Streamer(streamer.native._session, gateway.address, issued["data"]["apiKey"])
    status, _, headers = await post(other, CHAT_GPT.path, body, key)
    assert (status, REPLAYED in headers) == (200, False)


async def test_who_comes_meanwhile_waits_for_the_first(streamer: Streamer, upstream: RunningProvider) -> None:
    prompt, key = "one of five [[delay=700]]", new_id("try")
    body = CHAT_GPT.body(prompt, stream=False)
    answers = await asyncio.gather(*(post(streamer, CHAT_GPT.path, body, key) for _ in range(5)))
    assert {(status, content) for status, content, _ in answers} == {(200, answers[0][1])}
    assert sorted(headers.get(REPLAYED, "") for *_, headers in answers) == ["", *["true"] * 4]
    assert len(bill_of(upstream, prompt)) == 1


@each_call
async def test_who_left_in_a_stream_gets_all_of_it(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt, key = f"left {call.name} [[chunks=20]] [[pace=50]]", new_id("try")
    async with streamer.opened(call, call.body(prompt), **{HEADER: key}) as answer:
        await first_delta(answer)
        answer.close()
    status, whole, headers = await post(streamer, call.path, call.body(prompt), key)
    assert (status, headers[REPLAYED], text_in(whole)) == (200, "true", answer_to(prompt))
    (row,) = bill_of(upstream, prompt)
    assert row["end"] == "whole"
    assert (await post(streamer, call.path, call.body(prompt), key))[1] == whole


async def test_an_error_that_was_paid_for_comes_again(streamer: Streamer, upstream: RunningProvider) -> None:
    prompt, key = "paid and lost [[reset]]", new_id("try")
    body = CHAT_GPT.body(prompt, stream=False)
    first = await post(streamer, CHAT_GPT.path, body, key)
    status, content, headers = await post(streamer, CHAT_GPT.path, body, key)
    assert (status, content) == (502, first[1])
    assert (headers[REPLAYED], headers["x-should-retry"]) == ("true", "false")
    assert len(bill_of(upstream, prompt)) == 1


async def test_a_stream_that_its_provider_broke_off_is_not_paid_again(
    streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt, key = "cut short [[cut=3]]", new_id("try")
    await post(streamer, CHAT_GPT.path, CHAT_GPT.body(prompt), key)
    status, _, headers = await post(streamer, CHAT_GPT.path, CHAT_GPT.body(prompt), key)
    assert (status, headers[REPLAYED], len(bill_of(upstream, prompt))) == (502, "true", 1)


async def test_a_refusal_that_cost_nothing_is_asked_again(streamer: Streamer) -> None:
    key, body = new_id("try"), CHAT_GPT.body("once refused [[once=400]]", stream=False)
    assert (await post(streamer, CHAT_GPT.path, body, key))[0] == 400
    status, _, headers = await post(streamer, CHAT_GPT.path, body, key)
    assert (status, REPLAYED in headers) == (200, False)
    other = CHAT_GPT.body("corrected", stream=False)
    assert (await post(streamer, CHAT_GPT.path, other, key))[0] == 422


@at_each_moment
async def test_the_retry_of_openais_sdk_pays_nothing(
    moment: Moment, client: Client, gateway: Gateway, upstream: RunningProvider
) -> None:
    prompt = f"openai {moment} [[delay=900]]"
    async with lossy_front(gateway.address, moment) as front:
        async with AsyncOpenAI(base_url=f"{front.address}/v1", api_key=client.key or "") as sdk:
            answer = await sdk.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": prompt}],
                extra_headers={HEADER: new_id("try")},
            )
        assert front.connections == 2
    assert answer.choices[0].message.content == answer_to(prompt)
    assert len(bill_of(upstream, prompt)) == 1


@at_each_moment
async def test_the_retry_of_anthropics_sdk_pays_nothing(
    moment: Moment, client: Client, gateway: Gateway, upstream: RunningProvider
) -> None:
    prompt = f"anthropic {moment} [[delay=900]]"
    async with lossy_front(gateway.address, moment) as front:
        async with AsyncAnthropic(base_url=front.address, api_key=client.key or "") as sdk:
            stream = await sdk.messages.create(
                model="claude-3-haiku",
                max_tokens=100,
                messages=[{"role": "user", "content": prompt}],
                extra_headers={HEADER: new_id("try")},
                stream=True,
            )
            kinds = [event.type async for event in stream]
        assert front.connections == 2
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert len(bill_of(upstream, prompt)) == 1


@pytest.fixture
async def derives(client: Client) -> str:
    """Return an API key that derives idempotency keys."""
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "auto", "idempotency": "auto"})
    assert issued["data"]["idempotency"] == "auto"
    return str(issued["data"]["apiKey"])


@at_each_moment
async def test_a_key_is_derived_for_the_retry_of_an_sdk(
    moment: Moment, derives: str, gateway: Gateway, upstream: RunningProvider
) -> None:
    prompt = f"derived {moment} [[delay=900]]"
    async with (
        lossy_front(gateway.address, moment) as front,
        AsyncOpenAI(base_url=f"{front.address}/v1", api_key=derives) as sdk,
    ):
        answer = await sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
    assert answer.choices[0].message.content == answer_to(prompt)
    assert len(bill_of(upstream, prompt)) == 1


async def test_equal_requests_that_are_no_retries_are_two(
    derives: str, gateway: Gateway, upstream: RunningProvider
) -> None:
    prompt = "the same question twice"
    async with AsyncOpenAI(base_url=f"{gateway.address}/v1", api_key=derives) as sdk:
        asked = [
            sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])
            for _ in range(2)
        ]
        await asyncio.gather(*asked)
    assert len(bill_of(upstream, prompt)) == 2


@pytest.fixture(scope="module")
def crashing(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Path]]:
    """Run a gateway whose processes die at the point that the file names."""
    directory = tmp_path_factory.mktemp("crashing")
    point = directory / "point"
    running = Gateway.start(
        directory / "data", "--api-processes", "2", env=environment_for(upstream) | {VARIABLE: str(point)}
    )
    yield running, point
    running.stop()


def remove(file: Path) -> bool:
    """Remove a file. False: there is none yet."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    "point",
    ["api.after_admit", "api.after_publish", "api.after_answer", "worker.after_append", "projector.during_fold"],
)
async def test_a_death_does_not_have_the_retry_paid_again(
    point: str, crashing: tuple[Gateway, Path], session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    gateway, file = crashing
    client = await new_project(gateway, session)
    assert client.key is not None
    streamer = Streamer(session, gateway.address, client.key)
    prompt, key = f"a death {point}", new_id("try")
    body = CHAT_GPT.body(prompt, stream=False)
    file.write_text(point)

    async def answered() -> bool:
        try:
            status, content, _ = await post(streamer, CHAT_GPT.path, body, key)
        except aiohttp.ClientError:
            return False
        return status == 200 and events_in(b"data: " + content)[0]["choices"][0]["message"]["content"] == answer_to(
            prompt
        )

    await eventually_so(answered, within_s=60)
    await eventually(lambda: remove(file.with_name(file.name + REACHED_SUFFIX)))
    assert len(bill_of(upstream, prompt)) == 1
    _, budget, _ = await client.call("GET", "/usage/costs")
    assert budget["data"]["totalCost"] == Decimal(bill_of(upstream, prompt)[0]["nano_usd"]) / 10**9
