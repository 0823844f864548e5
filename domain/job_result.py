"""What travels from a worker to the API beside an answer's body, or instead of it."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from domain.errors import (
    BudgetExceeded,
    GatewayError,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import CostIncurred, RequestCompleted, RequestFailed
from domain.money import NanoUsd
from domain.sanitize import sanitize_message
from domain.tokens import TokenUsage


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a finished answer was: enough to answer its caller, and everyone who asks the same later."""

    provider: str
    upstream_model: str
    usage: TokenUsage
    cost_nano_usd: NanoUsd | None
    """None: nobody could price the model."""
    answered_at: datetime
    is_kept: bool = False
    """Whether others may be given the answer."""


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why there is no answer. `code` is the contract's; `status` the provider's own, where it answered."""

    code: str
    message: str
    provider: str
    status: int | None = None
    retry_after_s: float | None = None
    in_stream: bytes | None = None
    own_body: bytes | None = None
    """See `GatewayError`, of both."""


_PROVIDER_ERRORS: dict[str, type[ProviderError]] = {
    kind.code: kind
    for kind in (
        ProviderRejected,
        ProviderCredentials,
        ProviderRateLimited,
        ProviderLost,
        ProviderUnavailable,
        ProviderTimeout,
    )
}


def receipt_of(completed: RequestCompleted, cost: CostIncurred, answered_at: datetime) -> Receipt:
    """The receipt that the two events of an answer amount to."""
    return Receipt(
        provider=completed.provider,
        upstream_model=completed.upstream_model,
        usage=completed.usage,
        cost_nano_usd=cost.cost_nano_usd,
        answered_at=answered_at,
        is_kept=completed.cached_copy is not None,
    )


def failure_of(error: GatewayError, provider: str) -> Failure:
    """What to tell the API of an error."""
    return Failure(
        code=error.code,
        message=sanitize_message(error.message),
        provider=provider,
        status=error.status if isinstance(error, ProviderError) else None,
        retry_after_s=error.retry_after_s,
        in_stream=error.in_stream,
        own_body=error.own_body,
    )


def failure_in_log(failed: RequestFailed) -> Failure:
    """What the event of a failed request says of it. The log has no provider's own words."""
    return Failure(code=failed.code, message=failed.message, provider=failed.provider, status=failed.status)


def error_of(failure: Failure) -> GatewayError:
    """The error that a failure tells of, to be raised where the caller waits."""
    if failure.code == BudgetExceeded.code:  # for an attempt after the first
        return BudgetExceeded(failure.message, retry_after_s=failure.retry_after_s)
    kind = _PROVIDER_ERRORS.get(failure.code, ProviderUnavailable)
    arguments: dict[str, Any] = {"provider": failure.provider, "status": failure.status}
    error = kind(failure.message, retry_after_s=failure.retry_after_s, **arguments)
    error.in_stream, error.own_body = failure.in_stream, failure.own_body
    return error
