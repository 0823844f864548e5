"""The fork server's ends, apart from the gateway: descriptors, exit codes, and who waits for whom."""

import fcntl
import os
from pathlib import Path

import psutil
import pytest

from cli.fork_server import ForkedProcess, ForkServer, _number, gateway_command


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
    process.kill()  # nobody is there any more, and nobody else gets the signal


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
        env = {"GATEWAY_PORT": "no port", "PATH": os.environ["PATH"]}
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
