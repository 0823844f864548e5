"""A budget is never exceeded: many callers, several processes, some of which die, and an independent bill."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.crowd import Crowd, billed, booked, disagreements
from tests.support.gateway import Client, Gateway, environment_for
from tests.support.streams import Streamer

REQUESTS = 2_000
LIMIT_USD = Decimal("0.02")
"""Enough for about two hundred responses with 100 input and 70 output tokens."""
ARRIVE_WITHIN_S = 3
NANO = 10**9
QUIET_WITHIN_S = 90


@pytest.fixture(scope="module")
def provider() -> Iterator[RunningProvider]:
    running = RunningProvider.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory, provider: RunningProvider) -> Iterator[Gateway]:
    """Run a gateway with four API processes, four workers, and a short request deadline."""
    gateway = Gateway.start(
        tmp_path_factory.mktemp("crowded") / "data",
        "--api-processes",
        "4",
        "--workers",
        "4",
        env=environment_for(provider) | {"GATEWAY_REQUEST_TIMEOUT_S": "40"},
    )
    yield gateway
    gateway.stop()


async def test_two_thousand_callers_do_not_pass_a_budget_together(
    crowded: Gateway, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    admin = Client(session, crowded.address, crowded.first_key)
    limits = {"name": "hot", "dailyBudget": float(LIMIT_USD), "rateLimit": None}
    _, issued, _ = await admin.call("POST", "/projects/api-keys", limits)
    streamer = Streamer(session, crowded.address, issued["data"]["apiKey"])
    crowd, client = Crowd(streamer, seed=7), streamer.native
    watching = asyncio.create_task(watch(client))
    arrivals = [asyncio.create_task(crowd.arrive(number, ARRIVE_WITHIN_S)) for number in range(REQUESTS)]
    for command, after_s in (("worker", 0.5), ("api", 0.3), ("worker", 0.5), ("worker", 0.5)):
        await asyncio.sleep(after_s)
        crowded.processes(command)[0].kill()
    await asyncio.gather(*arrivals)
    await until_quiet(client)
    stragglers = Crowd(streamer, seed=8)
    for number in range(REQUESTS, REQUESTS + 200):  # the rest of the budget can still be spent
        await stragglers.ask(number)
        if stragglers.outcomes["refused"]:
            break
    last = await until_quiet(client)
    watching.cancel()
    samples = await asyncio.gather(watching, return_exceptions=True)
    assert not isinstance(samples[0], AssertionError), samples[0]

    log = booked(crowded.run("replay", "--json").stdout.splitlines())
    bill = billed(provider.bill())
    assert disagreements(log, bill) == []
    assert sum(amount for rows in bill.values() for _, amount in rows) <= LIMIT_USD * NANO, crowd.outcomes
    spent = sum(one.spent for one in log.values())
    assumed = sum(sum(one.assumed) for one in log.values())
    assert (last["spent"] * NANO, last["assumed"] * NANO, last["held"]) == (spent, assumed, 0)
    assert spent + assumed > LIMIT_USD * NANO * 9 / 10, (spent, assumed, crowd.outcomes)
    assert crowd.refused_while_it_fitted + stragglers.refused_while_it_fitted == []
    assert crowd.outcomes["refused"] > REQUESTS / 4, crowd.outcomes
    assert crowd.outcomes["left its stream"], crowd.outcomes
    assert {end for rows in bill.values() for end, _ in rows} == {"whole", "left", "cut", "error"}
    for command in (("audit", "verify"), ("audit", "balance")):
        proved = await asyncio.to_thread(crowded.run, *command)
        assert proved.returncode == 0, proved.stdout


async def test_burst_passes_exactly_the_rate_limit(crowded: Gateway, session: aiohttp.ClientSession) -> None:
    admin = Client(session, crowded.address, crowded.first_key)
    _, issued, _ = await admin.call("POST", "/projects/api-keys", {"name": "sixty", "rateLimit": 60})
    address, key = crowded.address, issued["data"]["apiKey"]

    async def ask(number: int) -> tuple[int, Any]:
        # its own connection, so that every API process gets a part
        async with aiohttp.ClientSession() as own:
            status, _, headers = await Client(own, address, key).chat(f"one of many {number % 90}", model="echo")
            return status, headers

    started = time.monotonic()
    answers = await asyncio.gather(*(ask(number) for number in range(200)))
    refilled = int(time.monotonic() - started)  # one per second while the burst arrived
    counted = Counter(status for status, _ in answers)
    assert counted.keys() == {200, 429}
    assert 60 <= counted[200] <= 60 + refilled
    refused = next(headers for status, headers in answers if status == 429)
    assert refused["x-ratelimit-limit-requests"] == "60"
    assert refused["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused["retry-after"]) <= 60


async def watch(client: Client) -> None:
    """Check the budget all the time: the spent, assumed and held amounts never exceed the limit."""
    while True:
        try:
            status, answer, _ = await client.call("GET", "/usage/budget")
        except (aiohttp.ClientError, OSError):
            status = 0
        if status == 200:
            daily = answer["data"]["daily"]
            assert daily["spent"] + daily["assumed"] + daily["held"] <= LIMIT_USD, daily
        await asyncio.sleep(0.1)


async def until_quiet(client: Client) -> dict[str, Decimal]:
    """Wait until nothing is held. Return the budget."""
    daily: dict[str, Decimal] = {}
    for _ in range(QUIET_WITHIN_S):
        status, answer, _ = await client.call("GET", "/usage/budget")
        if status == 200:
            daily = answer["data"]["daily"]
            if daily["held"] == 0:
                return daily
        await asyncio.sleep(1)
    raise AssertionError(f"still held after {QUIET_WITHIN_S} s: {daily}")
