"""Has verifications made: a projector looks for one that was asked for, and starts a process for it.

A process of its own, since a verification computes for as long as a minute for ten million events, and folding must
not wait for that. It has the lowest priority, ends with the projector, and is started here because a projector has the
public keys and the file of anchors that the log is verified with.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import structlog

from infra.child import start_child, stop_child
from infra.database import Pool
from projections.audit_runs import end_run, take_run

STOP_TIMEOUT_S = 2.0
MODULE = "projections.audit_process"

log = structlog.get_logger(__name__)


class AuditRunner:
    """The process that makes a verification, if there is one."""

    def __init__(self, pool: Pool, argv: Sequence[str] = (sys.executable, "-m", MODULE)) -> None:
        """`argv` starts the process; the run's id and its kind are added."""
        self._pool = pool
        self._argv = tuple(argv)
        self._run_id = ""
        self._process: subprocess.Popen[bytes] | None = None

    async def look(self) -> None:
        """Start a process if a verification is asked for. End the run of one that has died.

        Raises:
            Unavailable: the database is away.

        """
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            if code != 0:
                log.error("audit_run_failed", run_id=self._run_id, exit_code=code)
            await end_run(self._pool, self._run_id, "failed", [f"its process ended with code {code}"])
            self._process = None
        if (taken := await take_run(self._pool)) is None:
            return
        self._run_id, kind = taken
        self._process = start_child((*self._argv, self._run_id, kind), env=os.environ)
        log.info("audit_run_started", run_id=self._run_id, kind=kind)

    async def stop(self) -> None:
        """End the process, if there is one. Its run ends as failed, as soon as somebody asks for another."""
        if self._process is not None:
            await asyncio.to_thread(stop_child, self._process, signal.SIGTERM, timeout_s=STOP_TIMEOUT_S)
