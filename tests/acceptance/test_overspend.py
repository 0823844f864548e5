"""A budget is not passed: many callers, several processes, some of which die, and a provider with a bill of its own."""

import asyncio
import hashlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.conftest import environment_for
from tests.acceptance.gateway import Client, Gateway
from tests.provider.running import RunningProvider

REQUESTS = 2_000
LIMIT_USD = Decimal("0.006")
"""About a hundred answers of 50 tokens read and 90 written."""
NANO = 10**9
QUIET_WITHIN_S = 90


@pytest.fixture
def crowd(tmp_path: Path, provider: RunningProvider) -> Iterator[Gateway]:
    """Four API processes and four workers, with a deadline that lets a test see its end."""
    gateway = Gateway.start(
        tmp_path / "data",
        "--api-processes",
        "4",
        "--workers",
        "4",
        env=environment_for(provider) | {"GATEWAY_REQUEST_TIMEOUT_S": "40"},
    )
    yield gateway
    gateway.stop()


class Caller:
    """Sends requests of random size; some fail at the provider, some callers leave."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        self.outcomes: Counter[Any] = Counter()
        self.refused_while_it_fitted: list[Any] = []

    async def ask(self, number: int) -> None:
        choose = self._random
        cap = choose.randrange(60, 140)
        words = [
            f"caller {number} " + "x" * choose.randrange(400),
            f"[[tokens={choose.randrange(20, 80)}/{choose.randrange(40, cap)}]]",
            f"[[delay={choose.randrange(300)}]]",
        ]
        fault = choose.random()
        if fault < 0.05:
            words.append("[[status=500]]")
        elif fault < 0.08:
            words.append("[[reset]]")
        call = self._client.chat(
            " ".join(words), maxTokens=cap, cache=False, metadata={"number": number, "prompt": _hash(" ".join(words))}
        )
        try:
            patience = choose.uniform(0.05, 1) if choose.random() < 0.1 else None
            status, answer, _ = await asyncio.wait_for(call, patience)
        except TimeoutError:
            self.outcomes["left"] += 1
        except (aiohttp.ClientError, OSError):
            self.outcomes["cut off"] += 1
        else:
            self.outcomes[status] += 1
            if status == 402 and "details" in answer["error"]:  # without: for an attempt after a failed one
                self._look_at_refusal(answer["error"]["details"])

    def _look_at_refusal(self, figures: dict[str, Decimal]) -> None:
        if figures["spent"] + figures["held"] + figures["asked"] <= figures["limit"]:
            self.refused_while_it_fitted.append(figures)


async def test_two_thousand_callers_do_not_pass_a_budget_together(
    crowd: Gateway, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    admin = Client(session, crowd.address, crowd.first_key)
    limits = {"name": "hot", "dailyBudget": float(LIMIT_USD), "rateLimit": None}
    _, issued, _ = await admin.call("POST", "/projects/api-keys", limits)
    client = Client(session, crowd.address, issued["data"]["apiKey"])
    caller = Caller(client, seed=7)
    watching = asyncio.create_task(watch(client))
    asked = [asyncio.create_task(caller.ask(number)) for number in range(REQUESTS)]
    for command, after_s in (("worker", 0.5), ("api", 0.3), ("worker", 0.5), ("worker", 0.5)):
        await asyncio.sleep(after_s)
        crowd.processes(command)[0].kill()
    await asyncio.gather(*asked)
    await until_quiet(client)
    stragglers = Caller(client, seed=8)
    for number in range(REQUESTS, REQUESTS + 200):  # what a storm has left over is still to be had
        await stragglers.ask(number)
        if stragglers.outcomes[402]:
            break
    last = await until_quiet(client)
    watching.cancel()
    samples = await asyncio.gather(watching, return_exceptions=True)
    assert not isinstance(samples[0], AssertionError), samples[0]

    events = by_number(crowd)
    billed: Counter[str] = Counter()
    for row in provider.bill():
        billed[row["prompt"]] += round(Decimal(row["nano_usd"]))
    assert sum(billed.values()) <= LIMIT_USD * NANO, caller.outcomes
    for prompt, (cost, assumed) in events.items():
        if assumed:
            assert billed[prompt] <= cost + assumed
        else:
            assert billed[prompt] == cost
    assert set(billed) <= set(events), "whatever was billed stands in the log"
    spent, assumed = (sum(amounts) for amounts in zip(*events.values(), strict=True))
    assert (last["spent"] * NANO, last["assumed"] * NANO, last["held"]) == (spent, assumed, 0)
    assert spent + assumed > LIMIT_USD * NANO * 9 / 10, (spent, assumed, caller.outcomes)
    assert caller.refused_while_it_fitted + stragglers.refused_while_it_fitted == []
    assert caller.outcomes[402] > REQUESTS / 4
    for command in (("audit", "verify"), ("audit", "balance")):
        proved = await asyncio.to_thread(crowd.run, *command)
        assert proved.returncode == 0, proved.stdout


async def test_of_a_burst_of_two_hundred_the_limit_of_sixty_passes(
    crowd: Gateway, session: aiohttp.ClientSession
) -> None:
    admin = Client(session, crowd.address, crowd.first_key)
    _, issued, _ = await admin.call("POST", "/projects/api-keys", {"name": "sixty", "rateLimit": 60})
    address, key = crowd.address, issued["data"]["apiKey"]

    async def ask(number: int) -> tuple[int, Any]:
        # a connection of its own, so that every API process takes its part
        async with aiohttp.ClientSession() as own:
            status, _, headers = await Client(own, address, key).chat(f"one of many {number % 90}", model="echo")
            return status, headers

    started = time.monotonic()
    answers = await asyncio.gather(*(ask(number) for number in range(200)))
    refilled = int(time.monotonic() - started)  # one a second, while the burst was coming in
    counted = Counter(status for status, _ in answers)
    assert counted.keys() == {200, 429}
    assert 60 <= counted[200] <= 60 + refilled
    refused = next(headers for status, headers in answers if status == 429)
    assert refused["x-ratelimit-limit-requests"] == "60"
    assert refused["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(refused["retry-after"]) <= 60


async def watch(client: Client) -> None:
    """Look at the budget all the time: what is spent, assumed and held never passes the limit."""
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
    """Wait until nothing is held any more."""
    daily: dict[str, Decimal] = {}
    for _ in range(QUIET_WITHIN_S):
        status, answer, _ = await client.call("GET", "/usage/budget")
        if status == 200:
            daily = answer["data"]["daily"]
            if daily["held"] == 0:
                return daily
        await asyncio.sleep(1)
    raise AssertionError(f"still held after {QUIET_WITHIN_S} s: {daily}")


def by_number(gateway: Gateway) -> dict[str, tuple[int, int]]:
    """By prompt: what the log says it cost, and what is assumed."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in gateway.run("replay", "--json").stdout.splitlines():
        stored = json.loads(line)
        event = stored["event"]
        if stored["type"] == "CostIncurred":
            sums[event["metadata"]["prompt"]][0] += event["cost_nano_usd"]
            sums[event["metadata"]["prompt"]][1] -= event.get("replaces_assumed_nano_usd", 0)
        elif stored["type"] == "AttemptLost":
            sums[event["metadata"]["prompt"]][1] += event["assumed_nano_usd"]
    return {prompt: (cost, assumed) for prompt, (cost, assumed) in sums.items()}


def _hash(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()
