"""Writes how an attempt ended to its request's stream, and replies to the caller and its followers if that ends it."""

import hashlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace

from domain.errors import GatewayError, ProviderError
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CachedCopy,
    CostIncurred,
    Event,
    KeptCopy,
    KeptResponse,
    RequestCompleted,
    RequestFailed,
)
from domain.extras import NO_EXTRAS, Extras, with_asked
from domain.idempotency import MAX_REPLAYED_BYTES, Idempotency
from domain.job_result import JobFailure, Receipt, failure_in_log, failure_of, receipt_of
from domain.money import ZERO, NanoUsd
from domain.pricing import in_log
from domain.request_decider import (
    History,
    cost_of,
    decide_completed,
    decide_failed,
    decide_partial,
    decide_reconciled,
    ending,
    is_overtaken,
    is_resolved,
    last_attempt,
    lost_attempts,
)
from domain.sanitize import sanitize_message
from domain.tokens import TokenUsage
from infra.blobs import Blobs
from infra.crash_points import reach
from infra.event_log import Blob, EventLog
from infra.ids import new_id
from infra.jobs import Job
from infra.reply_sender import ReplySender
from infra.request_log import Recorded, record
from workers import outcome
from workers.job_context import JobContext
from workers.kept_responses import kept_response, with_id
from workers.target_fates import target_fates

log = structlog.get_logger(__name__)


class AttemptOvertaken(Exception):
    """Others have given this attempt up, and make the next or have ended the request: this worker neither answers nor
    acknowledges.
    """


class AttemptResult(Struct, frozen=True, kw_only=True):
    """The recorded facts of an attempt's answer, without its body."""

    answered_by: str
    response_id: str
    finish_reason: str | None
    usage: TokenUsage
    is_estimated: bool = False
    """True if the provider did not report the usage: it is an upper bound of what was received."""
    extras: Extras = NO_EXTRAS
    item_ids: tuple[str, ...] = ()
    output_bytes: int = 0
    """Both: see `RequestCompleted`."""
    first_output_at_s: float | None = None
    """When, on the monotonic clock, the first of a stream's output came. None: it came in one piece."""
    is_under_way: bool = False
    """It goes on in the background, and its provider is asked later what it has cost."""


class RecordedBody(Struct, frozen=True, kw_only=True):
    """An answer's size and digest, and its content if it is kept for the cache."""

    size: int
    digest: bytes
    kept: bytes | None

    @classmethod
    def of(cls, content: bytes, *, is_kept: bool) -> "RecordedBody":
        """Make it from an answer in one piece."""
        return cls(size=len(content), digest=hashlib.sha256(content).digest(), kept=content if is_kept else None)


