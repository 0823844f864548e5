"""The result of a job, which a worker sends to the API: a receipt beside the response body, or a failure."""

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
    TimeLimit,
)
from domain.events import CostIncurred, RequestCompleted, RequestFailed
from domain.money import NanoUsd
from domain.provider_refusals import Refusal, recognise
from domain.sanitize import sanitize_message
from domain.tokens import TokenUsage


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of a response that the API needs for its headers, now and for later hits."""

    provider: str
    upstream_model: str
    usage: TokenUsage
    cost_nano_usd: NanoUsd | None
    """None: the model has no price."""
    answered_at: datetime
    is_lower_bound: bool = False
    """The cost is without something that has no known price."""
    is_kept: bool = False
    """The response is in the cache."""
    is_estimated: bool = False
    """The provider did not report the usage: it is an upper bound."""
    log_position: str | None = None
    """A head of the log that has the events of the response, as `domain/log_head.py` writes it. None for those that the
    log or the cache had."""


class JobFailure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The error of a request that failed. `code` is that of the error table, `status` the provider's HTTP status."""

    code: str
    message: str
    provider: str
    status: int | None = None
    retry_after_s: float | None = None
    in_stream: bytes | None = None
    own_body: bytes | None = None
    """`in_stream` and `own_body`: see `GatewayError`."""
    refusal: Refusal | None = None
    timeout: TimeLimit | None = None
    """Of a timeout: which time was over."""
    attempts: int = 0
    upstream_model: str | None = None
    """Of the last attempt."""


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


def receipt_of(
    completed: RequestCompleted, cost: CostIncurred, answered_at: datetime, log_position: str | None = None
) -> Receipt:
    """Build the receipt from the two events of a response."""
    return Receipt(
        provider=completed.provider,
        upstream_model=completed.upstream_model,
        usage=completed.usage,
        cost_nano_usd=cost.cost_nano_usd,
        answered_at=answered_at,
        is_lower_bound=cost.is_lower_bound,
        is_kept=completed.cached_copy is not None,
        is_estimated=cost.estimated,
        log_position=log_position,
    )


def failure_of(
    error: GatewayError, provider: str, *, attempts: int = 0, upstream_model: str | None = None
) -> JobFailure:
    """Build the failure that the API gets for an error, with the number of the last attempt and its model."""
    return JobFailure(
        code=error.code,
        message=sanitize_message(error.message),
        provider=provider,
        status=error.status if isinstance(error, ProviderError) else None,
        retry_after_s=error.retry_after_s,
        in_stream=error.in_stream,
        own_body=error.own_body,
        refusal=error.refusal if isinstance(error, ProviderError) else None,
        timeout=error.limit if isinstance(error, ProviderTimeout) else None,
        attempts=attempts,
        upstream_model=upstream_model,
    )


def failure_in_log(failed: RequestFailed, *, attempts: int = 0) -> JobFailure:
    """Build the failure from the event of a failed request. The log does not have the provider's own body."""
    return JobFailure(
        code=failed.code,
        message=failed.message,
        provider=failed.provider,
        status=failed.status,
        refusal=recognise(failed.message) if failed.code == ProviderRejected.code else None,
        attempts=attempts,
    )


def error_of(failure: JobFailure) -> GatewayError:
    """Build the error to raise for a failure."""
    if failure.code == BudgetExceeded.code:  # the hold of a later attempt did not fit
        return BudgetExceeded(failure.message, retry_after_s=failure.retry_after_s)
    kind = _PROVIDER_ERRORS.get(failure.code, ProviderUnavailable)
    arguments: dict[str, Any] = {"provider": failure.provider, "status": failure.status}
    if failure.timeout is not None and issubclass(kind, ProviderTimeout):
        arguments["limit"] = failure.timeout
    error = kind(failure.message, retry_after_s=failure.retry_after_s, **arguments)
    error.in_stream, error.own_body, error.refusal = failure.in_stream, failure.own_body, failure.refusal
    error.attempts, error.upstream_model = failure.attempts or None, failure.upstream_model
    return error
