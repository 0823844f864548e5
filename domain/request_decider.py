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
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
)
from domain.money import NanoUsd

History = Sequence[Event]


def ending(history: History) -> RequestCompleted | RequestFailed | None:
    """How the request ended; None while it has not."""
    return next((event for event in history if isinstance(event, RequestCompleted | RequestFailed)), None)


def is_resolved(history: History, attempt: int) -> bool:
    """Whether the attempt's hold is released, or will be once the events are counted."""
    return any(
        isinstance(event, CostIncurred | AttemptFailed | AttemptLost) and event.attempt == attempt for event in history
    )


def assumed_of(history: History, attempt: int) -> NanoUsd:
    """What is assumed of an attempt at this moment; 0 where nothing is, or its cost is known by now."""
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
    """The attempt's cost, where it is known."""
    return next((e for e in history if isinstance(e, CostIncurred) and e.attempt == attempt), None)


def is_reconciled(history: History, attempt: int) -> bool:
    """Whether somebody has settled what a lost attempt cost."""
    return any(isinstance(event, CostReconciled) and event.attempt == attempt for event in history)


def lost_attempts(history: History) -> list[AttemptLost]:
    """The attempts whose cost is assumed at this moment."""
    return [e for e in history if isinstance(e, AttemptLost) and not _is_settled(history, e.attempt)]


def last_attempt(history: History) -> int:
    """The number of the latest attempt that has ended; 0 where none has."""
    ended = (CostIncurred, AttemptFailed, AttemptLost)
    return max((event.attempt for event in history if isinstance(event, ended)), default=0)


def decide_completed(history: History, completed: RequestCompleted, cost: CostIncurred) -> tuple[Event, ...]:
    """What an answer adds. An attempt has one cost; a request ends once; a true cost replaces an assumed one."""
    if _is_settled(history, cost.attempt):
        return ()
    assumed = assumed_of(history, cost.attempt)
    true_cost = replace(cost, replaces_assumed_nano_usd=assumed) if assumed else cost
    return (true_cost,) if ending(history) is not None else (completed, true_cost)


def decide_partial(history: History, cost: CostIncurred, failed: RequestFailed) -> tuple[Event, ...]:
    """What it adds that an answer was cut short: what it has cost so far, and that there is none."""
    if _is_settled(history, cost.attempt):
        return ()
    assumed = assumed_of(history, cost.attempt)
    true_cost = replace(cost, replaces_assumed_nano_usd=assumed) if assumed else cost
    return (true_cost,) if ending(history) is not None else (true_cost, failed)


def decide_failed(
    history: History, ended: AttemptFailed | AttemptLost | None, failed: RequestFailed | None
) -> tuple[Event, ...]:
    """What the end of an attempt adds, and with `failed` the end of the request."""
    events: list[Event] = []
    if ended is not None and not is_resolved(history, ended.attempt):
        events.append(ended)
    if failed is not None and ending(history) is None:
        events.append(failed)
    return tuple(events)


def decide_reconciled(history: History, attempt: AttemptLost, cost_nano_usd: NanoUsd) -> tuple[Event, ...]:
    """What it adds that somebody knows a lost attempt's cost; nothing where the cost is known already."""
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
