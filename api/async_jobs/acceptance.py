"""Accepts asynchronous jobs, and cancels them. A job is accepted once its event is in the log: then it is never lost.

Nothing is held for a job and no rate is counted before its request is made: `docs/decisions/0035-asynchronous-jobs.md`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from api.async_jobs.claims import Claim
from api.async_jobs.operations import JobContent, check, encode_content
from api.async_jobs.parts import Accepting
from api.authentication import Caller
from api.services import Services
from domain.async_jobs import JobHistory, decide_ended
from domain.errors import GatewayError, InvalidRequest, RateLimited
from domain.events import BatchAccepted, Event, JobCancelled, RequestAccepted, batch_stream, job_stream
from infra.crash_points import reach
from infra.database import Connection
from infra.event_log import Blob, Commit
from infra.ids import new_id
from infra.job_log import record_job
from projections.jobs import open_jobs

MAX_JOBS_PER_CALL = 1_000
BLOBS_AT_ONCE_BYTES = 4 * 1024 * 1024
FULL_RETRY_AFTER_S = 60.0
KEPT_BEYOND_DEADLINE = timedelta(hours=1)
"""Of a job's content: a runner that ends it at its deadline may be late."""


class NewJob(Struct, frozen=True, kw_only=True):
    """A job as a caller wants it."""

    content: JobContent
    custom_id: str | None = None
    webhook_url: str | None = None


class AcceptedJob(Struct, frozen=True, kw_only=True):
    """A job that is in the log."""

    event: RequestAccepted
    at: datetime


class AcceptedBatch(Struct, frozen=True, kw_only=True):
    """A batch that is in the log."""

    event: BatchAccepted
    at: datetime


async def accept(services: Services, caller: Caller, new: NewJob, claim: Claim | None = None) -> AcceptedJob:
    """Accept one job: it is in the log when this returns.

    Raises:
        Conflict: another call has accepted something under the claim's key.
        GatewayError: what a synchronous caller of the same request would get before any provider is asked.
        RateLimited: the project has as many jobs as it may.

    """
    try:
        model = await check(services, caller, new.content, new_id("req"))
    except InvalidRequest as error:
        raise InvalidRequest(f"`request`: {error.message}", field=error.field or "request") from None
    async with _room(services, caller, 1) as accepting:
        now = datetime.now(UTC)
        deadline = now + timedelta(seconds=services.settings.job_timeout_s)
        accepted, blob = await _accepted(services, caller, new, model, deadline)
        commit = _first(caller, job_stream(accepted.job_id), accepted, now, blob)
        if claim is None:
            accepting.position = await services.log.append(commit)
        else:
            claimed = claim.commit(caller.project_id, caller.key_id, now, job_id=accepted.job_id)
            accepting.position = await services.log.append_with([claimed, commit], _nothing)
    reach("api.after_accept")
    services.jobs.on_accepted()
    return AcceptedJob(event=accepted, at=now)


async def accept_batch(
    services: Services,
    caller: Caller,
    news: Sequence[NewJob],
    webhook_url: str | None,
    claim: Claim | None = None,
) -> AcceptedBatch:
    """Accept jobs together, all of them or none. Raises as `accept`."""
    models = [await _checked(services, caller, new, number) for number, new in enumerate(news)]
    async with _room(services, caller, len(news)) as accepting:
        now, batch_id = datetime.now(UTC), new_id("batch")
        deadline = now + timedelta(seconds=services.settings.job_timeout_s)
        batch = BatchAccepted(
            batch_id=batch_id, key_id=caller.key_id, jobs=len(news), webhook_url=webhook_url, deadline=deadline
        )
        jobs = [
            await _accepted(services, caller, new, model, deadline, batch_id)
            for new, model in zip(news, models, strict=True)
        ]
        await _store_content(services, [blob for _, blob in jobs])
        commits = [claim.commit(caller.project_id, caller.key_id, now, batch_id=batch_id)] if claim is not None else []
        commits.append(_first(caller, batch_stream(batch_id), batch, now))
        commits += [_first(caller, job_stream(accepted.job_id), accepted, now) for accepted, _ in jobs]
        accepting.position = await services.log.append_with(commits, _nothing)
    services.jobs.on_accepted()
    return AcceptedBatch(event=batch, at=now)


