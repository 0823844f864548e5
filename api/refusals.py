"""What a decision of admission means for the caller if it is a refusal: the error, with the figures of the limit.

A refusal is counted, and remembered if it was for the rate; one for money is recorded in the log.
"""

from api.metrics import Metrics
from api.rate_refusals import RateRefusals
from api.request_context import RequestContext
from api.request_recorder import RequestRecorder
from domain.errors import BudgetExceeded, Forbidden, GatewayError, RateLimited
from domain.limits import NANO_PER_S
from infra.admission import AdmissionDecision


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
        error = _refusal(ctx, decision)
        if error is None:
            return
        error.limit_status = decision.limit_status
        self._metrics.refusals.labels(decision.outcome).inc()
        if isinstance(error, BudgetExceeded):
            assert decision.window is not None, "money refuses in a window"
            await self._recorder.record_rejected(ctx, decision.window)
        if decision.outcome == "rate" and isinstance(error, RateLimited):
            self._rate_refusals.note(ctx.caller, error, asked_at_s)
        raise error


def _refusal(ctx: RequestContext, decision: AdmissionDecision) -> GatewayError | None:
    limit_status, settings = decision.limit_status, ctx.caller.settings
    match decision.outcome:
        case "rate":
            assert limit_status.requests is not None, "there is a limit"
            return RateLimited(
                f"this key may make {limit_status.requests.limit} requests a minute",
                retry_after_s=(decision.retry_after_ns or 0) / NANO_PER_S,
            )
        case "tokens":
            assert limit_status.tokens is not None, "there is a limit"
            limit, asked = limit_status.tokens.limit, ctx.cost.input_tokens
            return RateLimited(
                f"this key may take {limit} tokens a minute; this request may be counted as {asked}"
                + (", which will never fit" if asked > limit else ""),
                details={"limit": limit, "asked": asked},
                retry_after_s=(decision.retry_after_ns or 0) / NANO_PER_S,
            )
        case "busy":
            return RateLimited(
                f"this key may have {settings.concurrency_limit} requests in flight at a time", retry_after_s=1
            )
        case "unpriced":
            return _unbounded(ctx)
        case "full" | "spent":
            assert decision.window is not None, "money refuses in a window"
            return BudgetExceeded.of(decision.window, ctx.cost.min_hold_nano_usd, only_held=decision.outcome == "full")
        case _:
            return None


def _unbounded(ctx: RequestContext) -> Forbidden:
    """The request's cost has no bound: its model has no known price, or a field of it has none."""
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
