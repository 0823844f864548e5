"""A crowd of callers on every surface, with and without streams, some of which disconnect; and a check of costs."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any

import aiohttp
from msgspec import Struct

from tests.support.gateway import exact_json
from tests.support.streams import ALL_CALLS, Streamer, deltas, digest_of, error_in

NOTED_AS_REFUSED = ("BUDGET_EXCEEDED", "insufficient_quota", "billing_error")
"""The error codes of the surfaces for a budget that does not cover a request."""


class Crowd:
    """Sends requests of random size by random calls. Some fail at the provider, and some callers disconnect."""

    def __init__(self, streamer: Streamer, seed: int) -> None:
        self._streamer = streamer
        self._random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.by_call: Counter[tuple[str, str]] = Counter()
        self.refused_while_it_fitted: list[Any] = []

    async def arrive(self, number: int, within_s: float) -> None:
        """Send a request at a random moment within `within_s`, so that every process gets a part of the crowd."""
        await asyncio.sleep(self._random.uniform(0, within_s))
        await self.ask(number)

    async def ask(self, number: int) -> None:
        """Send one request, and count its outcome."""
        choose = self._random
        call, is_stream = choose.choice(ALL_CALLS), choose.random() < 0.6
        cap = choose.randrange(60, 140)
        prompt = f"caller {number} {'x' * choose.randrange(400)} {self._steering(cap, is_stream=is_stream)}"
        noted = json.dumps({"number": number, "prompt": digest_of(prompt)})
        asking = self._streamer.opened(call, call.body(prompt, cap, stream=is_stream), **{"x-gateway-metadata": noted})
        patience = choose.uniform(0.05, 1) if choose.random() < 0.1 else None
        leaves_after = choose.randrange(1, 20) if choose.random() < 0.15 else None
        try:
            outcome = await asyncio.wait_for(self._answered(asking, is_stream, leaves_after), patience)
        except TimeoutError:
            outcome = "left"
        except (aiohttp.ClientError, OSError):
            outcome = "cut off"
        self.outcomes[outcome] += 1
        self.by_call[call.name, "stream" if is_stream else "whole"] += outcome in ("answered", "streamed")

    def _steering(self, cap: int, *, is_stream: bool) -> str:
        choose = self._random
        tokens = choose.randrange(40, cap)
        words = [f"[[chunks={tokens}]] [[big={3 * tokens}]] [[delay={choose.randrange(300)}]]"]
        faults = {0.05: "[[status=500]]", 0.08: "[[reset]]"}
        if is_stream:
            words.append(f"[[pace={choose.randrange(6)}]]")
            faults |= {0.13: f"[[cut={choose.randrange(tokens)}]]", 0.18: f"[[streamerror={choose.randrange(tokens)}]]"}
        fault = choose.random()
        words += [word for upto, word in faults.items() if fault < upto][:1]
        return " ".join(words)

    async def _answered(
        self,
        asking: AbstractAsyncContextManager[aiohttp.ClientResponse],
        is_stream: bool,
        leaves_after: int | None,
    ) -> str:
        async with asking as answer:
            if answer.status != 200:
                return self._failed(answer.status, exact_json(await answer.text())["error"])
            if not is_stream:
                await answer.read()
                return "answered"
            if leaves_after is not None:
                pieces = deltas(answer)
                for _ in range(leaves_after):
                    await anext(pieces, None)
                answer.close()
                return "left its stream"
            return "broke off" if error_in(await answer.read()) else "streamed"

    def _failed(self, status: int, error: dict[str, Any]) -> str:
        if not {error.get("code"), error.get("type")} & set(NOTED_AS_REFUSED):
            return f"failed with {status}"
        figures = error.get("details", {})
        if "spent" in figures and figures["spent"] + figures["held"] + figures["asked"] <= figures["limit"]:
            self.refused_while_it_fitted.append(figures)
        return "refused"


class Booked(Struct):
    """The log's amounts for the attempts at one prompt, in nano-dollars."""

    costs: list[int] = []
    """The costs of complete responses, from the usage that the provider reported."""
    estimates: list[int] = []
    """The estimated costs of streams that were cut."""
    assumed: list[int] = []
    """The assumed costs of attempts whose outcome is unknown."""
    settled: list[int] = []
    """The costs that the provider has named of attempts that were assumed before."""
    is_usual: bool = False
    """Of one whose worker died, what is usual was assumed, not its hold."""
    beyond_hold: list[int] = []

    @property
    def spent(self) -> int:
        """Return the sum of what is no assumption."""
        return sum(self.costs) + sum(self.estimates) + sum(self.settled)

    @property
    def total(self) -> int:
        """Return the sum of all amounts."""
        return self.spent + sum(self.assumed)


