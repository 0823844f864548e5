"""Takes asynchronous jobs from their queue and keeps them in one runner's hands. The queue is the read model `jobs`.

A lease says who works on a job, so that others leave it alone. It proves nothing: a runner that is stopped for longer
than its lease may go on beside another. What is true of a job is in its stream, whose version lets one of them pass.
"""

from collections.abc import Sequence

from msgspec import Struct

from infra.database import Pool, database_errors

LEASE_S = 15.0
"""So long after its runner has died a job is taken by another."""
RENEW_S = LEASE_S / 3


class TakenJob(Struct, frozen=True, kw_only=True):
    """A job in this runner's hands."""

    job_id: str
    project_id: str
    request_id: str
    """The id for its next request."""
    is_again: bool
    """It has been in a runner's hands before, which may have used `request_id`."""


class JobLeases:
    """The leases of one runner."""

    def __init__(self, pool: Pool, runner: str) -> None:
        self._pool = pool
        self._runner = runner

    async def take(self, fresh: Sequence[str], *, free: int, skipped_keys: Sequence[str]) -> list[TakenJob]:
        """Take at most as many jobs as `fresh` has request ids, for `LEASE_S`. `free`: this runner's free slots.

        Raises:
            Unavailable: the database is away.

        """
        async with database_errors():
            rows = await self._pool.fetch(
                "SELECT * FROM take_jobs($1, $2, $3, $4, $5)", self._runner, fresh, free, LEASE_S, skipped_keys
            )
        return [TakenJob(**row) for row in rows]

    async def renew(self, job_ids: Sequence[str]) -> set[str]:
        """Keep jobs for another `LEASE_S`. Return those that are still in this runner's hands. Raises as `take`."""
        async with database_errors():
            rows = await self._pool.fetch("SELECT renew_jobs($1, $2, $3) AS job_id", self._runner, job_ids, LEASE_S)
        return {row["job_id"] for row in rows}

    async def release(self, job_id: str, *, wait_s: float, request_id: str | None = None) -> None:
        """Give a job back; nobody takes it for `wait_s`. Raises as `take`.

        `request_id`: a new id for its next request; None: the old one.
        """
        async with database_errors():
            await self._pool.execute("SELECT release_job($1, $2, $3, $4)", self._runner, job_id, wait_s, request_id)


async def remove_job_leases(pool: Pool, limit: int) -> int:
    """Remove the leases of jobs that have ended, at most `limit`. Return their number."""
    return int(await pool.fetchval("SELECT remove_job_leases($1)", limit))
