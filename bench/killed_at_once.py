"""Kills every process of a gateway at once under 100 callers, starts it again on the same data, and compares the books.

Half of the callers stream. Answers have 40 to 160 tokens of a cap of 400, and requests 150 to 300 tokens, so a hold is
some four times an average answer. The provider, which goes on, counts its calls and keeps its own bill. Callers ask for
`--seconds`, then everything dies (SIGKILL: API, workers, projector, PostgreSQL, NATS, the supervisor). What is printed:
how often the provider was asked again although no caller was left, and what the gateway accounts for, once nothing is
held any more, as a share of the provider's bill.

    uv run python -m bench.killed_at_once [--callers 100] [--seconds 12] [--kept]

With `--kept` streams are asked for by the Responses API, whose responses the provider keeps: it is asked what the lost
ones have cost, and what is printed as assumed is what is left after that.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for

CAP = 400
TOKENS_OUT = (40, 160)
PROMPT_BYTES = (500, 1_000)
PACE_MS = 20
"""Between two tokens of a stream. An answer in one piece takes as long as it would as a stream."""
BYTES_PER_TOKEN = 4
DAILY_BUDGET = 50
QUIET_WITHIN_S = 120.0
SETTLING_S = 20.0
NANO = 10**9
SEED = 7
CALL = "call"
MODEL = "gpt-4o-mini"
PAGE = 200


def prompt(chance: random.Random, *, is_stream: bool) -> str:
    """Return a prompt that makes the provider answer with some number of tokens, at some pace."""
    tokens = chance.randint(*TOKENS_OUT)
    words = [f"[[chunks={tokens}]]", f"[[big={tokens * BYTES_PER_TOKEN}]]"]
    words.append(f"[[pace={PACE_MS}]]" if is_stream else f"[[delay={tokens * PACE_MS}]]")
    return f"{chance.random()} " + "words " * (chance.randint(*PROMPT_BYTES) // 6) + " ".join(words)


async def call(session: aiohttp.ClientSession, gateway: Gateway, key: str, number: int, *, is_kept: bool) -> None:
    """Ask again and again, until the gateway is gone."""
    chance = random.Random(SEED * 1_000 + number)
    is_stream = number % 2 == 0
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while True:
            text = prompt(chance, is_stream=is_stream)
            path, body = request(text, is_stream=is_stream, is_kept=is_kept and is_stream)
            headers = {"Authorization": f"Bearer {key}", "x-gateway-metadata": json.dumps({CALL: name_of(text)})}
            async with session.post(f"{gateway.address}{path}", json=body, headers=headers) as answer:
                await answer.read()


def request(text: str, *, is_stream: bool, is_kept: bool) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a request."""
    if is_kept:
        return "/v1/responses", {"model": MODEL, "input": text, "max_output_tokens": CAP, "stream": is_stream}
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages, "maxTokens": CAP, "stream": is_stream, "cache": False}
    return "/api/v1/completions/chat", body


def name_of(text: str) -> str:
    """Return the name by which the provider's bill knows a prompt."""
    return hashlib.sha256(text.encode()).hexdigest()


async def lost_requests(client: Client) -> dict[str, Decimal]:
    """Return what is assumed of each lost request, in nano-dollars, by the name of its prompt."""
    lost: dict[str, Decimal] = {}
    before = ""
    while True:
        _, answer, _ = await client.call("GET", f"/requests?limit={PAGE}&status=failed{before}")
        for one in answer["data"]["requests"]:
            if one["assumedCost"]:
                lost[one["metadata"][CALL]] = Decimal(str(one["assumedCost"])) * NANO
        if not answer["data"].get("next"):
            return lost
        before = f"&before={answer['data']['next']}"


