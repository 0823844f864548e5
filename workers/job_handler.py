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
from functools import partial

import msgspec
import structlog
from msgspec.structs import replace

from domain.dialects.codec import UNSHARED_FINISHES, ProviderResponse
from domain.errors import ClientDisconnected, ProviderCredentials, ProviderError, ProviderLost, ProviderRateLimited
from domain.failover import MAX_ATTEMPTS_IN_ALL, CallLimits, NextAttempt, call_limits, next_attempt
from domain.money import ZERO
from domain.request_decider import tries_at
from infra.admission import Claims
from infra.cancellations import Cancellation, CancellationListener, client_disconnected, nobody_waits
from infra.crash_points import reach
from infra.event_log import EventLog
from infra.jobs import ACK_WAIT_S, Job, decode_job
from infra.offload import offload
from infra.reply_sender import ReplySender
from workers.attempt_recorder import AttemptOvertaken, AttemptRecorder, AttemptResult, RecordedBody
from workers.calls import PreparedCall, ProviderCalls
from workers.delivery import AttemptsInHand, Delivery
from workers.estimated_usage import assumed_cost, with_usage
from workers.job_context import JobContext
from workers.large_answers import LargeAnswers
from workers.lost_attempts import LostAttempts
from workers.next_attempts import Ended, Following, NextAttempts, NoTargetLeft
from workers.observation import NOT_OBSERVED, JobObserver, JobWatch
from workers.resume import Resumed, is_lost, resume
from workers.streaming import StreamedAttempts

