"""The decider of a request: from the events of its stream to those that may be appended. Pure.

Every append to a request's stream is decided here: by the worker that has a response, by one that comes late, by the
sweeper. The expected version of the stream keeps the decision true until it is appended.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
)
from domain.money import NanoUsd

History = Sequence[Event]


def ending(history: History) -> RequestCompleted | RequestFailed | None:
    """Return the event that ended the request; None if it has not ended."""
    return next((event for event in history if isinstance(event, RequestCompleted | RequestFailed)), None)


def is_resolved(history: History, attempt: int) -> bool:
    """Return True if an event of the attempt releases its hold."""
    return any(
        isinstance(event, CostIncurred | AttemptFailed | AttemptLost) and event.attempt == attempt for event in history
    )


def assumed_of(history: History, attempt: int) -> NanoUsd:
    """Return the assumed cost of an attempt; 0 if none is assumed, or if its cost is known."""
    assumed = 0
    for event in history:
        match event:
            case AttemptLost() if event.attempt == attempt:
                assumed += event.assumed_nano_usd
            case CostIncurred() | CostReconciled() if event.attempt == attempt:
                assumed -= event.replaces_assumed_nano_usd
            case _:
                continue
    return NanoUsd(assumed)


def cost_of(history: History, attempt: int) -> CostIncurred | None:
    """Return the attempt's cost; None if it is unknown."""
    return next((e for e in history if isinstance(e, CostIncurred) and e.attempt == attempt), None)


def is_reconciled(history: History, attempt: int) -> bool:
    """Return True if the lost attempt is reconciled."""
    return any(isinstance(event, CostReconciled) and event.attempt == attempt for event in history)


def lost_attempts(history: History) -> list[AttemptLost]:
    """Return the attempts whose cost is still assumed."""
    return [e for e in history if isinstance(e, AttemptLost) and not _is_settled(history, e.attempt)]


def last_attempt(history: History) -> int:
    """Return the number of the latest attempt that ended; 0 if none has."""
    ended = (CostIncurred, AttemptFailed, AttemptLost)
    return max((event.attempt for event in history if isinstance(event, ended)), default=0)


def decide_completed(history: History, completed: RequestCompleted, cost: CostIncurred) -> tuple[Event, ...]:
    """Return the events of a response: one cost an attempt, one end a request; a true cost replaces an assumed one."""
    if _is_settled(history, cost.attempt):
        return ()
    assumed = assumed_of(history, cost.attempt)
    true_cost = replace(cost, replaces_assumed_nano_usd=assumed) if assumed else cost
    return (true_cost,) if ending(history) is not None else (completed, true_cost)


def decide_partial(history: History, cost: CostIncurred, failed: RequestFailed) -> tuple[Event, ...]:
    """Return the events of a response that was cut: its cost so far, and the failure."""
    if _is_settled(history, cost.attempt):
        return ()
    assumed = assumed_of(history, cost.attempt)
    true_cost = replace(cost, replaces_assumed_nano_usd=assumed) if assumed else cost
    return (true_cost,) if ending(history) is not None else (true_cost, failed)


def decide_failed(
    history: History, ended: AttemptFailed | AttemptLost | None, failed: RequestFailed | None
) -> tuple[Event, ...]:
    """Return the events of a failed attempt, and with `failed` the end of the request."""
    events: list[Event] = []
    if ended is not None and not is_resolved(history, ended.attempt):
        events.append(ended)
    if failed is not None and ending(history) is None:
        events.append(failed)
    return tuple(events)


def decide_reconciled(history: History, attempt: AttemptLost, cost_nano_usd: NanoUsd) -> tuple[Event, ...]:
    """Return the events that settle a lost attempt at its true cost; empty if it is settled already."""
    if _is_settled(history, attempt.attempt):
        return ()
    return (
        CostReconciled(
            request_id=attempt.request_id,
            key_id=attempt.key_id,
            operation=attempt.operation,
            model=attempt.model,
            provider=attempt.provider,
            metadata=attempt.metadata,
            attempt=attempt.attempt,
            upstream_model=attempt.upstream_model,
            cost_nano_usd=cost_nano_usd,
            replaces_assumed_nano_usd=assumed_of(history, attempt.attempt),
            budget_day=attempt.budget_day,
        ),
    )


def _is_settled(history: History, attempt: int) -> bool:
    return cost_of(history, attempt) is not None or is_reconciled(history, attempt)
