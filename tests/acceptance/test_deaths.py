"""Processes die, stand still or lose PostgreSQL: others take over in seconds, and nothing is asked for nobody."""

import asyncio
import contextlib
import hashlib
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway, environment_for
from tests.support.waiting import eventually, eventually_so

DELAY_S = 3.0
BOUND_S = 3.0
GRACE_S = 6.0
"""For a machine with other things to do. Without heartbeats of their own, jobs came again after ten seconds."""
REQUESTS = 20
STREAMS = 12


@pytest.fixture(scope="module")
def provider() -> Iterator[RunningProvider]:
    running = RunningProvider.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, provider: RunningProvider) -> Iterator[Gateway]:
    """Return a gateway with two workers."""
    env = environment_for(provider)
    gateway = Gateway.start(tmp_path_factory.mktemp("mortal") / "data", "--workers", "2", env=env)
    yield gateway
    gateway.stop()


@pytest.fixture
def caller(mortal: Gateway, session: aiohttp.ClientSession) -> Client:
    return Client(session, mortal.address, mortal.first_key)


def ask(caller: Client, what: str, number: int = REQUESTS) -> list["asyncio.Task[Any]"]:
    """Ask for answers that take a while."""
    prompts = [f"{what} {n} [[delay={DELAY_S * 1_000:.0f}]] [[tokens=40/20]]" for n in range(number)]
    return [asyncio.create_task(caller.chat(prompt, maxTokens=50, cache=False)) for prompt in prompts]


async def in_flight(provider: RunningProvider, calls: int) -> None:
    async def are() -> bool:
        return bool((await asyncio.to_thread(provider.state))["inFlight"] >= calls)

    await eventually_so(are, within_s=30)


def events_of(gateway: Gateway, kind: str) -> list[dict[str, Any]]:
    lines = gateway.run("replay", "--json").stdout.splitlines()
    return [line["event"] for line in map(json.loads, lines) if line["type"] == kind]


