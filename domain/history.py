"""What a request's stream says has happened, and what may be appended after it. Pure: the decider of a request.

Whoever appends to a request's stream asks here first, with the stream as it stands: the worker that has an answer, the
one that comes late, and the sweeper. The stream's version keeps the decision true until it has landed.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    Event,
    RequestCompleted,
    RequestFailed,
)
from domain.money import ZERO

History = Sequence[Event]


def ending(history: History) -> RequestCompleted | RequestFailed | None:
    """How the request ended; None while it has not."""
    return next((event for event in history if isinstance(event, RequestCompleted | RequestFailed)), None)


def is_resolved(history: History, attempt: int) -> bool:
    """Whether the attempt's hold is released, or will be once the events are counted."""
    return any(
        isinstance(event, CostIncurred | AttemptFailed | AttemptLost) and event.attempt == attempt for event in history
    )


def cost_of(history: History, attempt: int) -> CostIncurred | None:
    """The attempt's cost, where it is known."""
    return next((e for e in history if isinstance(e, CostIncurred) and e.attempt == attempt), None)


def last_attempt(history: History) -> int:
    """The number of the latest attempt that has ended; 0 where none has."""
    ended = (CostIncurred, AttemptFailed, AttemptLost)
    return max((event.attempt for event in history if isinstance(event, ended)), default=0)


def after_answer(history: History, completed: RequestCompleted, cost: CostIncurred) -> tuple[Event, ...]:
    """What an answer adds. An attempt has one cost; a request ends once; a true cost replaces an assumed one."""
    if cost_of(history, cost.attempt) is not None:
        return ()
    assumed = sum(
        event.assumed_nano_usd for event in history if isinstance(event, AttemptLost) and event.attempt == cost.attempt
    )
    true_cost = replace(cost, replaces_assumed_nano_usd=type(ZERO)(assumed)) if assumed else cost
    return (true_cost,) if ending(history) is not None else (completed, true_cost)


def after_failure(
    history: History, ended: AttemptFailed | AttemptLost | None, failed: RequestFailed | None
) -> tuple[Event, ...]:
    """What the end of an attempt adds, and with `failed` the end of the request."""
    events: list[Event] = []
    if ended is not None and not is_resolved(history, ended.attempt):
        events.append(ended)
    if failed is not None and ending(history) is None:
        events.append(failed)
    return tuple(events)
