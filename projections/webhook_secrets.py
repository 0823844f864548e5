"""Which secrets sign the webhooks of a project: the last, and for a day the one before it."""

from datetime import datetime, timedelta

from infra.database import Pool, database_errors

FORMER_VALID = timedelta(hours=24)
"""So long after a rotation messages are signed with both secrets, and receivers may change theirs."""


async def rotations_in_use(pool: Pool, project_id: str, now: datetime) -> list[int]:
    """Return the rotations whose secrets sign a project's messages, the newest first.

    Raises:
        Unavailable: the database is away.

    """
    async with database_errors():
        row = await pool.fetchrow(
            "SELECT webhook_rotation, webhook_rotated_at FROM projects WHERE project_id = $1", project_id
        )
    if row is None:
        return [0]
    newest: int = row["webhook_rotation"]
    rotated_at: datetime | None = row["webhook_rotated_at"]
    return [newest, newest - 1] if rotated_at is not None and now - rotated_at < FORMER_VALID else [newest]
