"""The errors that providers report in a response with status 200, or inside a stream, as errors of ours."""

from domain.dialects.errors import StreamFailed
from domain.errors import (
    ProviderCredentials,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)

STATUS_DIGITS = 3

_FAILURES: dict[str, type[ProviderError]] = {
    "400": ProviderRejected,
    "404": ProviderRejected,
    "413": ProviderRejected,
    "422": ProviderRejected,
    "invalid_request_error": ProviderRejected,
    "context_length_exceeded": ProviderRejected,
    "invalid_prompt": ProviderRejected,
    "content_policy_violation": ProviderRejected,
    "401": ProviderCredentials,
    "402": ProviderCredentials,
    "403": ProviderCredentials,
    "authentication_error": ProviderCredentials,
    "invalid_api_key": ProviderCredentials,
    "429": ProviderRateLimited,
    "rate_limit_error": ProviderRateLimited,
    "rate_limit_exceeded": ProviderRateLimited,
    "insufficient_quota": ProviderRateLimited,
}
"""By the code or the type of an error that comes with status 200, as OpenRouter and proxies send it."""


def reported_failure(error: StreamFailed, provider: str) -> ProviderError:
    """The error of a response that is a provider's report of its failure: nothing was charged."""
    kind = _FAILURES.get(error.kind.lower(), ProviderUnavailable)
    status = int(error.kind) if error.kind.isdecimal() and len(error.kind) == STATUS_DIGITS else None
    message = f"{provider} refuses the key that it was called with" if kind is ProviderCredentials else error.message
    return kind(message, provider=provider, status=status)