def booked(events: Iterable[str]) -> dict[str, Booked]:
    """Return the log's amounts by prompt. `events` are the lines of `gateway replay --json`."""
    by_prompt: defaultdict[str, Booked] = defaultdict(Booked)
    for line in events:
        stored = json.loads(line)
        event, of = stored["event"], by_prompt[(stored["event"].get("metadata") or {}).get("prompt", "")]
        match stored["type"]:
            case "CostIncurred":
                (of.estimates if event.get("estimated") else of.costs).append(event["cost_nano_usd"])
                if event["cost_nano_usd"] > event["hold_nano_usd"]:
                    of.beyond_hold.append(event["cost_nano_usd"])
                if event.get("replaces_assumed_nano_usd"):
                    of.assumed.remove(event["replaces_assumed_nano_usd"])
            case "AttemptLost":
                of.assumed.append(event["assumed_nano_usd"])
                of.is_usual |= event["reason"] == "worker_lost" and event["assumed_nano_usd"] < event["hold_nano_usd"]
            case "CostReconciled":
                of.settled.append(event["cost_nano_usd"])
                of.assumed.remove(event["replaces_assumed_nano_usd"])
            case _:
                continue
    by_prompt.pop("", None)
    return by_prompt


def billed(rows: Iterable[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Return the provider's bill by prompt: the end of each call, and its charge."""
    by_prompt: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt"]].append((row["end"], round(Decimal(row["nano_usd"]))))
    return by_prompt


def disagreements(log: dict[str, Booked], bill: dict[str, list[tuple[str, int]]]) -> list[Any]:
    """Return every prompt for which the log and the bill disagree.

    The cost of a complete response equals its charge. A cut stream has an estimated cost, and an unknown outcome
    has an assumed cost, or the one that its provider has named; none is below the bill. There are no other charges.
    Of an attempt whose worker died it may be, if what is usual was assumed: then all of these together are not.
    """
    wrong: list[Any] = []
    above_bill_of_usual = 0
    for prompt in log.keys() | bill.keys():
        of, rows = log.get(prompt, Booked()), bill.get(prompt, [])
        whole = sorted(amount for end, amount in rows if end == "whole")
        is_known = not of.estimates and not of.assumed and not of.settled
        agrees = (
            sorted(of.costs) == whole and len(rows) == len(whole)
            if is_known
            else _taken_out(whole, of.costs) and (of.is_usual or sum(amount for _, amount in rows) <= of.total)
        )
        if of.is_usual:
            above_bill_of_usual += of.total - sum(amount for _, amount in rows)
        if (
            not agrees
            or of.beyond_hold
            or len(rows) > len(of.costs) + len(of.estimates) + len(of.assumed) + len(of.settled)
        ):
            wrong.append((prompt, of, rows))
    if above_bill_of_usual < 0:
        wrong.append(("all of which what is usual was assumed", above_bill_of_usual))
    return wrong


def _taken_out(whole: list[int], costs: list[int]) -> bool:
    """Return whether each cost is the charge of a complete response."""
    return not Counter(costs) - Counter(whole)
