"""PostgreSQL accepts connections but does not answer: requests are refused in time, and served again afterwards."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway, environment_for
from tests.support.streams import CHAT_GPT, MESSAGES_CLAUDE, NATIVE_GPT, Streamer
from tests.support.waiting import eventually_so

MAX_WAIT_S = 60
"""Far below the deadline of 600 s; 10 to 25 s are expected."""


@pytest.fixture
def alone(tmp_path: Path, provider: RunningProvider) -> Iterator[Gateway]:
    gateway = Gateway.start(tmp_path / "data", env=environment_for(provider))
    yield gateway
    for process in servers_of(gateway):
        process.send_signal(signal.SIGCONT)
    gateway.stop()


async def test_requests_are_refused_in_time_and_served_again(alone: Gateway, session: aiohttp.ClientSession) -> None:
    streamer = Streamer(session, alone.address, alone.first_key or "")
    await streamer.native.chat("warm")
    for process in servers_of(alone):
        process.send_signal(signal.SIGSTOP)

    async def timed(status: "asyncio.Future[int]") -> tuple[int, float]:
        began_s = time.monotonic()
        return await status, time.monotonic() - began_s

    async def status_of(index: int) -> int:
        call = (NATIVE_GPT, CHAT_GPT, MESSAGES_CLAUDE)[index % 3]
        status, _ = await streamer.read(call, call.body(f"while it is stopped {index}", stream=index % 2 == 0))
        return status

    async def read() -> int:
        status, _, _ = await streamer.native.call("GET", "/usage/costs")
        return status

    asking = [*(asyncio.ensure_future(status_of(index)) for index in range(6)), asyncio.ensure_future(read())]
    answers = await asyncio.gather(*(timed(one) for one in asking))
    print(answers)
    assert {status for status, _ in answers} <= {503, 529}
    assert max(waited_s for _, waited_s in answers) < MAX_WAIT_S
    for process in servers_of(alone):
        process.send_signal(signal.SIGCONT)

    async def is_served() -> bool:
        status, _, _ = await streamer.native.chat("and again", cache=False)
        return status == 200

    await eventually_so(is_served, within_s=MAX_WAIT_S)


def servers_of(gateway: Gateway) -> list[psutil.Process]:
    """Return PostgreSQL's processes."""
    return [process for process in gateway.tree() if "postgres" in process.name()]
