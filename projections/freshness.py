"""Freshness of the read models: a read waits for the projections, so that it includes every response already sent."""

import asyncio
import time
from collections.abc import Sequence

from msgspec import Struct

from domain.errors import Unavailable
from infra.database import Pool, database_errors

MAX_WAIT_S = 5.0
POLL_S = 0.01
QUARANTINE_RETRY_S = 60.0


class Lag(Struct, frozen=True, kw_only=True):
    """How far a projection is behind the log."""

    events: int
    """Those that it has yet to fold."""
    seconds: float
    """The age of the oldest of them; 0: there is none."""


async def lags(pool: Pool) -> dict[str, Lag]:
    """Return how far each projection is behind."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT c.projection, h.position - c.position AS events, "
            "coalesce(greatest(extract(epoch FROM clock_timestamp() - e.at), 0), 0)::float8 AS seconds "
            "FROM projection_checkpoints c CROSS JOIN log_head h "
            "LEFT JOIN events e ON e.position = c.position + 1 AND e.position <= h.position"
        )
    return {row["projection"]: Lag(events=row["events"], seconds=row["seconds"]) for row in rows}


async def oldest_unfolded_s(pool: Pool, projections: Sequence[str]) -> float | None:
    """Return the age in seconds of the oldest event that one of these projections has not folded, or None."""
    async with database_errors():
        age_s: float | None = await pool.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - e.at)::float8 FROM events e "
            "WHERE e.position <= (SELECT position FROM log_head) AND e.position = "
            "(SELECT min(position) + 1 FROM projection_checkpoints WHERE projection = ANY ($1))",
            list(projections),
        )
    return age_s


async def is_quarantined(pool: Pool, project_id: str) -> bool:
    """True if an event of the project cannot be folded, so that its figures end before it."""
    async with database_errors():
        found: bool = await pool.fetchval(
            "SELECT EXISTS (SELECT 1 FROM quarantined_projects WHERE project_id = $1)", project_id
        )
    return found


async def wait_until_folded(pool: Pool, *projections: str, project_id: str | None = None) -> None:
    """Wait until these projections have folded every event that is in the log now.

    A read that concerns one project passes `project_id`, and is refused if the project is quarantined.

    Raises:
        Unavailable: they lag too far behind, the project is quarantined, or the database cannot be reached.

    """
    async with database_errors():
        head, is_refused = await pool.fetchrow(
            "SELECT position, EXISTS (SELECT 1 FROM quarantined_projects WHERE project_id = $1) FROM log_head",
            project_id,
        )
        if is_refused:
            raise Unavailable(
                "an event of this project cannot be folded, so its figures are not known: "
                "an operator sees why with `gateway projections list`",
                retry_after_s=QUARANTINE_RETRY_S,
            )
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
