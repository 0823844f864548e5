"""A caller disconnects: the call of the provider ends, the part that was sent is paid for, and no hold stays."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.streams import (
    ALL_CALLS,
    CHAT_CLAUDE,
    CHAT_GPT,
    MESSAGES_CLAUDE,
    NATIVE_GPT,
    StreamCall,
    Streamer,
    deltas,
    digest_of,
    first_delta,
    text_in,
)
from tests.support.waiting import eventually, eventually_so

NANO = 10**9
WITHIN_S = 1
"""The time within which the call of the provider must end."""
JOINS_S = 0.3
"""The time in which a request joins a queue or follows another request. Nothing outside shows when it has."""
SLOWLY = "[[chunks=40]] [[pace=4000]]"
"""The next delta comes long after the provider should have noticed the disconnect."""

each_call = pytest.mark.parametrize("call", ALL_CALLS, ids=lambda call: call.name)


@pytest.fixture
async def streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    """Return a caller with a budget."""
    return await with_budget(client, gateway, session)


async def with_budget(client: Client, gateway: Gateway, session: aiohttp.ClientSession, **settings: Any) -> Streamer:
    body = {"name": "streamer", "dailyBudget": 5} | settings
    _, issued, _ = await client.call("POST", "/projects/api-keys", body)
    return Streamer(session, gateway.address, issued["data"]["apiKey"])


@each_call
async def test_disconnect_in_a_stream_pays_for_the_sent_part(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt = f"leave {call.name} {SLOWLY}"
    async with streamer.opened(call, call.body(prompt)) as answer:
        await first_delta(answer)
        answer.close()
    charged = await charge_for(upstream, prompt)
    assert charged["end"] == "left"
    assert charged["noticed_after_ms"] < WITHIN_S * 1000
    await paid_for_what_came(streamer, charged)


async def test_estimate_covers_events_in_flight(streamer: Streamer, upstream: RunningProvider) -> None:
    a_byte_each = "[[chunks=26]] [[pace=3]]"
    prompts = [f"on its way {n} {a_byte_each}" for n in range(40)]
    leaving = (leave_after(n % 8 + 1, MESSAGES_CLAUDE, prompt, streamer) for n, prompt in enumerate(prompts))
    await asyncio.gather(*leaving)
    await eventually_so(lambda: is_free(streamer))
    _, page, _ = await streamer.native.call("GET", "/requests")
    paid = {request["metadata"]["prompt"]: request["cost"] * NANO for request in page["data"]["requests"]}
    charged = {row["prompt"]: Decimal(row["nano_usd"]) for row in upstream.bill() if row["prompt"] in paid}
    assert charged.keys() == {digest_of(prompt) for prompt in prompts}
    assert {prompt: paid[prompt] for prompt in charged if paid[prompt] < charged[prompt]} == {}


@each_call
async def test_disconnect_before_a_stream_pays_for_the_prompt(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt = f"leave early {call.name} [[delay=5000]]"
    asking = asyncio.create_task(streamer.read(call, call.body(prompt)))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    asking.cancel()
    charged = await charge_for(upstream, prompt, within_s=WITHIN_S)
    assert charged["end"] == "left"
    await paid_for_what_came(streamer, charged)


async def test_disconnect_before_the_claim_pays_nothing(
    streamer: Streamer, gateway: Gateway, upstream: RunningProvider
) -> None:
    calls = upstream.calls
    with stopped(gateway.processes("worker")):
        asking = asyncio.create_task(streamer.read(CHAT_GPT, CHAT_GPT.body("leave the queue")))
        await eventually_so(lambda: is_held(streamer))
        asking.cancel()
        await eventually_so(lambda: is_free(streamer))
    await streamer.read(CHAT_GPT, CHAT_GPT.body("the next in the queue"))
    await eventually_so(lambda: are_known(streamer, 2))
    following, left = sorted(await requests_of(streamer), key=lambda request: str(request["status"]))
    assert ([event["type"] for event in left["events"]], left["events"][0]["data"]["code"]) == (
        ["RequestFailed"],
        "CALLER_LEFT",
    )
    assert (following["status"], upstream.calls) == ("completed", calls + 1)


async def test_disconnect_leaves_the_admission_queue(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    waiting = await with_budget(client, gateway, session, dailyBudget=0.0001, budgetWaitMs=20_000)
    calls = upstream.calls
    prompts = [f"{place} in line [[delay=1000]] [[tokens=10/2]]" for place in range(3)]
    first = asyncio.create_task(waiting.read(CHAT_GPT, CHAT_GPT.body(prompts[0])))
    await eventually_so(lambda: is_held(waiting))
    second = asyncio.create_task(waiting.read(CHAT_GPT, CHAT_GPT.body(prompts[1])))
    await asyncio.sleep(JOINS_S)  # the queue
    second.cancel()
    third = await waiting.read(CHAT_GPT, CHAT_GPT.body(prompts[2]))
    assert ((await first)[0], third[0]) == (200, 200)
    assert upstream.calls == calls + 2
    assert len(await requests_of(waiting)) == 2


@pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_CLAUDE], ids=lambda call: call.name)
async def test_response_is_completed_after_a_disconnect(
    call: StreamCall, streamer: Streamer, upstream: RunningProvider
) -> None:
    prompt = f"leave a whole answer {call.name} [[delay=700]]"
    asking = asyncio.create_task(streamer.read(call, call.body(prompt, stream=False)))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    asking.cancel()
    charged = await charge_for(upstream, prompt)
    assert charged["end"] == "whole"
    await eventually_so(lambda: is_free(streamer))
    (request,) = await requests_of(streamer)
    assert request["status"] == "completed"
    assert request["cost"] * NANO == Decimal(charged["nano_usd"])


@pytest.mark.parametrize("call", [NATIVE_GPT, CHAT_CLAUDE, MESSAGES_CLAUDE], ids=lambda call: call.name)
async def test_disconnect_cancels_a_request_if_configured(
    call: StreamCall, client: Client, streamer: Streamer, upstream: RunningProvider
) -> None:
    await cancel_on_disconnect(client)
    prompt = f"leave a plain answer {call.name} [[delay=3000]]"
    asking = asyncio.create_task(streamer.read(call, call.body(prompt, stream=False)))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    asking.cancel()
    await eventually_so(lambda: are_known(streamer, 1))
    assert upstream.state()["inFlight"] == 1, "the provider still works on it, and may charge for it"
    await eventually_so(lambda: is_free(streamer))
    (request,) = await requests_of(streamer)
    lost, failed = request["events"]
    assert (lost["type"], lost["data"]["reason"], failed["type"], failed["data"]["code"]) == (
        "AttemptLost",
        "caller_left",
        "RequestFailed",
        "CALLER_LEFT",
    )
    charged = await charge_for(upstream, prompt)
    assert Decimal(charged["nano_usd"]) <= lost["data"]["assumed_nano_usd"]


async def test_request_continues_for_followers_after_a_disconnect(
    client: Client, streamer: Streamer, upstream: RunningProvider
) -> None:
    await cancel_on_disconnect(client)
    cached = {"x-gateway-cache": "on"}
    body = CHAT_GPT.body("leave followers a plain answer [[delay=1500]]", stream=False)
    leading = asyncio.create_task(streamer.read(CHAT_GPT, body, **cached))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    following = asyncio.create_task(streamer.read(CHAT_GPT, body, **cached))
    await asyncio.sleep(JOINS_S)  # the request in flight
    leading.cancel()
    assert (await following)[0] == 200
    charged = await charge_for(upstream, body_prompt(body))
    assert charged["end"] == "whole"


async def test_unclaimed_request_is_dropped_on_disconnect(
    client: Client, streamer: Streamer, gateway: Gateway, upstream: RunningProvider
) -> None:
    await cancel_on_disconnect(client)
    calls = upstream.calls
    with stopped(gateway.processes("worker")):
        asking = asyncio.create_task(streamer.read(CHAT_GPT, CHAT_GPT.body("leave the plain queue", stream=False)))
        await eventually_so(lambda: is_held(streamer))
        asking.cancel()
        await eventually_so(lambda: is_free(streamer))
    assert (await streamer.read(CHAT_GPT, CHAT_GPT.body("the next plain one", stream=False)))[0] == 200
    await eventually_so(lambda: are_known(streamer, 2))
    assert upstream.calls == calls + 1
    left = min(await requests_of(streamer), key=lambda request: str(request["at"]))
    assert [(event["type"], event["data"]["code"]) for event in left["events"]] == [("RequestFailed", "CALLER_LEFT")]


@pytest.mark.parametrize(
    ("call", "followers"),
    [
        pytest.param(NATIVE_GPT, [{"stream": True}, {"stream": False}], id="native"),
        pytest.param(CHAT_CLAUDE, [{"stream": True}, {"stream": False}], id="translated"),
        pytest.param(CHAT_GPT, [{"stream": True}], id="chat, passed on"),
        pytest.param(MESSAGES_CLAUDE, [{"stream": True}], id="messages, passed on"),
    ],
)
async def test_a_stream_goes_on_for_its_followers(
    call: StreamCall, followers: list[dict[str, Any]], streamer: Streamer, upstream: RunningProvider
) -> None:
    calls = upstream.calls
    body = call.body(f"leave others {call.name} [[pace=100]]")
    cached = {"x-gateway-cache": "on"}
    async with streamer.opened(call, body, **cached) as leading:
        await first_delta(leading)
        following = [asyncio.create_task(streamer.read(call, body | fields, **cached)) for fields in followers]
        await asyncio.sleep(JOINS_S)  # the request in flight
        leading.close()
    answers = await asyncio.gather(*following)
    assert {status for status, _ in answers} == {200}
    assert text_in(answers[0][1])[:9] == "answer to"
    charged = await charge_for(upstream, body_prompt(body))
    assert (charged["end"], upstream.calls) == ("whole", calls + 1)


async def test_stream_ends_after_its_last_caller(streamer: Streamer, upstream: RunningProvider) -> None:
    call, cached = CHAT_GPT, {"x-gateway-cache": "on"}
    body = call.body(f"all leave {SLOWLY}")
    async with streamer.opened(call, body, **cached) as leading:
        await first_delta(leading)
        following = asyncio.create_task(streamer.read(call, body, **cached))
        await asyncio.sleep(JOINS_S)  # the request in flight
        leading.close()
    await asyncio.sleep(0.5)  # time in which the stream could be cancelled
    assert upstream.state()["inFlight"] == 1, "a follower waits"
    following.cancel()
    charged = await charge_for(upstream, body_prompt(body), within_s=WITHIN_S)
    assert charged["end"] == "left"
    await paid_for_what_came(streamer, charged)


async def test_leaving_follower_does_not_end_the_stream(streamer: Streamer, upstream: RunningProvider) -> None:
    call, cached = CHAT_GPT, {"x-gateway-cache": "on"}
    body = call.body("a follower leaves [[pace=100]]")
    leading = asyncio.create_task(streamer.read(call, body, **cached))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    following = asyncio.create_task(streamer.read(call, body, **cached))
    await asyncio.sleep(JOINS_S)  # the request in flight
    following.cancel()
    status, stream = await leading
    assert (status, text_in(stream)[:9]) == (200, "answer to")
    charged = await charge_for(upstream, body_prompt(body))
    assert charged["end"] == "whole"


async def cancel_on_disconnect(client: Client) -> None:
    """Set the project to cancel plain requests when their callers disconnect."""
    status, project, _ = await client.call("PATCH", "/projects/me", {"cancelOnDisconnect": True})
    assert (status, project["data"]["cancelOnDisconnect"]) == (200, True)


async def leave_after(pieces: int, call: StreamCall, prompt: str, streamer: Streamer) -> None:
    """Send a request, and close the connection after some pieces of the response."""
    noted = {"x-gateway-metadata": json.dumps({"prompt": digest_of(prompt)})}
    async with streamer.opened(call, call.body(prompt), **noted) as answer:
        coming = deltas(answer)
        for _ in range(pieces):
            await anext(coming)
        answer.close()


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Suspend the processes until the block ends."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


async def charge_for(upstream: RunningProvider, prompt: str, *, within_s: float = 10) -> dict[str, Any]:
    """Wait until the bill has the only charge for a prompt, and return it."""
    digest = digest_of(prompt)
    await eventually(lambda: [row for row in upstream.bill() if row["prompt"] == digest], within_s=within_s)
    (charged,) = [row for row in upstream.bill() if row["prompt"] == digest]
    return charged


async def paid_for_what_came(streamer: Streamer, charged: dict[str, Any]) -> None:
    """Check that the only request has an estimated cost that covers the charge, and that nothing is held."""
    await eventually_so(lambda: is_free(streamer))
    (request,) = await requests_of(streamer)
    if request["events"][0]["type"] == "AttemptLost":  # its provider keeps the response, and is asked
        await settled_by_its_provider(streamer, charged)
        return
    cost, failed = request["events"]
    assert (cost["type"], failed["type"], failed["data"]["code"]) == ("CostIncurred", "RequestFailed", "CALLER_LEFT")
    assert cost["data"]["estimated"] is True
    assert Decimal(charged["nano_usd"]) <= cost["data"]["cost_nano_usd"] <= cost["data"]["hold_nano_usd"]


async def settled_by_its_provider(streamer: Streamer, charged: dict[str, Any]) -> None:
    """Check that an estimate that covers the charge of the only request is assumed, until the charge replaces it."""

    async def is_settled() -> bool:
        (request,) = await requests_of(streamer)
        return bool(request["events"][-1]["type"] == "CostReconciled")

    await eventually_so(is_settled, within_s=60)
    (request,) = await requests_of(streamer)
    lost, failed, reconciled = (event["data"] for event in request["events"])
    assert (lost["reason"], failed["code"]) == ("caller_left", "CALLER_LEFT")
    assert Decimal(charged["nano_usd"]) <= lost["assumed_nano_usd"] <= lost["hold_nano_usd"]
    assert (reconciled["cost_nano_usd"], reconciled["source"]) == (Decimal(charged["nano_usd"]), "provider")


async def requests_of(streamer: Streamer) -> list[Any]:
    """Return the key's requests with their events, newest first."""
    _, page, _ = await streamer.native.call("GET", "/requests")
    ids = [request["requestId"] for request in page["data"]["requests"]]
    return [(await streamer.native.call("GET", f"/requests/{request_id}"))[1]["data"] for request_id in ids]


async def are_known(streamer: Streamer, requests: int) -> bool:
    """Return whether the log has this number of requests."""
    return len(await requests_of(streamer)) == requests


async def is_held(streamer: Streamer) -> bool:
    """Return whether any of the key's budget is held."""
    _, budget, _ = await streamer.native.call("GET", "/usage/budget")
    return bool(budget["data"]["daily"]["held"])


async def is_free(streamer: Streamer) -> bool:
    return not await is_held(streamer)


def body_prompt(body: dict[str, Any]) -> str:
    """Return the prompt of a request with messages."""
    return str(body["messages"][0]["content"])
