"""What a decision of admission means for the caller if it is a refusal: the error, with the figures of the limit.

A refusal is counted, and remembered if it was for the rate; one for money is recorded in the log.
"""

from collections.abc import Callable, Mapping

from api.metrics import REFUSAL_REASONS, Metrics
from api.rate_refusals import RateRefusals
from api.request_context import RequestContext
from api.request_recorder import RequestRecorder
from domain.errors import BudgetExceeded, Forbidden, GatewayError, RateLimited
from domain.limits import NANO_PER_S
from infra.admission import AdmissionDecision, Outcome


class Refusals:
    """Raises and records refusals for one API process."""

    def __init__(self, *, recorder: RequestRecorder, metrics: Metrics, rate_refusals: RateRefusals) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._rate_refusals = rate_refusals

    async def check(self, ctx: RequestContext, decision: AdmissionDecision, asked_at_s: float) -> None:
        """Return if the decision is no refusal. `asked_at_s`: time.monotonic() before the decision.

        Raises:
            RateLimited, BudgetExceeded: a limit refuses the request.
            Forbidden: its cost has no bound, and there is a budget.

        """
        if decision.outcome not in _ERRORS:
            return
        error = _ERRORS[decision.outcome](ctx, decision)
        error.limit_status = decision.limit_status
        self._metrics.refusals.labels(REFUSAL_REASONS[decision.outcome]).inc()
        if isinstance(error, BudgetExceeded):
            assert decision.window is not None, "money refuses in a window"
            await self._recorder.record_rejected(ctx, decision.window)
        if decision.outcome == "rate_limit" and isinstance(error, RateLimited):
            self._rate_refusals.note(ctx.caller, error, asked_at_s)
        raise error


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
        return Forbidden(
            f"the cost of `{ctx.cost.unbounded_field}` has no bound, and this key or its project has a budget: "
            "leave it out"
        )
    name = f"{ctx.route.provider}/{ctx.route.upstream_model}"
    return Forbidden(
        f"{name} has no known price, and this key or its project has a budget: "
        f"an operator can set one with `gateway price set {name} --input … --output …`"
    )


def _over_budget(ctx: RequestContext, decision: AdmissionDecision) -> GatewayError:
    assert decision.window is not None, "money refuses in a window"
    only_held = decision.outcome == "budget_held"
    return BudgetExceeded.of(decision.window, ctx.cost.min_hold_nano_usd, only_held=only_held)


_ERRORS: Mapping[Outcome, Callable[[RequestContext, AdmissionDecision], GatewayError]] = {
    "rate_limit": _rate_limited,
    "token_limit": _token_limited,
    "concurrency": _too_many,
    "unpriced": _unbounded,
    "budget_held": _over_budget,
    "budget_spent": _over_budget,
}
"""By the outcomes that are refusals."""
