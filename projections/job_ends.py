"""What follows the ends of jobs: batches end with their last job, and webhooks are told.

Looked for in the read model, again and again, so that nothing of it depends on a process that may die in between.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from msgspec import Struct

from domain.errors import Overloaded
from domain.events import BatchEnded, batch_stream, job_stream
from infra.database import Pool, database_errors
from infra.event_log import Commit, Conflict, EventLog
from infra.jobs import JobQueue, PublishUnknown
from projections.jobs import JobStatus

MAX_ENDED = 500
"""Batches, in one go."""
MAX_TOLD = 500
MAX_QUEUED_PER_PROJECT = 256
"""Ends of a project that wait for its receiver. Others wait here, so that they fill no queue of all."""
REQUEUE_AFTER_S = 3_600.0
"""Longer than all deliveries of a message take: one that is still untold was lost with the queue."""
TELL_UNTIL = timedelta(hours=24)

log = structlog.get_logger(__name__)


class EndToTell(Struct, frozen=True, kw_only=True):
    """The end of a job or of a batch, as its webhook is told. It has no content."""

    project_id: str
    url: str
    message_id: str
    type: str
    ended_at: datetime
    data: dict[str, Any]


async def end_batches(pool: Pool, event_log: EventLog, now: datetime) -> int:
    """Append the ends of batches whose jobs have all ended, at most `MAX_ENDED`. Return their number."""
    rows = await pool.fetch(_DONE, MAX_ENDED)
    ended = 0
    for row in rows:
        counts: dict[JobStatus, int] = {status: row[status] for status in ("succeeded", "failed", "cancelled")}
        event = BatchEnded(batch_id=row["batch_id"], key_id=row["key_id"], **counts)
        commit = Commit(
            stream=batch_stream(row["batch_id"]),
            expected_version=1,
            project_id=row["project_id"],
            at=now,
            events=(event,),
        )
        try:
            await event_log.append(commit)
        except Conflict:  # another projector was first, or the projection has not folded it yet
            continue
        ended += 1
    return ended


class WebhookQueue:
    """Queues the ends that webhooks are to be told, for one projector."""

    def __init__(self, pool: Pool, queue: JobQueue, now_s: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._queue = queue
        self._now_s = now_s
        self._queued_at_s: dict[str, float] = {}
        """By stream. Another projector may queue it too: the stream of jobs takes it once, or its receiver sees the
        same message id.
        """

    async def fill(self, now: datetime) -> int:
        """Queue what is untold, at most `MAX_QUEUED_PER_PROJECT` of a project. Return the number of those queued."""
        now_s = self._now_s()
        rows = await self._pool.fetch(_UNTOLD, now - TELL_UNTIL, MAX_QUEUED_PER_PROJECT)
        untold = {row["stream"]: row["project_id"] for row in rows}
        self._queued_at_s = {
            stream: at_s
            for stream, at_s in self._queued_at_s.items()
            if stream in untold and now_s - at_s < REQUEUE_AFTER_S
        }
        new = [stream for stream in untold if stream not in self._queued_at_s][:MAX_TOLD]
        for stream in new:
            try:
                await self._queue.publish_webhook(stream, untold[stream], f"{stream}/{now:%Y%m%d%H}")
            except (Overloaded, PublishUnknown) as error:  # the next round tries again
                log.warning("webhook_not_queued", stream=stream, message=error.message)
                return 0
            self._queued_at_s[stream] = now_s
        return len(new)


class JobEnds:
    """The chore of one projector."""

    def __init__(self, pool: Pool, event_log: EventLog, queue: JobQueue) -> None:
        self._pool = pool
        self._log = event_log
        self._webhooks = WebhookQueue(pool, queue)

    async def tell_once(self) -> None:
        """End the batches that are done, and queue what webhooks are to be told."""
        now = datetime.now(UTC)
        await end_batches(self._pool, self._log, now)
        await self._webhooks.fill(now)


async def end_to_tell(pool: Pool, stream: str) -> EndToTell | None:
    """Return the end that a stream's webhook is to be told; None: it is told, or has no webhook."""
    kind, _, subject = stream.partition("-")
    async with database_errors():
        row = await pool.fetchrow(_JOB if kind == "job" else _BATCH, subject)
    if row is None:
        return None
    shown = dict(row)
    project_id, url, ended_at = shown.pop("project_id"), shown.pop("webhook_url"), shown.pop("ended_at")
    return EndToTell(
        project_id=project_id,
        url=url,
        message_id=subject,
        type=f"job.{row['status']}" if kind == "job" else "batch.ended",
        ended_at=ended_at,
        data={"projectId": project_id, **{name: value for name, value in shown.items() if value is not None}},
    )


_DONE = """
    WITH done AS MATERIALIZED (
        SELECT b.batch_id, b.project_id, b.key_id FROM job_batches b
        WHERE b.ended_at IS NULL AND b.project_id NOT IN (SELECT project_id FROM quarantined_projects)
          AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.batch_id = b.batch_id AND j.ended_at IS NULL)
        LIMIT $1
    )
    SELECT b.batch_id, b.project_id, b.key_id, c.succeeded, c.failed, c.cancelled
    FROM done b CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE j.status = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE j.status = 'failed') AS failed,
               count(*) FILTER (WHERE j.status = 'cancelled') AS cancelled
        FROM jobs j WHERE j.batch_id = b.batch_id
    ) AS c
"""
_UNTOLD = f"""
    SELECT stream, project_id FROM (
        SELECT stream, project_id, row_number() OVER (PARTITION BY project_id ORDER BY ended_at, stream) AS turn FROM (
            SELECT '{job_stream("")}' || job_id AS stream, project_id, ended_at FROM jobs
            WHERE webhook_url IS NOT NULL AND ended_at IS NOT NULL AND told IS NULL AND ended_at > $1
            UNION ALL
            SELECT '{batch_stream("")}' || batch_id, project_id, ended_at FROM job_batches
            WHERE webhook_url IS NOT NULL AND ended_at IS NOT NULL AND told IS NULL AND ended_at > $1
        ) AS ended
    ) AS untold
    WHERE turn <= $2 ORDER BY turn, project_id
"""  # noqa: S608 - constants of this module
_JOB = """
    SELECT project_id, webhook_url, ended_at, job_id AS id, status, operation, model, key_id AS "keyId",
           batch_id AS "batchId", custom_id AS "customId", request_id AS "requestId", error_code AS "errorCode",
           error_message AS "errorMessage"
    FROM jobs WHERE job_id = $1 AND webhook_url IS NOT NULL AND ended_at IS NOT NULL AND told IS NULL
"""
_BATCH = """
    SELECT b.project_id, b.webhook_url, b.ended_at, b.batch_id AS id, b.key_id AS "keyId", b.jobs AS total,
           (SELECT count(*) FROM jobs j WHERE j.batch_id = b.batch_id AND j.status = 'succeeded') AS succeeded,
           (SELECT count(*) FROM jobs j WHERE j.batch_id = b.batch_id AND j.status = 'failed') AS failed,
           (SELECT count(*) FROM jobs j WHERE j.batch_id = b.batch_id AND j.status = 'cancelled') AS cancelled
    FROM job_batches b
    WHERE b.batch_id = $1 AND b.webhook_url IS NOT NULL AND b.ended_at IS NOT NULL AND b.told IS NULL
"""
