"""From an admitted request to its reply: publishes the job, waits for the worker, cancels if the client disconnects.

A request that ends before a worker has claimed it gives its admission back (`_withdraw`). From the claim on, the
worker is told that the client has left, and decides. A request with an idempotency key goes on: its retry fetches the
answer.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from api.inference_response import StreamedResponse
from api.observation import NOT_OBSERVED, RequestObserver
from api.prompt_memory import PromptMemory
from api.request_context import RequestContext
from api.request_recorder import RequestRecorder
from api.response_cache import ResponseCache
from domain.errors import ClientDisconnected, GatewayError, Overloaded, Unavailable
from domain.events import INSTALLATION
from domain.fair_share import provider_may_start
from domain.job_result import error_of
from domain.models import may_think_unseen
from infra.admission import Admission
from infra.blobs import Blobs
from infra.crash_points import reach
from infra.direct import DirectDispatch
from infra.expiry import Expiry
from infra.ids import new_id
from infra.incoming import Expired, IncomingStream, PartsLost
from infra.jobs import INLINE_BODY_LIMIT_BYTES, Job, JobFailover, JobQueue, Lane, PublishUnknown
from infra.replies import Committed, Failed, ReplyInbox

SYNC_PER_PROJECT = 32
SYNC_PER_KEY = 16
SYNC_PER_PROVIDER = 128
"""The requests that each API process has in the lane `sync` at most, for a project, an API key and a provider."""
MODEST_PER_PROVIDER = 4
"""A project with fewer requests to a provider stays in the lane `sync`, however many other projects have there."""
PROJECT_FACTOR = 7
"""A project that is alone may have 7/8 of a process's requests in flight: see `workers/fair_queue.py`."""
PROVIDER_FACTOR = 1
"""A provider alone may have half of them."""
OVERLOADED_RETRY_S = 1.0

_Provider = tuple[str, str]
"""Whom a request calls, as it counts: the provider's name and its owner."""


