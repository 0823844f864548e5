"""Watches the held amounts: that they are the sums of the attempts in flight, and that past days leave no counters.

The counters change with the rows of `inflight` (`migrations/sql/0015_held.sql`), so a difference means that somebody
wrote past them. Repairs nothing: `gateway migrate` counts anew.
"""

from datetime import datetime, timedelta

import structlog

from infra.database import Pool

MAX_REMOVED_ACCOUNTS = 1_000
"""The most accounts and days whose counters one round removes."""
KEPT_DAYS = 1
"""Attempts that were admitted before midnight may end after it."""

log = structlog.get_logger(__name__)


async def watch_held(pool: Pool, now: datetime) -> int:
    """Write a line for each account whose held amount differs, and remove the counters of past days.

    Returns the number of differences.
    """
    differences = await pool.fetch("SELECT * FROM held_differences()")
    for row in differences:
        log.error(
            "held_differs",
            scope=row["scope"],
            id=row["scope_id"],
            day=str(row["budget_day"]),
            counted_nano_usd=int(row["counted_nano_usd"]),
            summed_nano_usd=int(row["summed_nano_usd"]),
            advice="run `gateway migrate`, which counts the held amounts anew",
        )
    await pool.execute(
        "SELECT remove_past_held($1, $2)", (now - timedelta(days=KEPT_DAYS)).date(), MAX_REMOVED_ACCOUNTS
    )
    return len(differences)
