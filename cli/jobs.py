"""`gateway jobs`: list, show, cancel and watch asynchronous jobs and batches."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from cli.admin_session import DATA_DIR, AdminSession, run_in_session
from cli.key import PROJECT
from cli.processes import fail
from cli.terminal import show
from domain.async_jobs import JobHistory, decide_ended
from domain.events import Event, JobCancelled
from domain.money import NanoUsd, to_usd
from infra.job_log import record_job
from infra.notifications import Notifications
from projections.freshness import wait_until_folded
from projections.jobs import (
    MAX_PAGE,
    BatchRow,
    JobRow,
    JobSearch,
    JobStatus,
    batch_of,
    job_of,
    jobs_of_batch,
    queue_figures,
    search_batches,
    search_jobs,
)

OPERATOR = "operator"
"""Who has cancelled a job by a command, in its event."""
WATCH_INTERVAL_S = 1.0
STATES: tuple[JobStatus, ...] = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """List, show, cancel and watch asynchronous jobs and batches."""


@jobs.command("list")
@click.option("--status", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--batch", help="Only jobs of the batch with this id.")
@click.option("--batches", is_flag=True, help="List batches instead of jobs.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=20, show_default=True, help="Lines at most.")
@PROJECT
@DATA_DIR
def list_jobs(
    project: str | None,
    data_dir: Path | None,
    status: JobStatus | None,
    batch: str | None,
    limit: int,
    *,
    batches: bool,
) -> None:
    """List the jobs of a project, newest first."""

    async def run(session: AdminSession) -> None:
        project_id = await session.project_id(project)
        await wait_until_folded(session.pool, "jobs", "requests")
        if batches:
            for row in await search_batches(session.pool, project_id, None, before=None, limit=limit):
                show(_batch_line(row))
            return
        search = JobSearch(project_id=project_id, status=status, batch_id=batch, limit=limit)
        for job in await search_jobs(session.pool, search):
            show(_job_line(job))

    run_in_session(data_dir, run)


@jobs.command("show")
@click.argument("job_id", metavar="ID")
@PROJECT
@DATA_DIR
def show_job(job_id: str, project: str | None, data_dir: Path | None) -> None:
    """Show the job or the batch with the id ID. Its result is with the key that has asked: GET /api/v1/jobs/ID."""

    async def run(session: AdminSession) -> None:
        found = await _found(session, await session.project_id(project), job_id)
        for line in _details(found):
            show(line)

    run_in_session(data_dir, run)


@jobs.command("cancel")
@click.argument("job_id", metavar="ID")
@PROJECT
@DATA_DIR
def cancel_job(job_id: str, project: str | None, data_dir: Path | None) -> None:
    """Cancel the job with the id ID, or all jobs of a batch that have not ended."""

    async def run(session: AdminSession) -> None:
        project_id = await session.project_id(project)
        found = await _found(session, project_id, job_id)
        async with session.notifications() as notifications:
            if isinstance(found, JobRow):
                cancelled = int(await _cancel(session, notifications, project_id, found.job_id))
            else:
                cancelled = await _cancel_batch(session, notifications, project_id, found.batch_id)
        show(f"cancelled {cancelled} jobs" if cancelled != 1 else "cancelled 1 job")

    run_in_session(data_dir, run)


@jobs.command("watch")
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--once", is_flag=True, help="Print one line and end.")
@PROJECT
@DATA_DIR
def watch_jobs(job_id: str | None, project: str | None, data_dir: Path | None, *, once: bool) -> None:
    """Print the progress of a batch or a job until it has ended; without ID that of all jobs, until Ctrl-C."""

    async def run(session: AdminSession) -> None:
        while True:
            await wait_until_folded(session.pool, "jobs", "requests")
            now = f"{datetime.now(UTC):%H:%M:%S}"
            if job_id is None:
                figures = await queue_figures(session.pool)
                show(f"{now}  queued {figures.queued}  running {figures.running}  oldest {figures.oldest_s:.0f} s")
                has_ended = False
            else:
                found = await _found(session, await session.project_id(project), job_id)
                show(f"{now}  {_job_line(found) if isinstance(found, JobRow) else _batch_line(found)}")
                has_ended = found.ended_at is not None
            if once or has_ended:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)

    run_in_session(data_dir, run)


async def _found(session: AdminSession, project_id: str, given: str) -> JobRow | BatchRow:
    """Return the job or the batch with this id. Exits with code 2 if the project has none."""
    await wait_until_folded(session.pool, "jobs", "requests")
    found: JobRow | BatchRow | None = await job_of(session.pool, project_id, given)
    found = found or await batch_of(session.pool, project_id, given)
    if found is None:
        fail(f"there is no job and no batch {given!r}: `gateway jobs list` shows the newest")
    return found


async def _cancel(session: AdminSession, notifications: Notifications, project_id: str, job_id: str) -> bool:
    def decide(job: JobHistory) -> tuple[Event, ...]:
        return decide_ended(job, JobCancelled(job_id=job_id, key_id=job.accepted.key_id, by_key_id=OPERATOR))

    was_cancelled = await record_job(session.log, job_id, project_id, datetime.now(UTC), decide)
    if was_cancelled:
        await notifications.job_cancelled(job_id)
    return was_cancelled


async def _cancel_batch(session: AdminSession, notifications: Notifications, project_id: str, batch_id: str) -> int:
    after, cancelled = "", 0
    while page := await jobs_of_batch(session.pool, batch_id, after=after, limit=MAX_PAGE):
        after = page[-1].job_id
        for row in page:
            if row.ended_at is None:
                cancelled += await _cancel(session, notifications, project_id, row.job_id)
    return cancelled


def _job_line(row: JobRow) -> str:
    name = f"  {row.custom_id}" if row.custom_id is not None else ""
    error = f"  {row.error_code}" if row.error_code is not None else ""
    return (
        f"{row.job_id}  {row.accepted_at:%Y-%m-%d %H:%M:%S}  {row.status:<9}  {row.operation} {row.model}{error}{name}"
    )


def _batch_line(row: BatchRow) -> str:
    counts = "  ".join(f"{status} {row.counts.get(status, 0)}" for status in STATES)
    state = "ended" if row.ended_at is not None else "in progress"
    return f"{row.batch_id}  {row.accepted_at:%Y-%m-%d %H:%M:%S}  {state:<11}  {row.jobs} jobs: {counts}"


def _details(row: JobRow | BatchRow) -> list[str]:
    """Return the fields that are set, a line each."""
    lines = []
    for name in row.__struct_fields__:
        value = getattr(row, name)
        if name == "cost_nano_usd" and value is not None:
            name, value = "cost", f"${to_usd(NanoUsd(value)):f}"  # noqa: PLW2901 - shown in dollars
        if name == "counts":
            value = ", ".join(f"{status} {count}" for status, count in value.items())
        if value is not None and name not in ("project_id", "result_blob_id"):
            lines.append(f"{name.replace('_', ' '):<18} {value}")
    return lines
