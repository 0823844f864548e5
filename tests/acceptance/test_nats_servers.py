"""Three NATS servers, killed in turn under load: callers are answered all the same, and the books are right."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from msgspec import Struct

from tests.acceptance.crowd import billed, booked, disagreements
from tests.acceptance.gateway import Client, Gateway, environment_for
from tests.acceptance.streams import ALL_CALLS, Streamer, digest_of, error_in
from tests.nats_cluster import NatsCluster, nats_cluster
from tests.provider.running import RunningProvider
from tests.waiting import eventually_so

CALLERS = 24
MAX_WAIT_S = 30
"""For an answer or an error; most take a second. The deadline is 600 s."""
DOWN_S = 6
UP_S = 10
"""Until a server that is back has caught up."""


class Answered(Struct):
    """One request of the crowd, as its caller saw it."""

    name: str
    outcome: str
    began_s: float
    took_s: float
    prompt: str


@pytest.fixture
def cluster() -> Iterator[NatsCluster]:
    with nats_cluster() as running:
        yield running


@pytest.fixture
def clustered(tmp_path: Path, cluster: NatsCluster, provider: RunningProvider) -> Iterator[Gateway]:
    """Two API processes and two workers on the cluster."""
    env = environment_for(provider) | {"GATEWAY_NATS_URL": ",".join(cluster.urls)}
    gateway = Gateway.start(tmp_path / "data", "--api-processes", "2", "--workers", "2", env=env)
    yield gateway
    gateway.stop()


async def test_servers_killed_in_turn_leave_no_caller_waiting(
    cluster: NatsCluster, clustered: Gateway, provider: RunningProvider, session: aiohttp.ClientSession
) -> None:
    admin = Client(session, clustered.address, clustered.first_key)
    _, issued, _ = await admin.call("POST", "/projects/api-keys", {"name": "crowd", "rateLimit": None})
    streamer = Streamer(session, clustered.address, issued["data"]["apiKey"])
    await admin.chat("known to the cache")
    seen: list[Answered] = []
    bystander: list[Answered] = []
    stop = asyncio.Event()
    running = [asyncio.create_task(ask_on(streamer, caller, seen, stop)) for caller in range(CALLERS)]
    running.append(asyncio.create_task(look_on(admin, bystander, stop)))
    kills = []
    await asyncio.sleep(3)
    for server in cluster.servers:
        kills.append(time.monotonic())
        server.kill()
        await asyncio.sleep(DOWN_S)
        server.start()
        await asyncio.sleep(UP_S)
    stop.set()
    await asyncio.gather(*running)
    report(seen, bystander, kills)

    assert max(one.took_s for one in (*seen, *bystander)) < MAX_WAIT_S
    assert {one.outcome for one in bystander} == {"200"}
    counted = Counter(one.outcome for one in seen)
    assert counted["answered"] > 0.9 * len(seen), counted
    await eventually_so(lambda: nothing_is_held(streamer), within_s=60)
    log = booked((await asyncio.to_thread(clustered.run, "replay", "--json")).stdout.splitlines())
    bill = billed(row for row in provider.bill() if row["prompt"] != digest_of("known to the cache"))
    assert disagreements(log, bill) == []
    twice = [one for one in seen if one.outcome == "answered" and len(bill[digest_of(one.prompt)]) != 1]
    assert twice == []


async def ask_on(streamer: Streamer, caller: int, seen: list[Answered], stop: asyncio.Event) -> None:
    """Ask one thing after the other, on every surface, plain and streamed."""
    number = 0
    while not stop.is_set():
        number += 1
        call = ALL_CALLS[(caller + number) % len(ALL_CALLS)]
        is_stream = (caller + number) % 2 == 0
        slow = "[[delay=14000]]" if number % 5 == 4 and caller < 4 else f"[[delay={200 + caller * 20}]]"
        prompt = f"caller {caller} asks {number} {slow} [[big=300]] [[chunks=40]] [[pace=20]]"
        noted = {"x-gateway-metadata": json.dumps({"prompt": digest_of(prompt)})}
        began = time.monotonic()
        status, answer = await streamer.read(call, call.body(prompt, stream=is_stream), **noted)
        took = time.monotonic() - began
        outcome = str(status) if status != 200 else "broke off" if is_stream and error_in(answer) else "answered"
        took -= 14 if "14000" in slow else 0
        seen.append(Answered(f"{call.name}{' stream' if is_stream else ''}", outcome, began, took, prompt))


async def look_on(client: Client, seen: list[Answered], stop: asyncio.Event) -> None:
    """Ask for what needs no queue: an answer from the cache, and the costs."""
    while not stop.is_set():
        for name, asking in (
            ("hit", lambda: client.chat("known to the cache")),
            ("costs", lambda: client.call("GET", "/usage/costs")),
        ):
            began = time.monotonic()
            status, _, _ = await asking()
            seen.append(Answered(name, str(status), began, time.monotonic() - began, ""))
        await asyncio.sleep(0.2)


def report(seen: list[Answered], bystander: list[Answered], kills: list[float]) -> None:
    print(Counter(one.outcome for one in seen))
    for kill in kills:
        near = [one for one in seen if kill - 2 < one.began_s + one.took_s and one.began_s < kill + 16]
        ends = sorted(one.began_s + one.took_s for one in near if one.outcome == "answered")
        fresh = sorted(
            one.began_s + one.took_s - kill for one in near if one.outcome == "answered" and one.began_s > kill
        )
        gaps = [b - a for a, b in pairwise(ends) if a >= kill - 2]
        print(f"gap {max(gaps):.2f} first new answer {fresh[0]:.2f} worst {max(one.took_s for one in near):.2f}")
    for name in ("hit", "costs"):
        took = sorted(one.took_s for one in bystander if one.name == name)
        print(
            f"{name}: n {len(took)} median {took[len(took) // 2]:.3f} max {took[-1]:.3f}",
            Counter(o.outcome for o in bystander if o.name == name),
        )
    worst = sorted(seen, key=lambda one: -one.took_s)[:5]
    for one in worst:
        print(f"{one.took_s:.1f} s", one.name, one.outcome)


async def nothing_is_held(streamer: Streamer) -> bool:
    _, budget, _ = await streamer.native.call("GET", "/usage/budget")
    return not (budget["data"]["daily"] or {}).get("held")
