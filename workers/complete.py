"""One job, from its delivery to its acknowledgement: claim, call the provider, append what happened, answer.

Correctness rests on the claim and on the stream's version, never on acknowledgements: a job may be delivered twice, to
two workers, late, or after it was finished. What to do about a request that somebody has begun is `workers/resume.py`.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from msgspec import Struct

from domain.answer import Failure, Receipt, failure_of, receipt_of
from domain.dialects.answered import Answered
from domain.errors import ProviderError
from domain.events import CachedCopy, RequestCompleted
from domain.history import History, after_answer, after_failure, cost_of, ending
from domain.money import ZERO
from infra.admission import Attempt, Claim, Claims, NoRoom
from infra.blobs import Blobs
from infra.event_log import Blob, EventLog
from infra.ids import new_id
from infra.jobs import Job, decode_job
from infra.replies import ReplySender
from infra.request_log import record
from workers import outcome
from workers.calls import PreparedCall, ProviderCalls
from workers.pull import Delivery
from workers.resume import MAX_ATTEMPTS, fail_for_money, resume

RETRY_BACKOFF_S = 0.25
MAX_RETRY_WAIT_S = 4.0
"""A provider that asks for more patience than this gets it from the caller, whose error carries the Retry-After."""
DEADLINE_MARGIN_S = 0.25
"""How long before the caller's deadline a call is given up, so that the caller still hears why."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Work(Struct, kw_only=True):
    """A job in the shapes that its steps need."""

    job: Job
    subject: outcome.Subject
    attempt: Attempt
    prepared: PreparedCall
    history: History


