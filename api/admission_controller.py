"""Whether a question may be asked: limits, budgets, the cache's index and what is in flight, decided by `admit`.

Waits, in one line for each key, where only what requests in flight hold stands in the way; refuses with the figures.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from weakref import WeakValueDictionary

from api.client_disconnect import ClientDisconnect
from api.metrics import REFUSAL_REASONS, Metrics
from api.rate_refusals import RateRefusals
from api.request_context import RequestContext
from domain.errors import BudgetExceeded, Forbidden, GatewayError, RateLimited
from domain.events import RequestRejected, request_stream
from domain.limits import NANO_PER_S
from infra.admission import Admission, AdmissionDecision, AdmissionRequest, Attempt
from infra.event_log import Commit, EventLog
from infra.replies import ReplyInbox

ASK_AGAIN_S = 0.025
"""How often the head of a line asks again: a hold is released a moment after its answer."""
WAITING = ("budget_held", "concurrency")


class StaleKey(Exception):
    """The key works no longer, or has other settings than the request was planned with."""

    def __init__(self, *, is_counted: bool) -> None:
        super().__init__()
        self.is_counted = is_counted
        """The request was counted toward the rate limit before that."""


class AdmissionQueue:
    """Those who wait for what others hold: one line for each key of one process, whose head asks for all."""

    def __init__(self) -> None:
        self._heads: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def wait(
        self, key_id: str, ask: Callable[[], Awaitable[AdmissionDecision]], wait_s: float, disconnect: ClientDisconnect
    ) -> AdmissionDecision | None:
        """Stand in line and ask, until there is something else than waiting to do, or the time is over (None).

        Raises:
            ClientDisconnected: there is nobody to ask for any more; nothing is held.

        """
        until = time.monotonic() + wait_s
        head = self._heads.get(key_id)
        if head is None:
            head = self._heads[key_id] = asyncio.Lock()
        try:
            await disconnect.or_disconnect(asyncio.wait_for(head.acquire(), wait_s))
        except TimeoutError:
            return None
        try:
            while (left_s := until - time.monotonic()) > 0:
                disconnect.check()
                decision = await ask()
                if decision.outcome not in WAITING:
                    return decision
                await asyncio.sleep(min(ASK_AGAIN_S, left_s))
            return None
        finally:
            head.release()


class AdmissionController:
    """Decides for one API process."""

    def __init__(
        self,
        *,
        admission: Admission,
        log: EventLog,
        inbox: ReplyInbox,
        metrics: Metrics,
        rate_refusals: RateRefusals,
        now: Callable[[], datetime],
    ) -> None:
        self._admission = admission
        self._log = log
        self._inbox = inbox
        self._metrics = metrics
        self._rate_refusals = rate_refusals
        self._now = now
        self._queue = AdmissionQueue()

    async def serve(self, ctx: RequestContext, served: Commit) -> None:
        """Give an answer that is at hand: count the question toward its key's rate limit, and log the event of it.

        Raises:
            RateLimited: that was one too many; nothing is logged.
            StaleKey: as `decide`.

        """
        if ctx.caller.is_limited and not ctx.is_counted:
            since_s = time.monotonic()
            await self._note(
                ctx, await self._admission.admit(self._admission_request(ctx, None, served=served)), since_s
            )
        else:
            await self._log.append(served)

    async def decide(self, ctx: RequestContext, min_created_at: datetime | None) -> AdmissionDecision:
        """Have it decided: admitted, or found (`hit`, `coalesced`), or to be asked once more (`retry`).

        Raises:
            RateLimited, BudgetExceeded: a limit refuses it.
            Forbidden: nobody can price it, and there is a budget.
            Unavailable, Overloaded: nobody can decide at the moment.
            ClientDisconnected: the caller left while it waited; nothing is held.
            StaleKey: the caller's key has changed since it was looked at; nothing is held.

        """
        since_s = time.monotonic()
        decision = await self._admission.admit(self._admission_request(ctx, min_created_at))
        if decision.outcome in WAITING:
            ctx.is_counted = True
            waited = await self._queue.wait(
                ctx.caller.key_id,
                lambda: self._admission.admit(self._admission_request(ctx, min_created_at)),
                ctx.caller.settings.budget_wait_ms / 1000,
                ctx.disconnect,
            )
            decision = waited or await self._admission.admit(
                self._admission_request(ctx, min_created_at, accept_lower_hold=True)
            )
        await self._note(ctx, decision, since_s)
        return decision

    async def drop(self, ctx: RequestContext) -> bool:
        """Take the admission back. False: a worker has claimed it."""
        return await self._admission.drop(ctx.inference_request.request_id)

    async def _note(self, ctx: RequestContext, decision: AdmissionDecision, since_s: float) -> None:
        if decision.outcome == "stale":
            raise StaleKey(is_counted=ctx.is_counted)
        ctx.limit_status = decision.limit_status
        ctx.is_counted = True
        error = _refusal(ctx, decision)
        if error is None:
            return
        self._metrics.refusals.labels(REFUSAL_REASONS[decision.outcome]).inc()
        if isinstance(error, BudgetExceeded):
            await self._record_rejection(ctx, decision)
        if decision.outcome == "rate_limit" and isinstance(error, RateLimited):
            self._rate_refusals.note(ctx.caller, error, since_s)
        raise error

    async def _record_rejection(self, ctx: RequestContext, decision: AdmissionDecision) -> None:
        window = decision.window
        assert window is not None, "money refuses in a window"
        rejected = RequestRejected(
            **ctx.identity.event_fields(),
            window=window.name,
            limit_nano_usd=window.limit_nano_usd,
            taken_nano_usd=window.taken_nano_usd,
            held_nano_usd=window.held_nano_usd,
            asked_nano_usd=ctx.min_hold_nano_usd,
        )
        await self._log.append(
            Commit(
                stream=request_stream(ctx.inference_request.request_id),
                expected_version=0,
                project_id=ctx.caller.project_id,
                at=self._now(),
                events=(rejected,),
            )
        )

    def _admission_request(
        self,
        ctx: RequestContext,
        min_created_at: datetime | None,
        *,
        served: Commit | None = None,
        accept_lower_hold: bool = False,
    ) -> AdmissionRequest:
        return AdmissionRequest(
            min_created_at=min_created_at,
            served=served,
            hold_nano_usd=ctx.hold_nano_usd,
            min_hold_nano_usd=ctx.min_hold_nano_usd,
            accept_lower_hold=accept_lower_hold,
            token_bound=ctx.input_tokens,
            is_counted=ctx.is_counted,
            key_version=ctx.caller.key_version,
            attempt=Attempt(
                identity=ctx.identity,
                cache_key=None if served is not None else ctx.key,
                reply_to=self._inbox.subject(ctx.identity.request_id),
                admitted_at=ctx.inference_request.received_at if served is None else served.at,
                deadline=ctx.deadline,
                uses_installation_credential=ctx.uses_installation_credential,
            ),
        )


def _unbounded(ctx: RequestContext) -> Forbidden:
    """Nobody can say what the request may cost at most: for want of a price, or for a field without a bound."""
    if ctx.price is not None and ctx.unbounded is not None:
        return Forbidden(
            f"nobody can bound the cost of `{ctx.unbounded}`, and this key or its project has a budget: leave it out"
        )
    name = f"{ctx.route.provider}/{ctx.route.upstream_model}"
    return Forbidden(
        f"nobody knows the price of {name}, and this key or its project has a budget: "
        f"an operator can set one with `gateway price set {name} --input … --output …`"
    )


def _refusal(ctx: RequestContext, decision: AdmissionDecision) -> GatewayError | None:
    """What a decision means for the caller; None where it may go on."""
    limit_status, settings = decision.limit_status, ctx.caller.settings
    match decision.outcome:
        case "rate_limit":
            assert limit_status.requests is not None, "there is a limit"
            error: GatewayError = RateLimited(
                f"this key may make {limit_status.requests.limit} requests a minute",
                retry_after_s=(decision.retry_after_ns or 0) / NANO_PER_S,
            )
        case "token_limit":
            assert limit_status.tokens is not None, "there is a limit"
            limit = limit_status.tokens.limit
            error = RateLimited(
                f"this key may take {limit} tokens a minute; this request may be counted as {ctx.input_tokens}"
                + (", which will never fit" if ctx.input_tokens > limit else ""),
                details={"limit": limit, "asked": ctx.input_tokens},
                retry_after_s=(decision.retry_after_ns or 0) / NANO_PER_S,
            )
        case "concurrency":
            error = RateLimited(
                f"this key may have {settings.concurrency_limit} requests in flight at a time", retry_after_s=1
            )
        case "unpriced":
            error = _unbounded(ctx)
        case "budget_held" | "budget_spent":
            assert decision.window is not None, "money refuses in a window"
            error = BudgetExceeded.of(
                decision.window, ctx.min_hold_nano_usd, only_held=decision.outcome == "budget_held"
            )
        case _:
            return None
    error.limit_status = limit_status
    return error
