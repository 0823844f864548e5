"""A process dies at each step of a request: callers get an answer or an error, and no cost is lost or made twice.

`tests/support/crash_matrix.py` has the cases.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.crash_matrix import (
    ALERTING_BUDGET_USD,
    BATCHES,
    JOB,
    SOME,
    SWEPT,
    WITHDRAWN,
    Case,
    Result,
    run_case,
    run_job,
    run_swept,
)
from tests.support.fleet import Fleet
from tests.support.gateway import Client
from tests.support.invariants import broken_invariants
from tests.support.load import ANSWERED, CUT_OFF, ask
from tests.support.streams import CHAT_GPT, NATIVE_GPT, Streamer, digest_of

TIMEOUT_S = 120
"""Longer than a check waits for what is in flight: nothing may wait for its deadline."""
TAKEN_OVER_WITHIN_S = 60
SHORT_TIMEOUT_S = 4


class Books:
    """A running gateway with a key, and the check of its books."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, key: str, provider: RunningProvider) -> None:
        self.fleet = fleet
        self.session = session
        self.key = key
        self._provider = provider

    async def check(self, results: Sequence[Result], *more_accepted: str) -> None:
        """Check what the callers saw, how often the provider was called, and the invariants."""
        await self.fleet.until_ready()
        accepted = [one.asked.prompt for one in results if one.case.is_accepted]
        client = Client(self.session, self.fleet.ready_address(), self.key)
        wrong = await broken_invariants(self.fleet, client, self._provider, accepted=[*accepted, *more_accepted])
        prompts = [row["prompt"] for row in await asyncio.to_thread(self._provider.bill)]
        calls = {one.case.name: prompts.count(digest_of(one.asked.prompt)) for one in results}
        assert [str(one) for one in results if one.asked.outcome != one.case.outcome] == []
        assert {one.case.name: calls[one.case.name] for one in results if calls[one.case.name] > one.case.calls} == {}
        assert wrong == []


@asynccontextmanager
async def books(
    home: Path, database_url: str, nats_url: str, provider: RunningProvider, timeout_s: int, workers: int, budget: float
) -> AsyncIterator[Books]:
    """Run a gateway with a key that has a budget for the day, in US dollars."""
    fleet = Fleet(
        home,
        database_url=database_url,
        nats_url=nats_url,
        provider=provider,
        counts={"api": 2, "worker": workers, "projector": 1},
        env={"GATEWAY_REQUEST_TIMEOUT_S": str(timeout_s)},
    )
    timeout = aiohttp.ClientTimeout(total=120)
    async with fleet.running(), aiohttp.ClientSession(timeout=timeout) as session:
        admin = await fleet.new_project(session)
        wanted = {"name": "matrix", "rateLimit": None, "dailyBudget": budget}
        _, issued, _ = await admin.call("POST", "/projects/api-keys", wanted)
        yield Books(fleet, session, issued["data"]["apiKey"], provider)


async def run_cases(
    cases: Sequence[Case],
    home: Path,
    database_url: str,
    nats_url: str,
    provider: RunningProvider,
    budget: float = 1,
) -> None:
    """Run the cases one after the other in one gateway, then check."""
    async with books(home, database_url, nats_url, provider, TIMEOUT_S, workers=3, budget=budget) as running:
        results = []
        for number, case in enumerate(cases, start=1):
            results.append(await run_case(running.fleet, running.session, running.key, case, number))
            print(results[-1], flush=True)
        await running.check(results)


async def test_a_crash_at_some_steps_leaves_callers_with_an_end_and_the_books_in_order(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    await run_cases(SOME, tmp_path / "fleet", database_url, nats_url, provider)


@pytest.mark.matrix
@pytest.mark.parametrize("batch", BATCHES)
async def test_a_crash_at_any_step_leaves_callers_with_an_end_and_the_books_in_order(
    batch: str, tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    budget = ALERTING_BUDGET_USD if batch == "projector" else 1
    await run_cases(BATCHES[batch], tmp_path / "fleet", database_url, nats_url, provider, budget)


@pytest.mark.matrix
async def test_a_request_that_nobody_takes_over_is_ended_by_the_sweeper_even_if_that_dies_of_it(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    home = tmp_path / "fleet"
    async with books(home, database_url, nats_url, provider, SHORT_TIMEOUT_S, workers=1, budget=1) as running:
        results = []
        for number, case in enumerate(SWEPT, start=1):
            results.append(await run_swept(running.fleet, running.session, running.key, case, number))
            print(results[-1], flush=True)
        await running.check(results)


@pytest.mark.matrix
async def test_a_job_succeeds_whatever_dies_of_it(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    async with books(tmp_path / "fleet", database_url, nats_url, provider, TIMEOUT_S, workers=2, budget=1) as running:
        results = []
        for number, case in enumerate(JOB, start=1):
            results.append(await run_job(running.fleet, running.session, running.key, case, number))
            print(results[-1], flush=True)
        await running.check(results)


@pytest.mark.matrix
async def test_a_request_that_its_caller_leaves_before_a_worker_has_it_is_ended_with_its_hold(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    home = tmp_path / "fleet"
    async with books(home, database_url, nats_url, provider, TIMEOUT_S, workers=1, budget=1) as running:
        (worker,) = running.fleet.members["worker"]
        worker.signal(signal.SIGSTOP)
        running.fleet.arm(WITHDRAWN)
        streamer = Streamer(running.session, running.fleet.ready_address(), running.key)
        leaving = asyncio.create_task(ask(streamer, CHAT_GPT, "leaves", is_stream=True))
        await asyncio.sleep(1)
        leaving.cancel()
        await running.fleet.until_crashed("api")
        worker.signal(signal.SIGCONT)
        await running.check([], "leaves")


@pytest.mark.matrix
async def test_a_request_does_not_wait_for_an_equal_one_whose_api_process_is_gone(
    tmp_path: Path, database_url: str, nats_url: str, provider: RunningProvider
) -> None:
    home = tmp_path / "fleet"
    async with books(home, database_url, nats_url, provider, TIMEOUT_S, workers=1, budget=1) as running:
        streamer = Streamer(running.session, running.fleet.ready_address(), running.key)
        running.fleet.arm("api.after_admit")
        first = asyncio.create_task(ask(streamer, NATIVE_GPT, "the same", is_cached=True))
        await running.fleet.until_crashed("api")
        assert (await first).outcome == CUT_OFF
        other = Streamer(running.session, running.fleet.ready_address(), running.key)
        second = await ask(other, NATIVE_GPT, "the same", is_cached=True)
        print(f"answered after {second.waited_s:.1f} s")
        assert (second.outcome, second.error) == (ANSWERED, "")
        assert second.waited_s < TAKEN_OVER_WITHIN_S
        await running.check([], "the same")
