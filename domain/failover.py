"""The targets that one request may go to, in their order, and what moves it on from one to the next. Pure.

A request has one target unless its model is a route, or it names fallbacks. `api/request_planner.py` makes the plan,
workers follow it.
"""

from collections.abc import Collection
from typing import Literal

from msgspec import Struct

from domain.errors import (
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.provider_refusals import Reason
from domain.routes import DEFAULT_ATTEMPTS, DEFAULT_CAUSES, FailoverCause, RouteTarget
from domain.routing import Target

MAX_ATTEMPTS = 3
"""Of a request that has one target."""
MAX_ATTEMPTS_IN_ALL = 20
"""Of a request that has several: after these it ends, whatever its plan has left."""
RETRY_BACKOFF_S = 0.5
"""The most that is waited before the second attempt at a target; twice as long before each one after it."""
MAX_RETRY_WAIT_S = 4.0
"""If a provider asks for a longer wait, its caller gets the error, with the provider's Retry-After."""
MAX_WAIT_BEFORE_NEXT_S = 1.0
"""If a provider asks for a longer wait, and there is another target, that one is tried at once."""
DEADLINE_MARGIN_S = 0.25
"""How long before the caller's deadline a call is given up, so that the caller still gets the reason."""

DropReason = Literal["unknown_model", "not_allowed", "refused", "no_price", "no_credential"]
"""Why a target is left out of a plan: its model is unknown, the key may not use it, it cannot serve such a request, its
cost has no bound and there is a budget, there is no key for its provider.
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

    @property
    def fate(self) -> "TargetFate":
        """Its fate, for the event that ends the request."""
        return TargetFate(model=self.model, outcome="dropped", reason=self.reason, message=self.message)


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
    def is_ordinary(self) -> bool:
        """The caller named one model, and nothing else."""
        return len(self.targets) == 1 and not self.dropped and self.targets[0].route is None

    @property
    def first(self) -> Target:
        """The target that is tried first."""
        return self.targets[0].target


class TargetFate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a target of a request's plan."""

    model: str
    """As the route or the caller names it."""
    provider: str | None = None
    """None: its model is unknown."""
    outcome: Literal["answered", "failed", "skipped", "dropped", "not_tried"]
    """`skipped`: it was its turn, and it was passed over. `dropped`: it was left out of the plan."""
    reason: str | None = None
    """Why it was skipped (`budget`, `circuit`) or dropped (see `DropReason`); the code of the error that it failed
    with.
    """
    message: str = ""
    """Of what was dropped: why, in words."""


_CAUSES: tuple[tuple[type[ProviderError], FailoverCause], ...] = (
    (ProviderRateLimited, "rate_limit"),
    (ProviderCredentials, "credentials"),
    (ProviderTimeout, "timeout"),
    (ProviderLost, "connection"),
)
"""By the kind of an error. What is not here, nor below, is the request's own fault: it would fail everywhere."""
_CAUSE_OF_REASON: dict[Reason, FailoverCause | None] = {
    "context_length": "context_length",
    "content_filter": "content_filter",
    "billing": "credentials",
    "output_cap": None,
    "model_not_found": None,
}
"""By the reason that a provider gives for a refusal, which counts before its kind."""
_RATE_LIMITED = 429


def cause_of(error: ProviderError) -> FailoverCause | None:
    """Return the cause for which another target may be tried after an error; None: it is not to be tried."""
    if error.refusal is not None:
        is_limit = error.status == _RATE_LIMITED  # an empty account; other reasons have other statuses
        return "rate_limit" if is_limit else _CAUSE_OF_REASON[error.refusal.reason]
    if isinstance(error, ProviderUnavailable):
        return "connection" if error.status is None else "server_error"
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)


def moves_on(error: ProviderError, fail_over_on: Collection[FailoverCause]) -> bool:
    """Return True if the next target is to be tried after an error. A target without any credential never answers."""
    if isinstance(error, ProviderCredentials) and error.status is None:
        return True
    cause = cause_of(error)
    return cause is not None and cause in fail_over_on


class NextAttempt(Struct, frozen=True):
    """The attempt after one that failed."""

    target: int
    """The number of its target in the plan, from 0."""
    wait_s: float


def next_attempt(
    error: ProviderError,
    *,
    target: int,
    tries: int,
    has_next: bool,
    fail_over_on: Collection[FailoverCause],
    most_tries: int,
    remaining_s: float,
    draw: float,
) -> NextAttempt | None:
    """Decide what follows the failure of the `tries`th attempt at a target; None: the request ends with the error.

    The pause is exponential with full jitter: `draw`, from 0 up to 1, of the longest. A provider's own word on it
    (Retry-After) counts before that. Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    left_s = remaining_s - DEADLINE_MARGIN_S
    goes_on = has_next and moves_on(error, fail_over_on)
    if error.retryable and tries < most_tries:
        wait_s = error.retry_after_s if error.retry_after_s is not None else draw * RETRY_BACKOFF_S * 2 ** (tries - 1)
        if wait_s <= min(MAX_WAIT_BEFORE_NEXT_S if goes_on else MAX_RETRY_WAIT_S, left_s):
            return NextAttempt(target, wait_s)
    return NextAttempt(target + 1, 0.0) if goes_on and left_s > 0 else None


class CallLimits(Struct, frozen=True, kw_only=True):
    """How long one attempt may take, in seconds. None: no limit of its own."""

    total_s: float
    first_byte_s: float | None = None
    """Until the first byte of the answer."""
    idle_s: float | None = None
    """Between two pieces of the answer."""


_NOTHING_ASKED = RouteTarget(model="-")


def call_limits(asked: RouteTarget | None, *, remaining_s: float, targets_left: int, is_stream: bool) -> CallLimits:
    """Return the limits of an attempt, so long before the request's deadline.

    If other targets can be tried after it and no limit was set, what is left is shared among all of them, or a target
    that says nothing would use up the time of the others. A stream that has begun cannot move on any more: its share
    is the time to its first byte.
    """
    left_s = max(DEADLINE_MARGIN_S, remaining_s - DEADLINE_MARGIN_S)
    if asked is None:
        asked = _NOTHING_ASKED
    total_s, first_byte_s = min(asked.timeout_s or left_s, left_s), asked.first_byte_timeout_s
    if targets_left and asked.timeout_s is None and first_byte_s is None:
        share_s = left_s / (targets_left + 1)
        first_byte_s, total_s = (share_s, total_s) if is_stream else (None, share_s)
    return CallLimits(total_s=total_s, first_byte_s=first_byte_s, idle_s=asked.idle_timeout_s)