async def until_quiet(client: Client, provider: RunningProvider, settling_s: float) -> tuple[dict[str, Decimal], float]:
    """Wait until nothing is held and the provider works on nothing, and then so long as providers are asked.

    Returns the key's budget, and the seconds until nothing was held.
    """
    began_s = time.monotonic()
    while True:
        _, answer, _ = await client.call("GET", "/usage/budget")
        budget = answer["data"]["daily"]
        state = await asyncio.to_thread(provider.state)
        took_s = time.monotonic() - began_s
        if (not budget["held"] and not state["inFlight"]) or took_s > QUIET_WITHIN_S:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(settling_s)
    _, answer, _ = await client.call("GET", "/usage/budget")
    return answer["data"]["daily"], took_s


def kill(gateway: Gateway) -> None:
    """Kill every process of a gateway at once."""
    tree = gateway.tree()
    for process in tree:
        process.suspend()
    for process in tree:
        process.kill()
    psutil.wait_procs(tree, timeout=30)
    gateway.process.wait()


async def measure(callers: int, seconds: float, provider: RunningProvider, folder: Path, *, is_kept: bool) -> None:
    """Run the load, kill the gateway, start it again, and print what became of it."""
    env = environment_for(provider)
    gateway = await asyncio.to_thread(Gateway.start, folder / "data", "--workers", "2", env=env)
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        admin = Client(session, gateway.address, gateway.first_key)
        settings = {"name": "callers", "dailyBudget": DAILY_BUDGET, "rateLimit": 1_000_000}
        _, issued, _ = await admin.call("POST", "/projects/api-keys", settings)
        key = issued["data"]["apiKey"]
        asking = [
            asyncio.create_task(call(session, gateway, key, number, is_kept=is_kept)) for number in range(callers)
        ]
        await asyncio.sleep(seconds)
        in_flight = (await asyncio.to_thread(provider.state))["inFlight"]
        await asyncio.to_thread(kill, gateway)
        calls_before = await asyncio.to_thread(lambda: provider.calls)
        await asyncio.gather(*asking)
    gateway = await asyncio.to_thread(Gateway.start, folder / "data", "--workers", "2", env=env)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        client = Client(session, gateway.address, key)
        budget, quiet_s = await until_quiet(client, provider, SETTLING_S if is_kept else 0.0)
        lost = await lost_requests(client)
    calls, charged = await asyncio.to_thread(lambda: (provider.calls, provider.bill()))
    bill = sum((Decimal(row["nano_usd"]) for row in charged), Decimal(0))
    await asyncio.to_thread(gateway.stop)
    accounted = (budget["spent"] + budget["assumed"]) * NANO
    print(f"calls before all died          {calls_before}, {in_flight} of them in flight")
    print(f"calls again, for nobody        {calls - calls_before}")
    print(f"nothing is held after          {quiet_s:.1f} s (held: ${budget['held']})")
    print(f"the provider's bill            ${bill / NANO:.6f}")
    print(f"spent                          ${budget['spent']:.6f}")
    print(f"assumed                        ${budget['assumed']:.6f}")
    print(f"spent and assumed of the bill  {100 * accounted / bill:.0f} %")
    for is_stream, kind in ((True, "streams"), (False, "whole")):
        billed = [Decimal(row["nano_usd"]) for row in charged if row["prompt"] in lost and row["stream"] == is_stream]
        assumed = [lost[row["prompt"]] for row in charged if row["prompt"] in lost and row["stream"] == is_stream]
        if billed:
            below = sum(one < other for one, other in zip(assumed, billed, strict=True))
            share = 100 * sum(assumed) / sum(billed)
            print(
                f"lost, {kind:<24} {len(billed)}, assumed {share:.0f} % of their bill, {below} of them less than theirs"
            )
    not_billed = sum(lost.values()) - sum(lost[row["prompt"]] for row in charged if row["prompt"] in lost)
    print(f"lost, never billed             ${not_billed / NANO:.6f} assumed")


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--kept", action="store_true", help="stream by the Responses API")
    arguments = parser.parse_args()
    provider = RunningProvider.start()
    try:
        with tempfile.TemporaryDirectory(prefix="killed-at-once-") as folder:
            asyncio.run(measure(arguments.callers, arguments.seconds, provider, Path(folder), is_kept=arguments.kept))
    finally:
        provider.stop()


if __name__ == "__main__":
    main()
