"""One API process of two is killed under load: the other goes on, and nobody who asks then is turned away."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for
from tests.support.waiting import eventually

CALLERS = 8
REQUESTS_AFTER = 60
REFUSED, CUT = "refused", "cut"


@pytest.fixture(scope="module")
def pair(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with two API processes."""
    directory = tmp_path_factory.mktemp("two-api-processes") / "data"
    running = Gateway.start(directory, "--api-processes", "2", env=environment_for(upstream))
    yield running
    running.stop()


async def ask(gateway: Gateway, prompt: str) -> tuple[float, object]:
    """Ask over a connection of its own. Return when that was, and the status or what became of the connection."""
    began_s = time.monotonic()
    try:
        async with aiohttp.ClientSession() as session:
            status, _, _ = await Client(session, gateway.address, gateway.first_key).chat(prompt, model="echo")
    except aiohttp.ClientConnectorError:
        return began_s, REFUSED
    except (aiohttp.ClientError, OSError):
        return began_s, CUT
    return began_s, status


async def test_the_other_goes_on_and_refuses_nobody(pair: Gateway) -> None:
    asked: list[tuple[float, object]] = []
    killed_s: float | None = None

    async def ask_on(caller: int) -> None:
        while killed_s is None or sum(began_s > killed_s for began_s, _ in asked) < REQUESTS_AFTER:
            asked.append(await ask(pair, f"{caller} asks {len(asked)}"))

    callers = [asyncio.create_task(ask_on(number)) for number in range(CALLERS)]
    await eventually(lambda: len(asked) >= 3 * CALLERS, within_s=60)
    first, second = pair.processes("api")
    first.kill()
    killed_s = time.monotonic()
    await asyncio.gather(*callers)
    before = Counter(outcome for began_s, outcome in asked if began_s <= killed_s)
    after = Counter(outcome for began_s, outcome in asked if began_s > killed_s)
    assert set(before) <= {200, CUT}, before
    assert before[CUT] <= CALLERS, "only what the killed process had in hand"
    assert set(after) == {200}, after
    await eventually(lambda: len(pair.processes("api")) == 2, within_s=60)
    assert second.pid in {one.pid for one in pair.processes("api")}
