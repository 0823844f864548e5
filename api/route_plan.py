"""The dry run of a route: which targets a request would go to, in which order, and which are left out and why.

It calls no provider, holds nothing and writes nothing. The order is drawn as for a request, so the next one may have
another.
"""

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.client_disconnect import ClientDisconnect
from api.request_context import InferenceRequest, RequestContext
from api.services import Services
from domain.dialects.request_body import CanonicalRequest
from domain.errors import Forbidden, InvalidRequest, UnknownModel
from domain.events import INSTALLATION
from domain.failover import DropReason, PlannedTarget, TargetPlan
from domain.money import NanoUsd
from domain.routes import RouteSettings
from domain.routing import BUILT_IN, KEYLESS_KINDS
from infra.provider_keys import credentials_of
from projections import keys


class PlannedCall(Struct, frozen=True, kw_only=True):
    """A target that would be tried."""

    planned: PlannedTarget
    share: float
    """The part of its weight that counts at the moment, by its provider's state: 0 to 1."""
    hold_nano_usd: NanoUsd | None
    """The most that an attempt may cost. None: no request was given, or its cost has no bound."""
    dropped_fields: tuple[str, ...] = ()
    """The fields of the request that its translation for this target leaves out."""


class LeftOut(Struct, frozen=True, kw_only=True):
    """A target that would not be tried, and why."""

    model: str
    reason: DropReason | Literal["circuit"]
    message: str


class RoutePlan(Struct, frozen=True, kw_only=True):
    """What a request for a route would do."""

    calls: tuple[PlannedCall, ...]
    left_out: tuple[LeftOut, ...]
    settings: RouteSettings


async def plan_route(
    services: Services, caller: Caller, name: str, settings: RouteSettings, request: InferenceRequest | None
) -> RoutePlan:
    """Plan a request for a route as if it came now. `request` None: any request.

    Raises:
        Unavailable: the database is away.

    """
    try:
        plan = services.planner.plan_route(caller, name, settings)
    except (UnknownModel, Forbidden):
        plan = None
    targets, left_out = _targets_of(services, caller, name, settings, plan)
    budgets = await _budgets(services, caller)
    calls: list[PlannedCall] = []
    for target in targets:
        share = services.planner.share_of(caller, target.asked)
        found: PlannedCall | LeftOut | None
        found = await _without_credential(services, caller, target) or _without_circuit(target, share)
        if found is None:
            found = await services.large_requests.run(
                caller.project_id,
                request.size_bytes if request is not None else 0,
                _call_of,
                services,
                caller,
                target,
                share,
                request,
                has_budget=budgets.count_for(caller, target),
            )
        if isinstance(found, PlannedCall):
            calls.append(found)
        else:
            left_out.append(found)
    return RoutePlan(calls=tuple(calls), left_out=tuple(left_out), settings=settings)


def _targets_of(
    services: Services, caller: Caller, name: str, settings: RouteSettings, plan: TargetPlan | None
) -> tuple[tuple[PlannedTarget, ...], list[LeftOut]]:
    """The targets of a plan, and what it does without. None: it does without all of them."""
    if plan is not None:
        return plan.targets, [
            LeftOut(model=one.model, reason=one.reason, message=one.message or _NO_KEY) for one in plan.dropped
        ]
    left_out: list[LeftOut] = []
    for group in settings.groups:
        for asked in group:
            alone = replace(settings, groups=((asked,),))
            try:
                services.planner.plan_route(caller, name, alone)
            except UnknownModel as error:
                left_out.append(LeftOut(model=asked.model, reason="unknown_model", message=error.message))
            except Forbidden as error:
                left_out.append(LeftOut(model=asked.model, reason="not_allowed", message=error.message))
    return (), left_out


async def _without_credential(services: Services, caller: Caller, target: PlannedTarget) -> LeftOut | None:
    """Say if there is no credential to call a target with."""
    provider, named = target.target.provider, target.asked.credential
    if target.target.kind in KEYLESS_KINDS:
        return None
    names, whose = await credential_names(services, caller.project_id, provider)
    if not names:
        return _left_out(target, "no_credential", _NO_KEY)
    if named is not None and named not in names:
        known = ", ".join(sorted(names))
        return _left_out(target, "no_credential", f"{whose} has no credential {named!r} for {provider}: it has {known}")
    return None


