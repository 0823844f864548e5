"""The bodies and the answers of `/jobs`: what they are made from is in the log or in the read model."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from api.async_jobs.acceptance import MAX_JOBS_PER_CALL, AcceptedBatch, AcceptedJob
from api.async_jobs.operations import OperationName
from domain.json_numbers import json_number
from domain.money import NanoUsd, to_usd
from domain.names import HTTP_URL_PATTERN, Name
from projections.jobs import BatchRow, JobRow, JobStatus

WebhookUrl = Annotated[str, Meta(max_length=2_000, pattern=HTTP_URL_PATTERN)]


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


def accepted_job(accepted: AcceptedJob) -> JobOut:
    """A job as it is at first; the read model may not have it yet."""
    event = accepted.event
    return JobOut(
        id=event.job_id,
        status="queued",
        operation=event.operation,
        model=event.model,
        custom_id=event.custom_id,
        batch_id=None,
        key_id=event.key_id,
        created_at=accepted.at,
        started_at=None,
        ended_at=None,
        deadline=event.deadline,
        runs=0,
        request_id=None,
        cost=None,
        result=None,
        result_expires_at=None,
        error=None,
        webhook=_untold(event.webhook_url),
    )


def accepted_batch(accepted: AcceptedBatch) -> BatchOut:
    """A batch as it is at first."""
    event = accepted.event
    return BatchOut(
        id=event.batch_id,
        status="in_progress",
        counts=JobCountsOut(total=event.jobs, queued=event.jobs),
        key_id=event.key_id,
        created_at=accepted.at,
        ended_at=None,
        deadline=event.deadline,
        webhook=_untold(event.webhook_url),
    )


def _untold(url: str | None) -> WebhookOut | None:
    return WebhookOut(url=url, outcome=None, status=None) if url is not None else None


def job_out(row: JobRow, result: msgspec.Raw | None) -> JobOut:
    """A job as the read model has it, with its result; None: it has none, or it is not asked for.

    The cost is written already: the encoder that keeps the result's bytes writes decimals with exponents.
    """
    cost_usd = to_usd(NanoUsd(row.cost_nano_usd)) if row.cost_nano_usd is not None else None
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
        cost=json_number(cost_usd),  # type: ignore[arg-type]  # what the schema says is read: a number, or null
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


def batch_out(row: BatchRow) -> BatchOut:
    """A batch as the read model has it."""
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
