"""Does to budgets what should not get past them, and compares the budget, the provider's bill and the books.

Each scenario has a key of its own, whose budget is worth `ANSWERS` answers. An answer has a quarter of the tokens of
its cap. The provider is the tests' one: it keeps a bill of its own, by prompt, also of streams whose reader has left.

- so many callers at once, each over its own connection;
- all processes of the system killed at once (SIGKILL) under the callers; started again on the same data, the same
  number of callers asks once more;
- streams, whose callers all leave after a fifth of the answer.

What is printed: what was used of the limit in the burst (by the bill), what was billed in the end as a share of the
limit, what the system shows as a share of the bill, how many calls the provider got a second time, and what the callers
got. More than 100 % billed is an overshoot; less than 100 % shown is money that the books do not have.

    python -m bench.overshoot
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvloop
from msgspec import Struct

from bench.load import Answered, Target, ask
from bench.peers import budgeted_peers
from bench.systems import MODEL, BudgetedSystem, OurGateway, end_in_order, start_or_leave_out
from tests.provider.running import RunningProvider

ANSWERS = 100
"""What a budget is worth."""
CALLERS = (400, 1_500)
TOKENS_IN = 25
TOKENS_OUT = 16
STREAM_TOKENS_OUT = 100
CAP_PER_ANSWER = 4
PACE_MS = 20
LEAVE_AFTER = STREAM_TOKENS_OUT // 5
DELAY_MS = 500
KILL_AFTER_S = 1.0
KILL_DELAY_MS = 2_000
NANO_USD_PER_TOKEN_IN = 150
NANO_USD_PER_TOKEN_OUT = 600
NANO_PER_USD = 10**9
FIRST = json.dumps(
    {"model": MODEL, "messages": [{"role": "user", "content": "[[tokens=1/1]]"}], "max_tokens": TOKENS_OUT}
).encode()
"""Asked alone before a burst, for less than a tenth of a percent of the budget: every system knows the key by then."""
QUIET_WITHIN_S = 150.0
POLL_S = 0.5


class Scenario(Struct, frozen=True, kw_only=True):
    """What is done to a budget."""

    name: str
    callers: int
    tokens_out: int = TOKENS_OUT
    delay_ms: int = DELAY_MS
    leave_after: int | None = None
    """A stream, whose reader leaves after so many events."""
    kill_after_s: float | None = None

    def limit_nano_usd(self) -> int:
        """Return the budget."""
        return ANSWERS * (TOKENS_IN * NANO_USD_PER_TOKEN_IN + self.tokens_out * NANO_USD_PER_TOKEN_OUT)

    def body(self, number: int, wave: int) -> bytes:
        """Return the request of a caller: each prompt is another, so that the bill tells them apart."""
        how = f"[[chunks={self.tokens_out}]][[pace={PACE_MS}]]" if self.leave_after else f"[[delay={self.delay_ms}]]"
        prompt = f"{wave} {number} [[tokens={TOKENS_IN}/{self.tokens_out}]]{how}"
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
        body |= {"max_tokens": self.tokens_out * CAP_PER_ANSWER, "stream": self.leave_after is not None}
        return json.dumps(body).encode()


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a scenario, in nano-dollars."""

    limit: int
    in_burst: Decimal
    """Billed by the time that every caller of the first burst had an answer, or the system was dead."""
    billed: Decimal
    shown: Decimal
    assumed: Decimal
    """The part of what is shown that is counted for calls whose outcome nobody knows."""
    held: Decimal
    """What is still held once all is quiet: nothing, if the books are complete."""
    repeated: int
    answered: Sequence[Answered]

    def cells(self) -> list[str]:
        """Return the outcome as the cells of a row."""
        statuses = Counter(one.status for one in self.answered)
        got = ", ".join(f"{count:,} × {status or 'no answer'}" for status, count in sorted(statuses.items()))
        return [
            f"{share(self.in_burst, self.limit)}",
            f"**{share(self.billed, self.limit)}**",
            f"**{share(self.shown, self.billed)}**{self._of_it()}",
            f"{self.repeated:,}",
            got,
        ]

    def _of_it(self) -> str:
        parts = {"assumed": self.assumed, "more is held": self.held}
        told = [f"{share(part, self.billed)} {name}" for name, part in parts.items() if part]
        return f" ({', '.join(told)})" if told else ""


def share(part: Decimal | int, whole: Decimal | int) -> str:
    """Return a share in percent, one decimal; a dash if there is nothing that it could be of."""
    return f"{100 * Decimal(part) / Decimal(whole):.1f} %" if whole else "–"


def repeats(bill: Sequence[dict[str, Any]]) -> int:
    """Return how many calls of a bill were made before for the same prompt."""
    return sum(count - 1 for count in Counter(row["prompt"] for row in bill).values())