async def test_a_stopped_worker_is_overtaken_and_neither_answers_nor_charges_twice_when_it_wakes(
    mortal: Gateway, caller: Client, provider: RunningProvider
) -> None:
    already_billed = provider.billed_nano_usd()
    requests = ask(caller, "stopped")
    await in_flight(provider, REQUESTS // 2)
    stopped, _ = mortal.processes("worker")
    stopped.send_signal(signal.SIGSTOP)
    since_s = time.monotonic()
    try:
        answers = await asyncio.gather(*requests)
        took_s = time.monotonic() - since_s
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert Counter(status for status, _, _ in answers) == {200: REQUESTS}
    assert took_s < BOUND_S + DELAY_S + GRACE_S
    lost = events_of(mortal, "AttemptLost")
    assert lost, "the stopped worker had attempts in hand"

    def are_settled() -> bool:
        charged = sum(cost["cost_nano_usd"] for cost in events_of(mortal, "CostIncurred"))
        return charged == provider.billed_nano_usd() - already_billed

    await eventually(are_settled, within_s=30)  # an attempt that it had claimed and not made costs nothing
    costs = events_of(mortal, "CostIncurred")
    attempts = Counter((cost["request_id"], cost["attempt"]) for cost in costs)
    assert set(attempts.values()) == {1}
    completed = events_of(mortal, "RequestCompleted")
    assert {(one["request_id"], one["attempt"]) for one in completed}.isdisjoint(
        (one["request_id"], one["attempt"]) for one in lost
    ), "the attempt that was given up has answered nobody"


async def test_requests_of_a_killed_worker_are_answered_in_seconds(
    mortal: Gateway, caller: Client, provider: RunningProvider
) -> None:
    requests = ask(caller, "killed")
    await in_flight(provider, REQUESTS // 2)
    first, second = mortal.processes("worker")
    first.kill()
    since_s = time.monotonic()
    answers = await asyncio.gather(*requests)
    took_s = time.monotonic() - since_s
    assert Counter(status for status, _, _ in answers) == {200: REQUESTS}
    assert took_s < BOUND_S + DELAY_S + GRACE_S
    await eventually(lambda: len(mortal.processes("worker")) == 2, within_s=60)
    assert second.pid in {one.pid for one in mortal.processes("worker")}


async def test_a_provider_that_keeps_its_responses_is_asked_what_a_dead_workers_streams_have_cost(
    mortal: Gateway, session: aiohttp.ClientSession, provider: RunningProvider
) -> None:
    prompts = [f"kept {number} [[big=400]] [[chunks=100]] [[pace=60]]" for number in range(STREAMS)]
    begun = asyncio.Semaphore(0)
    reading = [asyncio.create_task(read_response(mortal, session, prompt, begun)) for prompt in prompts]
    for _ in prompts:
        await begun.acquire()
    await asyncio.sleep(2)  # a worker writes down what its streams are ten times a second
    mortal.processes("worker")[0].kill()
    await asyncio.gather(*reading)
    names = {hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts}

    def of_streams(kind: str) -> list[dict[str, Any]]:
        return [event for event in events_of(mortal, kind) if event["operation"] == "responses"]

    def are_settled() -> bool:
        return 0 < len(of_streams("AttemptLost")) == len(of_streams("CostReconciled"))

    await eventually(are_settled, within_s=60)
    settled = of_streams("CostReconciled")
    assert all(one["usage"]["output"] for one in settled)
    billed = sum(int(float(row["nano_usd"])) for row in provider.bill() if row["prompt"] in names)
    assert sum(one["cost_nano_usd"] for one in (*settled, *of_streams("CostIncurred"))) == billed
    await eventually(lambda: len(mortal.processes("worker")) == 2, within_s=60)


async def test_a_provider_that_keeps_its_responses_is_asked_what_those_have_cost_that_nobody_read_to_their_end(
    mortal: Gateway, session: aiohttp.ClientSession, provider: RunningProvider
) -> None:
    left, later = "left early [[big=400]] [[chunks=100]] [[pace=60]]", "in the background [[tokens=400/300]]"
    before = {one["request_id"] for one in events_of(mortal, "CostReconciled")}
    begun = asyncio.Semaphore(0)
    reading = asyncio.create_task(read_response(mortal, session, left, begun))
    await begun.acquire()
    reading.cancel()
    body = {"model": "gpt-4o-mini", "input": later, "background": True}
    headers = {"authorization": f"Bearer {mortal.first_key}"}
    async with session.post(f"{mortal.address}/v1/responses", json=body, headers=headers) as answer:
        queued = await answer.json()
    assert (answer.status, queued["status"], queued["usage"]) == (200, "queued", None)
    names = {hashlib.sha256(prompt.encode()).hexdigest() for prompt in (left, later)}

    settled: list[dict[str, Any]] = []

    def are_settled() -> bool:
        settled[:] = [one for one in events_of(mortal, "CostReconciled") if one["request_id"] not in before]
        return len(settled) == len(names)

    await eventually(are_settled, within_s=120)
    billed = [int(float(row["nano_usd"])) for row in provider.bill() if row["prompt"] in names]
    assert sorted(one["cost_nano_usd"] for one in settled) == sorted(billed), "and each was called once"
    assert {one["source"] for one in settled} == {"provider"}


async def read_response(
    gateway: Gateway, session: aiohttp.ClientSession, prompt: str, begun: asyncio.Semaphore
) -> None:
    """Read a stream of the Responses API to its end, whichever that is; `begun` once some of its text has come."""
    body = {"model": "gpt-4o-mini", "input": prompt, "stream": True, "max_output_tokens": 200}
    headers = {"authorization": f"Bearer {gateway.first_key}"}
    async with session.post(f"{gateway.address}/v1/responses", json=body, headers=headers) as answer:
        has_begun = False
        with contextlib.suppress(aiohttp.ClientError):
            async for line in answer.content:
                if not has_begun and b"output_text.delta" in line:
                    has_begun = True
                    begun.release()


async def test_a_process_that_dies_is_forked_again_from_one_without_secrets(mortal: Gateway, caller: Client) -> None:
    (server,) = mortal.processes("fork-server")
    secrets = [name for name in server.environ() if name.startswith(("GATEWAY_", "OPENAI_", "ANTHROPIC_"))]
    assert secrets == [], "what it forks gets its environment then"
    (api,) = mortal.processes("api")
    api.kill()
    async with aiohttp.ClientSession() as fresh, fresh.get(f"{mortal.address}/health/live") as answer:
        assert answer.status == 200, "the connection waits for it, and is not refused"
    (new,) = mortal.processes("api")
    assert parent_of(new) == mortal.process.pid
    assert not any(name.startswith("GATEWAY_") for name in new.environ()), "its settings are in its memory alone"
    status, _, _ = await caller.chat("to the new process", cache=False)
    assert status == 200


async def test_the_death_of_the_fork_server_ends_no_process(mortal: Gateway, caller: Client) -> None:
    kinds = ("api", "worker", "projector")
    before = {kind: {one.pid for one in mortal.processes(kind)} for kind in kinds}
    (server,) = mortal.processes("fork-server")
    requests = ask(caller, "while it dies")
    server.kill()
    answers = await asyncio.gather(*requests)
    assert [status for status, _, _ in answers] == [200] * REQUESTS
    assert {kind: {one.pid for one in mortal.processes(kind)} for kind in kinds} == before
    await replaced_after_its_death(mortal, "projector")
    await eventually(lambda: [one for one in mortal.processes("fork-server") if one.pid != server.pid], within_s=60)


async def test_a_fork_server_that_stands_still_holds_up_no_start(mortal: Gateway) -> None:
    await replaced_after_its_death(mortal, "projector")  # now it has imported everything
    (server,) = mortal.processes("fork-server")
    server.send_signal(signal.SIGSTOP)
    await replaced_after_its_death(mortal, "projector")
    assert server not in mortal.processes("fork-server"), "it was killed: it must not fork what was given up"


async def test_processes_survive_a_restart_of_postgresql_with_a_line_and_no_trace(
    mortal: Gateway, caller: Client
) -> None:
    kinds = ("api", "worker", "projector")
    before = {kind: {one.pid for one in mortal.processes(kind)} for kind in kinds}
    written = len(mortal.errors())
    (postmaster,) = (one for one in mortal.tree() if one.name() == "postgres" and parent_of(one) == mortal.process.pid)
    postmaster.send_signal(signal.SIGINT)
    await eventually(lambda: not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE, within_s=30)

    async def is_answered() -> bool:
        status, _, _ = await caller.chat(f"after the restart {time.monotonic()}", cache=False)
        return status == 200

    await eventually_so(is_answered, within_s=60)
    await eventually(lambda: "servers_back" in mortal.errors()[written:], within_s=60)
    assert {kind: {one.pid for one in mortal.processes(kind)} for kind in kinds} == before
    lines = mortal.errors()[written:]
    assert "Traceback" not in lines
    assert sum("servers_away" in line for line in lines.splitlines()) == 1


async def test_nothing_is_called_again_for_callers_that_died_with_everything_else(
    tmp_path: Path, provider: RunningProvider
) -> None:
    env = environment_for(provider)
    gateway = await asyncio.to_thread(Gateway.start, tmp_path / "data", env=env)
    async with aiohttp.ClientSession() as session:
        calls = provider.calls
        requests = ask(Client(session, gateway.address, gateway.first_key), "all")
        await in_flight(provider, REQUESTS // 2)
        gateway.kill_all()
        await asyncio.gather(*requests, return_exceptions=True)
    assert provider.calls <= calls + REQUESTS
    called = provider.calls
    key = gateway.first_key
    gateway = await asyncio.to_thread(Gateway.start, tmp_path / "data", env=env)
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, gateway.address, key)

            async def all_have_ended() -> bool:
                _, page, _ = await client.call("GET", "/requests?limit=100")
                return [one["status"] for one in page["data"]["requests"]].count("failed") >= called - calls

            await eventually_so(all_have_ended, within_s=60)
        assert provider.calls == called
    finally:
        gateway.stop()


async def replaced_after_its_death(gateway: Gateway, kind: str) -> None:
    """Kill the only process of a kind, and wait until another is at work."""
    written = len(gateway.errors())
    (process,) = gateway.processes(kind)
    process.kill()
    await eventually(lambda: f'"event": "{kind}_ready"' in gateway.errors()[written:], within_s=60)
    (new,) = gateway.processes(kind)
    assert new.pid != process.pid


def parent_of(process: psutil.Process) -> int | None:
    parent = process.parent()
    return parent.pid if parent is not None else None
