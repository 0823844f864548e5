"""Measures a burst on a small budget: what is used of it, what the provider bills, and what callers get, and when.

A row is one key whose budget is worth `ANSWERS` answers, asked by all callers at once, each over its own connection. An
answer has a quarter of the tokens of the cap, so that holds are about four times what is used. The most that any
gateway can use without lowering a cap is one answer more than what leaves no room for a hold.
"""

import argparse
import asyncio
import json
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import uvloop
from msgspec import Struct

from bench.whole_path import Measured

ANSWERS = 100
"""What a budget is worth."""
CALLERS = (400, 1_500)
DELAYS_MS = (50, 500)
CAPS = (64, 1_024)
ANSWER_PER_CAP = 4
TOKENS_IN = 25
NANO_USD_PER_TOKEN_IN = 150
NANO_USD_PER_TOKEN_OUT = 600
NANO_PER_USD = 10**9
PATIENCE_S = 90
"""The longest that a row takes: a caller that has no answer by then has none."""
QUIET_S = 1.0


class Answered(Struct, frozen=True, kw_only=True):
    """What one caller got."""

    status: int
    seconds: float


async def ask(port: int, key: str, body: bytes) -> Answered:
    """Ask once, over a connection of its own."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /api/v1/completions/chat HTTP/1.1\r\nhost: l\r\nconnection: close\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (key.encode(), len(body), body)
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.read()
        status = int(head.split(b" ", 2)[1])
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        status = 0
    writer.close()
    return Answered(status=status, seconds=time.perf_counter() - started)


async def burst(port: int, key: str, *, callers: int, cap: int) -> list[Answered]:
    """Have all callers ask at once."""
    prompt = f"What is the capital of France? [[tokens={cap // ANSWER_PER_CAP}]]"
    bodies = [
        json.dumps(
            {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": f"{prompt} {number}"}],
                "maxTokens": cap,
                "cache": False,
            }
        ).encode()
        for number in range(callers)
    ]
    return await asyncio.gather(*(ask(port, key, body) for body in bodies))


def billed(stub_port: int) -> int:
    """Return how many answers the provider has billed so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stub_port}/billed", timeout=10) as answer:
        return int(answer.read())


def measure(gateway: Measured, *, delay_ms: int, callers: int, cap: int, wait_ms: int | None) -> None:
    """Measure one row and print it."""
    cost = TOKENS_IN * NANO_USD_PER_TOKEN_IN + cap // ANSWER_PER_CAP * NANO_USD_PER_TOKEN_OUT
    limits: dict[str, float | None] = {"dailyBudget": ANSWERS * cost / NANO_PER_USD, "rateLimit": None}
    if wait_ms is not None:
        limits["budgetWaitMs"] = wait_ms
    key = gateway.issue_key(f"{delay_ms}-{callers}-{cap}", limits)
    before = billed(gateway.stub_port)
    answered = uvloop.run(burst(gateway.port, key, callers=callers, cap=cap))
    time.sleep(QUIET_S)
    bill = billed(gateway.stub_port) - before
    served = sorted(one.seconds for one in answered if one.status == 200)
    refused = sorted(one.seconds for one in answered if one.status != 200)
    outcomes = ", ".join(f"{count} × {status}" for status, count in sorted(Counter(o.status for o in answered).items()))
    print(
        f"| {callers:,} | {delay_ms} | {cap:,} | **{len(served) / ANSWERS:.0%}** | {bill / ANSWERS:.0%} | {outcomes} | "
        f"{_span(served)} | {_span(refused)} |",
        flush=True,
    )
    assert bill <= ANSWERS, "the provider bills no more than the budget"


def _span(seconds: list[float]) -> str:
    return f"{seconds[0]:.1f} / {seconds[len(seconds) // 2]:.1f} / {seconds[-1]:.1f}" if seconds else "-"


def main() -> None:
    """Measure and print every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api-processes", type=int, default=1)
    parser.add_argument("--wait-ms", type=int, help="the key's budgetWaitMs (default: what keys have)")
    parser.add_argument("--callers", type=int, nargs="+", default=CALLERS)
    parser.add_argument("--delays-ms", type=int, nargs="+", default=DELAYS_MS)
    parser.add_argument("--caps", type=int, nargs="+", default=CAPS)
    arguments = parser.parse_args()
    print(
        "| callers | provider ms | cap | used in the burst | billed | got | answers after s (first / median / last) "
        "| refusals after s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for delay_ms in arguments.delays_ms:
        with tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True) as directory:
            processes = ("--api-processes", str(arguments.api_processes))
            gateway = Measured(Path(directory) / "data", delay_ms=delay_ms, arguments=processes)
            try:
                for callers in arguments.callers:
                    for cap in arguments.caps:
                        measure(gateway, delay_ms=delay_ms, callers=callers, cap=cap, wait_ms=arguments.wait_ms)
            finally:
                gateway.stop()


if __name__ == "__main__":
    main()
