"""Workers die during requests: every caller still gets a response, and every charge is accounted for."""

import asyncio
import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for
from tests.support.streams import MESSAGES_GPT, NATIVE_GPT, Streamer, deltas, error_in, text_in
from tests.support.waiting import eventually, eventually_so

REQUESTS = 50


@pytest.fixture
def faulty(tmp_path: Path, provider: RunningProvider):  # type: ignore[no-untyped-def]
    gateway = Gateway.start(tmp_path / "data", "--workers", "2", env=environment_for(provider))
    yield gateway
    gateway.stop()


async def test_two_workers_killed_in_turn_lose_no_request(
    faulty: Gateway, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    client = Client(session, faulty.address, faulty.first_key)
    # every fifth request equals another one, and shares its call
    prompts = [f"prompt {n - n % 5 if n % 5 == 1 else n} [[delay=1500]] [[tokens=40/20]]" for n in range(REQUESTS)]
    requests = [
        asyncio.create_task(client.chat(prompt, maxTokens=50, cache=n % 2 == 0 or n % 5 <= 1))
        for n, prompt in enumerate(prompts)
    ]
    await until_in_flight(provider, 40)
    first, second = faulty.processes("worker")
    first.kill()
    await eventually(lambda: len({first.pid, *(one.pid for one in faulty.processes("worker"))}) == 3, within_s=30)
    calls = provider.calls
    requests += [
        asyncio.create_task(client.chat(f"later {n} [[delay=1500]] [[tokens=40/20]]", maxTokens=50)) for n in range(10)
    ]
    await eventually(lambda: provider.calls >= calls + 10, within_s=30)
    second.kill()
    answers = await asyncio.gather(*requests)

    assert Counter(status for status, _, _ in answers) == {200: REQUESTS + 10}, [a for s, a, _ in answers if s != 200]
    events = [
        json.loads(line)["event"] | {"type": json.loads(line)["type"]}
        for line in faulty.run("replay", "--json").stdout.splitlines()
    ]
    by_type: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for event in events:
        by_type[str(event["type"])].append(event)
    lost, costs = by_type["AttemptLost"], by_type["CostIncurred"]
    assert lost, "the killed workers had attempts in flight"
    one_call = Decimal(40 * 150 + 20 * 600)
    assert {cost["cost_nano_usd"] for cost in costs} == {int(one_call)}
    assert all(int(str(event["assumed_nano_usd"])) >= one_call for event in lost)

    known = {(cost["request_id"], cost["attempt"]) for cost in costs}
    unknown = {(event["request_id"], event["attempt"]) for event in lost}
    assert known.isdisjoint(unknown)
    bill = Counter(row["prompt"] for row in provider.bill())
    assert sum(bill.values()) >= len(known), "every known cost was billed"
    assert sum(bill.values()) <= len(known) + len(unknown), "every other charge is covered by assumed costs"

    _, reported, _ = await client.call("GET", "/usage/costs")
    assert reported["data"]["totalCost"] * 10**9 == one_call * len(known)
    assert reported["data"]["assumedCost"] * 10**9 == sum(int(str(event["assumed_nano_usd"])) for event in lost)
    paid = sum(answer["data"]["cost"] for _, answer, _ in answers)
    assert paid == reported["data"]["totalCost"]
    for command in (("audit", "verify"), ("audit", "balance")):
        proved = await asyncio.to_thread(faulty.run, *command)
        assert proved.returncode == 0, proved.stdout


async def test_unstarted_stream_of_a_killed_worker_is_retried(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    streamer = await new_streamer(client, gateway, session)
    before = upstream.calls
    calls = (NATIVE_GPT, MESSAGES_GPT)
    begun = [call.body(f"begun {call.name} [[stall=3]]") for call in calls]
    waiting = [call.body(f"not begun {call.name} [[delay=1500]]") for call in calls]
    async with streamer.opened(calls[0], begun[0]) as native, streamer.opened(calls[1], begun[1]) as messages:
        pieces = [[await anext(stream) for _ in range(3)] for stream in (deltas(native), deltas(messages))]
        requests = [asyncio.create_task(streamer.read(*one)) for one in zip(calls, waiting, strict=True)]
        await until_in_flight(upstream, 4)
        for worker in gateway.processes("worker"):
            worker.kill()
        rest = await asyncio.gather(native.read(), messages.read())
        answers = await asyncio.gather(*requests)

    assert [len(one) for one in pieces] == [3, 3]
    errors = [error_in(one) for one in rest]
    assert errors[0]["error"]["code"] == "PROVIDER_UNAVAILABLE"
    assert (errors[1]["type"], errors[1]["error"]["type"]) == ("error", "api_error")
    assert [(status, text_in(body)[:9]) for status, body in answers] == [(200, "answer to")] * 2
    assert upstream.calls == before + len(begun) + 2 * len(waiting), "a stream that has begun is not retried"
    await eventually_so(lambda: nothing_is_held(streamer))
    _, events, _ = await client.call("GET", "/audit/events?type=AttemptLost")
    _, page, _ = await client.call("GET", "/requests")
    assert Counter(request["status"] for request in page["data"]["requests"]) == {"completed": 2, "failed": 2}
    assert len(events["data"]["events"]) == 4


async def new_streamer(client: Client, gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "streamer", "dailyBudget": 5})
    return Streamer(session, gateway.address, issued["data"]["apiKey"])


async def nothing_is_held(streamer: Streamer) -> bool:
    _, budget, _ = await streamer.native.call("GET", "/usage/budget")
    return not budget["data"]["daily"]["held"]


async def until_in_flight(provider: RunningProvider, calls: int) -> None:
    """Wait until the provider works on this number of calls at once."""
    for _ in range(200):
        if (await asyncio.to_thread(provider.state))["inFlight"] >= calls:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {calls} calls in flight")
