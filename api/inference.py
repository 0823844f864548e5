"""The way of a request, from a surface to its response. Every surface calls `InferenceService.infer`.

`infer` plans the request, `_run` has all the steps after that, in order. How a job gets to a worker and its reply back
is `api/dispatch.py`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from litestar.types import Receive
from msgspec.structs import replace

from api.admission_controller import AdmissionController, StaleKey
from api.authentication import Authenticator, Caller
from api.client_disconnect import watch_disconnect
from api.dispatch import Dispatcher
from api.inference_response import InferenceResponse, StreamedResponse
from api.large_requests import LargeRequests
from api.planned_targets import within_room, without_others, without_unpriced
from api.refusals import REFUSALS, Refusals
from api.replays import Replays
from api.request_context import InferenceRequest, RequestContext
from api.request_facts import RequestFacts
from api.request_planner import RequestPlanner, within_budget
from api.request_recorder import RequestRecorder
from api.response_cache import CachedResponse, ResponseCache
from domain.errors import GatewayError, Overloaded, Unavailable
from domain.money import NanoUsd
from infra.admission import AdmissionDecision
from infra.crash_points import reach
from infra.event_log import Commit, EventLog
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.replies import Committed

RETRY_S = 0.02
MAX_RETRY_S = 1.0
"""Each pause is twice as long as the one before: a leader that has no response to share may stay in flight a while."""
MAX_PLANS = 3
"""The most plans of one request: it is planned again if its key has changed."""


class InferenceService:
    """Serves the inference requests of one API process."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        planner: RequestPlanner,
        large_requests: LargeRequests,
        objects: ProviderObjectOwnership,
        cache: ResponseCache,
        admission: AdmissionController,
        refusals: Refusals,
        dispatcher: Dispatcher,
        recorder: RequestRecorder,
        replays: Replays,
        event_log: EventLog,
        now: Callable[[], datetime],
    ) -> None:
        self._authenticator = authenticator
        self._planner = planner
        self._large_requests = large_requests
        self._objects = objects
        self._cache = cache
        self._admission = admission
        self._refusals = refusals
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._replays = replays
        self._log = event_log
        self._now = now

    @property
    def callers_in_flight(self) -> int:
        """The callers that wait for an answer of a worker's at the moment."""
        return self._dispatcher.in_flight

    async def infer(
        self, caller: Caller, inference_request: InferenceRequest, receive: Receive
    ) -> InferenceResponse | StreamedResponse:
        """Serve a request from the cache, or have a worker make the call. `receive` tells if the client disconnects.

        Raises:
            GatewayError: every refusal, and every failure before the response has begun.
            ClientDisconnected: nothing is held for the request any more, or its call is being cancelled.

        """
        facts, target = inference_request.facts, inference_request.target
        facts.asked(
            inference_request.operation,
            provider=target.provider,
            model=target.upstream_model,
            is_stream=inference_request.stream is not None,
        )
        is_counted = False
        is_cancellable = inference_request.stream is not None or caller.cancel_on_disconnect
        is_cancellable = is_cancellable or inference_request.idempotency is not None
        async with watch_disconnect(receive, listen=is_cancellable) as disconnect:
            for _ in range(MAX_PLANS):
                ctx = await self._large_requests.run(
                    caller.project_id,
                    inference_request.planned_bytes,
                    self._planner.plan,
                    caller,
                    inference_request,
                    disconnect,
                    is_counted=is_counted,
                )
                if ctx.body.response_id is not None or ctx.body.provider_object_ref is not None or ctx.body.item_ids:
                    ctx = without_others(ctx)
                    names_own = await self._objects.check(caller.project_id, ctx.target.provider, ctx.body)
                    ctx = replace(ctx, needs_own_credential=ctx.needs_own_credential or names_own)
                try:
                    response = await self._run(ctx)
                except StaleKey as stale:
                    caller, is_counted = await self._authenticator.reload(caller), stale.is_counted
                    retargeted = self._retargeted(caller, inference_request)
                    if retargeted is None:
                        break  # the body is in the dialect of a provider that has another by now
                    inference_request = retargeted
                else:
                    _note(facts, response)
                    return response
        raise Unavailable("the key is being changed at this moment: try again", retry_after_s=1)

    def _retargeted(self, caller: Caller, request: InferenceRequest) -> InferenceRequest | None:
        """The request at its targets as the caller's settings are now. None: a body is in another dialect than its
        provider's.
        """
        target, failover = self._planner.target(caller, request.body.model), request.failover
        if request.body.is_passthrough and target.kind != request.target.kind:
            return None
        if failover is not None:
            further = [self._retargeted(caller, one) for one in failover.further]
            able = tuple(one for one in further if one is not None)
            failover = replace(failover, further=able)
        return replace(request, target=target, failover=failover)

    async def _run(self, ctx: RequestContext) -> InferenceResponse | StreamedResponse:
        pause_s = RETRY_S
        try:
            cached = self._cache.get_local(ctx)
            if cached is not None:
                return await self._serve_cached(ctx, cached, is_shared=False)
            self._dispatcher.check_room(ctx)
            size_bytes = ctx.inference_request.size_bytes * (1 + len(ctx.further))
            ctx = await self._large_requests.run(ctx.identity.project_id, size_bytes, self._planner.bound_cost, ctx)
            while ctx.remaining_s(self._now()) > 0:
                ctx.disconnect.check()
                reach("api.before_admit")
                ctx, decision = await self._admit(ctx)
                match decision.outcome:
                    case "admitted":
                        reach("api.after_admit")
                        return await self._have_answered(ctx, decision)
                    case "hit":
                        assert decision.origin is not None, "a hit has an origin"
                        cached = await self._cache.load(ctx, decision.origin)
                        ctx = replace(ctx, min_created_at=None)  # if its body is gone: then a fresh response
                    case "coalesced":
                        assert decision.origin is not None, "there is a leader"
                        cached = await self._cache.wait_for_leader(ctx, decision.origin)
                    case "replay" | "mismatch":
                        replayed = await self._replays.replay(ctx, decision)
                        if isinstance(replayed, InferenceResponse):
                            return replayed
                        ctx = replayed
                    case _:  # another request has become the leader, or the leader has ended: decide again
                        pass
                if cached is not None:
                    return await self._serve_cached(ctx, cached, is_shared=decision.outcome == "coalesced")
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_RETRY_S, 2 * pause_s)
            raise ctx.timed_out()
        except GatewayError as error:
            if error.limit_status is None or isinstance(error, Overloaded | Unavailable):  # a batch shares these
                error.limit_status = ctx.limit_status
            raise

    async def _have_answered(
        self, ctx: RequestContext, decision: AdmissionDecision
    ) -> InferenceResponse | StreamedResponse:
        """Have a worker make the call of an admitted request."""
        left_nano_usd = decision.limit_status.budget_left_nano_usd
        if left_nano_usd is not None:
            ctx = within_budget(ctx, decision.hold_nano_usd)
            if ctx.further:
                room = NanoUsd(left_nano_usd + decision.hold_nano_usd)
                ctx = within_room(ctx, room, within_budget)
        if ctx.inference_request.stream is not None:
            return await self._dispatcher.stream(ctx)
        committed = await self._dispatcher.call(ctx)
        reach("api.after_answer")
        receipt = committed.receipt
        return await self._respond(ctx.settled(receipt.cost_nano_usd).answered_by(receipt), committed)

    async def _admit(
        self, ctx: RequestContext, served: Commit | None = None
    ) -> tuple[RequestContext, AdmissionDecision]:
        """Have a request decided about, or counted together with the event that it was `served`.

        Raises:
            GatewayError: it is refused, or the decision could not be made.
            StaleKey: the key has changed since it was read.

        """
        asked_at_s = time.monotonic()
        decision = await self._admission.decide(ctx, served)
        ctx = replace(ctx, limit_status=decision.limit_status, is_counted=True)
        priced = without_unpriced(ctx) if decision.outcome == "unpriced" and ctx.further else None
        if priced is not None:
            return await self._admit(priced, served)
        if decision.outcome in REFUSALS:
            raise await self._refusals.record(ctx, decision, asked_at_s)
        return ctx, decision

    async def _serve_cached(self, ctx: RequestContext, cached: CachedResponse, *, is_shared: bool) -> InferenceResponse:
        """Serve a response from the cache. The event of it is in the log before the caller has the response."""
        ctx.inference_request.in_hand.take(len(cached.body))
        kept = await self._replays.keep(ctx, cached.body) if ctx.identity.idempotency is not None else None
        served = self._recorder.served_from_cache(ctx, cached, is_shared=is_shared, kept=kept)
        if ctx.caller.is_limited and not ctx.is_counted:
            ctx, _ = await self._admit(ctx, served)
        else:
            await self._log.append(served)
        reach("api.after_hit")
        return InferenceResponse(
            body=cached.body,
            receipt=cached.receipt,
            target=ctx.inference_request.number,
            cache="HIT",
            is_shared=is_shared,
            limit_status=ctx.limit_status,
            dropped=ctx.identity.dropped,
            latency_ms=ctx.latency_ms(served.at) if kept is not None else None,
        )

    async def _respond(self, ctx: RequestContext, committed: Committed) -> InferenceResponse:
        body, receipt = committed.body, committed.receipt
        if body is None:  # its frames were lost; the log may have it
            cached = await self._cache.own_response(ctx.identity.project_id, ctx.identity.request_id)
            if cached is None:
                raise Unavailable("the answer was lost on its way back; it stands in the log, without its content")
            body = cached.body
        if receipt.is_kept:
            self._cache.remember(ctx, body, receipt)
        return InferenceResponse(
            body=body,
            receipt=receipt,
            attempts=committed.attempt,
            target=ctx.inference_request.number,
            cache="MISS" if ctx.cache_key is not None else "BYPASS",
            limit_status=ctx.limit_status,
            lowered_cap=ctx.lowered_cap,
            lowered_tool_calls=ctx.lowered_tool_calls,
            dropped=ctx.identity.dropped,
            latency_ms=ctx.recorded_latency_ms(receipt.answered_at) if ctx.identity.idempotency is not None else None,
        )


def _note(facts: RequestFacts, response: InferenceResponse | StreamedResponse) -> None:
    facts.cache, facts.attempts = response.cache_result, response.attempts
    if isinstance(response, InferenceResponse):
        facts.answered_by(response.receipt, response.cost_nano_usd)
    else:
        facts.begun_by(provider=response.target.provider, model=response.target.upstream_model)
