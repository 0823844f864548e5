"""What a piece of work takes of this process and of a PostgreSQL server on this machine, in CPU time.

A server that is elsewhere shows as one that takes nothing.
"""

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import psutil

from infra.database import Pool

_Result = TypeVar("_Result")


class Taken(NamedTuple):
    """What a piece of work took, in seconds."""

    clock_s: float
    here_s: float
    """CPU of this process and of those that it started."""
    server_s: float


class Server:
    """The processes of the server that a pool is connected to."""

    def __init__(self, postmaster: psutil.Process | None) -> None:
        self._postmaster = postmaster

    @classmethod
    async def of(cls, pool: Pool) -> "Server":
        """Find the server by one of its sessions."""
        session: int = await pool.fetchval("SELECT pg_backend_pid()")
        with suppress(psutil.NoSuchProcess):
            return cls(psutil.Process(session).parent())
        return cls(None)

    def used_s(self) -> float:
        """The CPU seconds of the server's processes, those that have ended among them."""
        if self._postmaster is None:
            return 0.0
        used = [self._postmaster.cpu_times()]
        for process in self._postmaster.children():
            with suppress(psutil.NoSuchProcess):
                used.append(process.cpu_times())
        return sum(times.user + times.system for times in used) + used[0].children_user + used[0].children_system

    async def timed(self, work: Callable[[], Awaitable[_Result]]) -> tuple[_Result, Taken]:
        """Do the work, and say what it took."""
        began_s, here_s, server_s = time.perf_counter(), _here_s(), self.used_s()
        result = await work()
        return result, Taken(time.perf_counter() - began_s, _here_s() - here_s, self.used_s() - server_s)


def _here_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
