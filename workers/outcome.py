"""Makes the events of how an attempt or a request ended. Pure: the time and the ids come in as arguments.

Every text from a provider is sanitized here once more, whatever read it: an event that cannot be folded would stop the
projector.
"""

from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from domain.errors import ClientDisconnected, GatewayError, ProviderError, ProviderTimeout
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CachedCopy,
    CostIncurred,
    KeptCopy,
    RequestCompleted,
    RequestFailed,
)
from domain.extras import NO_EXTRAS, Extras
from domain.failover import TargetFate
from domain.money import NanoUsd
from domain.pricing import PROVIDER, ClassPrices, Price, charge
from domain.request_identity import RequestIdentity
from domain.sanitize import sanitize_identifier, sanitize_message
from domain.tokens import TokenUsage
from infra.admission import Claim
from infra.jobs import Job

MAX_UNPRICED = 16
"""Names of what has no price, that an event keeps: callers and providers choose some of them."""


def completed(
    identity: RequestIdentity,
    claim: Claim,
    *,
    answered_by: str,
    response_id: str,
    finish_reason: str | None,
    usage: TokenUsage,
    request_bytes: int,
    answer_bytes: int,
    answer_digest: bytes,
    cached_copy: CachedCopy | None,
    latency_ms: int,
    first_token_ms: int | None = None,
    output_bytes: int = 0,
    kept_copy: KeptCopy | None = None,
    item_ids: tuple[str, ...] = (),
    targets: tuple[TargetFate, ...] = (),
    is_passthrough: bool | None = None,
) -> RequestCompleted:
    """Make the event of an answer."""
    return RequestCompleted(
        **identity.attempt_fields(claim.attempt),
        answered_by=sanitize_identifier(answered_by),
        response_id=sanitize_identifier(response_id),
        finish_reason=sanitize_identifier(finish_reason) if finish_reason is not None else None,
        usage=usage,
        latency_ms=latency_ms,
        first_token_ms=first_token_ms,
        request_bytes=request_bytes,
        answer_bytes=answer_bytes,
        output_bytes=output_bytes,
        answer_digest=answer_digest.hex(),
        cached_copy=cached_copy,
        kept_copy=kept_copy,
        item_ids=tuple(map(sanitize_identifier, item_ids)),
        targets=targets,
        is_passthrough=is_passthrough,
    )


def cost_incurred(
    identity: RequestIdentity,
    claim: Claim,
    *,
    usage: TokenUsage,
    price: Price | None,
    extras: Extras = NO_EXTRAS,
    estimated: bool = False,
    is_cut: bool = False,
) -> CostIncurred:
    """Make the event of an answer's cost at `price`. If nothing of it has one, the cost is unknown (None), not zero.

    `is_cut`: the answer did not come to its end.
    """
    applied, breakdown = charge(usage, price, extras)
    if breakdown is not None and breakdown.unpriced:
        breakdown = replace(breakdown, unpriced=tuple(map(sanitize_identifier, breakdown.unpriced[:MAX_UNPRICED])))
    if applied is None and breakdown is not None:
        applied = Price(
            provider=identity.provider,
            model=identity.upstream_model,
            source=PROVIDER,
            prices=ClassPrices(input=0),
        )
    is_known = breakdown is not None and bool(breakdown.items or not breakdown.unpriced)
    return CostIncurred(
        **identity.attempt_fields(claim.attempt),
        cost_nano_usd=breakdown.total_nano_usd if breakdown is not None and is_known else None,
        price=applied,
        breakdown=breakdown,
        hold_nano_usd=claim.hold_nano_usd,
        budget_day=claim.budget_day,
        estimated=estimated,
        usage=usage if is_cut and usage.total_tokens else None,
        is_lower_bound=breakdown is not None and is_known and bool(breakdown.unpriced),
        provider_cost_nano_usd=extras.provider_cost_nano_usd,
    )


def attempt_ended(
    identity: RequestIdentity,
    claim: Claim,
    error: ProviderError,
    assumed_nano_usd: NanoUsd,
    *,
    target: int = 0,
    next_target: int | None = None,
) -> AttemptFailed | AttemptLost:
    """Make the event of a failed attempt: its hold is released, or so much assumed to be spent if the outcome is not
    known. `target` and `next_target`: see `AttemptFailed`.
    """
    if error.outcome_known:
        return AttemptFailed(
            **identity.attempt_fields(claim.attempt),
            code=error.code,
            message=sanitize_message(error.message),
            status=error.status,
            hold_nano_usd=claim.hold_nano_usd,
            budget_day=claim.budget_day,
            target=target,
            next_target=next_target,
        )
    lost = attempt_lost(identity, claim, reason_lost(error), assumed_nano_usd, target=target)
    return replace(lost, next_target=next_target, message=sanitize_message(error.message))


def reason_lost(error: GatewayError) -> Literal["timeout", "connection_lost", "caller_left"]:
    """Why the outcome of an attempt is not known that ended with an error."""
    if isinstance(error, ClientDisconnected):
        return "caller_left"
    return "timeout" if isinstance(error, ProviderTimeout) else "connection_lost"


def attempt_not_made(identity: RequestIdentity, claim: Claim, error: GatewayError, *, target: int = 0) -> AttemptFailed:
    """Make the event of an attempt that ended before its provider was called: its hold is released."""
    return AttemptFailed(
        **identity.attempt_fields(claim.attempt),
        code=error.code,
        message=sanitize_message(error.message),
        hold_nano_usd=claim.hold_nano_usd,
        budget_day=claim.budget_day,
        target=target,
    )


def attempt_lost(
    identity: RequestIdentity,
    claim: Claim,
    reason: Literal["worker_lost", "timeout", "connection_lost", "caller_left"],
    assumed_nano_usd: NanoUsd | None = None,
    *,
    target: int = 0,
) -> AttemptLost:
    """Make the event of an attempt whose outcome is not known: so much is assumed to be spent; None: its hold."""
    return AttemptLost(
        **identity.attempt_fields(claim.attempt),
        reason=reason,
        assumed_nano_usd=assumed_nano_usd if assumed_nano_usd is not None else claim.hold_nano_usd,
        budget_day=claim.budget_day,
        hold_nano_usd=claim.hold_nano_usd,
        target=target,
    )


def request_failed(
    identity: RequestIdentity,
    *,
    code: str,
    message: str,
    status: int | None,
    latency_ms: int,
    targets: tuple[TargetFate, ...] = (),
) -> RequestFailed:
    """Make the event of a request whose caller gets an error."""
    return RequestFailed(
        **identity.event_fields(),
        code=code,
        message=sanitize_message(message),
        status=status,
        latency_ms=latency_ms,
        targets=targets,
    )


def latency_ms(job: Job, now: datetime) -> int:
    """Count whole milliseconds since admission, never negative (clocks of two machines differ)."""
    return max(0, round(now.timestamp() * 1000) - job.admitted_at_ms)


def first_token_ms(job: Job, now: datetime, since_s: float | None) -> int | None:
    """Count whole milliseconds from admission to the first output of a stream, which came `since_s` ago.

    None: it came in one piece.
    """
    return None if since_s is None else max(0, latency_ms(job, now) - round(since_s * 1000))
