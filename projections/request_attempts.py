"""What became of each attempt of a request, read from its events. Pure: kept nowhere."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    RequestCompleted,
    RequestFailed,
    StoredEvent,
)
from domain.failover import TargetFate
from domain.money import to_usd

_ENDED = (AttemptFailed, AttemptLost, CostIncurred)


class AttemptView(Struct, frozen=True, kw_only=True, rename="camel"):
    """One attempt, as `GET /requests/{id}` shows it."""

    attempt: int
    model: str
    provider: str
    upstream_model: str
    outcome: Literal["answered", "cut", "failed", "lost"]
    """`cut`: a stream that broke off. `lost`: nobody knows whether the provider has charged for it."""
    error_code: str | None
    error_message: str | None
    status: int | None
    """The provider's HTTP status, of an attempt that failed."""
    cost: Decimal | None
    """What it has cost; None: it is not known."""
    assumed_cost: Decimal
    """What is assumed as long as the cost is not known."""


def attempts_of(events: Sequence[StoredEvent]) -> list[AttemptView]:
    """Return a request's attempts that have ended, in order."""
    history = [stored.event for stored in events]
    numbers = sorted({event.attempt for event in history if isinstance(event, _ENDED)})
    return [_view([one for one in history if getattr(one, "attempt", None) == number]) for number in numbers]


def targets_of(events: Sequence[StoredEvent]) -> tuple[TargetFate, ...]:
    """Return the plan of a request that has ended, and what became of it; empty if it had one target."""
    ends = (stored.event for stored in events if isinstance(stored.event, RequestCompleted | RequestFailed))
    return next((end.targets for end in ends), ())


def _view(events: Sequence[object]) -> AttemptView:
    """An attempt by its events: how it ended, and what it cost, which may have come later."""
    answered = any(isinstance(event, RequestCompleted) for event in events)
    ended = next(event for event in events if isinstance(event, _ENDED))
    costs = [event.cost_nano_usd for event in events if isinstance(event, CostIncurred | CostReconciled)]
    lost = next((event for event in events if isinstance(event, AttemptLost)), None)
    failed = next((event for event in events if isinstance(event, AttemptFailed)), None)
    outcome: Literal["answered", "cut", "failed", "lost"] = (
        "answered" if answered else "failed" if failed is not None else "lost" if lost is not None else "cut"
    )
    cost = to_usd(costs[0]) if costs and costs[0] is not None else None
    return AttemptView(
        attempt=ended.attempt,
        model=ended.model,
        provider=ended.provider,
        upstream_model=ended.upstream_model,
        outcome=outcome,
        error_code=failed.code if failed is not None else lost.reason if lost is not None else None,
        error_message=failed.message if failed is not None else (lost.message or None) if lost is not None else None,
        status=failed.status if failed is not None else None,
        cost=Decimal(0) if failed is not None else cost,
        assumed_cost=to_usd(lost.assumed_nano_usd) if lost is not None and not costs else Decimal(0),
    )
