"""Reads that are never behind an answer already given: wait until the projections have passed the log's head."""

import asyncio
import time

from domain.errors import Unavailable
from infra.database import Pool, database_errors

MAX_WAIT_S = 5.0
POLL_S = 0.01


async def lags(pool: Pool) -> dict[str, int]:
    """How many events each projection has yet to fold."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT c.projection, h.position - c.position AS lag FROM projection_checkpoints c, log_head h"
        )
    return {row["projection"]: row["lag"] for row in rows}


async def wait_until_folded(pool: Pool, *projections: str) -> None:
    """Wait until these projections hold everything that is in the log now.

    Raises:
        Unavailable: they lag too far behind, or the database is away.

    """
    async with database_errors():
        head = await pool.fetchval("SELECT position FROM log_head")
        deadline = time.monotonic() + MAX_WAIT_S
        while True:
            reached = await pool.fetchval(
                "SELECT CASE WHEN count(*) = cardinality($1::text[]) THEN min(position) ELSE -1 END "
                "FROM projection_checkpoints WHERE projection = ANY ($1)",
                list(projections),
            )
            if reached >= head:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the read models are {head - max(reached, 0)} events behind the log: is the projector running?",
                    retry_after_s=1,
                )
            await asyncio.sleep(POLL_S)
