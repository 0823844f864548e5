"""Serves `/health/live`, `/health/ready` and `/metrics` of one process on an address of their own, for those that watch
the processes. Whoever reaches that address may read them, or who has the metrics token if there is one.

On a Unix socket it serves them to the processes of the same user, who need no token (`infra/merged_figures.py`).
"""

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST

from domain.errors import Unavailable
from infra.database import Pool, brief, database_errors
from infra.settings import Settings

MAX_HEADER_BYTES = 8_192
KEEPALIVE_S = 75.0
SHUTDOWN_TIMEOUT_S = 1.0
LOOK_TIMEOUT_S = 3.0
_BEARER = "bearer "

log = structlog.get_logger(__name__)


class Report(Struct, frozen=True, kw_only=True):
    """Whether a process can do its work, and the state of what it needs."""

    is_ready: bool
    details: dict[str, Any]


class Probes:
    """The small HTTP server of one process."""

    def __init__(
        self,
        *,
        report: Callable[[], Awaitable[Report]],
        metrics: Callable[[], Awaitable[bytes]],
        host: str,
        port: int | None,
        token: str | None,
        socket: Path | None = None,
    ) -> None:
        """Serve on this address, and on a Unix socket; None: not there."""
        self._host = host
        self._port = port
        self._report = report
        self._metrics = metrics
        self._token = token.encode() if token is not None else None
        self._socket = socket
        self._runners: list[web.AppRunner] = []

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        report: Callable[[], Awaitable[Report]],
        metrics: Callable[[], Awaitable[bytes]],
    ) -> "Probes":
        """Make the probes of a process with these settings."""
        return cls(
            report=report,
            metrics=metrics,
            host=settings.metrics_host,
            port=settings.metrics_port,
            token=settings.metrics_token,
            socket=settings.metrics_socket,
        )

    async def serve(self) -> None:
        """Serve until `close`, if there is a port or a socket.

        A socket that cannot be served is only told: its directory may have been cleaned away, and the process has
        other work than its figures.

        Raises:
            OSError: the port cannot be served.

        """
        if self._socket is not None:
            runner = await self._begin(self._figures_of_any)
            try:
                await web.UnixSite(runner, str(self._socket)).start()  # takes the place of a dead process's socket
            except OSError as error:
                log.warning("metrics_socket_not_served", socket=str(self._socket), error=str(error))
        if self._port is not None:
            runner = await self._begin(self._figures)
            await web.TCPSite(runner, self._host, self._port).start()
            log.info("probes_ready", host=self._host, port=self._port)

    async def _begin(self, figures: Callable[[web.Request], Awaitable[web.Response]]) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", figures)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def close(self) -> None:
        """Stop serving."""
        for runner in self._runners:
            await runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        report = await self._report()
        details = report.details if self._may_read(request) else {}
        status = "ok" if report.is_ready else "unavailable"
        return _json(200 if report.is_ready else 503, {"status": status} | details)

    async def _figures(self, request: web.Request) -> web.Response:
        if not self._may_read(request):
            return _json(401, {"error": "this needs GATEWAY_METRICS_TOKEN: send it as 'Authorization: Bearer …'"})
        return await self._figures_of_any(request)

    async def _figures_of_any(self, _: web.Request) -> web.Response:
        try:
            return web.Response(body=await self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
        except Unavailable as error:
            return _json(503, {"error": str(error)})

    def _may_read(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        presented = request.headers.get("Authorization", "")
        if presented[: len(_BEARER)].lower() != _BEARER:
            return False
        token = presented[len(_BEARER) :].strip()
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)  # as aiohttp has decoded it


async def state_of(pool: Pool) -> Literal["ok", "away"]:
    """Ask PostgreSQL for a sign of life. One that hangs is away."""
    try:
        async with database_errors(), brief(pool, LOOK_TIMEOUT_S) as connection:
            await connection.fetchval("SELECT 1")
    except Unavailable:  # which `database_errors` makes of the timeout, too
        return "away"
    return "ok"


def _json(status: int, content: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")
