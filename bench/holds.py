"""Measures how much more a coding agent's requests hold than they cost, over a session of thirty.

The session is that of `tests/support/agent_session.py`; the provider counts four bytes of text as a token, which real
tokenizers do within a tenth for code and English (`bench/tokens.py`). Nothing is timed, so that every run prints
the same.
"""

import asyncio
import statistics

from tests.support.agent_holds import Step, ratios, steps
from tests.support.agent_session import CAP, requests

CAPS = (CAP, 32_000, 8_192)
NANO = 1e9


def row(name: str, found: list[Step], over: str, under: str) -> str:
    """Return a row of the table: the median of a ratio, the first request's and the largest."""
    each = list(ratios(found, over, under))
    return f"| {name} | {statistics.median(each):.2f} | {each[0]:.2f} | {max(each[1:]):.2f} |"


async def measure() -> None:
    """Print the tables."""
    found = await steps(requests())
    print("| what | p50 | first request | most of the others |\n|---|---|---|---|")
    print(row("input: bound by bytes ÷ counted", found, "bound_by_bytes", "counted_tokens"))
    print(row("input: bound ÷ counted", found, "bound_tokens", "counted_tokens"))
    print(row("input: hold ÷ cost", found, "input_hold_nano_usd", "input_cost_nano_usd"))
    for cap in CAPS:
        capped = await steps(body | {"max_tokens": cap} for body in requests())
        print(row(f"hold ÷ cost, cap of {cap:,}", capped, "hold_nano_usd", "cost_nano_usd"))
        print(row(f"the same, read from the cache, cap of {cap:,}", capped, "hold_nano_usd", "cached_cost_nano_usd"))
    print("\n| request | body, bytes | counted | bound | hold, $ | cost, $ |\n|---|---|---|---|---|---|")
    for number in (0, 1, len(found) // 2, len(found) - 1):
        step = found[number]
        print(
            f"| {number + 1} | {step.body_bytes:,} | {step.counted_tokens:,} | {step.bound_tokens:,} | "
            f"{step.hold_nano_usd / NANO:.3f} | {step.cost_nano_usd / NANO:.3f} |"
        )


if __name__ == "__main__":
    asyncio.run(measure())
