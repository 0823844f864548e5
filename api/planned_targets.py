"""A request at each target of its plan: those that can serve it, in their order, and those that are left out.

The first target that is left is the context that the steps of `api/inference.py` work on; it carries the others.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from api.request_context import Failover, InferenceRequest, RequestContext
from domain.errors import Forbidden, InvalidRequest
from domain.failover import DropReason, TargetFate, TargetPlan
from domain.money import NanoUsd
from domain.routing import Target

One = TypeVar("One", InferenceRequest, RequestContext)


def planned(
    plan: TargetPlan, requests: Sequence[InferenceRequest | None], left_out: Sequence[TargetFate] = ()
) -> InferenceRequest:
    """Make one request of those for each target of a plan: the first of them, which has the others.

    `requests` are in the plan's order; None: the target cannot serve it, and `left_out` says why.
    """
    asked_as = plan.asked_as
    each = [
        replace(
            one,
            route=target.route,
            asked=target.asked,
            number=number,
            asked_as=asked_as if target.asked.model != asked_as else None,
        )
        for number, (target, one) in enumerate(zip(plan.targets, requests, strict=True))
        if one is not None
    ]
    first, *further = each
    return replace(
        first,
        failover=Failover(
            further=tuple(further),
            dropped=(*(dropped.fate for dropped in plan.dropped), *left_out),
            fail_over_on=plan.fail_over_on,
            attempts=plan.attempts,
        ),
    )


def with_further(
    each: Sequence[One], work: Callable[[One], RequestContext], *, left_out: tuple[TargetFate, ...] = ()
) -> RequestContext:
    """Do a piece of work for each target; gives the context of the first one that can serve the request, with the rest.

    Raises:
        Forbidden, InvalidRequest: the first was named by the caller itself and cannot serve it; or none can.

    """
    served: list[RequestContext] = []
    first_error: Forbidden | InvalidRequest | None = None
    for number, one in enumerate(each):
        try:
            served.append(work(one))
        except (Forbidden, InvalidRequest) as error:
            if number == 0 and _is_named(one):
                raise
            first_error = first_error or error
            reason: DropReason = "not_allowed" if isinstance(error, Forbidden) else "refused"
            left_out = (*left_out, fate(one.target, reason, error.message))
    if not served:
        assert first_error is not None, "a plan has a target"
        raise first_error
    return _joined(served, left_out)


def without_unpriced(ctx: RequestContext) -> RequestContext | None:
    """Leave out the targets whose costs have no bound: there is a budget. None: no other is left."""
    priced, left_out = [], ctx.left_out
    for one in (ctx, *ctx.further):
        if one.cost.hold_nano_usd is not None:
            priced.append(one)
        else:
            left_out = (*left_out, fate(one.target, "no_price"))
    return _like(ctx, priced, left_out) if priced else None


def within_room(
    ctx: RequestContext, room: NanoUsd, fit: Callable[[RequestContext, NanoUsd], RequestContext]
) -> RequestContext:
    """Have each further target cost no more than the budget has room for, if it can. Its hold is asked for later."""
    return replace(
        ctx,
        further=tuple(
            fit(one, min(hold, room))
            if (hold := one.cost.hold_nano_usd) is not None and one.cost.min_hold_nano_usd <= room
            else one
            for one in ctx.further
        ),
    )


def without_others(ctx: RequestContext) -> RequestContext:
    """Leave out the targets at other providers than the first's: the request names what is stored there."""
    place = (ctx.target.provider, ctx.target.base_url)
    kept, left_out = [ctx], ctx.left_out
    for one in ctx.further:
        if (one.target.provider, one.target.base_url) == place:
            kept.append(one)
        else:
            left_out = (*left_out, fate(one.target, "refused", "the request names objects at another provider"))
    return _like(ctx, kept, left_out)


def fate(target: Target, reason: DropReason, message: str = "") -> TargetFate:
    """The fate of a target that is left out."""
    return TargetFate(model=target.model, provider=target.provider, outcome="dropped", reason=reason, message=message)


def _is_named(one: InferenceRequest | RequestContext) -> bool:
    """True if the caller named the model itself, and no route."""
    request = one if isinstance(one, InferenceRequest) else one.inference_request
    return request.route is None and request.number == 0


def _like(ctx: RequestContext, kept: Sequence[RequestContext], left_out: tuple[TargetFate, ...]) -> RequestContext:
    return replace(_joined(kept, left_out), failover=ctx.failover, is_counted=ctx.is_counted)


def _joined(kept: Sequence[RequestContext], left_out: tuple[TargetFate, ...]) -> RequestContext:
    first, *further = kept
    alone = tuple(replace(one, further=(), left_out=()) if one.further else one for one in further)
    return replace(first, further=alone, left_out=left_out)