class AttemptRecorder:
    """Records the attempts of one worker."""

    def __init__(self, *, event_log: EventLog, blobs: Blobs, replies: ReplySender, now: Callable[[], datetime]) -> None:
        self._log = event_log
        self._blobs = blobs
        self._replies = replies
        self._now = now

    async def record_response(
        self,
        ctx: JobContext,
        result: AttemptResult,
        body: RecordedBody,
        *,
        is_shared: bool = True,
        whole: Callable[[Receipt], bytes | None] | None = None,
    ) -> Receipt | None:
        """Write an answer and its cost in one append. A body that is kept goes into the cache if it may be shared.

        None: the request had ended before, and that end is sent again. `whole`: what a retry under the same idempotency
        key gets, None if that is too large; called once, if there is a key.

        Raises:
            AttemptOvertaken: as the class says; only its true cost is written.

        """
        job, now = ctx.job, self._now()
        cached_copy: CachedCopy | None = None
        kept_copy: KeptCopy | None = None
        blobs: tuple[Blob, ...] = ()
        if body.kept is not None:
            blob_id, expires_at = new_id("blob"), now + timedelta(seconds=job.cache_ttl_s)
            if job.cache_key is not None and is_shared:
                cached_copy = CachedCopy(key=job.cache_key.hex(), ttl_s=job.cache_ttl_s, blob_id=blob_id)
            if job.keep_until is not None:
                expires_at = max(expires_at, job.keep_until)
                kept_copy = KeptCopy(blob_id=blob_id, expires_at=expires_at)
            blobs = (await self._blobs.seal(job.identity.project_id, blob_id, body.kept, expires_at),)
        completed = outcome.completed(
            job.identity,
            ctx.claim,
            answered_by=result.answered_by,
            response_id=result.response_id,
            finish_reason=result.finish_reason,
            usage=result.usage,
            request_bytes=ctx.prepared.request_bytes,
            answer_bytes=body.size,
            answer_digest=body.digest,
            output_bytes=result.output_bytes,
            cached_copy=cached_copy,
            kept_copy=kept_copy,
            latency_ms=outcome.latency_ms(ctx.job, now),
            first_token_ms=outcome.first_token_ms(ctx.job, now, _since(result.first_output_at_s)),
            item_ids=result.item_ids,
            targets=target_fates(ctx.root, ctx.history, ctx.skipped, answered=ctx.target),
            is_passthrough=job.is_passthrough if job.identity.idempotency is not None else None,
        )
        cost = outcome.cost_incurred(
            job.identity,
            ctx.claim,
            usage=result.usage,
            price=job.price,
            extras=with_asked(result.extras, job.asked_terms, job.unpriced),
            estimated=result.is_estimated,
        )
        completed, cost = of_credential(ctx, completed), of_credential(ctx, cost)
        if result.is_under_way and cost.cost_nano_usd is None:
            kept = with_id(kept_response(job, ctx.prepared), completed.response_id)
            cost = replace(cost, kept=kept, is_lower_bound=True)
        ctx.attempt_watch.answered(completed, cost)
        if cost.is_lower_bound and cost.breakdown is not None:
            log.warning(
                "cost_is_lower_bound", request_id=job.identity.request_id, unpriced=list(cost.breakdown.unpriced)
            )
        if cost.cost_nano_usd is None:
            log.warning(
                "model_unpriced",
                request_id=job.identity.request_id,
                provider=job.identity.provider,
                model=job.identity.upstream_model,
            )
        if whole is not None and job.identity.idempotency is not None:
            replayed = await self._replayed(job, job.identity.idempotency, whole(receipt_of(completed, cost, now)), now)
            if replayed is not None:
                blobs, completed = (*blobs, replayed), replace(completed, kept_blob_id=replayed.blob_id)
        recorded = await self._record(ctx, now, lambda history: decide_completed(history, completed, cost), blobs)
        if ending(recorded.history) != completed:  # the caller was sent another attempt's answer, or a failure
            await self.republish_outcome(job, recorded.history)
            return None
        return receipt_of(completed, cost, now, self._log.newest_position)

    async def record_partial(
        self,
        ctx: JobContext,
        usage: TokenUsage,
        error: GatewayError,
        extras: Extras = NO_EXTRAS,
        *,
        kept: KeptResponse | None = None,
    ) -> None:
        """Write what a stream that was cut has cost, and end its request with `error`. Raises as `record_response`.

        `kept`: its provider keeps the response and can be asked: the estimate is assumed until it says.
        """
        job, now = ctx.job, self._now()
        cost = outcome.cost_incurred(
            job.identity,
            ctx.claim,
            usage=usage,
            price=job.price if usage.total_tokens or job.price is None else in_log(job.price),
            extras=with_asked(extras, job.asked_terms, job.unpriced) if usage.total_tokens else extras,
            estimated=True,
            is_cut=True,
        )
        cost = of_credential(ctx, cost)
        ctx.attempt_watch.failed(error, cost)
        failed = _failed(ctx, error, now)
        lost = _asked_later(ctx, cost, error, kept)
        recorded = await self._record(
            ctx,
            now,
            lambda history: (
                decide_partial(history, cost, failed)
                if lost is None or is_resolved(history, lost.attempt)
                else decide_failed(history, lost, failed)
            ),
        )
        log.warning(
            "stream_cut",
            request_id=job.identity.request_id,
            attempt=ctx.claim.attempt,
            provider=job.identity.provider,
            model=job.identity.upstream_model,
            code=error.code,
        )
        if ending(recorded.history) != failed:
            await self.republish_outcome(job, recorded.history)
            return
        await self._replies.send_failed(job.reply_to, _failure(ctx, error))
        await self._replies.notify_followers(job)

    async def record_failure(
        self,
        ctx: JobContext,
        error: ProviderError,
        *,
        ends_request: bool,
        assumed_nano_usd: NanoUsd,
        next_target: int | None = None,
    ) -> History:
        """Write that an attempt failed, and end its request if there will be no other. `assumed_nano_usd`: what it may
        have cost, if its outcome is not known. `next_target`: the target of the next one, if that is another.

        Returns the request's stream after that. Raises as `record_response`.
        """
        job, now = ctx.job, self._now()
        ended = outcome.attempt_ended(
            job.identity, ctx.claim, error, assumed_nano_usd, target=ctx.target, next_target=next_target
        )
        ended = of_credential(ctx, ended)
        failed = _failed(ctx, error, now)
        recorded = await self._record(
            ctx, now, lambda history: _unless_overtaken(ctx, history, ended, failed if ends_request else None)
        )
        log.warning(
            "attempt_failed",
            request_id=job.identity.request_id,
            attempt=ctx.claim.attempt,
            provider=job.identity.provider,
            model=job.identity.upstream_model,
            code=error.code,
            status=error.status,
        )
        if ending(recorded.history) not in (None, failed):  # no attempt is made after an end, and it was sent already
            raise AttemptOvertaken
        if ends_request:
            await self._replies.send_failed(job.reply_to, _failure(ctx, error))
            await self._replies.notify_followers(job)
        return recorded.history

    async def record_abandoned(
        self, ctx: JobContext, error: GatewayError, *, assumed_nano_usd: NanoUsd | None = None
    ) -> None:
        """Write that an attempt was given up and why, and end its request.

        `assumed_nano_usd`: the provider was called, and so much may it cost; None: it was not. Raises as
        `record_response`.
        """
        was_called = assumed_nano_usd is not None
        job, now = ctx.job, self._now()
        ended = (
            outcome.attempt_lost(job.identity, ctx.claim, "caller_left", assumed_nano_usd, target=ctx.target)
            if was_called
            else outcome.attempt_not_made(job.identity, ctx.claim, error, target=ctx.target)
        )
        if was_called:
            ended = of_credential(ctx, ended)
        ctx.attempt_watch.failed(error)
        failed = _failed(ctx, error, now)
        recorded = await self._record(ctx, now, lambda history: _unless_overtaken(ctx, history, ended, failed))
        log.info(
            "attempt_abandoned",
            request_id=job.identity.request_id,
            attempt=ctx.claim.attempt,
            code=error.code,
            was_called=was_called,
        )
        await self.republish_outcome(job, recorded.history)

    async def republish_outcome(self, job: Job, history: History) -> None:
        """Send the end of a request again. The API has the body already, or reads it from the log."""
        end = ending(history)
        assert end is not None, "called for requests that have ended"
        if isinstance(end, RequestCompleted):
            cost = cost_of(history, end.attempt)
            receipt = Receipt(
                provider=end.provider,
                upstream_model=end.upstream_model,
                usage=end.usage,
                cost_nano_usd=cost.cost_nano_usd if cost is not None else ZERO,
                is_lower_bound=cost is not None and cost.is_lower_bound,
                answered_at=self._now(),
                is_kept=end.cached_copy is not None,
            )
            await self._replies.send_commit(job.reply_to, end.attempt, bytes.fromhex(end.answer_digest), receipt)
        else:
            await self._replies.send_failed(job.reply_to, failure_in_log(end, attempts=last_attempt(history)))
        await self._replies.notify_followers(job)

    async def _replayed(self, job: Job, known_by: Idempotency, content: bytes | None, now: datetime) -> Blob | None:
        """Seal what a retry under the same idempotency key gets; None: it is too large."""
        if content is None or len(content) > MAX_REPLAYED_BYTES:
            return None
        expires_at = now + timedelta(seconds=known_by.ttl_s)
        return await self._blobs.seal(job.identity.project_id, new_id("blob"), content, expires_at)

    async def _record(
        self,
        ctx: JobContext,
        now: datetime,
        decide: Callable[[History], tuple[Event, ...]],
        blobs: tuple[Blob, ...] = (),
    ) -> Recorded:
        with ctx.watch.appending():
            recorded = await record(
                self._log,
                request_id=ctx.job.identity.request_id,
                project_id=ctx.job.identity.project_id,
                at=now,
                history=ctx.history,
                decide=decide,
                blobs=blobs,
            )
        reach("worker.after_append")
        if ending(recorded.history) is None and is_overtaken(recorded.history, ctx.claim.attempt):
            raise AttemptOvertaken
        return recorded


