"""What came of an attempt, written to the request's stream, and told to whoever waits for it."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from domain.errors import ClientDisconnected, GatewayError, ProviderError
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CachedCopy,
    CostIncurred,
    Event,
    RequestCompleted,
    RequestFailed,
)
from domain.job_result import Receipt, failure_in_log, failure_of, receipt_of
from domain.money import ZERO
from domain.request_decider import History, cost_of, decide_completed, decide_failed, decide_partial, ending
from domain.tokens import TokenUsage
from infra.admission import Attempt, Claim
from infra.blobs import Blobs
from infra.event_log import Blob, EventLog
from infra.ids import new_id
from infra.jobs import Job
from infra.replies import ReplySender
from infra.request_log import Recorded, record
from workers import outcome
from workers.calls import PreparedCall

log = structlog.get_logger(__name__)


class JobContext(Struct, kw_only=True):
    """A job in the shapes that its steps need."""

    job: Job
    attempt: Attempt
    prepared: PreparedCall
    history: History


class AttemptResult(Struct, frozen=True, kw_only=True):
    """What an attempt's answer was, but for its body."""

    answered_by: str
    response_id: str
    finish_reason: str | None
    usage: TokenUsage
    is_estimated: bool = False
    """The provider did not say: it is the most that what was received can have been."""


class RecordedBody(Struct, frozen=True, kw_only=True):
    """What is said of an answer's content, and the content itself where it is kept."""

    size: int
    digest: bytes
    kept: bytes | None

    @classmethod
    def of(cls, content: bytes, *, is_kept: bool) -> "RecordedBody":
        """A body in one piece."""
        return cls(size=len(content), digest=hashlib.sha256(content).digest(), kept=content if is_kept else None)


