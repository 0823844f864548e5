"""The fork server's ends, apart from the gateway: descriptors, exit codes, and who waits for whom."""

import asyncio
import fcntl
import itertools
import os
import signal
from pathlib import Path

import psutil
import pytest

from cli.fork_server import ForkedProcess, ForkServer, _number, gateway_command
from cli.supervisor import Child, ChildSpec, Output
from infra.line_writer import LineWriter


def test_descriptors_get_the_numbers_that_the_command_knows_even_if_they_change_places(tmp_path: Path) -> None:
    opened = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        low = os.open(tmp_path / name, os.O_RDONLY)
        opened.append(fcntl.fcntl(low, fcntl.F_DUPFD, 300))
        os.close(low)
    first, second = opened
    _number([first, second], [second, first])
    try:
        assert (os.read(second, 1), os.read(first, 1)) == (b"a", b"b")
    finally:
        os.close(first)
        os.close(second)


@pytest.mark.parametrize("code", [0, 3])
def test_a_forked_process_tells_how_it_ended(code: int) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    process = ForkedProcess(pid)
    while process.poll() is None:
        pass
    assert process.poll() == code
    process.kill()  # sends no signal: another process may have the id by now


async def test_without_a_server_nothing_is_forked() -> None:
    output = os.open(os.devnull, os.O_WRONLY)
    try:
        assert await ForkServer().fork(gateway_command("--help"), env={}, output=output) is None
    finally:
        os.close(output)


async def test_a_command_is_forked_with_its_environment_and_output_and_without_settings_of_the_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_ENCRYPTION_KEY", "secret")
    read_end, write_end = os.pipe()
    with ForkServer() as server:
        assert server.process is not None
        assert "GATEWAY_ENCRYPTION_KEY" not in psutil.Process(server.process.pid).environ()
        env = {"GATEWAY_PORT": "no port", "PATH": os.environ["PATH"], "NO_TEXT": os.fsdecode(b"caf\xe9")}
        process = await server.fork(gateway_command("api"), env=env, output=write_end)
        os.close(write_end)
        assert process is not None
        with os.fdopen(read_end) as output:
            said = output.read()
        while process.poll() is None:
            pass
    assert process.returncode == 2
    assert "GATEWAY_PORT" in said


async def test_a_server_that_has_died_forks_nothing() -> None:
    with ForkServer() as server:
        assert server.process is not None
        server.process.kill()
        output = os.open(os.devnull, os.O_WRONLY)
        assert await server.fork(gateway_command("api"), env={}, output=output) is None
        os.close(output)


async def test_what_was_about_to_be_forked_ends_with_its_server_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server dies after its fork and before it says so, as if at the worst moment."""
    with ForkServer() as server:
        output = os.open(os.devnull, os.O_WRONLY)
        first = await server.fork(gateway_command("--help"), env={}, output=output)
        assert first is not None
        assert server.process is not None
        monkeypatch.setattr("cli.fork_server.FORK_TIMEOUT_S", 0.2)
        server.process.send_signal(signal.SIGSTOP)
        assert await server.fork(gateway_command("--help"), env={}, output=output) is None
        os.close(output)
        assert server.process.poll() is not None
        while first.poll() is None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(0.01)
    assert not [one for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = itertools.count()
    ends = asyncio.Event()

    def start(*_: object, **__: object) -> object:
        if next(tries) == 0:
            raise BlockingIOError("no room for a process")
        ends.set()
        raise BlockingIOError("no room for a process")

    monkeypatch.setattr("cli.supervisor.start_child", start)
    said: list[str] = []
    output = Output(LineWriter())
    monkeypatch.setattr(output, "say", lambda name, *texts: said.append(f"{name}: {' '.join(texts)}"))
    child = Child(ChildSpec(name="api-1", argv=("gateway",), env={}), output, ForkServer())
    running = asyncio.create_task(child.run())
    await asyncio.wait_for(ends.wait(), 10)
    running.cancel()
    assert said[0] == "api-1: cannot be started: no room for a process; starting it again"
