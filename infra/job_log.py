"""Appends to one job's stream: read it, decide, append under its version, and start again if it has changed."""

from collections.abc import Callable
from datetime import datetime

from domain.async_jobs import JobHistory
from domain.errors import NotFound, Unavailable
from domain.events import Event, job_stream
from infra.event_log import Blob, Commit, Conflict, EventLog

MAX_TRIES = 20


async def read_job(log: EventLog, job_id: str) -> JobHistory | None:
    """Read a job's stream; None if there is no such job.

    Raises:
        Unavailable: the database is away.

    """
    return JobHistory.of([stored.event for stored in await log.read_stream(job_stream(job_id))])


async def record_job(
    log: EventLog,
    job_id: str,
    project_id: str,
    at: datetime,
    decide: Callable[[JobHistory], tuple[Event, ...]],
    *,
    history: JobHistory | None = None,
    blobs: tuple[Blob, ...] = (),
) -> bool:
    """Append the events that `decide` returns. False: it returned none. If `history` is None, the stream is read.

    Raises:
        NotFound: there is no such job.
        Unavailable: the database is away; the append may have been committed.

    """
    for _ in range(MAX_TRIES):
        if history is None:
            history = await read_job(log, job_id)
        if history is None:
            raise NotFound("there is no such job here")
        events = decide(history)
        if not events:
            return False
        commit = Commit(
            stream=job_stream(job_id),
            expected_version=history.version,
            project_id=project_id,
            at=at,
            events=events,
            blobs=blobs,
        )
        try:
            await log.append(commit)
        except Conflict:
            history = None
        else:
            return True
    raise Unavailable(f"the stream of {job_id} changed {MAX_TRIES} times during this append")
