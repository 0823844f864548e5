"""`/jobs`: requests that are made without their caller waiting, one by one or up to 1,000 together."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter, RequestBody
from litestar.response import Stream
from msgspec import Struct

from api.async_jobs import acceptance
from api.async_jobs.acceptance import NewJob
from api.async_jobs.claims import Claim, look
from api.async_jobs.operations import JobContent, OperationName, kept_headers
from api.authentication import Caller
from api.delivery import REPLAYED
from api.guards import requires_key
from api.idempotency import HEADER, idempotency_of
from api.native.envelope import RawResponse, Success
from api.native.job_shapes import (
    BatchOut,
    BatchPageOut,
    JobBody,
    JobOut,
    JobPageOut,
    JobRequestBody,
    accepted_batch,
    accepted_job,
    batch_out,
    job_out,
)
from api.native.validation import declared_query
from api.report_scope import visible_key
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.errors import InvalidRequest, NotFound, Unavailable
from domain.events import JobsClaimed
from domain.json_numbers import encode_with_raw
from infra.event_log import Conflict
from infra.outbound import check_url
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
    search_batches,
    search_jobs,
)

RESULTS_PAGE = 50


class JobsQuery(Struct, frozen=True, kw_only=True):
    """Selects jobs; `before` is the last id of the previous page."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    batch_id: Annotated[str | None, QueryParameter(name="batchId")] = None
    status: FromQuery[JobStatus | None] = None
    before: FromQuery[str | None] = None
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 50


class BatchesQuery(Struct, frozen=True, kw_only=True):
    """Selects batches; `before` is the last id of the previous page."""

    key_id: Annotated[str | None, QueryParameter(name="keyId")] = None
    before: FromQuery[str | None] = None
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)] = 50


@post(
    "/jobs",
    summary="Have requests made without waiting",
    operation_id="ApiV1JobsAccept",
    guards=[requires_key],
    status_code=202,
)
async def accept_jobs(
    data: RequestBody[JobBody],
    request: HttpRequest,
    caller: NamedDependency[Caller],
    services: NamedDependency[Services],
) -> Response[Success[JobOut | BatchOut]]:
    """Accept a job, or several as a batch. They are in the log when this answers, and will be made or fail.

    A repeat under the same `Idempotency-Key` gets the job or the batch that there is.
    """
    if HEADER not in request.headers:
        return RawResponse(Success(data=await _accepted(data, request, caller, services, None)), status_code=202)
    now = datetime.now(UTC)
    known_by = await idempotency_of(request, caller, await request.body(), now)
    assert known_by is not None, "the header is there"
    claim = await look(services.log, known_by, now)
    if claim.earlier is None:
        try:
            accepted = await _accepted(data, request, caller, services, claim)
        except Conflict:  # a repeat that came at once was first
            claim = await look(services.log, known_by, now)
        else:
            return RawResponse(Success(data=accepted), status_code=202)
    if claim.earlier is None:
        raise Unavailable("another request with this Idempotency-Key is being accepted", retry_after_s=1)
    earlier = await _earlier(services, caller, claim.earlier)
    return RawResponse(Success(data=earlier), status_code=202, headers=REPLAYED)


async def _accepted(
    data: JobBody, request: HttpRequest, caller: Caller, services: Services, claim: Claim | None
) -> JobOut | BatchOut:
    if data.webhook_url is not None:
        check_url(data.webhook_url, field="webhookUrl", allow_loopback=services.settings.allow_loopback_urls)
    headers = kept_headers(request.scope["headers"])
    if data.requests is not None:
        news = [_new(one.operation, one.request, headers, one.custom_id) for one in _alone(data)]
        return accepted_batch(await acceptance.accept_batch(services, caller, news, data.webhook_url, claim))
    if data.operation is None or not bytes(data.request):
        raise InvalidRequest("a job has `operation` and `request`, a batch `requests`", field="operation")
    new = _new(data.operation, data.request, headers, data.custom_id, data.webhook_url)
    return accepted_job(await acceptance.accept(services, caller, new, claim))


