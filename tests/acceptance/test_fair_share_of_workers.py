"""One tenant floods three workers, in the lanes of callers and of jobs: a quiet tenant waits about as long as alone."""

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for, new_project
from tests.support.waiting import eventually, eventually_so

WORKERS = 3
SLOTS = 16
JOB_SLOTS = 8
FLOOD_TAKES_MS = 10_000
"""The provider's time for each request of the flood, for which the quiet tenant would wait."""
QUIET_TAKES_MS = 200
QUIET_REQUESTS = 5
MARGIN_S = 3.0
"""The limit, with room for a busy machine."""


@pytest.fixture(scope="module")
def fleet(upstream: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with three small workers."""
    small = {"GATEWAY_WORKER_SLOTS": str(SLOTS), "GATEWAY_JOB_SLOTS": str(JOB_SLOTS)}
    directory = tmp_path_factory.mktemp("shares-of-workers") / "data"
    running = Gateway.start(directory, "--workers", str(WORKERS), env=environment_for(upstream) | small)
    yield running
    running.stop()


async def answered_s(caller: Client, prompt: str) -> float:
    """Ask. Return the seconds until the answer."""
    began_s = time.monotonic()
    status, answer, _ = await caller.chat(f"{prompt} [[delay={QUIET_TAKES_MS}]]", cache=False)
    assert status == 200, answer
    return time.monotonic() - began_s


async def job_s(caller: Client, prompt: str) -> float:
    """Have a job made. Return the seconds until it has succeeded."""
    began_s = time.monotonic()
    message = {"role": "user", "content": f"{prompt} [[delay={QUIET_TAKES_MS}]]"}
    request = {"model": "gpt-4o-mini", "messages": [message], "cache": False}
    status, accepted, _ = await caller.call("POST", "/jobs", {"operation": "chat", "request": request})
    assert status == 202, accepted

    async def has_ended() -> bool:
        _, job, _ = await caller.call("GET", f"/jobs/{accepted['data']['id']}")
        return bool(job["data"]["status"] == "succeeded")

    await eventually_so(has_ended, within_s=60)
    return time.monotonic() - began_s


async def test_callers_of_a_quiet_tenant_find_a_slot_beside_a_flood_of_every_worker(
    fleet: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    quiet, flooding = await new_project(fleet, session), await new_project(fleet, session)
    issued = [await flooding.call("POST", "/projects/api-keys", {"name": f"key {n}"}) for n in range(4)]
    floods = [Client(session, fleet.address, answer["data"]["apiKey"]) for _, answer, _ in issued]
    alone_s = sorted([await answered_s(quiet, f"alone {number}") for number in range(QUIET_REQUESTS)])
    flood = [
        asyncio.create_task(floods[n % 4].chat(f"flood {n} [[delay={FLOOD_TAKES_MS}]]", cache=False))
        for n in range(2 * WORKERS * SLOTS)
    ]
    await eventually(lambda: upstream.state()["inFlight"] >= WORKERS * SLOTS * 2 // 3, within_s=30)
    beside_s = sorted([await answered_s(quiet, f"beside {number}") for number in range(QUIET_REQUESTS)])
    assert upstream.state()["inFlight"] >= WORKERS * SLOTS // 2, "the flood lasted until the end"
    print(f"alone {alone_s[-1]:.3f} s, beside {beside_s[-1]:.3f} s")
    assert beside_s[-1] < 2 * alone_s[-1] + MARGIN_S
    for request in flood:
        request.cancel()
    await eventually(lambda: upstream.state()["inFlight"] == 0, within_s=60)


async def test_jobs_of_a_quiet_tenant_pass_a_queue_of_anothers(
    fleet: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    quiet, flooding = await new_project(fleet, session), await new_project(fleet, session)
    alone_s = await job_s(quiet, "alone")
    jobs = [
        {
            "operation": "chat",
            "request": {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": f"job {number} [[delay={FLOOD_TAKES_MS}]]"}],
            },
        }
        for number in range(10 * JOB_SLOTS)
    ]
    status, batch, _ = await flooding.call("POST", "/jobs", {"requests": jobs})
    assert status == 202, batch
    await eventually(lambda: upstream.state()["inFlight"] >= JOB_SLOTS - 1, within_s=30)
    beside_s = await job_s(quiet, "beside")
    caller_s = await answered_s(quiet, "a caller beside jobs")
    assert upstream.state()["inFlight"] >= JOB_SLOTS - 1, "the jobs lasted until the end"
    print(f"job alone {alone_s:.3f} s, beside {beside_s:.3f} s, caller {caller_s:.3f} s")
    assert beside_s < 2 * alone_s + MARGIN_S
    assert caller_s < 2 * alone_s + MARGIN_S
    assert (await flooding.call("DELETE", f"/jobs/batches/{batch['data']['id']}"))[0] == 200
