"""What became of each attempt of a request, read from its events. Pure: kept nowhere."""

from collections.abc import Sequence
from datetime import datetime, timedelta
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
    hold: Decimal | None
    """What was held for it; None: an older release did not write it."""
    credential: str | None
    """The name of the credential that the call was made with; None: the provider has one alone, or it is not known."""
    ended_at: datetime
    took_ms: int | None
    """From the end of the attempt before it, or from admission, with its pauses; None: it is not known."""
    first_token_ms: int | None
    """From admission to the first of a stream's output; None: it came in one piece, or not to its end."""


def attempts_of(events: Sequence[StoredEvent]) -> list[AttemptView]:
    """Return a request's attempts that have ended, in order."""
    numbers = sorted({stored.event.attempt for stored in events if isinstance(stored.event, _ENDED)})
    began_at = _admitted_at(events)
    views: list[AttemptView] = []
    for number in numbers:
        view = _view([stored for stored in events if getattr(stored.event, "attempt", None) == number], began_at)
        views.append(view)
        began_at = view.ended_at
    return views


def targets_of(events: Sequence[StoredEvent]) -> tuple[TargetFate, ...]:
    """Return the plan of a request that has ended, and what became of it; empty if it had one target."""
    ends = (stored.event for stored in events if isinstance(stored.event, RequestCompleted | RequestFailed))
    return next((end.targets for end in ends), ())


def _admitted_at(events: Sequence[StoredEvent]) -> datetime | None:
    """When the request was admitted: so long before its end as that took."""
    return next(
        (
            stored.at - timedelta(milliseconds=stored.event.latency_ms)
            for stored in events
            if isinstance(stored.event, RequestCompleted | RequestFailed)
        ),
        None,
    )


def _view(stored_events: Sequence[StoredEvent], began_at: datetime | None) -> AttemptView:
    """An attempt by its events: how it ended, and what it cost, which may have come later."""
    events = [stored.event for stored in stored_events]
    completed = next((event for event in events if isinstance(event, RequestCompleted)), None)
    answered = completed is not None
    ended, ended_at = next((one.event, one.at) for one in stored_events if isinstance(one.event, _ENDED))
    costs = [event.cost_nano_usd for event in events if isinstance(event, CostIncurred | CostReconciled)]
    lost = next((event for event in events if isinstance(event, AttemptLost)), None)
    failed = next((event for event in events if isinstance(event, AttemptFailed)), None)
    outcome: Literal["answered", "cut", "failed", "lost"] = (
        "answered" if answered else "failed" if failed is not None else "lost" if lost is not None else "cut"
    )
    known = [cost for cost in costs if cost is not None]  # of a response in the background it comes later
    cost = to_usd(known[-1]) if known else None
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
        hold=to_usd(ended.hold_nano_usd) if ended.hold_nano_usd is not None else None,
        credential=ended.credential,
        ended_at=ended_at,
        took_ms=max(0, round((ended_at - began_at) / timedelta(milliseconds=1))) if began_at is not None else None,
        first_token_ms=completed.first_token_ms if completed is not None else None,
    )