async def credential_names(services: Services, project_id: str, provider: str) -> tuple[frozenset[str], str]:
    """The names of the credentials that a project's calls of a provider are made with, and whose they are."""
    own = {one.name for one in await credentials_of(services.pool, project_id, provider)}
    if own:
        return frozenset(own), "the project"
    if provider in BUILT_IN:
        return frozenset(services.settings.installation_credentials.get(provider, ())), "the installation"
    stored = await credentials_of(services.pool, INSTALLATION, provider)
    return frozenset(one.name for one in stored), "the installation"


def _without_circuit(target: PlannedTarget, share: float) -> LeftOut | None:
    if share > 0:
        return None
    message = (
        f"its circuit is open: {target.target.provider} does not answer, or has asked to be left alone for a while"
    )
    return _left_out(target, "circuit", message)


def _call_of(
    services: Services,
    caller: Caller,
    target: PlannedTarget,
    share: float,
    request: InferenceRequest | None,
    *,
    has_budget: bool,
) -> PlannedCall | LeftOut:
    """Plan the request at one target."""
    if request is None:
        price, _ = services.prices.look_up(target.target, datetime.now(UTC))
        if price is None and has_budget:
            return _left_out(target, "no_price", _NO_PRICE)
        return PlannedCall(planned=target, share=share, hold_nano_usd=None)
    try:
        ctx = _planned_at(services, caller, target, request)
    except Forbidden as error:
        return _left_out(target, "not_allowed", error.message)
    except InvalidRequest as error:
        return _left_out(target, "refused", error.message)
    if ctx.cost.hold_nano_usd is None and has_budget:
        field = ctx.cost.unbounded_field
        return _left_out(target, "no_price", _NO_PRICE if field is None else f"the cost of `{field}` has no bound")
    return PlannedCall(
        planned=target, share=share, hold_nano_usd=ctx.cost.hold_nano_usd, dropped_fields=ctx.identity.dropped
    )


_NO_KEY = "neither the project nor the installation has a key for its provider"
_NO_PRICE = "its model has no known price, and there is a budget: the operator can set one (gateway price set)"


def _planned_at(services: Services, caller: Caller, target: PlannedTarget, request: InferenceRequest) -> RequestContext:
    """The request at one target. Raises as `RequestPlanner.plan`."""
    body = request.body
    assert isinstance(body, CanonicalRequest), "of the native surface"
    named = CanonicalRequest(replace(body.request, model=target.asked.model))
    at_target = replace(request, body=named, target=target.target, route=target.route, asked=target.asked)
    ctx = services.planner.plan(caller, at_target, ClientDisconnect(), is_counted=False)
    return services.planner.bound_cost(ctx)


class _Budgets(Struct, frozen=True, kw_only=True):
    """Whether a budget counts for a caller's requests: then the cost of each has to have a bound."""

    any_request: bool
    under_installations: bool
    """Those under the installation's credentials."""

    def count_for(self, caller: Caller, target: PlannedTarget) -> bool:
        """True if one counts for a request to a target."""
        is_own = target.target.provider in caller.own_credentials
        return self.any_request or (self.under_installations and not is_own)


async def _budgets(services: Services, caller: Caller) -> _Budgets:
    project = await keys.project(services.pool, caller.project_id)
    assert project is not None, "projects are never removed"
    budgets = (
        caller.settings.daily_budget_nano_usd,
        caller.settings.monthly_budget_nano_usd,
        project.daily_budget_nano_usd,
        project.monthly_budget_nano_usd,
    )
    return _Budgets(
        any_request=any(budget is not None for budget in budgets),
        under_installations=project.installation_daily_budget_nano_usd is not None,
    )


def _left_out(target: PlannedTarget, reason: DropReason | Literal["circuit"], message: str) -> LeftOut:
    return LeftOut(model=target.asked.model, reason=reason, message=message)
