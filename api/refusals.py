"""Turns a refusal by admission into the client's error, with the figures of the limit.

A refusal is counted, and remembered if it was for the rate; one for money is recorded in the log.
"""

import time
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.metrics import REFUSAL_REASONS, Metrics
from api.request_context import RequestContext
from api.request_recorder import RequestRecorder
from domain.errors import BudgetExceeded, CostUnknown, GatewayError, RateLimited
from domain.limits import NANO_PER_S, Window
from domain.money import NanoUsd, to_usd
from infra.admission import AdmissionDecision, Outcome

MAX_KEYS = 10_000


class _Refusal(Struct, frozen=True):
    since_s: float
    until_s: float
    key_version: int
    error: RateLimited


class RateRefusals:
    """Keys that admission has refused for their rate, in one process, until the rate has room again.

    Until then a request is refused before its body is read, and without the database: nothing can admit it, because an
    arrival time never goes back. Settings that have changed end it. Times are of the monotonic clock.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, _Refusal] = {}

    def note(self, caller: Caller, error: RateLimited, since_s: float) -> None:
        """Remember a refusal for its rate, of a request that asked for admission at `since_s`."""
        assert error.retry_after_s is not None, "a rate has room again"
        if len(self._by_key) >= MAX_KEYS:
            now_s = time.monotonic()
            self._by_key = {key: one for key, one in self._by_key.items() if one.until_s > now_s}
            if len(self._by_key) >= MAX_KEYS:
                return
        self._by_key[caller.key_id] = _Refusal(since_s, since_s + error.retry_after_s, caller.key_version, error)

    def check(self, caller: Caller) -> None:
        """Let a caller pass that was not refused, or whose time has come.

        Raises:
            RateLimited: its rate has no room yet.

        """
        refusal = self._by_key.get(caller.key_id)
        if refusal is None:
            return
        now_s = time.monotonic()
        if now_s >= refusal.until_s or caller.key_version != refusal.key_version:
            del self._by_key[caller.key_id]
            return
        raise _later(refusal, now_s)


class Refusals:
    """Records refusals for one API process."""

    def __init__(self, *, recorder: RequestRecorder, metrics: Metrics, rate_refusals: RateRefusals) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._rate_refusals = rate_refusals

    async def record(self, ctx: RequestContext, decision: AdmissionDecision, asked_at_s: float) -> GatewayError:
        """Record a decision that is one of `REFUSALS`. `asked_at_s`: time.monotonic() before the decision.

        Returns the error to raise: RateLimited or BudgetExceeded if a limit refuses the request, CostUnknown if its
        cost has no known bound and there is a budget.
        """
        error = REFUSALS[decision.outcome](ctx, decision)
        error.limit_status = decision.limit_status
        self._metrics.refusals.labels(REFUSAL_REASONS[decision.outcome]).inc()
        if isinstance(error, BudgetExceeded) and decision.window is not None:
            await self._recorder.record_rejected(ctx, decision.window)
        if decision.outcome == "rate_limit" and isinstance(error, RateLimited):
            self._rate_refusals.note(ctx.caller, error, asked_at_s)
        return error


def _later(refusal: _Refusal, now_s: float) -> RateLimited:
    """The refusal as it reads now."""
    error = RateLimited(refusal.error.message, details=refusal.error.details, retry_after_s=refusal.until_s - now_s)
    limit_status = refusal.error.limit_status
    if limit_status is not None and limit_status.requests is not None:
        passed_ns = round((now_s - refusal.since_s) * NANO_PER_S)
        reset_ns = max(0, limit_status.requests.reset_ns - passed_ns)
        limit_status = replace(limit_status, requests=replace(limit_status.requests, reset_ns=reset_ns))
    error.limit_status = limit_status
    return error


def _rate_limited(_ctx: RequestContext, decision: AdmissionDecision) -> GatewayError:
    requests, retry_after_ns = decision.limit_status.requests, decision.retry_after_ns or 0
    assert requests is not None, "there is a limit"
    return RateLimited(
        f"this key may make {requests.limit} requests a minute", retry_after_s=retry_after_ns / NANO_PER_S
    )


def _token_limited(ctx: RequestContext, decision: AdmissionDecision) -> GatewayError:
    tokens, retry_after_ns = decision.limit_status.tokens, decision.retry_after_ns or 0
    assert tokens is not None, "there is a limit"
    limit, asked = tokens.limit, ctx.cost.input_tokens
    return RateLimited(
        f"this key may take {limit} tokens a minute; this request may be counted as {asked}"
        + (", which will never fit" if asked > limit else ""),
        details={"limit": limit, "asked": asked},
        retry_after_s=retry_after_ns / NANO_PER_S,
    )


def _too_many(ctx: RequestContext, _decision: AdmissionDecision) -> GatewayError:
    limit = ctx.caller.settings.concurrency_limit
    return RateLimited(f"this key may have {limit} requests in flight at a time", retry_after_s=1)


def _unbounded(ctx: RequestContext, _decision: AdmissionDecision) -> GatewayError:
    if ctx.cost.price is not None and ctx.cost.unbounded_field is not None:
        return CostUnknown(
            f"the cost of `{ctx.cost.unbounded_field}` with this model has no known bound, and this key or its project "
            "has a budget: leave it out, or use a key and a project without one"
        )
    name = f"{ctx.target.provider}/{ctx.target.upstream_model}"
    return CostUnknown(
        f"{name} has no known price, and this key or its project has a budget: "
        f"an operator can set one with `gateway price set {name} --input … --output …`"
    )


def _over_budget(ctx: RequestContext, decision: AdmissionDecision) -> GatewayError:
    assert decision.window is not None, "money refuses in a window"
    only_held = decision.outcome == "budget_held"
    ways_out = _ways_out(ctx, decision.window, only_held=only_held)
    return BudgetExceeded.of(decision.window, ctx.cost.min_hold_nano_usd, only_held=only_held, ways_out=ways_out)


def _ways_out(ctx: RequestContext, window: Window, *, only_held: bool) -> list[str]:
    """The ways to make the request fit into the window, those that change the least first."""
    cost = ctx.cost
    assert cost.basis is not None, "what is held has a price"
    calls = min(1, cost.basis.tools.most_calls)
    room = window.limit_nano_usd - window.taken_nano_usd - (window.held_nano_usd if only_held else 0)
    cap = cost.basis.output_within(NanoUsd(max(0, room)), calls) // cost.choices
    ways = ["wait until they have ended"] if only_held else []
    if cap:
        ways.append(f"set `{ctx.body.cap_name(ctx.target.upstream_model)}` to {cap} or less")
    else:
        alone = to_usd(cost.basis.nano_usd(0, 0))
        ways.append(f"send less: the input alone, of {cost.input_tokens} tokens at most, may cost ${alone:f}")
        if calls:
            ways.append("leave out the tools that the provider runs: each call may read the whole context again")
        if cost.media_tokens:
            ways.append(f"leave out images and files, which count for up to {cost.media_tokens} of them")
    return [*ways, f"raise the {window.name} budget"]


REFUSALS: Mapping[Outcome, Callable[[RequestContext, AdmissionDecision], GatewayError]] = {
    "rate_limit": _rate_limited,
    "token_limit": _token_limited,
    "concurrency": _too_many,
    "unpriced": _unbounded,
    "budget_held": _over_budget,
    "budget_spent": _over_budget,
}
"""The error of each outcome that is a refusal."""
