"""The decider of a request: from the events of its stream to those that may be appended. Pure.

Every append to a request's stream is decided here: by the worker that has a response, by one that comes late, by the
sweeper. The expected version of the stream keeps the decision true until it is appended.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

from msgspec.structs import replace

from domain.errors import ClientDisconnected
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    Event,
    RequestCompleted,
    RequestFailed,
    subject_of,
)
from domain.money import ZERO, NanoUsd
from domain.tokens import TokenUsage

History = Sequence[Event]


def ending(history: History) -> RequestCompleted | RequestFailed | None:
    """Return the event that ended the request; None if it has not ended."""
    for event in history:
        if isinstance(event, RequestCompleted | RequestFailed):
            return event
    return None


def is_replayable_end(history: History) -> bool:
    """Return True if a retry under the same idempotency key gets this end again, rather than another call.

    A failure is kept if a provider was paid or may have been. One that cost nothing is not, so that the retry can
    succeed.
    """
    end = ending(history)
    if isinstance(end, RequestFailed):
        return may_be_kept(end) and any(isinstance(event, CostIncurred | AttemptLost) for event in history)
    return end is not None


def may_be_kept(failed: RequestFailed) -> bool:
    """Return False for a failure that no retry gets again, whatever it cost.

    A caller that left has had no answer, and one that sent no key retries because of the failure that it was told.
    """
    is_derived = failed.idempotency is not None and failed.idempotency.derived is not None
    return failed.code != ClientDisconnected.code and not is_derived


def is_resolved(history: History, attempt: int) -> bool:
    """Return True if an event of the attempt releases its hold."""
    return any(
        isinstance(event, CostIncurred | AttemptFailed | AttemptLost) and event.attempt == attempt for event in history
    )


def is_overtaken(history: History, attempt: int) -> bool:
    """Return True if the attempt's worker was given up, so that others may be making the next attempt."""
    return any(isinstance(e, AttemptLost) and e.attempt == attempt and e.reason == "worker_lost" for e in history)


def cost_of(history: History, attempt: int) -> CostIncurred | None:
    """Return the attempt's cost; None if it is unknown."""
    return next((e for e in history if isinstance(e, CostIncurred) and e.attempt == attempt), None)


def lost_attempts(history: History) -> list[AttemptLost]:
    """Return the attempts whose cost is still assumed."""
    return [e for e in history if isinstance(e, AttemptLost) and _unsettled_nano_usd(history, e.attempt) is not None]


def unsettled_attempts(history: History) -> list[AttemptLost | CostIncurred]:
    """Return the attempts whose true cost is not known: it is assumed, or was not known when they were answered."""
    settled = {event.attempt for event in history if isinstance(event, CostReconciled)}
    unknown = [
        event
        for event in history
        if isinstance(event, CostIncurred) and event.cost_nano_usd is None and event.attempt not in settled
    ]
    return [*lost_attempts(history), *unknown]


def last_attempt(history: History) -> int:
    """Return the number of the latest attempt that ended; 0 if none has."""
    ended = (CostIncurred, AttemptFailed, AttemptLost)
    return max((event.attempt for event in history if isinstance(event, ended)), default=0)


def tries_at(history: History, target: int) -> int:
    """Return the number of attempts at a target of the request's plan that ended without an answer."""
    return sum(isinstance(event, AttemptFailed | AttemptLost) and event.target == target for event in history)


def has_moved_on(history: History) -> bool:
    """Return True if the request has gone on to another target than its first."""
    return any(isinstance(event, AttemptFailed | AttemptLost) and event.next_target is not None for event in history)


def decide_completed(history: History, completed: RequestCompleted, cost: CostIncurred) -> tuple[Event, ...]:
    """Return the events of a response: one cost an attempt, one end a request; a true cost replaces an assumed one.

    The response of an attempt that was overtaken costs, and ends nothing: another attempt may be answering.
    """
    true_cost = _true_cost(history, cost)
    if true_cost is None:
        return ()
    is_late = ending(history) is not None or is_overtaken(history, cost.attempt)
    return (_marked(history, true_cost),) if is_late else (completed, true_cost)


def decide_partial(history: History, cost: CostIncurred, failed: RequestFailed) -> tuple[Event, ...]:
    """Return the events of a response that was cut: its cost so far, and the failure, unless it was overtaken."""
    true_cost = _true_cost(history, cost)
    if true_cost is None:
        return ()
    is_late = ending(history) is not None or is_overtaken(history, cost.attempt)
    return (_marked(history, true_cost),) if is_late else (true_cost, failed)


def decide_failed(
    history: History, ended: AttemptFailed | AttemptLost | None, failed: RequestFailed | None
) -> tuple[Event, ...]:
    """Return the events of a failed attempt, and with `failed` the end of the request."""
    events: list[Event] = []
    if ended is not None and not is_resolved(history, ended.attempt):
        events.append(_marked(history, ended))
    if failed is not None and ending(history) is None:
        events.append(failed)
    return tuple(events)


def decide_reconciled(
    history: History,
    attempt: AttemptLost | CostIncurred,
    cost_nano_usd: NanoUsd,
    usage: TokenUsage | None = None,
    *,
    source: Literal["provider", "operator", "worker"],
) -> tuple[Event, ...]:
    """Return the events that settle an attempt at its true cost: a lost one, or one whose cost was not known when it
    was answered. Empty if it is settled already.

    `usage`: what its provider counted, if that was asked. `source`: see `CostReconciled`.
    """
    others, replaced = history, ZERO
    if isinstance(attempt, CostIncurred):
        others, replaced = [event for event in history if event != attempt], attempt.replaces_assumed_nano_usd
    assumed = _unsettled_nano_usd(others, attempt.attempt)
    if assumed is None:
        return ()
    return (
        CostReconciled(
            **subject_of(attempt),
            attempt=attempt.attempt,
            upstream_model=attempt.upstream_model,
            cost_nano_usd=cost_nano_usd,
            replaces_assumed_nano_usd=NanoUsd(assumed - replaced),
            budget_day=attempt.budget_day,
            usage=usage,
            source=source,
            was_unknown=isinstance(attempt, CostIncurred) and attempt.cost_nano_usd is None,
        ),
    )


_OfAttempt = TypeVar("_OfAttempt", bound=CostIncurred | AttemptFailed | AttemptLost)


def _marked(history: History, event: _OfAttempt) -> _OfAttempt:
    """The event, marked if its request has ended before."""
    return replace(event, is_late=True) if ending(history) is not None else event


def _true_cost(history: History, cost: CostIncurred) -> CostIncurred | None:
    """The cost, in place of what was assumed; None if the attempt's cost is in the log already."""
    assumed = _unsettled_nano_usd(history, cost.attempt)
    if assumed is None:
        return None
    return replace(cost, replaces_assumed_nano_usd=assumed) if assumed else cost


def _unsettled_nano_usd(history: History, attempt: int) -> NanoUsd | None:
    """The assumed cost of an attempt, 0 if none is assumed; None if its true cost is in the log."""
    assumed = 0
    for event in history:
        if isinstance(event, AttemptLost) and event.attempt == attempt:
            assumed += event.assumed_nano_usd
        elif isinstance(event, CostIncurred | CostReconciled) and event.attempt == attempt:
            return None
    return NanoUsd(assumed)
