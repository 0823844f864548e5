"""Routes: a name that callers ask for, and the targets that answer to it, in the order in which they are tried.

The targets of a group are tried in an order that their weights decide at random; the next group is tried once no
target of the one before can answer. What `resolve_target` makes of a target's model is its provider.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from domain.names import END, Name

FailoverCause = Literal[
    "connection", "timeout", "rate_limit", "server_error", "credentials", "context_length", "content_filter"
]
"""Why the next target is tried. `timeout` is each of the three: total, first byte, idle."""
DEFAULT_CAUSES: tuple[FailoverCause, ...] = ("connection", "timeout", "rate_limit", "server_error")
RouteName = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._:-]{{0,127}}{END}")]
"""It may be that of a model, which the route then stands for. It has no slash: `provider/model` is always a model."""
MAX_ROUTES = 64
"""Of one project, or of the installation."""
MAX_GROUPS = 8
MAX_TARGETS = 16
"""Of one route, over all its groups."""
MAX_FALLBACKS = 4
"""That a request may name by itself."""
MAX_ATTEMPTS_PER_TARGET = 5
MAX_TIMEOUT_S = 3_600

DEFAULT_ATTEMPTS = 2
Weight = Annotated[int, Meta(ge=0, le=1_000)]
TimeoutS = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)]
Attempts = Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS_PER_TARGET)]


class RouteTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target of a route."""

    model: Name
    """As callers may write it: `claude-sonnet-4-6`, `openai/gpt-4o`. Not the name of a route."""
    weight: Weight = 1
    """The share of the requests that it is tried first for, among its group. 0: only after the others."""
    timeout_s: TimeoutS | None = None
    """For one attempt; None: what is left until the request's deadline, shared with the targets after it."""
    first_byte_timeout_s: TimeoutS | None = None
    """Until the first byte of an answer; None: a part of `timeout_s` as any other."""
    idle_timeout_s: TimeoutS | None = None
    """Between two pieces of an answer; None: any time within `timeout_s`."""
    credential: Name | None = None
    """The name of one of the provider's credentials; None: spread over all of them by their weights."""


class RouteSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a route does."""

    groups: Annotated[tuple[Annotated[tuple[RouteTarget, ...], Meta(min_length=1)], ...], Meta(min_length=1)]
    fail_over_on: tuple[FailoverCause, ...] = DEFAULT_CAUSES
    attempts: Attempts = DEFAULT_ATTEMPTS
    """At one target, before the next is tried."""


def whole_share(_target: RouteTarget) -> float:
    """Give a target all of its weight."""
    return 1.0


def ordered(
    settings: RouteSettings, draw: Callable[[], float], share: Callable[[RouteTarget], float] = whole_share
) -> tuple[RouteTarget, ...]:
    """Put a route's targets into the order in which one request tries them.

    `draw` gives a number from 0 up to 1, each time another: within a group the next target is drawn by weight. `share`
    gives the part of a target's weight that counts at the moment, 0 to 1: less if its provider's limits are nearly
    used up, nothing if it is not to be called.
    """
    return tuple(target for group in settings.groups for target in _drawn(group, draw, share))


def _drawn(
    group: Sequence[RouteTarget], draw: Callable[[], float], share: Callable[[RouteTarget], float]
) -> list[RouteTarget]:
    left, drawn = [(target, target.weight * share(target)) for target in group], []
    while left:
        point = draw() * sum(weight for _, weight in left)
        for one in left:
            point -= one[1]
            if point < 0:
                break
        else:
            one = left[0]
        left.remove(one)
        drawn.append(one[0])
    return drawn
