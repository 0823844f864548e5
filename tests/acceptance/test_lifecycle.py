"""Start, stop and crash of `gateway up`: it keeps its data, and leaves no process behind."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import COMMAND, Client, Gateway, clean_environment, environment_for
from tests.support.waiting import eventually


@pytest.fixture
def started() -> Iterator[list[Gateway]]:
    """Collect the gateways that the test starts, and stop those that still run."""
    gateways: list[Gateway] = []
    yield gateways
    for gateway in gateways:
        if gateway.process.poll() is None:
            gateway.stop()


def up(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a `gateway up` that is expected to fail."""
    return subprocess.run(
        [COMMAND, "up", *arguments],
        env=clean_environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_second_start_finds_everything_and_nothing_stays_behind(
    tmp_path: Path, started: list[Gateway], session: aiohttp.ClientSession
) -> None:
    first = Gateway.start(tmp_path / "data")
    started.append(first)
    assert first.first_key is not None
    status, answer, _ = await Client(session, first.address, first.first_key).chat("remember", model="echo")
    assert status == 200, answer
    tree = first.tree()
    names = " ".join(" ".join(process.cmdline()) for process in tree)
    for expected in ("gateway api", "gateway worker", "gateway projector", "postgres", "nats-server"):
        assert expected in names
    assert first.first_key not in first.errors()
    assert first.stop() == 0
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert alive == []

    second = Gateway.start(tmp_path / "data")
    started.append(second)
    assert second.first_key is None
    client = Client(session, second.address, first.first_key)
    _, again, _ = await client.chat("remember", model="echo")
    assert again["data"]["cached"] is True
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["requests"] == 2
    assert second.stop(signal.SIGINT) == 0


async def test_requests_in_flight_are_finished_before_it_stops(
    tmp_path: Path, started: list[Gateway], session: aiohttp.ClientSession, provider: RunningProvider
) -> None:
    gateway = Gateway.start(tmp_path / "data", env=environment_for(provider))
    started.append(gateway)
    client = Client(session, gateway.address, gateway.first_key)
    requests = [asyncio.create_task(client.chat(f"slow {n} [[delay=2500]]")) for n in range(10)]
    await eventually(lambda: provider.state()["inFlight"] == 10)
    gateway.process.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*requests)
    assert [status for status, _, _ in answers] == [200] * 10
    assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_dead_process_is_restarted_and_reported(
    tmp_path: Path, started: list[Gateway], session: aiohttp.ClientSession
) -> None:
    gateway = Gateway.start(tmp_path / "data")
    started.append(gateway)
    client = Client(session, gateway.address, gateway.first_key)
    for command in ("worker", "projector", "api"):
        gateway.processes(command)[0].kill()
    for server in ("nats-server", "postgres"):
        next(child for child in gateway.tree() if child.name() == server).kill()
    for attempt in range(150):
        try:
            status, answer, _ = await client.chat(f"after the fall {attempt}", model="echo")
        except aiohttp.ClientError:
            status, answer = 0, "no connection"
        if status == 200:
            break
        await asyncio.sleep(0.2)
    assert status == 200, answer
    _, stats, _ = await client.call("GET", "/usage/stats")
    assert stats["data"]["totals"]["requests"] >= 1
    errors = gateway.errors()
    for name in ("api-1", "worker-1", "projector", "nats", "postgresql"):
        assert f"{name:<11} | ended (killed by SIGKILL); starting it again" in errors
    verified = await asyncio.to_thread(gateway.run, "audit", "verify")
    assert verified.returncode == 0, verified.stdout


def test_second_up_on_one_directory_is_refused(tmp_path: Path, started: list[Gateway]) -> None:
    gateway = Gateway.start(tmp_path / "data")
    started.append(gateway)
    refused = up("--data-dir", str(tmp_path / "data"), "--port", "0", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("gateway: another `gateway up` runs on ")
    port = gateway.address.rpartition(":")[2]
    taken = up("--data-dir", str(tmp_path / "other"), "--port", port, cwd=tmp_path)
    assert taken.returncode == 2
    assert f"cannot serve 127.0.0.1:{port}" in taken.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "70000"), "gateway: GATEWAY_PORT is '70000': allowed is a port"),
        (("--workers", "many"), "gateway: GATEWAY_WORKERS is 'many': allowed is a whole number"),
        (("--host", "0.0.0.0"), "gateway: GATEWAY_MASTER_KEY is not set"),
        (("--data-dir", "/proc/nowhere"), "gateway: cannot write to /proc/nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    refused = up(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert refused.stderr.startswith(message)


def test_a_command_without_a_gateway_fails_clearly(tmp_path: Path) -> None:
    requests = subprocess.run(
        [COMMAND, "replay", "--data-dir", str(tmp_path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert requests.returncode == 2
    assert requests.stderr.startswith("gateway: no gateway runs on")


def test_nothing_stays_behind_when_the_supervisor_is_killed(tmp_path: Path, started: list[Gateway]) -> None:
    gateway = Gateway.start(tmp_path / "data")
    started.append(gateway)
    tree = gateway.tree()
    gateway.process.kill()
    _, alive = psutil.wait_procs(tree, timeout=40)
    assert alive == []
    with socket.socket() as probe:
        probe.settimeout(1)
        port = int(gateway.address.rpartition(":")[2])
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    again = Gateway.start(tmp_path / "data")
    started.append(again)
    assert again.stop() == 0
