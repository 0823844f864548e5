"""Waits until the processes that `gateway up` has started say that they are ready.

By the standard library alone: the supervisor would keep for ever what a larger HTTP client imports.
"""

import asyncio
import http.client
import socket
from collections.abc import Mapping, Sequence

LOOK_TIMEOUT_S = 5.0
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.05


Environment = Mapping[str, str]
"""Of a process: it says where its probes are."""


class NotReadyError(Exception):
    """The processes have not become ready in time. They may yet."""


class _SocketConnection(http.client.HTTPConnection):
    """To the Unix socket on which a process serves its probes."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LOOK_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


async def wait_until_ready(
    host: str, port: int, *, workers: Sequence[Environment], projectors: Sequence[Environment], metrics_host: str
) -> None:
    """Wait until the API at an address can serve, and jobs can come to a worker.

    The API is asked last: it has a line for each time that it cannot serve, and needs a projector.

    Raises:
        NotReadyError: that takes too long.

    """

    def are_ready() -> bool:
        return (
            any(_is_ready(_probes_of(environ, metrics_host)) for environ in workers)
            and any(_is_ready(_probes_of(environ, metrics_host)) for environ in projectors)
            and _is_ready(http.client.HTTPConnection(host, port, timeout=LOOK_TIMEOUT_S))
        )

    for _ in range(int(READY_TIMEOUT_S / READY_POLL_S)):
        if await asyncio.to_thread(are_ready):
            return
        await asyncio.sleep(READY_POLL_S)
    raise NotReadyError(f"it is not ready after {READY_TIMEOUT_S:.0f} s: the lines above may say why")


def _probes_of(environ: Environment, metrics_host: str) -> http.client.HTTPConnection:
    path = environ["GATEWAY_METRICS_SOCKET"]
    if path:
        return _SocketConnection(path)
    return http.client.HTTPConnection(metrics_host, int(environ["GATEWAY_METRICS_PORT"]), timeout=LOOK_TIMEOUT_S)


def _is_ready(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
