"""Waits until a connection blocks another one, so that a test can act at that moment."""

import asyncio

from infra.database import Connection

POLL_S = 0.01
PATIENCE_S = 10.0


async def blocked_backend(connection: Connection) -> int:
    """Wait until `connection` blocks a backend. Return the backend's pid."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            backend = await connection.fetchval(
                "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            )
            if backend is not None:
                return int(backend)
            await asyncio.sleep(POLL_S)
