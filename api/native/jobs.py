"""`/jobs`: requests that are made without their caller waiting, one by one or up to 1,000 together."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter, RequestBody
from litestar.response import Stream
from msgspec import Meta, Struct, field

from api.async_jobs import acceptance
from api.async_jobs.acceptance import MAX_JOBS_PER_CALL, NewJob
from api.async_jobs.operations import JobContent, OperationName, kept_headers
from api.authentication import Caller
from api.guards import requires_key
from api.native.envelope import Success
from api.native.usage import visible_key
from api.native.validation import declared_query
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.errors import InvalidRequest, NotFound
from domain.money import NanoUsd, to_usd
from domain.names import HTTP_URL_PATTERN, Name
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
WebhookUrl = Annotated[str, Meta(max_length=2_000, pattern=HTTP_URL_PATTERN)]
_encode = msgspec.json.Encoder(decimal_format="number").encode


class JobRequestBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One of several jobs."""

    operation: OperationName
    request: msgspec.Raw
    """The body of the synchronous call."""
    custom_id: Name | None = None
    """Your own name for it; once in a batch."""


class JobBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A job, by `operation` and `request`; or several together, by `requests`."""

    operation: OperationName | None = None
    request: msgspec.Raw = field(default_factory=msgspec.Raw)
    requests: Annotated[list[JobRequestBody], Meta(min_length=1, max_length=MAX_JOBS_PER_CALL)] | None = None
    custom_id: Name | None = None
    webhook_url: WebhookUrl | None = None
    """Is told when the job, or all of the batch, has ended."""


class JobErrorOut(Struct, kw_only=True):
    """Why a job failed: what its synchronous caller would have got."""

    code: str
    message: str
    status: int


class WebhookOut(Struct, kw_only=True):
    """Where the end is told, and what became of that: null until it is known."""

    url: str
    outcome: Literal["delivered", "given_up"] | None
    status: int | None


class JobOut(Struct, kw_only=True, rename="camel", tag_field="object", tag="job"):
    """A job."""

    id: str
    status: JobStatus
    operation: str
    model: str
    custom_id: str | None
    batch_id: str | None
    key_id: str
    created_at: datetime
    started_at: datetime | None
    """Of the last run."""
    ended_at: datetime | None
    deadline: datetime
    runs: int
    """The requests that were given to a worker for it; 0 if the cache had the answer."""
    request_id: str | None
    """Its last request: `GET /requests/{id}` has the details."""
    cost: Decimal | None
    """Of that request, in US dollars."""
    result: Any
    """What the synchronous call answers. Null in lists, before the job has succeeded, and after `resultExpiresAt`."""
    result_expires_at: datetime | None
    error: JobErrorOut | None
    webhook: WebhookOut | None


class JobCountsOut(Struct, kw_only=True):
    """The jobs of a batch, by their state."""

    total: int
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class BatchOut(Struct, kw_only=True, rename="camel", tag_field="object", tag="batch"):
    """A batch. It has ended when all of its jobs have, whether they succeeded or not."""

    id: str
    status: Literal["in_progress", "ended"]
    counts: JobCountsOut
    key_id: str
    created_at: datetime
    ended_at: datetime | None
    deadline: datetime
    webhook: WebhookOut | None


class JobPageOut(Struct, kw_only=True):
    """Jobs, newest first; `next` goes into `before` for the page after, null at the end."""

    jobs: list[JobOut]
    next: str | None


class BatchPageOut(Struct, kw_only=True):
    """Batches, newest first; `next` as for jobs."""

    batches: list[BatchOut]
    next: str | None


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
) -> Success[JobOut | BatchOut]:
    """Accept a job, or several as a batch. They are in the log when this answers, and will be made or fail."""
    if data.webhook_url is not None:
        check_url(data.webhook_url, field="webhookUrl", allow_loopback=services.settings.allow_loopback_urls)
    headers = kept_headers(request.scope["headers"])
    if data.requests is not None:
        news = [_new(one.operation, one.request, headers, one.custom_id) for one in _alone(data)]
        batch_id = await acceptance.accept_batch(services, caller, news, data.webhook_url)
        return Success(data=await _batch(services, caller, batch_id))
    if data.operation is None or not bytes(data.request):
        raise InvalidRequest("a job has `operation` and `request`, a batch `requests`", field="operation")
    new = _new(data.operation, data.request, headers, data.custom_id, data.webhook_url)
    job_id = await acceptance.accept(services, caller, new)
    return Success(data=await _job(services, caller, job_id))


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
    return Success(data=JobPageOut(jobs=[_job_out(row, None) for row in page], next=following))


@get("/jobs/{job_id:str}", summary="One job, with its result", operation_id="ApiV1JobsJobIdOne", guards=[requires_key])
async def get_job(
    job_id: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Success[JobOut]:
    """Show a job, and its result once it has succeeded."""
    return Success(data=await _job(services, caller, id_in_path(job_id)))


@delete(
    "/jobs/{job_id:str}",
    summary="Cancel a job",
    operation_id="ApiV1JobsJobIdCancel",
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
    return Success(data=BatchPageOut(batches=[_batch_out(row) for row in page], next=following))


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
    while page := await jobs_of_batch(services.pool, batch.batch_id, after=after, limit=MAX_PAGE):
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
    await wait_until_folded(services.pool, "jobs", "requests", project_id=caller.project_id)

    async def lines() -> AsyncIterator[bytes]:
        after = ""
        while page := await jobs_of_batch(services.pool, batch.batch_id, after=after, limit=RESULTS_PAGE):
            after = page[-1].job_id
            for row in page:
                if row.ended_at is not None:
                    yield _encode(_job_out(row, await _result(services, row))) + b"\n"

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
    return _job_out(row, await _result(services, row))


async def _visible(services: Services, caller: Caller, job_id: str) -> JobRow:
    await wait_until_folded(services.pool, "jobs", "requests", project_id=caller.project_id)
    row = await job_of(services.pool, caller.project_id, job_id)
    if row is None or visible_key(caller, None) not in (None, row.key_id):
        raise NotFound("there is no such job here")
    return row


async def _batch(services: Services, caller: Caller, batch_id: str) -> BatchOut:
    return _batch_out(await _visible_batch(services, caller, batch_id))


async def _visible_batch(services: Services, caller: Caller, batch_id: str) -> BatchRow:
    await wait_until_folded(services.pool, "jobs", project_id=caller.project_id)
    row = await batch_of(services.pool, caller.project_id, batch_id)
    if row is None or visible_key(caller, None) not in (None, row.key_id):
        raise NotFound("there is no such batch here")
    return row


async def _result(services: Services, row: JobRow) -> msgspec.Raw | None:
    if row.result_blob_id is None:
        return None
    result = await services.jobs.blobs.read(row.project_id, row.result_blob_id)
    return msgspec.Raw(result) if result is not None else None


def _job_out(row: JobRow, result: msgspec.Raw | None) -> JobOut:
    return JobOut(
        id=row.job_id,
        status=row.status,
        operation=row.operation,
        model=row.model,
        custom_id=row.custom_id,
        batch_id=row.batch_id,
        key_id=row.key_id,
        created_at=row.accepted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        deadline=row.deadline,
        runs=row.runs,
        request_id=row.request_id,
        cost=to_usd(NanoUsd(row.cost_nano_usd)) if row.cost_nano_usd is not None else None,
        result=result,
        result_expires_at=row.result_expires_at,
        error=_error_out(row),
        webhook=_webhook_out(row),
    )


def _error_out(row: JobRow) -> JobErrorOut | None:
    if row.error_code is None:
        return None
    return JobErrorOut(code=row.error_code, message=row.error_message or "", status=row.error_status or 500)


def _webhook_out(row: JobRow | BatchRow) -> WebhookOut | None:
    if row.webhook_url is None:
        return None
    return WebhookOut(url=row.webhook_url, outcome=row.told, status=row.told_status)


def _batch_out(row: BatchRow) -> BatchOut:
    return BatchOut(
        id=row.batch_id,
        status="ended" if row.ended_at is not None else "in_progress",
        counts=JobCountsOut(total=row.jobs, **row.counts),
        key_id=row.key_id,
        created_at=row.accepted_at,
        ended_at=row.ended_at,
        deadline=row.deadline,
        webhook=_webhook_out(row),
    )