class AttemptRecorder:
    """Writes for one worker."""

    def __init__(self, *, event_log: EventLog, blobs: Blobs, replies: ReplySender, now: Callable[[], datetime]) -> None:
        self._log = event_log
        self._blobs = blobs
        self._replies = replies
        self._now = now

    async def record_response(
        self, ctx: JobContext, claim: Claim, result: AttemptResult, body: RecordedBody
    ) -> Receipt | None:
        """Write an answer and its cost in one append. None: another ending stands, and was told to the caller."""
        job, now = ctx.job, self._now()
        cached_copy, blobs = await self._cached_copy(job, body.kept, now)
        completed = outcome.completed(
            ctx.job.identity,
            attempt=claim.attempt,
            answered_by=result.answered_by,
            response_id=result.response_id,
            finish_reason=result.finish_reason,
            usage=result.usage,
            request_bytes=ctx.prepared.request_bytes,
            answer_bytes=body.size,
            answer_digest=body.digest,
            cached_copy=cached_copy,
            latency_ms=outcome.latency_ms(ctx.attempt.admitted_at, now),
        )
        cost = _cost(ctx, claim, result.usage, is_estimated=result.is_estimated)
        if cost.cost_nano_usd is None:
            log.warning(
                "model_unpriced",
                request_id=job.identity.request_id,
                provider=job.identity.provider,
                model=job.identity.upstream_model,
            )
        recorded = await self._record(ctx, now, lambda history: decide_completed(history, completed, cost), blobs)
        if ending(recorded.history) != completed:  # another attempt, or a failure, was told to the caller
            await self.republish_outcome(ctx, recorded.history)
            return None
        return receipt_of(completed, cost, now)

    async def record_partial(self, ctx: JobContext, claim: Claim, usage: TokenUsage, error: GatewayError) -> None:
        """Write what a stream has cost that was cut short, and that there is no answer."""
        job, now = ctx.job, self._now()
        cost = _cost(ctx, claim, usage, is_estimated=True)
        failed = _failed(ctx, error, now)
        recorded = await self._record(ctx, now, lambda history: decide_partial(history, cost, failed))
        ctx.history = recorded.history
        log.warning(
            "stream_cut",
            request_id=job.identity.request_id,
            attempt=claim.attempt,
            provider=job.identity.provider,
            model=job.identity.upstream_model,
            code=error.code,
        )
        await self._replies.send_failed(job.reply_to, failure_of(error, job.identity.provider))
        await self.notify_followers(job)

    async def record_failure(self, ctx: JobContext, claim: Claim, error: ProviderError, *, ends_request: bool) -> None:
        """Write that an attempt came to nothing, and with it the request where there will be no other."""
        job, now = ctx.job, self._now()
        ended = outcome.attempt_ended(
            ctx.job.identity,
            error,
            attempt=claim.attempt,
            hold_nano_usd=claim.hold_nano_usd,
            budget_day=claim.budget_day,
        )
        failed = _failed(ctx, error, now)
        recorded = await self._record(
            ctx, now, lambda history: decide_failed(history, ended, failed if ends_request else None)
        )
        ctx.history = recorded.history
        log.warning(
            "attempt_failed",
            request_id=job.identity.request_id,
            attempt=claim.attempt,
            provider=job.identity.provider,
            model=job.identity.upstream_model,
            code=error.code,
            status=error.status,
        )
        if ends_request:
            await self._replies.send_failed(job.reply_to, failure_of(error, job.identity.provider))
            await self.notify_followers(job)

    async def record_abandoned(
        self, ctx: JobContext, claim: Claim, error: ClientDisconnected, *, was_called: bool
    ) -> None:
        """Write that an attempt was given up because nothing waits for its answer, and end its request.

        If the provider was called, what the attempt costs is not known, and its hold is assumed to be spent.
        """
        job, now = ctx.job, self._now()
        if was_called:
            ended: AttemptFailed | AttemptLost = outcome.attempt_lost(
                ctx.job.identity,
                "caller_left",
                attempt=claim.attempt,
                hold_nano_usd=claim.hold_nano_usd,
                budget_day=claim.budget_day,
            )
        else:
            ended = outcome.attempt_not_made(
                ctx.job.identity,
                error,
                attempt=claim.attempt,
                hold_nano_usd=claim.hold_nano_usd,
                budget_day=claim.budget_day,
            )
        failed = _failed(ctx, error, now)
        recorded = await self._record(ctx, now, lambda history: decide_failed(history, ended, failed))
        ctx.history = recorded.history
        log.info("attempt_abandoned", request_id=job.identity.request_id, attempt=claim.attempt, was_called=was_called)
        await self.republish_outcome(ctx, recorded.history)

    async def record_not_made(self, ctx: JobContext, claim: Claim, error: ProviderError) -> None:
        """Write that an attempt was not made after all, and end its request."""
        now = self._now()
        not_made = outcome.attempt_not_made(
            ctx.job.identity,
            error,
            attempt=claim.attempt,
            hold_nano_usd=claim.hold_nano_usd,
            budget_day=claim.budget_day,
        )
        failed = _failed(ctx, error, now)
        recorded = await self._record(ctx, now, lambda history: decide_failed(history, not_made, failed))
        await self.republish_outcome(ctx, recorded.history)

    async def republish_outcome(self, ctx: JobContext, history: History) -> None:
        """Say again how a request ended; the API has its body already, or finds it in the log."""
        job, end = ctx.job, ending(history)
        assert end is not None, "called for requests that have ended"
        if isinstance(end, RequestCompleted):
            cost = cost_of(history, end.attempt)
            receipt = Receipt(
                provider=end.provider,
                upstream_model=end.upstream_model,
                usage=end.usage,
                cost_nano_usd=cost.cost_nano_usd if cost is not None else ZERO,
                answered_at=self._now(),
                is_kept=end.cached_copy is not None,
            )
            await self._replies.send_commit(job.reply_to, end.attempt, bytes.fromhex(end.answer_digest), receipt)
        else:
            await self._replies.send_failed(job.reply_to, failure_in_log(end))
        await self.notify_followers(job)

    async def notify_followers(self, job: Job) -> None:
        """Say that the request has ended, to those who asked the same."""
        if job.cache_key is not None:
            await self._replies.send_done(job.identity.request_id)

    async def _record(
        self,
        ctx: JobContext,
        now: datetime,
        decide: Callable[[History], tuple[Event, ...]],
        blobs: tuple[Blob, ...] = (),
    ) -> Recorded:
        return await record(
            self._log,
            request_id=ctx.job.identity.request_id,
            project_id=ctx.job.identity.project_id,
            at=now,
            history=ctx.history,
            decide=decide,
            blobs=blobs,
        )

    async def _cached_copy(
        self, job: Job, body: bytes | None, now: datetime
    ) -> tuple[CachedCopy | None, tuple[Blob, ...]]:
        if job.cache_key is None or body is None:
            return None, ()
        blob_id = new_id("blob")
        blob = await self._blobs.seal(job.identity.project_id, blob_id, body, now + timedelta(seconds=job.cache_ttl_s))
        return CachedCopy(key=job.cache_key.hex(), ttl_s=job.cache_ttl_s, blob_id=blob_id), (blob,)


def _failed(ctx: JobContext, error: GatewayError, now: datetime) -> RequestFailed:
    return outcome.request_failed(
        ctx.job.identity,
        code=error.code,
        message=error.message,
        status=error.status if isinstance(error, ProviderError) else None,
        latency_ms=outcome.latency_ms(ctx.attempt.admitted_at, now),
    )


def _cost(ctx: JobContext, claim: Claim, usage: TokenUsage, *, is_estimated: bool) -> CostIncurred:
    return outcome.cost_incurred(
        ctx.job.identity,
        attempt=claim.attempt,
        usage=usage,
        price=ctx.job.price,
        hold_nano_usd=claim.hold_nano_usd,
        budget_day=claim.budget_day,
        estimated=is_estimated,
    )
