"""One job, from its delivery to its acknowledgement: claim, call the provider, write what happened, answer.

Correctness rests on the claim and on the stream's version, never on acknowledgements: a job may be delivered twice, to
two workers, late, or after it was finished. What to do about a request that somebody has begun is `workers/resume.py`;
what is written and told is `workers/attempt_recorder.py`; an answer that is streamed is `workers/streaming.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog

from domain.dialects.codec import FAILED, ProviderResponse
from domain.errors import ClientDisconnected, ProviderError, ProviderLost
from domain.routing import KEYLESS_KINDS
from infra.admission import Attempt, BudgetExhausted, Claim, Claims
from infra.cancellations import Cancellations
from infra.event_log import EventLog
from infra.jobs import ACK_WAIT_S, Job, decode_job
from infra.offload import offload
from infra.replies import ReplySender
from workers.attempt_recorder import AttemptRecorder, AttemptResult, JobContext, RecordedBody
from workers.attempts import AttemptsInHand
from workers.calls import ProviderCalls
from workers.delivery import Delivery
from workers.large_answers import LargeAnswers
from workers.resume import MAX_ATTEMPTS, resume
from workers.streaming import StreamedAttempts
from workers.waiting_callers import WaitingCallers, client_disconnected

RETRY_BACKOFF_S = 0.25
MAX_RETRY_WAIT_S = 4.0
"""A provider that asks for more patience than this gets it from the caller, whose error carries the Retry-After."""
DEADLINE_MARGIN_S = 0.25
"""How long before the caller's deadline a call is given up, so that the caller still hears why."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class JobHandler:
    """Completes jobs with the parts that it is given."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        claims: Claims,
        calls: ProviderCalls,
        recorder: AttemptRecorder,
        streams: StreamedAttempts,
        callers: WaitingCallers,
        attempts: AttemptsInHand,
        replies: ReplySender,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._log = event_log
        self._claims = claims
        self._calls = calls
        self._recorder = recorder
        self._streams = streams
        self._callers = callers
        self._large_answers = LargeAnswers()
        self._attempts = attempts
        self._replies = replies
        self._now = now
        self._sleep = sleep

    async def handle(self, delivery: Delivery) -> None:
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
        ctx = JobContext(
            job=job,
            attempt=_attempt(job),
            prepared=await self._calls.prepare(job),
            history=[],
        )
        with self._callers.cancellations(job) as cancellations:
            number = job.deliveries_before + delivery.number
            claim = await self._claim(ctx, number)
            if claim == "later" and not delivery.is_last:
                await delivery.nak(ACK_WAIT_S)
                return
            if isinstance(claim, Claim):
                with self._attempts.making(job.identity.request_id, number):
                    if await self._may_stream(ctx, claim):
                        await self._attempt_until_it_ends(ctx, claim, cancellations, number)
        await delivery.ack()

    async def _claim(self, ctx: JobContext, delivery: int) -> Claim | Literal["later"] | None:
        """The attempt that is this delivery's to make; None where there is none, and the caller was told of the end;
        `later` where an earlier delivery is still at it.
        """
        claim = await self._claims.claim(ctx.job.identity.request_id, delivery)
        if claim is not None:
            return claim
        found = await resume(self._log, self._claims, ctx.attempt, delivery, self._now(), self._attempts.are_made)
        if found.verdict == "later":
            return "later"
        if found.verdict == "ended":
            await self._recorder.republish_outcome(ctx, found.history)
        ctx.history = found.history
        return found.claim

    async def _attempt_until_it_ends(
        self, ctx: JobContext, claim: Claim, cancellations: Cancellations, delivery: int
    ) -> None:
        for _ in range(MAX_ATTEMPTS):
            timeout_s = max(DEADLINE_MARGIN_S, self._remaining_s(ctx.job) - DEADLINE_MARGIN_S)
            try:
                if ctx.job.stream is not None:
                    await self._streams.attempt(ctx, claim, cancellations, timeout_s)
                else:
                    await self._answer_in_one_piece(ctx, claim, cancellations, timeout_s)
            except ProviderError as error:
                wait_s = self._retry_wait_s(ctx, claim, error)
                await self._recorder.record_failure(ctx, claim, error, ends_request=wait_s is None)
                if wait_s is None:
                    return
                await self._sleep(wait_s)
                following = await self._next_claim(ctx, claim, delivery, error)
                if following is None:
                    return
                claim = following
            else:
                return

    async def _answer_in_one_piece(
        self, ctx: JobContext, claim: Claim, cancellations: Cancellations, timeout_s: float
    ) -> None:
        """Make one attempt. If its project says so, it is given up once nothing waits for the answer.

        Raises:
            ProviderError: the provider gave no answer; nothing is written.

        """
        job = ctx.job
        with self._large_answers.turn(job.identity.project_id, job.identity.key_id) as turn:
            if not job.cancel_on_disconnect:
                await self._record_answer(ctx, claim, await self._calls.call(ctx.prepared, timeout_s, turn))
                return
            if await self._callers.are_gone(job, cancellations):
                await self._recorder.record_abandoned(ctx, claim, client_disconnected(), was_called=False)
                return
            try:
                calling = self._calls.call(ctx.prepared, timeout_s, turn)
                response = await self._callers.unless_gone(job, cancellations, calling)
            except ClientDisconnected as error:
                await self._recorder.record_abandoned(ctx, claim, error, was_called=True)
            else:
                await self._record_answer(ctx, claim, response)

    async def _next_claim(self, ctx: JobContext, claim: Claim, delivery: int, error: ProviderError) -> Claim | None:
        """The claim of the next attempt; None where there is none, because another delivery was first or for money.

        Where the budget has no room for another attempt, the caller is told why the last one failed.
        """
        try:
            return await self._claims.admit_next(
                ctx.attempt, claim.attempt + 1, delivery, claim.hold_nano_usd, claim.budget_day
            )
        except BudgetExhausted:
            await self._recorder.record_failure(ctx, claim, error, ends_request=True)
            return None

    async def _may_stream(self, ctx: JobContext, claim: Claim) -> bool:
        """Whether this attempt may answer: a caller who has a part of a stream gets no second one."""
        job = ctx.job
        if job.stream is None or claim.attempt == 1 or not await self._replies.has_begun(job.reply_to):
            return True
        error = ProviderLost("the stream broke off", provider=job.identity.provider)
        await self._recorder.record_not_made(ctx, claim, error)
        return False

    async def _record_answer(self, ctx: JobContext, claim: Claim, response: ProviderResponse) -> None:
        job = ctx.job
        content = response.body
        is_kept = job.cache_key is not None and response.finish_reason != FAILED
        body = await offload(len(content), RecordedBody.of, content, is_kept=is_kept)
        if body.kept is None:  # nobody else will have it
            await self._replies.send_body(job.reply_to, claim.attempt, content)
        result = AttemptResult(
            answered_by=response.answered_by,
            response_id=response.response_id,
            finish_reason=response.finish_reason,
            usage=response.usage,
        )
        receipt = await self._recorder.record_response(ctx, claim, result, body)
        if receipt is None:
            return
        if body.kept is not None:
            await self._replies.send_body(job.reply_to, claim.attempt, content)
        await self._replies.send_commit(job.reply_to, claim.attempt, body.digest, receipt)
        await self._recorder.notify_followers(job)

    def _retry_wait_s(self, ctx: JobContext, claim: Claim, error: ProviderError) -> float | None:
        """How long to wait before the next attempt; None where there will be none."""
        if not error.retryable or claim.attempt >= MAX_ATTEMPTS:
            return None
        wait_s = error.retry_after_s if error.retry_after_s is not None else RETRY_BACKOFF_S * 2 ** (claim.attempt - 1)
        return wait_s if wait_s <= min(MAX_RETRY_WAIT_S, self._remaining_s(ctx.job) - DEADLINE_MARGIN_S) else None

    def _remaining_s(self, job: Job) -> float:
        return job.deadline_ms / 1000 - self._now().timestamp()


def _attempt(job: Job) -> Attempt:
    admitted_at = datetime.fromtimestamp(job.admitted_at_ms / 1000, UTC)
    return Attempt(
        identity=job.identity,
        cache_key=job.cache_key,
        reply_to=job.reply_to,
        admitted_at=admitted_at,
        deadline=datetime.fromtimestamp(job.deadline_ms / 1000, UTC),
        uses_installation_credential=job.kind not in KEYLESS_KINDS and not job.needs_own_credential,
    )
