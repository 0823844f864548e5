"""One row for each asynchronous job and each batch: its state, its times and its outcome.

The open rows are also the queue that jobs are taken from (`infra/job_leases.py`): nothing of it is kept elsewhere.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import asyncpg
from msgspec import Struct

from domain.events import (
    BatchAccepted,
    BatchEnded,
    Event,
    JobCancelled,
    JobFailed,
    JobStarted,
    JobSucceeded,
    RequestAccepted,
    StoredEvent,
    WebhookTold,
)
from infra.database import Connection, Pool, database_errors
from projections.rows import RowType

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
MAX_PAGE = 200

_ACCEPTED = RowType(
    "jobs_row",
    {
        "job_id": "text",
        "project_id": "text",
        "key_id": "text",
        "batch_id": "text",
        "custom_id": "text",
        "operation": "text",
        "model": "text",
        "status": "text",
        "accepted_at": "timestamptz",
        "deadline": "timestamptz",
        "webhook_url": "text",
    },
)
_CHANGED = RowType(
    "jobs_change",
    {
        "job_id": "text",
        "status": "text",
        "started_at": "timestamptz",
        "ended_at": "timestamptz",
        "runs": "integer",
        "request_id": "text",
        "result_blob_id": "text",
        "result_expires_at": "timestamptz",
        "error_code": "text",
        "error_message": "text",
        "error_status": "integer",
        "told": "text",
        "told_status": "integer",
    },
)
_JOB = (
    "SELECT j.*, CASE r.status WHEN 'cached' THEN 0 ELSE r.cost_nano_usd END AS cost_nano_usd "
    "FROM jobs j LEFT JOIN requests r ON r.request_id = j.request_id AND r.project_id = j.project_id "
)
_BATCHES = ("batch_id", "project_id", "key_id", "jobs", "accepted_at", "deadline", "webhook_url")


class JobRow(Struct, frozen=True, kw_only=True):
    """A job as the read model has it."""

    job_id: str
    project_id: str
    key_id: str
    batch_id: str | None
    custom_id: str | None
    operation: str
    model: str
    status: JobStatus
    accepted_at: datetime
    deadline: datetime
    started_at: datetime | None
    ended_at: datetime | None
    runs: int
    request_id: str | None
    result_blob_id: str | None
    result_expires_at: datetime | None
    error_code: str | None
    error_message: str | None
    error_status: int | None
    webhook_url: str | None
    told: Literal["delivered", "given_up"] | None
    told_status: int | None
    cost_nano_usd: int | None
    """Of its last request, in the read model of requests."""


class BatchRow(Struct, frozen=True, kw_only=True):
    """A batch, with the numbers of its jobs by their state."""

    batch_id: str
    project_id: str
    key_id: str
    jobs: int
    accepted_at: datetime
    deadline: datetime
    ended_at: datetime | None
    webhook_url: str | None
    told: Literal["delivered", "given_up"] | None
    told_status: int | None
    counts: dict[JobStatus, int]


class Jobs:
    """Folds the events of jobs and batches."""

    name = "jobs"
    tables = ("jobs", "job_batches")
    reads: frozenset[type[Event]] = frozenset(
        {RequestAccepted, BatchAccepted, BatchEnded, JobStarted, JobSucceeded, JobFailed, JobCancelled, WebhookTold}
    )

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Insert what is accepted, then write what has changed, each row once."""
        accepted: list[dict[str, Any]] = []
        batches: list[tuple[Any, ...]] = []
        changed: dict[str, dict[str, Any]] = {}
        for stored in events:
            match stored.event:
                case RequestAccepted() as event:
                    accepted.append(_accepted(stored, event))
                case BatchAccepted() as event:
                    batches.append(_batch(stored, event))
                case JobStarted() | JobSucceeded() | JobFailed() | JobCancelled() as event:
                    row = changed.setdefault(event.job_id, dict.fromkeys(_CHANGED.columns) | {"job_id": event.job_id})
                    row.update(_change(stored, event))
                case WebhookTold() as event if stored.stream.startswith("job-"):
                    job_id = stored.stream.removeprefix("job-")
                    row = changed.setdefault(job_id, dict.fromkeys(_CHANGED.columns) | {"job_id": job_id})
                    row.update(told=event.outcome, told_status=event.status)
                case _:
                    continue
        if accepted:
            await connection.execute(
                f"INSERT INTO jobs{suffix} ({_ACCEPTED.names}) SELECT * FROM {_ACCEPTED.source}",  # noqa: S608 - constants
                [tuple(row[name] for name in _ACCEPTED.columns) for row in accepted],
            )
        await _update(connection, f"jobs{suffix}", list(changed.values()))
        if batches:
            await connection.executemany(
                f"INSERT INTO job_batches{suffix} ({', '.join(_BATCHES)}) VALUES ($1, $2, $3, $4, $5, $6, $7)",  # noqa: S608 - constants
                batches,
            )
        await _end_batches(connection, f"job_batches{suffix}", events)


