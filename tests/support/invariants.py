"""What must be true of a gateway's log, its ledger and its provider's bill, whatever has died: checked from outside."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.provider.running import RunningProvider
from tests.support.crowd import billed, booked, disagreements
from tests.support.fleet import Fleet
from tests.support.gateway import Client
from tests.support.streams import digest_of
from tests.support.waiting import eventually_so

ENDS = ("RequestCompleted", "RequestFailed", "RequestServedFromCache", "RequestRejected")
OUTCOMES = (("CostIncurred",), ("AttemptFailed",), ("AttemptLost",), ("AttemptLost", "CostIncurred"))
"""Of an attempt, in the order of the log. A true cost that comes late replaces an assumed one."""
SETTLE_S = 60


async def broken_invariants(
    fleet: Fleet, client: Client, provider: RunningProvider, *, accepted: Iterable[str], settle_s: float = SETTLE_S
) -> list[Any]:
    """Wait until nothing is in flight, and return what is wrong; an empty list if nothing is.

    `accepted` are the prompts of all requests that were admitted, each of which must have an end.
    """
    await eventually_so(lambda: nothing_in_flight(fleet), within_s=settle_s)
    await eventually_so(lambda: nothing_held(client), within_s=settle_s)
    lines = (await asyncio.to_thread(fleet.run, "replay", "--json")).stdout.splitlines()
    stored = [json.loads(line) for line in lines]
    bill = billed(await asyncio.to_thread(provider.bill))
    wrong: list[Any] = [*wrong_requests(stored, accepted), *disagreements(booked(lines), bill)]
    for command in (("audit", "verify"), ("audit", "balance")):
        proved = await asyncio.to_thread(fleet.run, *command)
        if proved.returncode != 0:
            wrong.append((command, proved.stdout, proved.stderr))
    wrong.extend(await _overspent(client))
    return wrong


async def nothing_in_flight(fleet: Fleet) -> bool:
    return not await fleet.query("SELECT 1 FROM inflight")


async def nothing_held(client: Client) -> bool:
    status, budget, _ = await client.call("GET", "/usage/budget")
    return status == 200 and not any((budget["data"][window] or {}).get("held") for window in ("daily", "monthly"))


def wrong_requests(stored: Iterable[dict[str, Any]], accepted: Iterable[str]) -> list[Any]:
    """Return the requests without an end or with several, and the attempts with several outcomes or costs."""
    ends: Counter[str] = Counter()
    outcomes: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    ended: set[str] = set()
    requests: set[str] = set()
    for one in stored:
        event, kind = one["event"], one["type"]
        if "request_id" not in event:
            continue
        requests.add(event["request_id"])
        if kind in ENDS:
            ends[event["request_id"]] += 1
            ended.add((event.get("metadata") or {}).get("prompt", ""))
        elif "attempt" in event:
            outcomes[event["request_id"], event["attempt"]].append(kind)
    return [
        *(("not one end", request, ends[request]) for request in sorted(requests) if ends[request] != 1),
        *(("outcomes", of, kinds) for of, kinds in outcomes.items() if tuple(kinds) not in OUTCOMES),
        *(("no end", prompt) for prompt in accepted if digest_of(prompt) not in ended),
    ]


async def _overspent(client: Client) -> list[Any]:
    _, budget, _ = await client.call("GET", "/usage/budget")
    windows = [figures for window in ("daily", "monthly") if (figures := budget["data"][window]) is not None]
    return [("over the limit", one) for one in windows if one["spent"] + one["assumed"] + one["held"] > one["limit"]]
