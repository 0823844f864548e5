"""From the model's name in a request to the targets that it may go to: a model, a route, and fallbacks.

Needs nothing but what is in memory. Whether a target can serve the request is found out later, by
`api/request_planner.py`.
"""

import random
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from api.authentication import Caller
from domain.circuit import CircuitKey
from domain.errors import Forbidden, InvalidRequest, UnknownModel
from domain.events import INSTALLATION
from domain.failover import DroppedTarget, DropReason, PlannedTarget, TargetPlan
from domain.routes import MAX_FALLBACKS, MAX_TARGETS, RouteSettings, RouteTarget, ordered
from domain.routing import KEYLESS_KINDS, Kind, Target, resolve_target

FindRoute = Callable[[Caller, str], RouteSettings | None]
"""Finds the route that a caller means by a name; None: the name is a model's."""
Share = Callable[[CircuitKey], float]
"""Tells which part of its weight a target has, by the state of its provider: see `domain.routes.ordered`."""


def no_route(_caller: Caller, _name: str) -> None:
    """Find none."""


_DROPS: dict[type[UnknownModel | Forbidden], DropReason] = {UnknownModel: "unknown_model", Forbidden: "not_allowed"}


def is_allowed(caller: Caller, name: str) -> bool:
    """True if the key may use a model, or a route, by this name."""
    return caller.settings.models is None or name in caller.settings.models


def check_allowed(caller: Caller, model: str, field: str) -> None:
    """Let a model pass that the key may use.

    Raises:
        Forbidden: it may not.

    """
    if not is_allowed(caller, model):
        choice = f"the key may use: {', '.join(caller.settings.models or ())}"
        raise Forbidden(f"this key may not use model {model!r}; {choice}", details={"field": field})


class TargetPlanner:
    """Finds targets for one API process."""

    def __init__(
        self,
        *,
        kinds: Container[Kind],
        upstream_models: Mapping[str, str],
        find_route: FindRoute = no_route,
        installation_keys: Container[str] | None = None,
        draw: Callable[[], float] = random.random,
        share: Share | None = None,
    ) -> None:
        """`installation_keys` has the built-in providers for which the installation has a key; None: all of them.

        `draw` gives the numbers by which the targets of a route are spread: see `domain.routes.ordered`. `share` tells
        which part of its weight a target has by its provider's state; None: each has all of it.
        """
        self._kinds = kinds
        self._upstream_models = upstream_models
        self._find_route = find_route
        self._installation_keys = installation_keys
        self._draw = draw
        self._share = share

    def targets(self, caller: Caller, model: str, fallbacks: Sequence[str] = ()) -> TargetPlan:
        """Return where a request for `model` may go: a model, or a route. `fallbacks` are such names too.

        Raises:
            InvalidRequest: there are more fallbacks than are allowed.
            UnknownModel: a name is neither a model's nor a route's; or no target of a route can be asked.
            Forbidden: the key may not use a model that the request names, or none of a route's targets.

        """
        route = self._find_route(caller, model)
        if route is None and not fallbacks:
            asked = RouteTarget(model=model)
            return TargetPlan(asked_as=model, targets=(PlannedTarget(asked=asked, target=self.target(caller, model)),))
        if len(fallbacks) > MAX_FALLBACKS:
            raise InvalidRequest(f"`fallbacks` may name {MAX_FALLBACKS} models", field="fallbacks")
        plan = self._part(caller, model, route, "model")
        for number, name in enumerate(fallbacks):
            part = self._part(caller, name, self._find_route(caller, name), f"fallbacks[{number}]")
            plan = replace(plan, targets=plan.targets + part.targets, dropped=plan.dropped + part.dropped)
        return self._with_credentials(caller, replace(plan, targets=plan.targets[:MAX_TARGETS]))

    def plan_route(self, caller: Caller, name: str, settings: RouteSettings) -> TargetPlan:
        """Put the targets of a route into the order of one request, without those that the caller cannot ask.

        A key that may use the route by its name may use all its targets.

        Raises:
            UnknownModel, Forbidden: there is none that it can ask, and why not the first.

        """
        targets: list[PlannedTarget] = []
        dropped: list[DroppedTarget] = []
        first_error: UnknownModel | Forbidden | None = None
        for asked in ordered(settings, self._draw, partial(self.share_of, caller)):
            try:
                target = self.target(caller, asked.model)
                if not is_allowed(caller, name):
                    check_allowed(caller, asked.model, "model")
                targets.append(PlannedTarget(asked=asked, target=target, route=name))
            except (UnknownModel, Forbidden) as error:
                first_error = first_error or error
                dropped.append(DroppedTarget(model=asked.model, reason=_DROPS[type(error)], message=error.message))
        if not targets:
            assert first_error is not None, "a route has targets"
            raise first_error
        plan = TargetPlan(
            asked_as=name,
            targets=tuple(targets),
            dropped=tuple(dropped),
            fail_over_on=settings.fail_over_on,
            attempts=settings.attempts,
        )
        return self._with_credentials(caller, plan)

    def _with_credentials(self, caller: Caller, plan: TargetPlan) -> TargetPlan:
        """The plan without the targets whose providers there is no key for, unless there is none for any."""
        able = tuple(one for one in plan.targets if self._has_credential(caller, one.target))
        if not able or len(able) == len(plan.targets):
            return plan
        unable = (one for one in plan.targets if one not in able)
        dropped = tuple(DroppedTarget(model=one.asked.model, reason="no_credential") for one in unable)
        return replace(plan, targets=able, dropped=plan.dropped + dropped)

    def _has_credential(self, caller: Caller, target: Target) -> bool:
        """True if there is a key for a target's provider: one by configuration has one."""
        return (
            self._installation_keys is None
            or target.base_url is not None
            or target.kind in KEYLESS_KINDS
            or target.provider in caller.own_credentials
            or target.provider in self._installation_keys
        )

    def _part(self, caller: Caller, name: str, route: RouteSettings | None, field: str) -> TargetPlan:
        """The plan for one of the names in a request. `field`: where it stands."""
        if route is not None:
            return self.plan_route(caller, name, route)
        target = self.target(caller, name)
        check_allowed(caller, name, field)
        return TargetPlan(asked_as=name, targets=(PlannedTarget(asked=RouteTarget(model=name), target=target),))

    def share_of(self, caller: Caller, asked: RouteTarget) -> float:
        """The part of its weight that a target of a route has at the moment, by its provider's state: 0 to 1."""
        if self._share is None:
            return 1.0
        try:
            target = self.target(caller, asked.model)
        except UnknownModel:
            return 1.0
        return self._share(
            CircuitKey(
                owner=caller.project_id if target.provider in caller.own_credentials else INSTALLATION,
                provider=target.provider,
                model=target.upstream_model,
                credential=asked.credential or "",
            )
        )

    def is_route(self, caller: Caller, name: str) -> bool:
        """True if a caller means a route by a name."""
        return self._find_route(caller, name) is not None

    def target(self, caller: Caller, model: str) -> Target:
        """Resolve a model's name.

        Raises:
            UnknownModel: no rule matches.

        """
        return resolve_target(model, self._upstream_models, caller.providers, self._kinds)
