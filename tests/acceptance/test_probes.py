"""Each process says on an address of its own how it is, and readiness knows a projector that is dead or stuck."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.gateway import Gateway, new_project
from tests.support.waiting import eventually_so

TOKEN = "a-token-for-the-metrics"
PROCESSES = ("api-1", "worker-1", "projector")
STUCK_WITHIN_S = 60.0


def free_ports(number: int) -> int:
    """Return the first of so many ports in a row that are free at the moment."""
    for _ in range(100):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for following in range(port + 1, port + number):
                    with socket.socket() as other:
                        other.bind(("127.0.0.1", following))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


@pytest.fixture(params=[None, TOKEN], ids=["open", "with a token"])
def token(request: pytest.FixtureRequest) -> str | None:
    value: str | None = request.param
    return value


async def read(session: aiohttp.ClientSession, address: str, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    async with session.get(f"{address}{path}", headers=headers) as answer:
        return answer.status, await answer.text()


async def test_each_process_serves_its_own_figures(
    tmp_path: Path, session: aiohttp.ClientSession, token: str | None
) -> None:
    port = free_ports(len(PROCESSES))
    env = {"GATEWAY_METRICS_PORT": str(port)} | ({"GATEWAY_METRICS_TOKEN": token} if token else {})
    gateway = Gateway.start(tmp_path / "data", env=env)
    try:
        client = await new_project(gateway, session)
        await client.chat("Hello", model="echo")
        for number, (process, figure) in enumerate(
            zip(
                PROCESSES,
                ("gateway_requests_total", "gateway_worker_deliveries", "gateway_projector_leads 1.0"),
                strict=True,
            )
        ):
            address = f"http://127.0.0.1:{port + number}"
            assert (await read(session, address, "/health/live"))[0] == 200, process
            status, text = await read(session, address, "/metrics", token)
            assert status == 200, process
            assert figure in text, process
            assert "process_resident_memory_bytes" in text, process
            if process == "worker-1":
                assert 'gateway_queue_jobs{lane="sync"} 0.0' in text
                assert 'gateway_provider_circuits{state="open"} 0.0' in text
            status, text = await read(session, address, "/health/ready", token)
            assert (status, '"postgresql":"ok"' in text) == (200, True), process
            if token is not None:
                assert (await read(session, address, "/metrics"))[0] == 401, process
                assert (await read(session, address, "/metrics", "wrong"))[0] == 401, process
                assert await read(session, address, "/health/ready") == (200, '{"status":"ok"}'), process
        assert (await read(session, gateway.address, "/metrics", token))[0] == 404, "not beside the calls"
        assert await read(session, gateway.address, "/health/ready", token) == (200, '{"status":"ok"}')
        assert (await read(session, gateway.address, "/health/live"))[0] == 200
    finally:
        gateway.stop()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway that nobody calls."""
    running = Gateway.start(tmp_path_factory.mktemp("quiet") / "data")
    yield running
    running.stop()


async def test_readiness_knows_a_projector_that_stands_still_while_nothing_is_asked(
    quiet: Gateway, session: aiohttp.ClientSession
) -> None:
    async def projector() -> Any:
        async with session.get(f"{quiet.address}/health/ready") as answer:
            return answer.status, (await answer.json())["projector"]

    async def is_away() -> bool:
        return bool(await projector() == (503, "away"))

    async def is_back() -> bool:
        return bool(await projector() == (200, "ok"))

    assert await projector() == (200, "ok")
    (process,) = quiet.processes("projector")
    process.send_signal(signal.SIGSTOP)
    try:
        await eventually_so(is_away, within_s=STUCK_WITHIN_S)
    finally:
        process.send_signal(signal.SIGCONT)
    await eventually_so(is_back, within_s=30)


async def test_metrics_are_there_while_the_database_is_not(quiet: Gateway, session: aiohttp.ClientSession) -> None:
    servers = [one for one in quiet.tree() if one.name() == "postgres"]
    (postmaster,) = [one for one in servers if one.parent() is not None and one.parent().pid == quiet.process.pid]  # type: ignore[union-attr]
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for one in stopped:
        one.send_signal(signal.SIGSTOP)
    try:
        status, text = await read(session, quiet.address, "/metrics")
        assert status == 200
        for process in PROCESSES:
            assert f'gateway_process_up{{process="{process}"}} 1' in text
            assert f'gateway_up{{process="{process}",part="postgresql"}} 0.0' in text
            assert f'gateway_up{{process="{process}",part="nats"}} 1.0' in text
        assert "gateway_projection_lag_events{" not in text
    finally:
        for one in stopped:
            one.send_signal(signal.SIGCONT)
    await asyncio.sleep(0)