class Dispatcher:
    """Has workers make the calls for one API process."""

    def __init__(
        self,
        *,
        admission: Admission,
        recorder: RequestRecorder,
        queue: JobQueue,
        direct: DirectDispatch,
        inbox: ReplyInbox,
        blobs: Blobs,
        cache: ResponseCache,
        prompts: PromptMemory,
        now: Callable[[], datetime],
        max_in_flight: int,
        observer: RequestObserver = NOT_OBSERVED,
    ) -> None:
        """Have at most `max_in_flight` requests with workers at a time."""
        self._observer = observer
        self._max_in_flight = max_in_flight
        self._admission = admission
        self._recorder = recorder
        self._queue = queue
        self._direct = direct
        self._inbox = inbox
        self._blobs = blobs
        self._cache = cache
        self._prompts = prompts
        self._now = now
        self._by_project: Counter[str] = Counter()
        self._by_key: Counter[str] = Counter()
        self._by_provider: Counter[_Provider] = Counter()
        self._by_project_and_provider: Counter[tuple[str, _Provider]] = Counter()
        """The requests that were published and have not ended, to choose the lane of the next."""
        self._sync_by_provider: Counter[_Provider] = Counter()
        """Those in the lane `sync`."""
        self._all: Counter[None] = Counter()

    @property
    def in_flight(self) -> int:
        """The requests that workers have, or that wait for one; not those of asynchronous jobs."""
        return self._all[None]

    def check_room(self, ctx: RequestContext) -> None:
        """Let a request pass that has room beside those that are with workers already.

        Raises:
            Overloaded: this process has as many as it may, or the project or the provider has its share of them. What
                others have in flight uses up neither the share of a project nor that of one with few of a provider.

        """
        project_id, provider = ctx.identity.project_id, _provider_of(ctx)
        free = self._max_in_flight - self.in_flight
        has_room = self._by_project[project_id] < PROJECT_FACTOR * free and provider_may_start(
            PROVIDER_FACTOR,
            running=self._by_provider[provider],
            of_project=self._by_project_and_provider[project_id, provider],
            free=free,
        )
        if not has_room:
            raise Overloaded(
                f"too many requests wait for answers of {ctx.identity.provider} in this process: "
                "no more may, try again in a moment",
                retry_after_s=OVERLOADED_RETRY_S,
            )

    async def call(self, ctx: RequestContext) -> Committed:
        """Publish the job and wait until its response is in the log.

        Raises:
            GatewayError: there is no response.
            ClientDisconnected: the client left first; nothing is held, or the worker has been told.

        """
        request_id = ctx.identity.request_id
        with self._lane(ctx) as lane, self._inbox.expect(request_id, ctx.inference_request.in_hand) as ended:
            try:
                ctx.disconnect.check()
                await self._publish(ctx, lane)
                waiting = ctx.disconnect.or_disconnect(ended) if _is_cancelled_with_its_caller(ctx) else ended
                with Expiry(ended, ctx.remaining_s(self._now())):
                    outcome = await waiting
            except TimeoutError:
                return await self._committed_late(ctx)
            except ClientDisconnected as error:
                if not await self._withdraw(ctx, error):
                    self._inbox.publish_cancel(request_id)  # behind the claim, so the worker hears it
                raise
        if isinstance(outcome, Failed):
            raise error_of(outcome.failure)
        await self._remember_answered(ctx, outcome)
        return outcome

    async def stream(self, ctx: RequestContext) -> StreamedResponse:
        """Publish the job and wait for the first part of the response. Raises as `call`."""
        request_id = ctx.identity.request_id
        known_by = ctx.identity.idempotency
        incoming = IncomingStream(self._inbox.resends(request_id), in_hand=ctx.inference_request.in_hand)

        def cancel() -> None:
            if not incoming.has_ended:
                self._inbox.publish_cancel(request_id)

        closing = ExitStack()
        lane = closing.enter_context(self._lane(ctx))
        closing.enter_context(self._inbox.collect(request_id, incoming))
        try:
            ctx.disconnect.check()
            await self._publish(ctx, lane)
            if known_by is None:
                closing.callback(cancel)
            remaining_s = max(0.0, ctx.remaining_s(self._now()))
            closing.callback(asyncio.get_running_loop().call_later(remaining_s, incoming.expire).cancel)
            first = await self._part(ctx, ctx.disconnect.or_disconnect(incoming.next()))
            if known_by is not None and known_by.derived is not None:
                closing.callback(cancel)  # SDKs do not retry a stream that has begun
        except ClientDisconnected as error:
            with closing:  # a worker that has claimed the job before it could be withdrawn hears of it behind its claim
                if known_by is None:
                    await self._withdraw(ctx, error)
            raise
        except BaseException:
            closing.close()
            raise
        attempt, target = incoming.origin
        return StreamedResponse(
            ctx.at(target),
            attempts=attempt,
            first=first or b"",
            following=lambda: self._part(ctx, incoming.next()),
            is_at_end=lambda: incoming.is_at_end,
            close=closing.close,
        )

    async def _part(self, ctx: RequestContext, coming: Awaitable[bytes | Committed | Failed]) -> bytes | None:
        """The next part; None once the response is complete and in the log."""
        try:
            came = await coming
        except PartsLost:
            raise Unavailable("a part of the answer was lost on its way") from None
        except Expired:
            error = ctx.timed_out()
            await self._withdraw(ctx, error)
            raise error from None
        if isinstance(came, Failed):
            raise error_of(came.failure)
        if isinstance(came, Committed):
            reach("api.after_answer")
            ctx.inference_request.facts.answered_by(came.receipt, came.receipt.cost_nano_usd)
            await self._remember_answered(ctx, came)
            return None
        reach("api.after_part")
        return came

    async def _remember_answered(self, ctx: RequestContext, committed: Committed) -> None:
        """Remember the log's position after the answer, and what the provider counted a long prompt as."""
        receipt = committed.receipt
        self._recorder.note_position(receipt)
        answered = ctx.answered_by(receipt)
        prompt = answered.prompt
        if prompt is not None and answered.is_origin_of(receipt) and not receipt.is_estimated:
            await self._prompts.remember(prompt.chain, receipt.usage.prompt_tokens, text_bound=prompt.text_bound)

    async def _committed_late(self, ctx: RequestContext) -> Committed:
        """The response that the log has at the deadline, though it did not arrive."""
        cached = await self._cache.own_response(ctx.identity.project_id, ctx.identity.request_id)
        if cached is not None:
            return Committed(0, cached.body, cached.receipt)
        error = ctx.timed_out()
        await self._withdraw(ctx, error)
        raise error

    async def _publish(self, ctx: RequestContext, lane: Lane) -> None:
        """Hand the job to the queue. If that fails, release what was held for it."""
        background = ctx.inference_request.background
        try:
            if background is not None:
                await background.started(ctx.identity.request_id)
            with self._observer.publishing(lane) as watch:
                job = watch.traced(await self._job(ctx))
                self._inbox.keep_job(job)
                await self._queue.publish(job, lane, otherwise=self._direct.offer)
            reach("api.after_publish")
        except (Overloaded, Unavailable) as error:
            if await self._withdraw(ctx, error) or not isinstance(error, PublishUnknown):
                raise
            # a worker has claimed it: the job did arrive

    async def _withdraw(self, ctx: RequestContext, error: GatewayError) -> bool:
        """Take the admission back, and record the error that the request ended with. False: a worker has claimed it."""
        head = await self._admission.withdraw(ctx.identity.request_id, self._recorder.failed(ctx, error))
        if head is None:
            return False
        reach("api.after_withdrawal")
        self._recorder.note_head(head)
        return True

    async def _job(self, ctx: RequestContext) -> Job:
        """The job of a request, with that of each further target: they share a body that is the same."""
        first = await self._job_at(ctx, INLINE_BODY_LIMIT_BYTES)
        failover = ctx.failover
        if failover is None:
            return first
        room_bytes = INLINE_BODY_LIMIT_BYTES - len(first.body or b"")
        further: list[Job] = []
        for one in ctx.further:
            job = await self._job_at(one, room_bytes, first=ctx)
            room_bytes -= len(job.body or b"")
            further.append(replace(job, hold_nano_usd=one.cost.hold_nano_usd))
        return replace(
            first,
            failover=JobFailover(
                further=tuple(further),
                fail_over_on=failover.fail_over_on,
                attempts=failover.attempts,
                dropped=ctx.left_out,
            ),
        )

    async def _job_at(self, ctx: RequestContext, room_bytes: int, *, first: RequestContext | None = None) -> Job:
        """The job of one target. Its body goes along if it has at most so many bytes and is not the `first` one's."""
        inference_request, target = ctx.inference_request, ctx.target
        body: bytes | None = ctx.payload
        blob_id = None
        if first is not None and first.payload == ctx.payload:
            body = None
        elif len(ctx.payload) > room_bytes:
            body, blob_id = None, new_id("blob")
            await self._blobs.write(ctx.identity.project_id, blob_id, ctx.payload, ctx.deadline)
        return Job(
            identity=ctx.identity,
            kind=target.kind,
            base_url=target.base_url,
            price=ctx.cost.price,
            body=body,
            body_blob_id=blob_id,
            is_passthrough=ctx.body.is_passthrough,
            asked_operation=ctx.body.asked_operation,
            calls=ctx.body.calls,
            needs_own_credential=ctx.needs_own_credential,
            headers=inference_request.headers,
            query=inference_request.query,
            method=inference_request.method,
            path=inference_request.path,
            stream=inference_request.stream,
            cancel_on_disconnect=_is_cancelled_with_its_caller(ctx) and inference_request.stream is None,
            input_bound=ctx.cost.input_tokens,
            output_bound=ctx.cost.output_tokens,
            unseen_input_tokens=ctx.cost.unseen_input_tokens,
            unseen_output_tokens=ctx.cost.unseen_output_tokens,
            input_class=ctx.cost.input_class,
            audio_bound=ctx.cost.audio_tokens,
            writes_audio=ctx.cost.writes_audio,
            choices=ctx.cost.choices,
            asked_terms=ctx.cost.terms,
            unpriced=ctx.cost.unpriced,
            context_window=ctx.cost.context_window,
            may_think_unseen=may_think_unseen(target.upstream_model),
            reply_to=self._inbox.subject(ctx.identity.request_id),
            admitted_at_ms=round(inference_request.received_at.timestamp() * 1000),
            deadline_ms=round(ctx.deadline.timestamp() * 1000),
            cache_key=ctx.cache_key,
            cache_ttl_s=inference_request.cache.ttl_s,
            keep_until=inference_request.background.keep_until if inference_request.background is not None else None,
            asked=inference_request.asked,
        )

    def _lane(self, ctx: RequestContext) -> AbstractContextManager[Lane]:
        """Count a request until the block ends. Gives the lane for its job.

        That is `bulk` if its tenant has many in flight, or some to a provider that has many in `sync`. Requests of
        asynchronous jobs have their own lane, and do not count.
        """
        if ctx.inference_request.background is not None:
            return nullcontext("async")
        project_id, key_id, provider = ctx.identity.project_id, ctx.identity.key_id, _provider_of(ctx)
        is_modest = self._by_project_and_provider[project_id, provider] < MODEST_PER_PROVIDER
        is_many = (
            self._by_project[project_id] >= SYNC_PER_PROJECT
            or self._by_key[key_id] >= SYNC_PER_KEY
            or (self._sync_by_provider[provider] >= SYNC_PER_PROVIDER and not is_modest)
        )
        counts: list[tuple[Counter[Any], object]] = [
            (self._all, None),
            (self._by_project, project_id),
            (self._by_key, key_id),
            (self._by_provider, provider),
            (self._by_project_and_provider, (project_id, provider)),
        ]
        if not is_many:
            counts.append((self._sync_by_provider, provider))
        return _Counted("bulk" if is_many else "sync", counts)


class _Counted:
    """A request in flight, which is counted for as long as its block lasts."""

    def __init__(self, lane: Lane, counts: Sequence[tuple[Counter[Any], object]]) -> None:
        self._lane = lane
        self._counts = counts

    def __enter__(self) -> Lane:
        for counter, name in self._counts:
            counter[name] += 1
        return self._lane

    def __exit__(self, *_: object) -> None:
        for counter, name in self._counts:
            counter[name] -= 1
            if not counter[name]:
                del counter[name]


def _provider_of(ctx: RequestContext) -> _Provider:
    """The same providers as those of `infra.jobs.provider_share`."""
    identity = ctx.identity
    return identity.provider, identity.project_id if ctx.needs_own_credential else INSTALLATION


def _is_cancelled_with_its_caller(ctx: RequestContext) -> bool:
    """True if a call whose answer comes in one piece ends when its caller leaves: no retry can fetch the answer."""
    return ctx.caller.cancel_on_disconnect and ctx.identity.idempotency is None