LOOK_AGAIN_S = 10.0
"""Before a delivery whose job another one is working on comes again: no more often, for there are only so many."""
QUEUED_LONG_S = 2.0
"""A job that is so old when it is claimed may have outlived its caller's API process."""
STOOD_STILL_S = ACK_WAIT_S / 2
"""A claim that took so long may have been given up by others in the meantime."""

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
        lost_attempts: LostAttempts,
        replies: ReplySender,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        observer: JobObserver = NOT_OBSERVED,
    ) -> None:
        """`draw` gives a number from 0 up to 1 for the pause before each next attempt at a target."""
        self._observer = observer
        self._log = event_log
        self._claims = claims
        self._calls = calls
        self._recorder = recorder
        self._streams = streams
        self._cancellations = cancellations
        self._large_answers = LargeAnswers()
        self._attempts = attempts
        self._lost_attempts = lost_attempts
        self._replies = replies
        self._now = now
        self._sleep = sleep
        self._draw = draw
        self._next_attempts = NextAttempts(claims, prepare=calls.prepare, sleep=sleep)

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
        reach("worker.delivered")
        with self._observer.working(job, delivery=job.deliveries_before + delivery.number) as watch:
            await self._work(delivery, job, watch)

    async def _work(self, delivery: Delivery, job: Job, watch: JobWatch) -> None:
        """Do what is left to do of a job that is in time. Raises as `handle`."""
        number = job.deliveries_before + delivery.number
        prepared = await self._calls.prepare(job)
        with self._cancellations.watch(job) as cancellation:
            is_wanted = partial(self._is_wanted, delivery, job, cancellation)
            asked_s = time.monotonic()
            with watch.claiming():
                resumed = await self._claim(job, number, prepared, is_wanted)
            if resumed.claim is not None:
                reach("worker.after_claim")
                ctx = JobContext(
                    root=job,
                    job=job,
                    delivery=number,
                    prepared=prepared,
                    cancellation=cancellation,
                    claim=resumed.claim,
                    history=resumed.history,
                    watch=watch,
                )
                if resumed.target:
                    ctx = replace(ctx, job=job.at(resumed.target), target=resumed.target, skipped=resumed.skipped)
                    ctx = replace(ctx, prepared=resumed.prepared or await self._calls.prepare(ctx.job))
                try:
                    with self._attempts.making(job.identity.request_id, number):
                        await self._check_claim(ctx, asked_s)
                        if self._is_late(ctx) and not await is_wanted():
                            await self._recorder.record_abandoned(ctx, nobody_waits())
                        else:
                            await self._make_attempts(ctx)
                except AttemptOvertaken:
                    log.warning("attempt_overtaken", request_id=job.identity.request_id, delivery=number)
                    return  # the delivery that has overtaken this one is to be acknowledged
            elif resumed.verdict == "ended":
                await self._recorder.republish_outcome(job, resumed.history)
            elif resumed.verdict == "later" and not delivery.is_last:
                await delivery.nak(LOOK_AGAIN_S)
                return
            elif resumed.verdict == "taken":
                return  # the later delivery is to be acknowledged, not this one
        await delivery.ack()

    async def _claim(
        self, job: Job, delivery: int, prepared: PreparedCall, is_wanted: Callable[[], Awaitable[bool]]
    ) -> Resumed:
        """Claim the attempt that waits for a worker, or find out what else is to be done."""
        claim = await self._claims.claim(job.identity.request_id, delivery)
        if claim is not None:
            return Resumed("attempt", [], claim)
        return await resume(
            self._log,
            self._claims,
            self._next_attempts,
            job,
            delivery,
            self._now(),
            maker_of=self._attempts.maker_of,
            is_wanted=is_wanted,
            assumed=lambda made, lost, is_gone: self._lost_attempts.assumed(
                made, lost, prepared.request_bytes, is_gone=is_gone
            ),
        )

    def _is_late(self, ctx: JobContext) -> bool:
        """Return True if a job has been under way for so long that its caller may be gone with its API process."""
        return ctx.delivery > 1 or self._now().timestamp() - ctx.job.admitted_at_ms / 1000 > QUEUED_LONG_S

    async def _is_wanted(self, delivery: Delivery, job: Job, cancellation: Cancellation) -> bool:
        """Return True if the caller still waits for the answer, or somebody else does, or nobody ever has."""
        outlives_its_caller = job.outlives_its_caller or job.keep_until is not None
        if not delivery.has_caller or outlives_its_caller or await self._replies.is_awaited(job.reply_to):
            return True
        return await cancellation.has_followers()

    async def _check_claim(self, ctx: JobContext, asked_s: float) -> None:
        """Make sure before the call that others have not given the claim up, if this process may have stood still.

        Raises:
            AttemptOvertaken: they have.

        """
        if time.monotonic() - asked_s < STOOD_STILL_S:
            return
        if await is_lost(self._log, ctx.job.identity.request_id, ctx.claim.attempt):
            raise AttemptOvertaken

    async def _make_attempts(self, ctx: JobContext) -> None:
        """Make the claimed attempt, and others after it for as long as they fail and there is another to be made."""
        job = ctx.job
        if job.stream is not None and ctx.claim.attempt > 1 and await self._replies.has_begun(job.reply_to):
            error = ProviderLost("the stream broke off", provider=job.identity.provider)
            await self._recorder.record_abandoned(ctx, error)  # no second answer behind a part of one
            return
        tries = tries_at(ctx.history, ctx.target)
        for _ in range(MAX_ATTEMPTS_IN_ALL):
            began_s = time.monotonic()
            is_open = True
            try:
                await self._calls.check_circuit(ctx.prepared, is_only=not ctx.has_next)
                is_open = False
                await self._attempt(ctx)
                return
            except ProviderError as error:
                following = await self._next(ctx, error, tries + 1, time.monotonic() - began_s, is_open=is_open)
            if following is None:
                return
            tries = tries + 1 if following.target == ctx.target else 0
            ctx = following

    async def _attempt(self, ctx: JobContext) -> None:
        """Make the claimed attempt.

        Raises:
            ProviderError: as `_attempt_whole` and `StreamedAttempts.attempt`.

        """
        call = ctx.prepared.call
        address = call.credential.base_url if call.credential is not None else None
        attempting = ctx.watch.attempting(
            ctx.job, attempt=ctx.claim.attempt, target=ctx.target, address=address, sent=ctx.prepared.content
        )
        with attempting as attempt_watch:
            ctx = replace(ctx, attempt_watch=attempt_watch)
            if ctx.job.stream is not None:
                await self._streams.attempt(ctx, self._limits(ctx))
            else:
                await self._attempt_whole(ctx, self._limits(ctx))

    async def _attempt_whole(self, ctx: JobContext, limits: CallLimits) -> None:
        """Make one attempt whose answer comes in one piece. It is cancelled, if the job says so, once nothing waits.

        Raises:
            ProviderError: the provider gave no answer; nothing is written.

        """
        job = ctx.job
        if job.cancel_on_disconnect and await ctx.cancellation.has_no_waiters():
            await self._recorder.record_abandoned(ctx, client_disconnected())
            return
        with self._large_answers.turn(job.identity.project_id, job.identity.key_id) as turn:
            began_s = time.monotonic()
            reach("worker.before_call")
            ctx.attempt_watch.calling()
            call = self._calls.call(ctx.prepared, limits, turn.take)
            try:
                response = await (ctx.cancellation.or_cancelled(call) if job.cancel_on_disconnect else call)
            except ClientDisconnected as error:
                assumed = assumed_cost(ctx.job, ctx.claim.hold_nano_usd, time.monotonic() - began_s)
                await self._recorder.record_abandoned(ctx, error, assumed_nano_usd=assumed)
                return
            ctx.attempt_watch.came(response.body)
            reach("worker.after_call")
            await self._record_and_reply(ctx, response, time.monotonic() - began_s)

    async def _record_and_reply(self, ctx: JobContext, response: ProviderResponse, elapsed_s: float) -> None:
        """Write the answer to the log and send it: the commit, and a body that the log keeps, after the append."""
        job, attempt = ctx.job, ctx.claim.attempt
        response, usage, is_estimated = with_usage(response, job, elapsed_s)
        content = response.body
        is_shared = response.finish_reason not in UNSHARED_FINISHES and not response.is_empty
        is_kept = (job.cache_key is not None and is_shared) or job.keep_until is not None
        body = await offload(len(content), RecordedBody.of, content, is_kept=is_kept)
        if not is_kept:  # its frames are all that there is of it
            await self._replies.send_body(job.reply_to, attempt, content)
            reach("worker.after_body")
        result = AttemptResult(
            answered_by=response.answered_by,
            response_id=response.response_id,
            finish_reason=response.finish_reason,
            usage=usage,
            is_estimated=is_estimated,
            extras=response.extras,
            item_ids=response.item_ids,
            is_under_way=response.is_under_way,
        )
        receipt = await self._recorder.record_response(ctx, result, body, is_shared=is_shared, whole=lambda _: content)
        if receipt is None:
            return
        if is_kept:
            await self._replies.send_body(job.reply_to, attempt, content)
        await self._replies.send_commit(job.reply_to, attempt, body.digest, receipt)
        reach("worker.after_commit")
        await self._replies.notify_followers(job)

    async def _next(
        self, ctx: JobContext, error: ProviderError, tries: int, elapsed_s: float, *, is_open: bool
    ) -> JobContext | None:
        """Record that the attempt failed after so long, the `tries`th at its target; wait, and claim the next.

        `is_open`: the target was not called, since its circuit is open.

        None: there is no next one, and the error ends the request. If the budget has no room for another attempt, the
        caller gets the error of the last one.

        Raises:
            AttemptOvertaken: another delivery makes the next attempt, or has ended the request.

        """
        claim, step = ctx.claim, self._step(ctx, error, tries, is_open=is_open)
        assumed = ZERO if error.outcome_known else assumed_cost(ctx.job, claim.hold_nano_usd, elapsed_s)
        history = await self._recorder.record_failure(
            ctx,
            error,
            ends_request=step is None,
            assumed_nano_usd=assumed,
            next_target=step.target if step is not None and step.target != ctx.target else None,
        )
        reach("worker.after_failure")
        if step is None:
            return None
        ctx = replace(ctx, history=history)
        if step.target == ctx.target and _has_other_credential(ctx, error):
            ctx = replace(ctx, prepared=ctx.prepared.with_next_credential())
        if is_open:
            ctx = replace(ctx, skipped=(*ctx.skipped, (ctx.target, "circuit")))
        if step.target != ctx.target:
            await self._replies.notify_followers(ctx.job)  # what answers now is not what they have asked for
        asked_s = time.monotonic()
        await self._sleep(step.wait_s)
        ended = Ended(
            attempt=claim.attempt, target=ctx.target, hold_nano_usd=claim.hold_nano_usd, budget_day=claim.budget_day
        )
        try:
            following = await self._next_attempts.admit(
                ctx.root, ended, ctx.delivery, target=step.target, goes_on=is_open or ctx.moves_on(error)
            )
        except NoTargetLeft as left:
            ctx = replace(ctx, skipped=ctx.skipped + left.skipped)
            await self._recorder.record_failure(ctx, error, ends_request=True, assumed_nano_usd=assumed)
            return None
        reach("worker.after_next")
        following_ctx = _following(ctx, following)
        await self._check_claim(following_ctx, asked_s)
        return following_ctx

    def _step(self, ctx: JobContext, error: ProviderError, tries: int, *, is_open: bool) -> NextAttempt | None:
        """Decide what follows a failed attempt."""
        root = ctx.root
        if is_open and ctx.has_next:
            return NextAttempt(ctx.target + 1, 0.0)
        if _has_other_credential(ctx, error) and ctx.claim.attempt < MAX_ATTEMPTS_IN_ALL:
            return NextAttempt(ctx.target, 0.0)
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


def _has_other_credential(ctx: JobContext, error: ProviderError) -> bool:
    """Return True if a call met what another of the provider's credentials may not meet: it is refused, or limited."""
    is_of_credential = isinstance(error, ProviderRateLimited) or (
        isinstance(error, ProviderCredentials) and error.status is not None
    )
    return is_of_credential and bool(ctx.prepared.other_credentials)


def _following(ctx: JobContext, following: Following) -> JobContext:
    """The context of the next attempt.

    Raises:
        AttemptOvertaken: another delivery makes it.

    """
    if following.claim is None:
        raise AttemptOvertaken
    ctx = replace(ctx, claim=following.claim, skipped=ctx.skipped + following.skipped)
    if following.prepared is None:
        return ctx
    return replace(ctx, job=ctx.root.at(following.target), target=following.target, prepared=following.prepared)