async def cancel(services: Services, caller: Caller, job_id: str) -> bool:
    """Cancel a job of the caller's project. False: it has ended before.

    Raises:
        NotFound: there is no such job.
        Unavailable: the database is away.

    """

    def decide(job: JobHistory) -> tuple[Event, ...]:
        return decide_ended(job, JobCancelled(job_id=job_id, key_id=job.accepted.key_id, by_key_id=caller.key_id))

    was_cancelled = await record_job(services.log, job_id, caller.project_id, datetime.now(UTC), decide)
    if was_cancelled:
        await services.jobs.cancelled(job_id)
    return was_cancelled


@asynccontextmanager
async def _room(services: Services, caller: Caller, wanted: int) -> AsyncIterator[Accepting]:
    """Count jobs as the project's while they are being accepted. Yields them, to be told their position in the log.

    Raises:
        RateLimited: it has as many as it may.

    """
    limit, project_id = services.settings.max_open_jobs, caller.project_id
    accepting = services.jobs.accepting(project_id, wanted)
    is_accepted = False
    try:
        folded = await open_jobs(services.caller_pool, project_id)
        count = folded.jobs + services.jobs.unfolded(project_id, folded.position) - wanted
        if count + wanted > limit:
            raise RateLimited(
                f"this project has {count} jobs that have not ended, of {limit} that it may have",
                details={"limit": limit, "open": count, "asked": wanted},
                retry_after_s=FULL_RETRY_AFTER_S,
            )
        yield accepting
        is_accepted = True
    finally:
        if not is_accepted:
            services.jobs.not_accepted(project_id, accepting)


async def _accepted(
    services: Services, caller: Caller, new: NewJob, model: str, deadline: datetime, batch_id: str | None = None
) -> tuple[RequestAccepted, Blob]:
    await asyncio.sleep(0)  # others have their turn between two
    blob_id = new_id("blob")
    content, kept_until = encode_content(new.content), deadline + KEPT_BEYOND_DEADLINE
    blob = await services.jobs.blobs.seal(caller.project_id, blob_id, content, kept_until)
    accepted = RequestAccepted(
        job_id=new_id("job"),
        key_id=caller.key_id,
        operation=new.content.operation,
        model=model,
        batch_id=batch_id,
        custom_id=new.custom_id,
        request_blob_id=blob_id,
        request_bytes=len(new.content.body),
        webhook_url=new.webhook_url,
        deadline=deadline,
        traceparent=services.observer.accepting(),
    )
    return accepted, blob


async def _store_content(services: Services, blobs: Sequence[Blob]) -> None:
    """Store the content of a batch before its events, a few megabytes at a time: an append makes others wait."""
    chunk: list[Blob] = []
    size = 0
    for blob in blobs:
        chunk.append(blob)
        size += len(blob.body)
        if size >= BLOBS_AT_ONCE_BYTES:
            await services.log.write_blobs(chunk)
            chunk, size = [], 0
    if chunk:
        await services.log.write_blobs(chunk)


async def _checked(services: Services, caller: Caller, new: NewJob, number: int) -> str:
    """Check one of several jobs; a refusal says which."""
    await asyncio.sleep(0)  # others have their turn between two
    try:
        return await check(services, caller, new.content, new_id("req"))
    except InvalidRequest as error:
        raise InvalidRequest(f"`requests[{number}]`: {error.message}", field=f"requests[{number}]") from None
    except GatewayError as error:
        error.message = f"`requests[{number}]`: {error.message}"
        raise


def _first(caller: Caller, stream: str, event: Event, at: datetime, *blobs: Blob) -> Commit:
    return Commit(stream=stream, expected_version=0, project_id=caller.project_id, at=at, events=(event,), blobs=blobs)


async def _nothing(_connection: Connection) -> None:
    """Have nothing done in the transaction beside the append."""