def total(bill: Sequence[dict[str, Any]]) -> Decimal:
    """Return the sum of a bill, in nano-dollars."""
    return sum((Decimal(row["nano_usd"]) for row in bill), Decimal(0))


SCENARIOS = (
    *(Scenario(name=f"{callers:,} callers at once", callers=callers) for callers in CALLERS),
    Scenario(
        name="killed under 400 callers, who ask again", callers=400, delay_ms=KILL_DELAY_MS, kill_after_s=KILL_AFTER_S
    ),
    Scenario(
        name="400 streams, whose callers leave", callers=400, tokens_out=STREAM_TOKENS_OUT, leave_after=LEAVE_AFTER
    ),
)


async def burst(target: Target, scenario: Scenario, wave: int) -> list[Answered]:
    """Have all callers ask at once."""
    bodies = [scenario.body(number, wave) for number in range(scenario.callers)]
    return await asyncio.gather(*(ask(target, body, leave_after=scenario.leave_after) for body in bodies))


async def burst_and_kill(system: BudgetedSystem, key: str, scenario: Scenario, provider: RunningProvider) -> Decimal:
    """Kill the system while the provider works on the callers' requests. Returns what was billed by then."""
    before = total(await asyncio.to_thread(provider.bill))
    asking = asyncio.create_task(burst(system.target_of(key), scenario, 0))
    deadline_s = time.monotonic() + QUIET_WITHIN_S
    while not (await asyncio.to_thread(provider.state))["inFlight"]:
        assert time.monotonic() < deadline_s, "the provider is called"
        await asyncio.sleep(POLL_S / 10)  # another process knows, and has no event to wait for
    await asyncio.sleep(scenario.kill_after_s or 0.0)
    await asyncio.to_thread(system.kill)
    billed = total(await asyncio.to_thread(provider.bill)) - before
    await asking
    return billed


def wait_quiet(system: BudgetedSystem, key: str, provider: RunningProvider) -> None:
    """Wait, at most `QUIET_WITHIN_S`, until nothing is held or under way, and the books have stopped changing."""
    deadline_s = time.monotonic() + QUIET_WITHIN_S
    last, since_s = system.books(key), time.monotonic()
    while time.monotonic() < deadline_s:
        time.sleep(POLL_S)
        books = system.books(key)
        if books != last or books.held or provider.state()["inFlight"]:
            last, since_s = books, time.monotonic()
        if time.monotonic() - since_s > system.settle_s:
            return


def play(system: BudgetedSystem, scenario: Scenario, provider: RunningProvider) -> Outcome:
    """Play a scenario."""
    limit = scenario.limit_nano_usd()
    key = system.issue_budget(scenario.name, limit / NANO_PER_USD)
    known = len(provider.bill())
    uvloop.run(ask(system.target_of(key), FIRST))
    if scenario.kill_after_s is None:
        answered = uvloop.run(burst(system.target_of(key), scenario, 0))
        in_burst = total(provider.bill()[known:])
    else:
        in_burst = uvloop.run(burst_and_kill(system, key, scenario, provider))
        system.spawn()
        system.wait_ready()
        answered = uvloop.run(burst(system.target_of(key), scenario, 1))
    wait_quiet(system, key, provider)
    bill, books = provider.bill()[known:], system.books(key)
    return Outcome(
        limit=limit,
        in_burst=in_burst,
        billed=total(bill),
        shown=Decimal(str(books.shown)) * NANO_PER_USD,
        assumed=Decimal(str(books.assumed)) * NANO_PER_USD,
        held=Decimal(str(books.held)) * NANO_PER_USD,
        repeated=repeats(bill),
        answered=answered,
    )


def main() -> None:
    """Play every scenario with every system that knows budgets, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leave-out", nargs="+", default=(), metavar="NAME", help="systems that are not measured")
    arguments = parser.parse_args()
    end_in_order()
    provider = RunningProvider.start()
    port = int(provider.address.rpartition(":")[2])
    with ExitStack() as stack:
        stack.callback(provider.stop)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-bench-", ignore_cleanup_errors=True)))
        print(f"Load {os.getloadavg()[0]:.1f}. A budget is worth {ANSWERS} answers.\n")
        print("| system | what | used in the burst, of the limit | billed, of the limit | shown, of the bill ", end="")
        print("| calls repeated | callers got, in the end |\n|---|---|---|---|---|---|---|")
        systems = [OurGateway(folder / "ours", port), *budgeted_peers(folder, port)]
        systems = [system for system in systems if system.name not in arguments.leave_out]
        for system in systems:
            stack.callback(system.stop)
            for scenario in SCENARIOS if start_or_leave_out(system) else ():
                cells = play(system, scenario, provider).cells()
                print(f"| {system.name} | {scenario.name} | {' | '.join(cells)} |", flush=True)
            system.stop()
        print("\n" + "\n".join(f"- {system.name}: {system.switched_on}" for system in systems))


if __name__ == "__main__":
    main()