class JobSearch(Struct, frozen=True, kw_only=True):
    """A filter for jobs. None means any."""

    project_id: str
    key_id: str | None = None
    status: JobStatus | None = None
    batch_id: str | None = None
    before: str | None = None
    """The job id at which the last page ended."""
    limit: int = 50


async def search_jobs(pool: Pool, filter_: JobSearch) -> list[JobRow]:
    """Return the jobs of a project that match, newest first."""
    async with database_errors():
        rows = await pool.fetch(
            _JOB + "WHERE j.project_id = $1 AND ($2::text IS NULL OR j.key_id = $2) "
            "AND ($3::text IS NULL OR j.status = $3) AND ($4::text IS NULL OR j.batch_id = $4) "
            "AND ($5::text IS NULL OR j.job_id < $5) ORDER BY j.job_id DESC LIMIT $6",
            filter_.project_id,
            filter_.key_id,
            filter_.status,
            filter_.batch_id,
            filter_.before,
            filter_.limit,
        )
    return [JobRow(**row) for row in rows]


async def job_of(pool: Pool, project_id: str, job_id: str) -> JobRow | None:
    """Return a job of a project; None if the project has no such job."""
    async with database_errors():
        row = await pool.fetchrow(_JOB + "WHERE j.project_id = $1 AND j.job_id = $2", project_id, job_id)
    return JobRow(**row) if row is not None else None


async def jobs_of_batch(pool: Pool, batch_id: str, *, after: str, limit: int) -> list[JobRow]:
    """Return the next jobs of a batch after the id `after`, in the order in which they were accepted."""
    async with database_errors():
        rows = await pool.fetch(
            _JOB + "WHERE j.batch_id = $1 AND j.job_id > $2 ORDER BY j.job_id LIMIT $3", batch_id, after, limit
        )
    return [JobRow(**row) for row in rows]


async def search_batches(
    pool: Pool, project_id: str, key_id: str | None, *, before: str | None, limit: int
) -> list[BatchRow]:
    """Return the batches of a project, or of a key, newest first."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT * FROM job_batches WHERE project_id = $1 AND ($2::text IS NULL OR key_id = $2) "
            "AND ($3::text IS NULL OR batch_id < $3) ORDER BY batch_id DESC LIMIT $4",
            project_id,
            key_id,
            before,
            limit,
        )
        return await _with_counts(pool, rows)


async def batch_of(pool: Pool, project_id: str, batch_id: str) -> BatchRow | None:
    """Return a batch of a project; None if the project has no such batch."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT * FROM job_batches WHERE project_id = $1 AND batch_id = $2", project_id, batch_id
        )
        return next(iter(await _with_counts(pool, rows)), None)


class OpenJobs(Struct, frozen=True, kw_only=True):
    """The jobs of a project that have not ended, as far as the log is folded."""

    jobs: int
    position: int
    """Of the last event that is folded."""


async def open_jobs(pool: Pool, project_id: str) -> OpenJobs:
    """Count a project's jobs that have not ended."""
    async with database_errors():
        row = await pool.fetchrow(
            "SELECT (SELECT count(*) FROM jobs WHERE project_id = $1 AND ended_at IS NULL) AS jobs, "
            "coalesce((SELECT position FROM projection_checkpoints WHERE projection = $2), 0) AS position",
            project_id,
            Jobs.name,
        )
    return OpenJobs(**row)


class QueueFigures(Struct, frozen=True, kw_only=True):
    """The jobs that have not ended."""

    queued: int
    running: int
    oldest_s: float
    """The age of the oldest that is queued; 0 if there is none."""