_OfAttempt = TypeVar("_OfAttempt", bound=RequestCompleted | CostIncurred | AttemptFailed | AttemptLost)


def of_credential(ctx: JobContext, event: _OfAttempt) -> _OfAttempt:
    """The event of an attempt with the name of the credential that it was made with, if there are several."""
    credential = ctx.prepared.call.credential
    return replace(event, credential=credential.name) if credential is not None and credential.name else event


def _asked_later(
    ctx: JobContext, cost: CostIncurred, error: GatewayError, kept: KeptResponse | None
) -> AttemptLost | None:
    """The event of a stream that was cut and whose provider is asked: its estimated cost is assumed until then.

    None: it cannot be asked.
    """
    if kept is None or cost.cost_nano_usd is None:
        return None
    lost = outcome.attempt_lost(
        ctx.job.identity, ctx.claim, outcome.reason_lost(error), cost.cost_nano_usd, target=ctx.target
    )
    lost = replace(lost, message=sanitize_message(error.message), response_id=kept.response_id, kept=kept)
    return of_credential(ctx, lost)


def _since(at_s: float | None) -> float | None:
    return None if at_s is None else time.monotonic() - at_s


def _unless_overtaken(
    ctx: JobContext, history: History, ended: AttemptFailed | AttemptLost, failed: RequestFailed | None
) -> tuple[Event, ...]:
    """Decide about a failed attempt. One that others have given up ends nothing: they may be making the next.

    If its provider has charged nothing for it, nothing is assumed any more.
    """
    if not is_overtaken(history, ctx.claim.attempt):
        return decide_failed(history, ended, failed)
    assumed = next((lost for lost in lost_attempts(history) if lost.attempt == ctx.claim.attempt), None)
    if assumed is None or isinstance(ended, AttemptLost):
        return ()
    return decide_reconciled(history, assumed, ZERO, source="worker")


def _failure(ctx: JobContext, error: GatewayError) -> JobFailure:
    """The failure that the caller is told, with the attempt and the target that it came to."""
    identity = ctx.job.identity
    return failure_of(error, identity.provider, attempts=ctx.claim.attempt, upstream_model=identity.upstream_model)


def _failed(ctx: JobContext, error: GatewayError, now: datetime) -> RequestFailed:
    return outcome.request_failed(
        ctx.job.identity,
        code=error.code,
        message=error.message,
        status=error.status if isinstance(error, ProviderError) else None,
        latency_ms=outcome.latency_ms(ctx.job, now),
        targets=target_fates(ctx.root, ctx.history, ctx.skipped, failed=(ctx.target, error.code)),
    )
