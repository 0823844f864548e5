"""From what came of an attempt to the events that say so. Pure: the clock's reading and the ids come in.

What a provider said in words is made fit here once more, whoever read it: an event that cannot be folded would stop the
projector for everybody.
"""

from datetime import date, datetime
from typing import Literal

from domain.errors import GatewayError, ProviderError, ProviderTimeout
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CachedCopy,
    CostIncurred,
    RequestCompleted,
    RequestFailed,
)
from domain.money import NanoUsd
from domain.pricing import Price, cost
from domain.request_identity import RequestIdentity
from domain.sanitize import sanitize_identifier, sanitize_message
from domain.tokens import TokenUsage


def completed(
    identity: RequestIdentity,
    *,
    attempt: int,
    answered_by: str,
    response_id: str,
    finish_reason: str | None,
    usage: TokenUsage,
    request_bytes: int,
    answer_bytes: int,
    answer_digest: bytes,
    cached_copy: CachedCopy | None,
    latency_ms: int,
) -> RequestCompleted:
    """The provider answered."""
    return RequestCompleted(
        **identity.attempt_fields(attempt),
        answered_by=sanitize_identifier(answered_by),
        response_id=sanitize_identifier(response_id),
        finish_reason=sanitize_identifier(finish_reason) if finish_reason is not None else None,
        usage=usage,
        latency_ms=latency_ms,
        request_bytes=request_bytes,
        answer_bytes=answer_bytes,
        answer_digest=answer_digest.hex(),
        cached_copy=cached_copy,
    )


def cost_incurred(
    identity: RequestIdentity,
    *,
    attempt: int,
    usage: TokenUsage,
    price: Price | None,
    hold_nano_usd: NanoUsd,
    budget_day: date,
    estimated: bool = False,
) -> CostIncurred:
    """What the answer cost at `price`; without a price the cost is unknown, which is not zero."""
    breakdown = cost(usage, price) if price is not None else None
    return CostIncurred(
        **identity.attempt_fields(attempt),
        cost_nano_usd=breakdown.total_nano_usd if breakdown is not None else None,
        price=price,
        breakdown=breakdown,
        hold_nano_usd=hold_nano_usd,
        budget_day=budget_day,
        estimated=estimated,
    )


def attempt_ended(
    identity: RequestIdentity, error: ProviderError, *, attempt: int, hold_nano_usd: NanoUsd, budget_day: date
) -> AttemptFailed | AttemptLost:
    """What an error of the provider means for the attempt's hold: released, or assumed to be spent."""
    if error.outcome_known:
        return AttemptFailed(
            **identity.attempt_fields(attempt),
            code=error.code,
            message=sanitize_message(error.message),
            status=error.status,
            hold_nano_usd=hold_nano_usd,
            budget_day=budget_day,
        )
    return attempt_lost(
        identity,
        "timeout" if isinstance(error, ProviderTimeout) else "connection_lost",
        attempt=attempt,
        hold_nano_usd=hold_nano_usd,
        budget_day=budget_day,
    )


def attempt_not_made(
    identity: RequestIdentity, error: GatewayError, *, attempt: int, hold_nano_usd: NanoUsd, budget_day: date
) -> AttemptFailed:
    """The attempt was given up before its provider was called: its hold is released."""
    return AttemptFailed(
        **identity.attempt_fields(attempt),
        code=error.code,
        message=sanitize_message(error.message),
        hold_nano_usd=hold_nano_usd,
        budget_day=budget_day,
    )


def attempt_lost(
    identity: RequestIdentity,
    reason: Literal["worker_lost", "timeout", "connection_lost", "caller_left"],
    *,
    attempt: int,
    hold_nano_usd: NanoUsd,
    budget_day: date,
) -> AttemptLost:
    """Nobody knows what came of the attempt: its hold is assumed to be spent."""
    return AttemptLost(
        **identity.attempt_fields(attempt), reason=reason, assumed_nano_usd=hold_nano_usd, budget_day=budget_day
    )


def request_failed(
    identity: RequestIdentity, *, code: str, message: str, status: int | None, latency_ms: int
) -> RequestFailed:
    """The caller gets an error."""
    return RequestFailed(
        **identity.event_fields(), code=code, message=sanitize_message(message), status=status, latency_ms=latency_ms
    )


def latency_ms(admitted_at: datetime, now: datetime) -> int:
    """Whole milliseconds since admission, never negative (clocks of two machines differ)."""
    return max(0, round((now - admitted_at).total_seconds() * 1000))