async def queue_figures(pool: Pool) -> QueueFigures:
    """Count the jobs of all projects that have not ended."""
    async with database_errors():
        row = await pool.fetchrow(
            "SELECT count(*) FILTER (WHERE status = 'queued') AS queued, "
            "count(*) FILTER (WHERE status = 'running') AS running, "
            "coalesce(extract(epoch FROM now() - min(accepted_at) FILTER (WHERE status = 'queued')), 0)::float8 "
            "AS oldest_s FROM jobs WHERE ended_at IS NULL"
        )
    return QueueFigures(**row)


async def _with_counts(pool: Pool, rows: Sequence[asyncpg.Record]) -> list[BatchRow]:
    counted = await pool.fetch(
        "SELECT batch_id, status, count(*) AS jobs FROM jobs WHERE batch_id = ANY ($1) GROUP BY batch_id, status",
        [row["batch_id"] for row in rows],
    )
    counts: dict[str, dict[JobStatus, int]] = {row["batch_id"]: {} for row in rows}
    for row in counted:
        counts[row["batch_id"]][row["status"]] = row["jobs"]
    return [BatchRow(**row, counts=counts[row["batch_id"]]) for row in rows]


def _accepted(stored: StoredEvent, event: RequestAccepted) -> dict[str, Any]:
    return {
        "job_id": event.job_id,
        "project_id": stored.project_id,
        "key_id": event.key_id,
        "batch_id": event.batch_id,
        "custom_id": event.custom_id,
        "operation": event.operation,
        "model": event.model,
        "status": "queued",
        "accepted_at": stored.at,
        "deadline": event.deadline,
        "webhook_url": event.webhook_url,
    }


def _batch(stored: StoredEvent, event: BatchAccepted) -> tuple[Any, ...]:
    return (
        event.batch_id,
        stored.project_id,
        event.key_id,
        event.jobs,
        stored.at,
        event.deadline,
        event.webhook_url,
    )


def _change(stored: StoredEvent, event: JobStarted | JobSucceeded | JobFailed | JobCancelled) -> dict[str, Any]:
    """Return the columns that an event sets in its job's row."""
    match event:
        case JobStarted():
            return {"status": "running", "started_at": stored.at, "runs": event.run, "request_id": event.request_id}
        case JobSucceeded():
            return {
                "status": "succeeded",
                "ended_at": stored.at,
                "request_id": event.request_id,
                "result_blob_id": event.result_blob_id,
                "result_expires_at": event.result_expires_at,
            }
        case JobFailed():
            return {
                "status": "failed",
                "ended_at": stored.at,
                "error_code": event.code,
                "error_message": event.message,
                "error_status": event.status,
                **({"request_id": event.request_id} if event.request_id is not None else {}),
            }
        case JobCancelled():
            return {"status": "cancelled", "ended_at": stored.at}


async def _update(connection: Connection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write the columns that are not None into rows of `jobs`, in the order of their ids."""
    if not rows:
        return
    names = [name for name in _CHANGED.columns if name != "job_id"]
    await connection.execute(
        f"UPDATE {table} AS j SET {', '.join(f'{name} = coalesce(n.{name}, j.{name})' for name in names)} "  # noqa: S608 - constants
        f"FROM {_CHANGED.source} AS n WHERE j.job_id = n.job_id",
        [tuple(row[name] for name in _CHANGED.columns) for row in sorted(rows, key=lambda row: str(row["job_id"]))],
    )


async def _end_batches(connection: Connection, table: str, events: Sequence[StoredEvent]) -> None:
    """Write the ends of batches and what became of their webhooks, one at a time: they are few."""
    for stored in events:
        match stored.event:
            case BatchEnded() as event:
                await connection.execute(
                    f"UPDATE {table} SET ended_at = $2 WHERE batch_id = $1",  # noqa: S608 - a constant
                    event.batch_id,
                    stored.at,
                )
            case WebhookTold() as event if stored.stream.startswith("batch-"):
                await connection.execute(
                    f"UPDATE {table} SET told = $2, told_status = $3 WHERE batch_id = $1",  # noqa: S608 - a constant
                    stored.stream.removeprefix("batch-"),
                    event.outcome,
                    event.status,
                )
            case _:
                continue
