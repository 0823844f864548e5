"""What becomes known of a request on its way: for its access line and its figures, when it has ended.

Filled in by whoever learns it. Nothing is decided by it, and it has no content.
"""

from typing import Any

from msgspec import Struct

from domain.errors import GatewayError, ProviderError
from domain.job_result import Receipt
from domain.money import NanoUsd

FACTS_SCOPE = "gateway.request_facts"


class RequestFacts(Struct, kw_only=True):
    """The facts of one request. None: not known, or there is none."""

    key_id: str | None = None
    operation: str | None = None
    provider: str | None = None
    model: str | None = None
    """As the provider knows it."""
    has_answer: bool = False
    cache: str | None = None
    """As `InferenceResponse.cache_result`."""
    is_stream: bool = False
    first_byte_s: float | None = None
    """From the request to the first byte of its answer."""
    error_code: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_nano_usd: NanoUsd | None = None
    """What its caller is charged for it: 0 for an answer from the cache."""
    attempts: int | None = None
    """None: none was made for it, or it failed."""

    def asked(self, operation: str, *, provider: str, model: str, is_stream: bool) -> None:
        """Note what a request asks for, and of whom first."""
        self.operation, self.is_stream, self.provider, self.model = operation, is_stream, provider, model

    def begun_by(self, *, provider: str, model: str) -> None:
        """Note whose stream has begun."""
        self.provider, self.model, self.has_answer = provider, model, True

    def answered_by(self, receipt: Receipt, cost_nano_usd: NanoUsd | None) -> None:
        """Note a whole answer, and what its caller is charged."""
        self.provider, self.model, self.has_answer = receipt.provider, receipt.upstream_model, True
        usage = receipt.usage
        self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        self.cost_nano_usd = cost_nano_usd

    def failed(self, error: GatewayError) -> None:
        """Note the error that the caller gets."""
        self.error_code = error.code
        if isinstance(error, ProviderError):
            self.provider, self.model = error.provider, error.upstream_model or self.model
            self.attempts = error.attempts


def facts_of(scope: Any) -> RequestFacts:
    """Return the facts of a request. One that came over no connection, as a job's, has its own that nobody reads."""
    facts: RequestFacts | None = scope.get(FACTS_SCOPE)
    return facts if facts is not None else RequestFacts()
