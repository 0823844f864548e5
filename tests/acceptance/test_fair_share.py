"""One tenant floods a worker beside a quiet tenant: the quiet one waits about as long as when it is alone."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.streams import CHAT_CLAUDE, CHAT_GPT, StreamCall, Streamer
from tests.support.waiting import eventually

FLOOD_TAKES_MS = 8_000
"""The provider's time for each request of the flood, for which the quiet tenant would wait."""
QUIET_TAKES_MS = 200
QUIET_REQUESTS = 10
SLOTS = 256
"""Of the worker: fewer than a flood has requests."""
MARGIN_S = 1.0
"""The limit, with room for a busy machine. Without a fair share the quiet tenant waits for seconds."""


@pytest.fixture(scope="module")
def gateway(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with one worker, so that a flood can take all of its slots."""
    directory: Path = tmp_path_factory.mktemp("fair share") / "data"
    env = environment_for(upstream) | {"GATEWAY_WORKER_SLOTS": str(SLOTS)}
    running = Gateway.start(directory, "--api-processes", "1", "--workers", "1", env=env)
    yield running
    running.stop()


@pytest.fixture
async def quiet(gateway: Gateway, session: aiohttp.ClientSession) -> Streamer:
    """Return a tenant that makes one request at a time."""
    project = await new_project(gateway, session, name="quiet")
    assert project.key is not None
    return Streamer(session, gateway.address, project.key)


@pytest.mark.parametrize(("keys", "requests"), [(1, 270), (4, 420)])
async def test_quiet_tenant_is_served_beside_an_abandoned_flood(
    keys: int,
    requests: int,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    quiet: Streamer,
    upstream: RunningProvider,
) -> None:
    flooding = await new_project(gateway, session, name="flood")
    issued = [await new_member(flooding) for _ in range(keys)]
    alone_s = await p95_of(quiet, "alone")
    calls = upstream.calls
    flood = [
        asyncio.create_task(ask(Streamer(session, gateway.address, issued[n % keys]), f"{keys} {n}", FLOOD_TAKES_MS))
        for n in range(requests)
    ]
    await eventually(lambda: upstream.state()["inFlight"] >= 190, within_s=20)
    for request in flood:
        request.cancel()
    beside_s = await p95_of(quiet, f"beside {keys}")
    print(f"{keys} keys, p95 alone {alone_s:.3f} s, beside {beside_s:.3f} s")
    assert upstream.state()["inFlight"] >= 100, "the flood lasted until the end"
    assert beside_s < 2 * alone_s + MARGIN_S
    _, page, _ = await quiet.native.call("GET", "/requests?limit=100")
    assert {request["status"] for request in page["data"]["requests"]} == {"completed"}
    assert len(page["data"]["requests"]) == 2 * QUIET_REQUESTS
    await eventually(lambda: upstream.state()["inFlight"] == 0, within_s=60)
    assert upstream.calls - calls <= requests + QUIET_REQUESTS, "no request is called twice"


async def test_a_slow_provider_does_not_hold_up_callers_of_another(
    gateway: Gateway, session: aiohttp.ClientSession, quiet: Streamer, upstream: RunningProvider
) -> None:
    """Many tenants ask the slow one, the quiet tenant among them; none of them floods."""
    alone_s = await p95_of(quiet, "alone with its provider", CHAT_CLAUDE)
    tenants = [await new_project(gateway, session, name=f"tenant {number}") for number in range(12)]
    callers = [quiet, *(Streamer(session, gateway.address, str(tenant.key)) for tenant in tenants)]
    slow = [
        asyncio.create_task(ask(callers[number % len(callers)], f"slow {number}", FLOOD_TAKES_MS))
        for number in range(30 * len(callers))
    ]
    await eventually(lambda: upstream.state()["inFlight"] >= 150, within_s=40)
    beside_s = await p95_of(quiet, "beside a slow provider", CHAT_CLAUDE)
    assert upstream.state()["inFlight"] >= 100, "the provider was slow until the end"
    assert beside_s < 2 * alone_s + MARGIN_S
    for request in slow:
        request.cancel()
    await eventually(lambda: upstream.state()["inFlight"] == 0, within_s=60)


async def test_a_full_process_refuses_at_once_and_says_when_to_come_again(
    upstream: RunningProvider, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    full = Gateway.start(
        tmp_path / "data", "--workers", "1", env=environment_for(upstream) | {"GATEWAY_MAX_REQUESTS_IN_FLIGHT": "8"}
    )
    try:
        caller = Streamer(session, full.address, full.first_key)
        held = [asyncio.create_task(ask(caller, f"held {number}", FLOOD_TAKES_MS)) for number in range(4)]
        await eventually(lambda: upstream.state()["inFlight"] >= 4, within_s=20)
        status, answer, headers = await caller.native.chat("one more", cache=False)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "OVERLOADED", "1")
        assert await ask(caller, "another provider", 0, CHAT_CLAUDE) == 200
        assert await asyncio.gather(*held) == [200] * 4
        assert (await caller.native.chat("now", cache=False))[0] == 200
    finally:
        full.stop()


async def new_member(project: Client) -> str:
    """Return a member's key with the default limits."""
    _, issued, _ = await project.call("POST", "/projects/api-keys", {"name": "member"})
    return str(issued["data"]["apiKey"])


async def ask(caller: Streamer, prompt: str, takes_ms: int, call: StreamCall = CHAT_GPT) -> int:
    """Send a request without a stream and without the cache. Return the status."""
    body = call.body(f"{prompt} [[delay={takes_ms}]]", stream=False)
    status, _ = await caller.read(call, body)
    return status


async def p95_of(caller: Streamer, name: str, call: StreamCall = CHAT_GPT) -> float:
    """Send some requests one after the other. Return the 95th percentile of their times in seconds."""
    took_s = []
    for number in range(QUIET_REQUESTS):
        started_s = time.monotonic()
        assert await ask(caller, f"{name} {number}", QUIET_TAKES_MS, call) == 200
        took_s.append(time.monotonic() - started_s)
    return sorted(took_s)[QUIET_REQUESTS * 95 // 100]
