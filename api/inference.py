"""A question's way to its answer: may it be asked → memory → the gate (limits, cache, the same question in flight, the
hold) → queue → answer. Every surface goes this way; there is no route around it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Literal

import structlog
from msgspec import Struct
from msgspec.structs import replace

from api.admission_controller import AdmissionController, StaleKey
from api.authentication import Authenticator, Caller
from api.client_disconnect import ClientDisconnect
from api.dispatched import DispatchedRequests
from api.large_requests import LargeRequests
from api.memory_cache import CachedResponse
from api.request_context import InferenceRequest, RequestContext
from api.request_planner import RequestPlanner, lower_cap
from api.response_cache import ResponseCache
from domain.dialects.passthrough.inspect import PassthroughRequest
from domain.errors import ClientDisconnected, GatewayError, Overloaded, ProviderTimeout, Unavailable
from domain.events import RequestFailed, RequestServedFromCache, request_stream
from domain.job_result import Receipt, error_of
from domain.limits import LimitStatus
from domain.models import may_think_unseen
from domain.money import ZERO, NanoUsd
from domain.request_decider import decide_failed
from domain.routing import Route
from infra.blobs import Blobs
from infra.direct import DirectDispatch
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from infra.incoming import Expired, IncomingStream, PartsLost
from infra.jobs import INLINE_BODY_LIMIT_BYTES, Job, JobQueue, Lane, PublishUnknown
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.replies import Committed, Failed, ReplyInbox
from infra.request_log import record

ASK_AGAIN_S = 0.02
MAX_ASK_AGAIN_S = 1.0
"""Each time twice as long: a leader that has ended without an answer to share may stay in flight for a while."""
MAX_PLANS = 3
"""How often a request is planned anew because its key has changed."""

log = structlog.get_logger(__name__)


class InferenceResponse(Struct, frozen=True, kw_only=True):
    """What the caller gets."""

    body: bytes
    """The answer's JSON: canonical, or as its provider wrote it where it was asked in the provider's own dialect."""
    receipt: Receipt
    cache: Literal["HIT", "MISS", "BYPASS"]
    limit_status: LimitStatus
    lowered_cap: int | None = None
    """The output cap that the answer was made under, where the budget had room for no more."""

    @property
    def cost_nano_usd(self) -> NanoUsd | None:
        """What this answer cost its caller: a cached one nothing; None where nobody can price the model."""
        return ZERO if self.cache == "HIT" else self.receipt.cost_nano_usd


class StreamedResponse:
    """An answer on its way: its parts as they come, ready for the caller. Whoever is given one closes it."""

    def __init__(
        self,
        ctx: RequestContext,
        *,
        first: bytes,
        following: Callable[[], Awaitable[bytes | None]],
        close: Callable[[], None],
    ) -> None:
        self.request_id = ctx.inference_request.request_id
        self.route = ctx.route
        self.limit_status = ctx.limit_status
        self.lowered_cap = ctx.lowered_cap
        self.cache: Literal["MISS", "BYPASS"] = "MISS" if ctx.key is not None else "BYPASS"
        self._first: bytes | None = first
        self._following = following
        self.close = close

    def __aiter__(self) -> "StreamedResponse":
        return self

    async def __anext__(self) -> bytes:
        """The next parts, joined.

        Raises:
            GatewayError: the stream broke off, and why.

        """
        part, self._first = self._first, None
        if part is None:
            part = await self._following()
        if part is None:
            raise StopAsyncIteration
        return part


class InferenceService:
    """Answers questions for one API process."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        event_log: EventLog,
        admission: AdmissionController,
        cache: ResponseCache,
        planner: RequestPlanner,
        large_requests: LargeRequests,
        objects: ProviderObjectOwnership,
        queue: JobQueue,
        direct: DirectDispatch,
        inbox: ReplyInbox,
        blobs: Blobs,
        now: Callable[[], datetime],
    ) -> None:
        self._authenticator = authenticator
        self._log = event_log
        self._admission = admission
        self._cache = cache
        self._planner = planner
        self._large_requests = large_requests
        self._objects = objects
        self._queue = queue
        self._direct = direct
        self._inbox = inbox
        self._blobs = blobs
        self._now = now
        self._dispatched = DispatchedRequests()

    def route(self, caller: Caller, model: str) -> Route:
        """Where a caller's request for a model goes. Raises as `RequestPlanner.route`."""
        return self._planner.route(caller, model)

    async def answer(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect
    ) -> InferenceResponse:
        """Find or make the answer, in one piece.

        Raises:
            GatewayError: every refusal and failure of the contract's table.
            ClientDisconnected: the departure was noted; nothing is held for it, or its call is being given up.

        """
        assert inference_request.stream is None, "asked to be streamed"
        answer = await self._run(caller, inference_request, disconnect)
        assert isinstance(answer, InferenceResponse), "in one piece"
        return answer

    async def stream(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect
    ) -> InferenceResponse | StreamedResponse:
        """Find the answer, or have it made and given part by part.

        Raises:
            GatewayError: every refusal, and every failure before the first part.
            ClientDisconnected: before the first part; nothing is held for it, or its call is being given up.

        """
        assert inference_request.stream is not None, "not asked to be streamed"
        return await self._run(caller, inference_request, disconnect)

    async def _run(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect
    ) -> InferenceResponse | StreamedResponse:
        is_counted = False
        for _ in range(MAX_PLANS):
            try:
                return await self._plan_and_answer(caller, inference_request, disconnect, is_counted=is_counted)
            except StaleKey as stale:
                caller, is_counted = await self._authenticator.reload(caller), stale.is_counted
        raise Unavailable("the key is being changed at this moment: try again", retry_after_s=1)

    async def _plan_and_answer(
        self, caller: Caller, inference_request: InferenceRequest, disconnect: ClientDisconnect, *, is_counted: bool
    ) -> InferenceResponse | StreamedResponse:
        ctx = await self._large_requests.run(
            caller.project_id, inference_request.size_bytes, self._planner.plan, caller, inference_request
        )
        ctx.disconnect, ctx.is_counted = disconnect, is_counted
        ctx.needs_own_credential = ctx.route.provider in caller.own_credentials
        if isinstance(ctx.request, PassthroughRequest):
            names_own = await self._objects.check(caller.project_id, ctx.route.provider, ctx.request)
            ctx.needs_own_credential = ctx.needs_own_credential or names_own
        try:
            return await self._admit_and_dispatch(ctx)
        except GatewayError as error:
            error.limit_status = ctx.limit_status
            raise

    async def _admit_and_dispatch(self, ctx: RequestContext) -> InferenceResponse | StreamedResponse:
        cached = self._cache.get_local(ctx)
        if cached is not None:
            return await self._serve_cached(ctx, cached, shared=False)
        min_created_at, pause_s = ctx.min_created_at, ASK_AGAIN_S
        while (ctx.deadline - self._now()).total_seconds() > 0:
            ctx.disconnect.check()
            decision = await self._admission.decide(ctx, min_created_at)
            match decision.outcome:
                case "admitted":
                    lower_cap(ctx, decision.hold_nano_usd)
                    if ctx.inference_request.stream is not None:
                        return await self._dispatch_stream(ctx)
                    return await self._dispatch(ctx, decision.hold_nano_usd)
                case "hit":
                    assert decision.origin is not None, "a hit has an origin"
                    cached = await self._cache.load(ctx, decision.origin)
                    min_created_at = None  # what the index promised is no longer kept: a fresh answer, then
                case "coalesced":
                    assert decision.origin is not None, "one who follows has a leader"
                    cached = await self._cache.wait_for_leader(ctx, decision.origin)
                case _:
                    cached = None
            if cached is not None:
                return await self._serve_cached(ctx, cached, shared=decision.outcome == "coalesced")
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_ASK_AGAIN_S, 2 * pause_s)
        raise self._timed_out(ctx)

    async def _dispatch(self, ctx: RequestContext, hold_nano_usd: NanoUsd) -> InferenceResponse:
        """Publish the job and wait for what comes of it."""
        request_id, caller = ctx.inference_request.request_id, ctx.caller
        with (
            self._dispatched.count(caller.project_id, caller.key_id) as lane,
            self._inbox.expect(request_id, ctx.inference_request.in_hand) as ended,
        ):
            try:
                ctx.disconnect.check()
                await self._publish(ctx, lane)
                remaining_s = (ctx.deadline - self._now()).total_seconds()
                waiting = ctx.disconnect.or_disconnect(ended) if caller.cancel_on_disconnect else ended
                outcome = await asyncio.wait_for(waiting, max(0.0, remaining_s))
            except TimeoutError:
                return await self._too_late(ctx)
            except ClientDisconnected as error:
                if not await self._drop(ctx, error):
                    self._inbox.publish_cancel(request_id)  # behind the claim, so the worker hears it
                raise
        if isinstance(outcome, Failed):
            raise error_of(outcome.failure)
        ctx.limit_status = _settled(ctx.limit_status, hold_nano_usd, outcome.receipt.cost_nano_usd)
        return await self._committed(ctx, outcome)

    async def _dispatch_stream(self, ctx: RequestContext) -> StreamedResponse:
        """Publish the job and wait for the first part of the answer."""
        request_id = ctx.inference_request.request_id
        incoming = IncomingStream(self._inbox.resends(request_id), in_hand=ctx.inference_request.in_hand)
        closing = ExitStack()
        lane = closing.enter_context(self._dispatched.count(ctx.caller.project_id, ctx.caller.key_id))
        closing.enter_context(self._inbox.collect(request_id, incoming))
        try:
            ctx.disconnect.check()
            await self._publish(ctx, lane)
            closing.callback(lambda: None if incoming.has_ended else self._inbox.publish_cancel(request_id))
            remaining_s = (ctx.deadline - self._now()).total_seconds()
            closing.callback(asyncio.get_running_loop().call_later(max(0.0, remaining_s), incoming.expire).cancel)
            first = await self._part(ctx, ctx.disconnect.or_disconnect(incoming.next()))
        except ClientDisconnected as error:
            with closing:  # a worker that has claimed the job before it could be dropped hears of it behind its claim
                await self._drop(ctx, error)
            raise
        except BaseException:
            closing.close()
            raise
        return StreamedResponse(
            ctx, first=first or b"", following=lambda: self._part(ctx, incoming.next()), close=closing.close
        )

    async def _part(self, ctx: RequestContext, coming: Awaitable[bytes | Committed | Failed]) -> bytes | None:
        """What comes next; None once the answer is complete and stands in the log."""
        try:
            came = await coming
        except PartsLost:
            raise Unavailable("a part of the answer was lost on its way") from None
        except Expired:
            error = self._timed_out(ctx)
            await self._drop(ctx, error)
            raise error from None
        if isinstance(came, Failed):
            raise error_of(came.failure)
        return None if isinstance(came, Committed) else came

    async def _publish(self, ctx: RequestContext, lane: Lane) -> None:
        """Hand the job to the queue; what was held for it is released where that fails."""
        try:
            job = await self._job(ctx)
            self._inbox.keep_job(job)
            await self._queue.publish(job, lane, otherwise=self._direct.offer)
        except (Overloaded, Unavailable) as error:
            if await self._drop(ctx, error) or not isinstance(error, PublishUnknown):
                raise
            # a worker has claimed it: the job did arrive

    async def _job(self, ctx: RequestContext) -> Job:
        inference_request, route = ctx.inference_request, ctx.route
        body: bytes | None = ctx.body
        blob_id = None
        if len(ctx.body) > INLINE_BODY_LIMIT_BYTES:
            body, blob_id = None, new_id("blob")
            await self._blobs.write(ctx.caller.project_id, blob_id, ctx.body, ctx.deadline)
        return Job(
            identity=ctx.identity,
            kind=route.kind,
            base_url=route.base_url,
            price=ctx.price,
            body=body,
            body_blob_id=blob_id,
            is_passthrough=isinstance(ctx.request, PassthroughRequest),
            needs_own_credential=ctx.needs_own_credential,
            headers=inference_request.headers,
            query=inference_request.query,
            stream=inference_request.stream,
            cancel_on_disconnect=ctx.caller.cancel_on_disconnect and inference_request.stream is None,
            input_bound=ctx.input_tokens,
            output_bound=ctx.output_tokens,
            may_think_unseen=may_think_unseen(route.upstream_model),
            reply_to=self._inbox.subject(inference_request.request_id),
            admitted_at_ms=round(inference_request.received_at.timestamp() * 1000),
            deadline_ms=round(ctx.deadline.timestamp() * 1000),
            cache_key=ctx.key,
            cache_ttl_s=inference_request.cache.ttl_s,
        )

    async def _committed(self, ctx: RequestContext, committed: Committed) -> InferenceResponse:
        body = committed.body
        if body is None:  # its frames were lost; the log may have kept it
            cached = await self._cache.of_request(ctx.caller.project_id, ctx.inference_request.request_id)
            if cached is None:
                raise Unavailable("the answer was lost on its way back; it stands in the log, without its content")
            body = cached.body
        if committed.receipt.is_kept:
            self._cache.remember(ctx, body, committed.receipt)
        return InferenceResponse(
            body=body,
            receipt=committed.receipt,
            cache="MISS" if ctx.key is not None else "BYPASS",
            limit_status=ctx.limit_status,
            lowered_cap=ctx.lowered_cap,
        )

    async def _too_late(self, ctx: RequestContext) -> InferenceResponse:
        """The deadline has passed: the log says whether there was an answer after all."""
        cached = await self._cache.of_request(ctx.caller.project_id, ctx.inference_request.request_id)
        if cached is not None:
            return InferenceResponse(
                body=cached.body, receipt=cached.receipt, cache="MISS", limit_status=ctx.limit_status
            )
        error = self._timed_out(ctx)
        await self._drop(ctx, error)
        raise error

    def _timed_out(self, ctx: RequestContext) -> ProviderTimeout:
        provider, allowed = ctx.route.provider, ctx.deadline - ctx.inference_request.received_at
        return ProviderTimeout(f"{provider} did not answer within {allowed.total_seconds():g} s", provider=provider)

    async def _serve_cached(self, ctx: RequestContext, cached: CachedResponse, *, shared: bool) -> InferenceResponse:
        """Give a known answer again; the event of it is in the log before the caller has it."""
        ctx.inference_request.in_hand.take(len(cached.body))
        now = self._now()
        served = RequestServedFromCache(
            **ctx.identity.event_fields(),
            origin_request_id=cached.request_id,
            shared=shared,
            usage=cached.receipt.usage,
            saved_nano_usd=cached.receipt.cost_nano_usd,
            latency_ms=ctx.latency_ms(now),
        )
        await self._admission.serve(
            ctx,
            Commit(
                stream=request_stream(ctx.inference_request.request_id),
                expected_version=0,
                project_id=ctx.caller.project_id,
                at=now,
                events=(served,),
            ),
        )
        return InferenceResponse(body=cached.body, receipt=cached.receipt, cache="HIT", limit_status=ctx.limit_status)

    async def _drop(self, ctx: RequestContext, error: GatewayError) -> bool:
        """Take an admission back, and note what it came to before anybody called a provider. False: it is claimed."""
        if not await self._admission.drop(ctx):
            return False
        now = self._now()
        failed = RequestFailed(
            **ctx.identity.event_fields(), code=error.code, message=error.message, latency_ms=ctx.latency_ms(now)
        )
        await record(
            self._log,
            request_id=ctx.inference_request.request_id,
            project_id=ctx.caller.project_id,
            at=now,
            decide=lambda history: decide_failed(history, None, failed),
            history=[],
        )
        return True


def _settled(limit_status: LimitStatus, hold_nano_usd: NanoUsd, cost_nano_usd: NanoUsd | None) -> LimitStatus:
    """The standing once a request's own hold has become its cost."""
    left = limit_status.budget_left_nano_usd
    if left is None or cost_nano_usd is None:
        return limit_status
    return replace(limit_status, budget_left_nano_usd=NanoUsd(left + hold_nano_usd - cost_nano_usd))
