"""One job, from its delivery to its acknowledgement: prepare, claim, call or stream, record, reply, acknowledge.

Correctness rests on the claim and on the stream's version, never on acknowledgements: a job may be delivered twice, to
two workers, late, or after it was finished. `workers/resume.py` decides what to do about a request that another
delivery has begun, `workers/attempt_recorder.py` writes and replies how an attempt ended, and `workers/streaming.py`
makes the attempts whose answers are streamed.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
import structlog
from msgspec.structs import replace

from domain.dialects.codec import UNSHARED_FINISHES, ProviderResponse
from domain.errors import ClientDisconnected, ProviderError, ProviderLost
from domain.failover import (
    ALL_ALLOWED,
    MAX_ATTEMPTS_IN_ALL,
    CallLimits,
    Circuits,
    NextAttempt,
    call_limits,
    next_attempt,
)
from domain.request_decider import tries_at
from infra.admission import Claim, Claims
from infra.cancellations import CancellationListener, client_disconnected
from infra.event_log import EventLog
from infra.jobs import ACK_WAIT_S, Job, decode_job
from infra.offload import offload
from infra.reply_sender import ReplySender
from workers.attempt_recorder import AttemptRecorder, AttemptResult, RecordedBody
from workers.calls import ProviderCalls
from workers.delivery import AttemptsInHand, Delivery
from workers.estimated_usage import with_usage
from workers.job_context import JobContext
from workers.large_answers import LargeAnswers
from workers.next_attempts import Ended, NextAttempts, NoTargetLeft, Skipped, target_id
from workers.resume import Resumed, resume
from workers.streaming import StreamedAttempts

log = structlog.get_logger(__name__)


class JobHandler:
    """Handles the jobs of one worker."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        claims: Claims,
        calls: ProviderCalls,
        recorder: AttemptRecorder,
        streams: StreamedAttempts,
        cancellations: CancellationListener,
        attempts: AttemptsInHand,
        replies: ReplySender,
        now: Callable[[], datetime],
        circuits: Circuits = ALL_ALLOWED,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`draw` gives a number from 0 up to 1 for the pause before each next attempt at a target."""
        self._log = event_log
        self._claims = claims
        self._calls = calls
        self._recorder = recorder
        self._streams = streams
        self._cancellations = cancellations
        self._large_answers = LargeAnswers()
        self._attempts = attempts
        self._replies = replies
        self._now = now
        self._sleep = sleep
        self._draw = draw
        self._circuits = circuits
        self._next_attempts = NextAttempts(claims, circuits=circuits, sleep=sleep)

    async def handle(self, delivery: Delivery) -> None:
        """Do what is left to do of a job, and acknowledge the delivery.

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
            await delivery.term()  # the caller has its timeout: the sweeper clears up
            return
        number = job.deliveries_before + delivery.number
        prepared = await self._calls.prepare(job)
        with self._cancellations.watch(job) as cancellation:
            claim = await self._claims.claim(job.identity.request_id, number)
            if claim is not None:
                resumed = Resumed("attempt", [], claim)
            else:
                resumed = await resume(
                    self._log, self._claims, self._next_attempts, job, number, self._now(), self._attempts.are_made
                )
            if resumed.claim is not None:
                ctx = JobContext(
                    root=job,
                    job=job,
                    delivery=number,
                    prepared=prepared,
                    cancellation=cancellation,
                    claim=resumed.claim,
                    history=resumed.history,
                )
                with self._attempts.making(job.identity.request_id, number):
                    await self._make_attempts(await self._at(ctx, resumed.claim, resumed.target, resumed.skipped))
            elif resumed.verdict == "ended":
                await self._recorder.republish_outcome(job, resumed.history)
            elif resumed.verdict == "later" and not delivery.is_last:
                await delivery.nak(ACK_WAIT_S)
                return
        await delivery.ack()

    async def _make_attempts(self, ctx: JobContext) -> None:
        """Make the claimed attempt, and others after it for as long as they fail and there is another to be made."""
        job = ctx.job
        if job.stream is not None and ctx.claim.attempt > 1 and await self._replies.has_begun(job.reply_to):
            error = ProviderLost("the stream broke off", provider=job.identity.provider)
            await self._recorder.record_abandoned(ctx, error, was_called=False)  # no second answer behind a part of one
            return
        tries = tries_at(ctx.history, ctx.target)
        for _ in range(MAX_ATTEMPTS_IN_ALL):
            began_s = time.monotonic()
            try:
                if job.stream is not None:
                    await self._streams.attempt(ctx, self._limits(ctx))
                else:
                    await self._attempt(ctx, self._limits(ctx))
                return
            except ProviderError as error:
                following = await self._next(ctx, error, tries + 1, time.monotonic() - began_s)
            if following is None:
                return
            tries = tries + 1 if following.target == ctx.target else 0
            ctx = following

    async def _attempt(self, ctx: JobContext, limits: CallLimits) -> None:
        """Make one attempt whose answer comes in one piece. It is cancelled, if the job says so, once nothing waits.

        Raises:
            ProviderError: the provider gave no answer; nothing is written.

        """
        job = ctx.job
        if job.cancel_on_disconnect and await ctx.cancellation.has_no_waiters():
            await self._recorder.record_abandoned(ctx, client_disconnected(), was_called=False)
            return
        with self._large_answers.turn(job.identity.project_id, job.identity.key_id) as turn:
            began_s = time.monotonic()
            call = self._calls.call(ctx.prepared, limits, turn.take)
            try:
                response = await (ctx.cancellation.or_cancelled(call) if job.cancel_on_disconnect else call)
            except ClientDisconnected as error:
                await self._recorder.record_abandoned(ctx, error, was_called=True)
                return
            await self._record_and_reply(ctx, response, time.monotonic() - began_s)

    async def _record_and_reply(self, ctx: JobContext, response: ProviderResponse, elapsed_s: float) -> None:
        """Write the answer to the log and send it: the commit, and a body that the log keeps, after the append."""
        job, attempt = ctx.job, ctx.claim.attempt
        response, usage, is_estimated = with_usage(response, job, elapsed_s)
        content = response.body
        is_shared = response.finish_reason not in UNSHARED_FINISHES and not response.is_empty
        is_kept = job.cache_key is not None and is_shared
        body = await offload(len(content), RecordedBody.of, content, is_kept=is_kept)
        if not is_kept:  # its frames are all that there is of it
            await self._replies.send_body(job.reply_to, attempt, content)
        result = AttemptResult(
            answered_by=response.answered_by,
            response_id=response.response_id,
            finish_reason=response.finish_reason,
            usage=usage,
            is_estimated=is_estimated,
            extras=response.extras,
            item_ids=response.item_ids,
        )
        receipt = await self._recorder.record_response(ctx, result, body)
        if receipt is None:
            return
        if is_kept:
            await self._replies.send_body(job.reply_to, attempt, content)
        await self._replies.send_commit(job.reply_to, attempt, body.digest, receipt)
        await self._replies.notify_followers(job)
        self._circuits.record(target_id(job), None)

    async def _next(self, ctx: JobContext, error: ProviderError, tries: int, elapsed_s: float) -> JobContext | None:
        """Record that the attempt failed after so long, the `tries`th at its target; wait, and claim the next.

        None: there is no next one. The error ends the request, or another delivery makes the next attempt. If the
        budget has no room for another attempt, the caller gets the error of the last one.
        """
        claim, step = ctx.claim, self._step(ctx, error, tries)
        self._circuits.record(target_id(ctx.job), error)
        history = await self._recorder.record_failure(
            ctx,
            error,
            ends_request=step is None,
            elapsed_s=elapsed_s,
            next_target=step.target if step is not None and step.target != ctx.target else None,
        )
        if step is None:
            return None
        ctx = replace(ctx, history=history)
        if step.target != ctx.target:
            await self._replies.notify_followers(ctx.job)  # what answers now is not what they have asked for
        await self._sleep(step.wait_s)
        ended = Ended(
            attempt=claim.attempt, target=ctx.target, hold_nano_usd=claim.hold_nano_usd, budget_day=claim.budget_day
        )
        try:
            following = await self._next_attempts.admit(
                ctx.root, ended, ctx.delivery, target=step.target, goes_on=ctx.moves_on(error)
            )
        except NoTargetLeft as left:
            ctx = replace(ctx, skipped=ctx.skipped + left.skipped)
            await self._recorder.record_failure(ctx, error, ends_request=True, elapsed_s=elapsed_s)
            return None
        if following.claim is None:
            return None
        return await self._at(ctx, following.claim, following.target, following.skipped)

    async def _at(self, ctx: JobContext, claim: Claim, target: int, skipped: Skipped) -> JobContext:
        """The context of the next attempt, which is claimed."""
        ctx = replace(ctx, claim=claim, skipped=ctx.skipped + skipped)
        if target == ctx.target:
            return ctx
        job = ctx.root.at(target)
        return replace(ctx, job=job, target=target, prepared=await self._calls.prepare(job))

    def _step(self, ctx: JobContext, error: ProviderError, tries: int) -> NextAttempt | None:
        """Decide what follows a failed attempt."""
        root = ctx.root
        if ctx.claim.attempt >= root.most_attempts:
            return None
        return next_attempt(
            error,
            target=ctx.target,
            tries=tries,
            has_next=ctx.has_next,
            fail_over_on=root.failover.fail_over_on if root.failover is not None else (),
            most_tries=root.most_tries,
            remaining_s=self._remaining_s(root),
            draw=self._draw(),
        )

    def _limits(self, ctx: JobContext) -> CallLimits:
        """How long an attempt may take."""
        return call_limits(
            ctx.job.asked,
            remaining_s=self._remaining_s(ctx.root),
            targets_left=ctx.root.targets - 1 - ctx.target,
            is_stream=ctx.job.stream is not None,
        )

    def _remaining_s(self, job: Job) -> float:
        return job.deadline_ms / 1000 - self._now().timestamp()
