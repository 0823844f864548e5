"""The targets that one request may go to, in their order, and what moves it on from one to the next. Pure.

A request has one target unless its model is a route, or it names fallbacks. `api/request_planner.py` makes the plan,
workers follow it.
"""

from typing import Literal

from msgspec import Struct

from domain.routes import DEFAULT_CAUSES, FailoverCause, RouteTarget
from domain.routing import Target

DEFAULT_ATTEMPTS = 2
"""At each target of a request that names fallbacks itself."""

DropReason = Literal["unknown_model", "not_allowed", "refused", "no_price", "no_credential", "circuit"]
"""Why a target is left out of a plan: its model is unknown, the key may not use it, it cannot serve such a request, its
cost has no bound and there is a budget, there is no key for its provider, its circuit is open.
"""


class PlannedTarget(Struct, frozen=True, kw_only=True):
    """A target of a plan."""

    asked: RouteTarget
    target: Target
    route: str | None = None
    """The route that it is of; None: the caller named the model itself."""


class DroppedTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target that is left out of a plan, and why."""

    model: str
    reason: DropReason
    message: str = ""


class TargetPlan(Struct, frozen=True, kw_only=True):
    """Where a request may go, in order. An ordinary one has one target, and moves on nowhere."""

    asked_as: str
    """What the caller named as its model: a model, or a route."""
    targets: tuple[PlannedTarget, ...]
    """At least one."""
    dropped: tuple[DroppedTarget, ...] = ()
    fail_over_on: tuple[FailoverCause, ...] = DEFAULT_CAUSES
    attempts: int = DEFAULT_ATTEMPTS
    """At one target, before the next is tried."""

    @property
    def first(self) -> Target:
        """The target that is tried first."""
        return self.targets[0].target