class Completer:
    """Completes jobs with the parts it is given; has no state of its own."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        claims: Claims,
        calls: ProviderCalls,
        blobs: Blobs,
        replies: ReplySender,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._log = event_log
        self._claims = claims
        self._calls = calls
        self._blobs = blobs
        self._replies = replies
        self._now = now
        self._sleep = sleep

    async def complete(self, delivery: Delivery) -> None:
        """Do what this delivery of a job asks for, and acknowledge it.

        Raises:
            Unavailable: the database is away; the job is to be delivered again.

        """
        try:
            job = decode_job(delivery.data)
        except msgspec.DecodeError as error:
            log.error("job_unreadable", error=str(error), size_bytes=len(delivery.data))  # noqa: TRY400 - no trace needed
            await delivery.term()
            return
        if self._remaining_s(job) <= 0:
            await delivery.term()  # nobody waits any more: the sweeper clears up
            return
        work = Work(
            job=job,
            subject=_subject(job),
            attempt=_attempt(job),
            prepared=await self._calls.prepare(job),
            history=[],
        )
        claim = await self._claims.claim(job.request_id, delivery.number)
        if claim is None:
            found = await resume(self._log, self._claims, work.subject, work.attempt, delivery.number, self._now())
            if found.verdict == "ended":
                await self._tell_ending(work, found.history)
            work.history, claim = found.history, found.claim
        if claim is not None:
            await self._attempt_until_it_ends(work, claim, delivery.number)
        await delivery.ack()

    async def _attempt_until_it_ends(self, work: Work, claim: Claim, delivery: int) -> None:
        for _ in range(MAX_ATTEMPTS):
            timeout_s = max(DEADLINE_MARGIN_S, self._remaining_s(work.job) - DEADLINE_MARGIN_S)
            try:
                answered = await self._calls.call(work.prepared, timeout_s)
            except ProviderError as error:
                wait_s = self._retry_wait_s(work, claim, error)
                await self._record_failure(work, claim, error, ends_request=wait_s is None)
                if wait_s is None:
                    return
                await self._sleep(wait_s)
                following = await self._next_claim(work, claim, delivery)
                if following is None:
                    return
                claim = following
            else:
                await self._record_answer(work, claim, answered)
                return

    async def _next_claim(self, work: Work, claim: Claim, delivery: int) -> Claim | None:
        """The claim of the next attempt; None where there is none, because another delivery was first or for money."""
        try:
            return await self._claims.admit_next(
                work.attempt, claim.attempt + 1, delivery, claim.hold_nano_usd, claim.budget_day
            )
        except NoRoom:
            recorded = await fail_for_money(
                self._log, work.subject, work.attempt, claim.hold_nano_usd, work.history, self._now()
            )
            work.history = recorded
            await self._tell_ending(work, recorded)
            return None

    async def _record_answer(self, work: Work, claim: Claim, answered: Answered) -> None:
        job, now = work.job, self._now()
        body = _encode(answered.answer)
        cached_copy, blobs = await self._cached_copy(job, body, now)
        if cached_copy is None:  # nobody else will have it
            await self._replies.send_body(job.reply_to, claim.attempt, body)
        completed = outcome.completed(
            work.subject,
            attempt=claim.attempt,
            answered_by=answered.answered_by,
            response_id=answered.response_id,
            finish_reason=answered.finish_reason,
            usage=answered.usage,
            request_bytes=work.prepared.request_bytes,
            body=body,
            cached_copy=cached_copy,
            latency_ms=outcome.latency_ms(work.attempt.admitted_at, now),
        )
        cost = outcome.cost_incurred(
            work.subject,
            attempt=claim.attempt,
            usage=answered.usage,
            price=job.price,
            hold_nano_usd=claim.hold_nano_usd,
            budget_day=claim.budget_day,
        )
        if cost.cost_nano_usd is None:
            log.warning("model_unpriced", request_id=job.request_id, provider=job.provider, model=job.upstream_model)
        recorded = await record(
            self._log,
            request_id=job.request_id,
            project_id=job.project_id,
            at=now,
            history=work.history,
            decide=lambda history: after_answer(history, completed, cost),
            blobs=blobs,
        )
        if ending(recorded.history) != completed:  # another attempt, or a failure, was told to the caller
            await self._tell_ending(work, recorded.history)
            return
        if cached_copy is not None:
            await self._replies.send_body(job.reply_to, claim.attempt, body)
        digest = hashlib.sha256(body).digest()
        await self._replies.send_commit(job.reply_to, claim.attempt, digest, receipt_of(completed, cost, now))
        await self._tell_followers(job)

    async def _record_failure(self, work: Work, claim: Claim, error: ProviderError, *, ends_request: bool) -> None:
        job, now = work.job, self._now()
        ended = outcome.attempt_ended(
            work.subject, error, attempt=claim.attempt, hold_nano_usd=claim.hold_nano_usd, budget_day=claim.budget_day
        )
        failed = outcome.request_failed(
            work.subject,
            code=error.code,
            message=error.message,
            status=error.status,
            latency_ms=outcome.latency_ms(work.attempt.admitted_at, now),
        )
        recorded = await record(
            self._log,
            request_id=job.request_id,
            project_id=job.project_id,
            at=now,
            history=work.history,
            decide=lambda history: after_failure(history, ended, failed if ends_request else None),
        )
        work.history = recorded.history
        log.warning(
            "attempt_failed",
            request_id=job.request_id,
            attempt=claim.attempt,
            provider=job.provider,
            code=error.code,
            status=error.status,
        )
        if ends_request:
            await self._replies.send_failed(job.reply_to, failure_of(error, job.provider))
            await self._tell_followers(job)

    async def _tell_ending(self, work: Work, history: History) -> None:
        """Say again how a request ended; the API has its body already, or finds it in the log."""
        job, end = work.job, ending(history)
        assert end is not None, "called for requests that have ended"
        if isinstance(end, RequestCompleted):
            cost = cost_of(history, end.attempt)
            receipt = Receipt(
                provider=end.provider,
                upstream_model=end.upstream_model,
                usage=end.usage,
                cost_nano_usd=cost.cost_nano_usd if cost is not None else ZERO,
                answered_at=self._now(),
            )
            await self._replies.send_commit(job.reply_to, end.attempt, bytes.fromhex(end.answer_digest), receipt)
        else:
            failure = Failure(code=end.code, message=end.message, provider=end.provider, status=end.status)
            await self._replies.send_failed(job.reply_to, failure)
        await self._tell_followers(job)

    async def _tell_followers(self, job: Job) -> None:
        if job.cache_key is not None:
            await self._replies.send_done(job.request_id)

    async def _cached_copy(self, job: Job, body: bytes, now: datetime) -> tuple[CachedCopy | None, tuple[Blob, ...]]:
        if job.cache_key is None:
            return None, ()
        blob_id = new_id("blob")
        blob = await self._blobs.seal(job.project_id, blob_id, body, now + timedelta(seconds=job.cache_ttl_s))
        return CachedCopy(key=job.cache_key.hex(), ttl_s=job.cache_ttl_s, blob_id=blob_id), (blob,)

    def _retry_wait_s(self, work: Work, claim: Claim, error: ProviderError) -> float | None:
        """How long to wait before the next attempt; None where there will be none."""
        if not error.retryable or claim.attempt >= MAX_ATTEMPTS:
            return None
        wait_s = error.retry_after_s if error.retry_after_s is not None else RETRY_BACKOFF_S * 2 ** (claim.attempt - 1)
        return wait_s if wait_s <= min(MAX_RETRY_WAIT_S, self._remaining_s(work.job) - DEADLINE_MARGIN_S) else None

    def _remaining_s(self, job: Job) -> float:
        return job.deadline_ms / 1000 - self._now().timestamp()


def _subject(job: Job) -> outcome.Subject:
    return outcome.Subject(
        request_id=job.request_id,
        key_id=job.key_id,
        operation=job.operation,
        model=job.model,
        provider=job.provider,
        upstream_model=job.upstream_model,
        metadata=job.metadata,
    )


def _attempt(job: Job) -> Attempt:
    admitted_at = datetime.fromtimestamp(job.admitted_at_ms / 1000, UTC)
    return Attempt(
        request_id=job.request_id,
        project_id=job.project_id,
        key_id=job.key_id,
        operation=job.operation,
        model=job.model,
        provider=job.provider,
        upstream_model=job.upstream_model,
        metadata=_encode(job.metadata).decode() if job.metadata is not None else None,
        cache_key=job.cache_key,
        reply_to=job.reply_to,
        admitted_at=admitted_at,
        deadline=datetime.fromtimestamp(job.deadline_ms / 1000, UTC),
    )
