"""Streams reach their callers part by part and complete, and identical requests share one call."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest

from api.request_lifetime import PIECE_BYTES
from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.streams import (
    ALL_CALLS,
    CHAT_GPT,
    MESSAGES_CLAUDE,
    NATIVE_GPT,
    RESPONSES_GPT,
    StreamCall,
    Streamer,
    answer_to,
    cost_in,
    cost_of,
    deltas,
    text_in,
    text_of,
)

ASKERS = 24
PASSED_THROUGH = (CHAT_GPT, RESPONSES_GPT, MESSAGES_CLAUDE)
CACHED = {"x-gateway-cache": "on"}
MEGABYTE = 1024 * 1024
LONG = "[[chunks=2000]] [[big=20000000]]"
"""A response of twenty megabytes in two thousand deltas."""

each_call = pytest.mark.parametrize("call", ALL_CALLS, ids=lambda call: call.name)


@pytest.fixture
async def streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "streamer"})
    return Streamer(session, gateway.address, issued["data"]["apiKey"])


@each_call
async def test_the_first_piece_arrives_before_the_last_is_sent(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt = f"piece by piece {call.name} [[chunks=4]] [[pace=250]]"
    async with streamer.opened(call, call.body(prompt)) as answer:
        sent_when_seen = [text_in(upstream.answers(last=1)[0].body) async for _ in deltas(answer)]
    assert len(sent_when_seen) == 4
    assert len(sent_when_seen[0]) < len(sent_when_seen[-1])


@pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_GPT, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_slow_reader_holds_its_provider_up_and_gets_every_byte_in_fewer_parts(
    call: StreamCall, streamer: Streamer, gateway: Gateway, upstream: RunningProvider
) -> None:
    before = {process.pid: process.memory_info().rss for process in gateway.processes("api")}
    body = call.body(f"slowly {call.name} {LONG}", 10_000_000)
    async with streamer.opened(call, body) as answer:
        await asyncio.sleep(3)  # time in which the provider could send all, and memory grow
        assert not upstream.answers(last=1)[0].whole
        grown = max(process.memory_info().rss - before[process.pid] for process in gateway.processes("api"))
        parts = [part async for part in parts_of(answer)]
    sent = upstream.answers(last=1)[0].body
    assert text_in(b"".join(parts)) == text_in(sent)
    assert len(parts) < 1.25 * len(sent) / PIECE_BYTES  # nearly all of them as large as a part may be
    assert grown < 3 * len(sent), f"{grown / MEGABYTE:.0f} MB for an answer of {len(sent) / MEGABYTE:.0f} MB"


@pytest.mark.parametrize(
    ("call", "leaders"),
    [pytest.param(call, 2 if call in PASSED_THROUGH else 1, id=call.name) for call in ALL_CALLS],
)
async def test_equal_requests_in_flight_make_one_call_and_all_get_the_whole(
    call: StreamCall, leaders: int, streamer: Streamer, gateway: Gateway, upstream: RunningProvider
) -> None:
    """Passed-through requests make two calls: one for those that stream, one for the others."""
    before = upstream.calls
    prompt = f"the same {call.name} [[delay=700]] [[pace=10]]"
    async with many(streamer, gateway) as askers:
        streams, wholes = await asyncio.gather(
            asyncio.gather(*(asker.read(call, call.body(prompt), **CACHED) for asker in askers[::2])),
            asyncio.gather(*(asker.read(call, call.body(prompt, stream=False), **CACHED) for asker in askers[1::2])),
        )
    assert {status for status, _ in (*streams, *wholes)} == {200}
    assert upstream.calls == before + leaders
    said = {text_in(body) for _, body in streams} | {text_of(call, body) for _, body in wholes}
    assert said == {answer_to(prompt)}
    costs = [cost_in(body) for _, body in streams] + [cost_of(body) for _, body in wholes]
    _, reported, _ = await streamer.native.call("GET", "/usage/costs")
    assert (costs.count(Decimal(0)), sum(costs)) == (ASKERS - leaders, reported["data"]["totalCost"])


@asynccontextmanager
async def many(streamer: Streamer, gateway: Gateway) -> AsyncIterator[list[Streamer]]:
    """Return callers with the same key and their own connections, so that every API process gets a part."""
    async with AsyncExitStack() as opened:
        sessions = [await opened.enter_async_context(aiohttp.ClientSession()) for _ in range(ASKERS)]
        yield [Streamer(session, gateway.address, streamer.key) for session in sessions]


async def parts_of(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the chunks of the response as the gateway sent them."""
    part = b""
    async for data, is_end in answer.content.iter_chunks():
        part += data
        if is_end:
            yield part
            part = b""


async def test_a_stream_whose_tool_call_was_cut_is_asked_for_again(
    streamer: Streamer, upstream: RunningProvider
) -> None:
    body = MESSAGES_CLAUDE.body('[[tool=f]] [[arguments={"a"]] [[finish=max_tokens]]', stream=True)
    body |= {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    before = upstream.calls
    seen = [await streamer.read(MESSAGES_CLAUDE, body, **{"x-gateway-cache": "on"}) for _ in range(2)]
    assert [(status, b"message_stop" in said) for status, said in seen] == [(200, True), (200, True)]
    assert upstream.calls == before + 2


async def test_a_stream_with_a_tool_call_is_kept_and_replayed_as_it_came(
    streamer: Streamer, upstream: RunningProvider
) -> None:
    body = MESSAGES_CLAUDE.body('[[tool=f]] [[arguments={"a": 1}]]', stream=True)
    body |= {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    before = upstream.calls
    seen = [await streamer.read(MESSAGES_CLAUDE, body, **{"x-gateway-cache": "on"}) for _ in range(2)]
    assert [(status, b"message_stop" in said) for status, said in seen] == [(200, True), (200, True)]
    assert upstream.calls == before + 1
    live, replayed = (re.sub(rb',"cost":[0-9.E-]+', b"", said) for _, said in seen)
    assert replayed == live