async def _earlier(services: Services, caller: Caller, claimed: JobsClaimed) -> JobOut | BatchOut:
    """What an earlier call has accepted, as it is now."""
    if claimed.batch_id is not None:
        return await _batch(services, caller, claimed.batch_id)
    return await _job(services, caller, claimed.job_id or "")


@get(
    "/jobs",
    summary="Jobs and their states",
    operation_id="ApiV1JobsPage",
    guards=[requires_key, declared_query],
    dependencies={"wanted": Provide(JobsQuery, sync_to_thread=False)},
)
async def list_jobs(
    wanted: NamedDependency[JobsQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[JobPageOut]:
    """List jobs, newest first; a member sees its own key's."""
    await wait_until_folded(services.pool, "jobs", "requests", project_id=caller.project_id)
    page = await search_jobs(
        services.pool,
        JobSearch(
            project_id=caller.project_id,
            key_id=visible_key(caller, wanted.key_id),
            status=wanted.status,
            batch_id=wanted.batch_id,
            before=wanted.before,
            limit=wanted.limit,
        ),
    )
    following = page[-1].job_id if len(page) == wanted.limit else None
    return Success(data=JobPageOut(jobs=[job_out(row, None) for row in page], next=following))


@get(
    "/jobs/{job_id:str}",
    summary="One job, with its result",
    operation_id="ApiV1JobsJobIdOne",
    response_class=RawResponse,
    guards=[requires_key],
)
async def get_job(
    job_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[JobOut]:
    """Show a job, and its result once it has succeeded."""
    return Success(data=await _job(services, caller, id_in_path(job_id)))


@delete(
    "/jobs/{job_id:str}",
    summary="Cancel a job",
    operation_id="ApiV1JobsJobIdCancel",
    response_class=RawResponse,
    guards=[requires_key],
    status_code=200,
)
async def cancel_job(
    job_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[JobOut]:
    """Cancel a job. One that has ended stays as it is. A call that has begun is charged, and its answer is dropped."""
    row = await _visible(services, caller, id_in_path(job_id))
    await acceptance.cancel(services, caller, row.job_id)
    return Success(data=await _job(services, caller, row.job_id))


@get(
    "/jobs/batches",
    summary="Batches and their progress",
    operation_id="ApiV1JobsBatchesPage",
    guards=[requires_key, declared_query],
    dependencies={"wanted": Provide(BatchesQuery, sync_to_thread=False)},
)
async def list_batches(
    wanted: NamedDependency[BatchesQuery], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[BatchPageOut]:
    """List batches, newest first; a member sees its own key's."""
    await wait_until_folded(services.pool, "jobs", project_id=caller.project_id)
    key_id = visible_key(caller, wanted.key_id)
    page = await search_batches(services.pool, caller.project_id, key_id, before=wanted.before, limit=wanted.limit)
    following = page[-1].batch_id if len(page) == wanted.limit else None
    return Success(data=BatchPageOut(batches=[batch_out(row) for row in page], next=following))


@get(
    "/jobs/batches/{batch_id:str}",
    summary="One batch",
    operation_id="ApiV1JobsBatchesBatchIdOne",
    guards=[requires_key],
)
async def get_batch(
    batch_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[BatchOut]:
    """Show how far a batch is."""
    return Success(data=await _batch(services, caller, id_in_path(batch_id)))


@delete(
    "/jobs/batches/{batch_id:str}",
    summary="Cancel what of a batch has not ended",
    operation_id="ApiV1JobsBatchesBatchIdCancel",
    guards=[requires_key],
    status_code=200,
)
async def cancel_batch(
    batch_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[BatchOut]:
    """Cancel the jobs of a batch that have not ended."""
    batch = await _visible_batch(services, caller, id_in_path(batch_id))
    after = ""
    while page := await jobs_of_batch(services.caller_pool, batch.batch_id, after=after, limit=MAX_PAGE):
        after = page[-1].job_id
        for row in page:
            if row.ended_at is None:
                await acceptance.cancel(services, caller, row.job_id)
    return Success(data=await _batch(services, caller, batch.batch_id))


@get(
    "/jobs/batches/{batch_id:str}/results",
    summary="The results of a batch, a line for each job that has ended",
    operation_id="ApiV1JobsBatchesBatchIdResults",
    guards=[requires_key],
    media_type="application/jsonl",
)
async def get_batch_results(
    batch_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Response[Any]:
    """Send the ended jobs of a batch as JSON lines, each as `GET /jobs/{id}` shows it."""
    batch = await _visible_batch(services, caller, id_in_path(batch_id))
    await wait_until_folded(services.caller_pool, "jobs", "requests", project_id=caller.project_id)

    async def lines() -> AsyncIterator[bytes]:
        after = ""
        while page := await jobs_of_batch(services.caller_pool, batch.batch_id, after=after, limit=RESULTS_PAGE):
            after = page[-1].job_id
            for row in page:
                if row.ended_at is not None:
                    yield encode_with_raw(job_out(row, await _result(services, row))) + b"\n"

    return Stream(lines(), media_type="application/jsonl")


HANDLERS = (
    accept_jobs,
    list_jobs,
    list_batches,
    get_job,
    cancel_job,
    get_batch,
    cancel_batch,
    get_batch_results,
)


def _alone(data: JobBody) -> list[JobRequestBody]:
    """The requests of a batch.

    Raises:
        InvalidRequest: there is a single job beside them, or two have one name.

    """
    requests = data.requests or []
    if data.operation is not None or bytes(data.request) or data.custom_id is not None:
        raise InvalidRequest("`requests` stands alone: each has its own `operation`, `request`, `customId`")
    seen: set[str] = set()
    for number, one in enumerate(requests):
        if one.custom_id is not None and one.custom_id in seen:
            field = f"requests[{number}].customId"
            raise InvalidRequest(f"`{field}`: {one.custom_id!r} is there twice", field=field)
        seen.add(one.custom_id or "")
    return requests


def _new(
    operation: OperationName,
    request: msgspec.Raw,
    headers: list[tuple[bytes, bytes]],
    custom_id: str | None,
    webhook_url: str | None = None,
) -> NewJob:
    content = JobContent(operation=operation, headers=headers, body=bytes(request))
    return NewJob(content=content, custom_id=custom_id, webhook_url=webhook_url)


async def _job(services: Services, caller: Caller, job_id: str) -> JobOut:
    row = await _visible(services, caller, job_id)
    return job_out(row, await _result(services, row))


async def _visible(services: Services, caller: Caller, job_id: str) -> JobRow:
    await wait_until_folded(services.caller_pool, "jobs", "requests", project_id=caller.project_id)
    row = await job_of(services.caller_pool, caller.project_id, job_id)
    if row is None or visible_key(caller, None) not in (None, row.key_id):
        raise NotFound("there is no such job here")
    return row


async def _batch(services: Services, caller: Caller, batch_id: str) -> BatchOut:
    return batch_out(await _visible_batch(services, caller, batch_id))


async def _visible_batch(services: Services, caller: Caller, batch_id: str) -> BatchRow:
    await wait_until_folded(services.caller_pool, "jobs", project_id=caller.project_id)
    row = await batch_of(services.caller_pool, caller.project_id, batch_id)
    if row is None or visible_key(caller, None) not in (None, row.key_id):
        raise NotFound("there is no such batch here")
    return row


async def _result(services: Services, row: JobRow) -> msgspec.Raw | None:
    if row.result_blob_id is None:
        return None
    result = await services.jobs.blobs.read(row.project_id, row.result_blob_id)
    return msgspec.Raw(result) if result is not None else None
