"""The errors that callers get. Each class is one row of the error table in `docs/reference/errors.md`.

::

    GatewayError
    ├── Unauthorized            no, unknown, expired or revoked key
    ├── Forbidden               the key may not do this
    ├── NotFound                it does not exist, or belongs to another project
    ├── InvalidRequest          a field, or the JSON, is wrong
    ├── UnknownModel            no routing rule matches the name
    ├── IdempotencyMismatch     another request has the same idempotency key
    ├── AnswerNotKept           the answer to the same idempotency key was paid for, and is not kept
    ├── BodyTooLarge
    ├── UnsupportedEncoding     the body is packed in a way that is not read here
    ├── RateLimited             a limit of the key
    ├── BudgetExceeded          a window of the key or its project is spent
    │   └── CostUnknown             the cost has no known bound, and there is a budget
    ├── ProviderError           a call of a provider failed
    │   ├── ProviderRejected        it refuses the request
    │   ├── ProviderCredentials     it refuses our credential
    │   ├── ProviderRateLimited     it limits us
    │   ├── ProviderUnavailable     it is down or overloaded, and charged nothing
    │   │   └── CircuitOpen             it was not called, since it does not answer
    │   ├── ProviderLost            the connection broke after the request was sent
    │   └── ProviderTimeout         it did not answer in time
    ├── JobExpired              an asynchronous job did not end in time
    ├── ResultLost              an answer was made, and is no longer stored
    ├── ClientDisconnected      the caller closed the connection
    ├── Overloaded              the queue is full
    └── Unavailable             the database or the broker is away

HTTP statuses are not here: each surface has its own table (`api/*/errors.py`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from domain.limits import INSTALLATION_WINDOW, LimitStatus, Window
from domain.money import NanoUsd, to_usd
from domain.provider_refusals import Refusal
from domain.sanitize import sanitize_identifier, sanitize_message

_INSTALLATION_WAY_OUT = (
    " (a provider key of the project's own is not held to it; the operator can change it with the master key)"
)


class GatewayError(Exception):
    """A refusal or failure as the caller gets it: a stable code, a message, and details."""

    code: ClassVar[str]
    limit_status: LimitStatus | None = None
    """The key's limits after admission; None before."""
    in_stream: bytes | None = None
    """The provider's own error events, if it ended a passthrough stream with an error."""
    own_body: bytes | None = None
    """The provider's own JSON error, if it refused a passthrough request."""
    attempts: int | None = None
    """The number of the request's last attempt; None: none was made."""
    upstream_model: str | None = None
    """The model of that attempt, as its provider knows it."""
    is_replayed: bool = False
    """It is the error of an earlier request under the same idempotency key: no provider was called."""

    def __init__(
        self, message: str, *, details: dict[str, Any] | None = None, retry_after_s: float | None = None
    ) -> None:
        """Make one. The message may repeat what the caller sent: it is cut to what a person reads."""
        self.message = sanitize_message(message)
        super().__init__(self.message)
        self.details = details
        self.retry_after_s = retry_after_s


class Unauthorized(GatewayError):
    """No, unknown, expired or revoked key."""

    code = "UNAUTHORIZED"


class Forbidden(GatewayError):
    """The key is good but may not do this."""

    code = "FORBIDDEN"


class NotFound(GatewayError):
    """It does not exist, or it belongs to another project."""

    code = "NOT_FOUND"


class InvalidRequest(GatewayError):
    """A field or the JSON is wrong; `field` is its path in the caller's spelling, or None for the whole body."""

    code = "VALIDATION_ERROR"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = sanitize_identifier(field) if field else None
        super().__init__(message, details={"field": self.field} if self.field else None)


class UnknownModel(GatewayError):
    """No routing rule matches the model's name."""

    code = "UNKNOWN_MODEL"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r} is unknown: GET /api/v1/models lists what this key may use, "
            "and 'provider/model' names a provider outright",
            details={"model": model},
        )


class IdempotencyMismatch(GatewayError):
    """The idempotency key is that of a request with another body, or to another address."""

    code = "IDEMPOTENCY_MISMATCH"


class AnswerNotKept(GatewayError):
    """The idempotency key's request was answered and paid for; its answer was too large to be kept, or is gone."""

    code = "ANSWER_NOT_KEPT"


class BodyTooLarge(GatewayError):
    """The request's body is above the limit."""

    code = "TOO_LARGE"


class UnsupportedEncoding(GatewayError):
    """The request's body has a `Content-Encoding` that is not read here."""

    code = "UNSUPPORTED_ENCODING"


class RateLimited(GatewayError):
    """A limit of the key: requests, tokens, or requests at a time."""

    code = "RATE_LIMITED"


class BudgetExceeded(GatewayError):
    """The request does not fit into a window of the key's or the project's budget."""

    code = "BUDGET_EXCEEDED"

    @classmethod
    def of(cls, window: Window, asked: NanoUsd, *, only_held: bool, ways_out: Sequence[str] = ()) -> "BudgetExceeded":
        """Build the error of a window, with its figures and what would help.

        `only_held`: the window has room but for the holds of requests in flight, so a retry in a moment may succeed.
        """
        limit, taken, held = window.limit_nano_usd, window.taken_nano_usd, window.held_nano_usd
        way_out = _INSTALLATION_WAY_OUT if window.name == INSTALLATION_WINDOW else ""
        advice = f"; {', or '.join(ways_out)}" if ways_out else ""
        return cls(
            f"the {window.name} budget of ${to_usd(limit):f} does not cover this request: ${to_usd(taken):f} spent, "
            f"${to_usd(held):f} held by requests in flight, ${to_usd(asked):f} asked for{way_out}{advice}",
            details={
                "window": window.name,
                "limit": to_usd(limit),
                "spent": to_usd(taken),
                "held": to_usd(held),
                "asked": to_usd(asked),
            },
            retry_after_s=1 if only_held else None,
        )


class CostUnknown(BudgetExceeded):
    """Nobody knows what the request may cost, and its key or project has a budget."""


class ProviderError(GatewayError):
    """A call of a provider failed.

    `outcome_known`: the provider is known not to have charged for the call. If False, the attempt's hold is assumed to
    be spent (`AttemptLost`). `retryable`: the same call may succeed in a moment; only calls with a known outcome are
    repeated.
    """

    outcome_known: ClassVar[bool] = True
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, provider: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, details={"provider": provider}, retry_after_s=retry_after_s)
        self.provider = provider
        self.status = status
        """The provider's HTTP status; None if it did not respond."""
        self.refusal: Refusal | None = None
        """Why it refused, if that concerns the client."""


class ProviderRejected(ProviderError):
    """The provider refuses the request itself (400, 404, 413, 422 …): repeating it changes nothing."""

    code = "PROVIDER_REJECTED"


class ProviderCredentials(ProviderError):
    """The provider refuses our credential (401, 403), or there is none for it."""

    code = "PROVIDER_CREDENTIALS"


class ProviderRateLimited(ProviderError):
    """The provider limits us (429)."""

    code = "PROVIDER_RATE_LIMITED"
    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider is down or overloaded, and said so or was never reached: nothing was charged."""

    code = "PROVIDER_UNAVAILABLE"
    retryable = True


class CircuitOpen(ProviderUnavailable):
    """The provider was not called, since it does not answer. Nobody waits here until it is called again: many would."""

    retryable = False


class ProviderLost(ProviderError):
    """The connection broke, or the answer was unreadable, after the request had been sent: it may have been charged."""

    code = "PROVIDER_UNAVAILABLE"
    outcome_known = False


TimeLimit = Literal["total", "first_byte", "idle"]


class ProviderTimeout(ProviderError):
    """The provider did not answer in time: it may have been charged. `limit` says which time was over."""

    code = "PROVIDER_TIMEOUT"
    outcome_known = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        limit: TimeLimit = "total",
    ) -> None:
        super().__init__(message, provider=provider, status=status, retry_after_s=retry_after_s)
        self.limit: TimeLimit = limit
        self.details = {"provider": provider, "timeout": limit}


class JobExpired(GatewayError):
    """The asynchronous job did not end in its time (`GATEWAY_JOB_TIMEOUT_S`)."""

    code = "JOB_EXPIRED"


class ResultLost(GatewayError):
    """The answer of an asynchronous job was made, and is no longer stored."""

    code = "RESULT_LOST"


class ClientDisconnected(GatewayError):
    """The caller closed the connection before the response was complete. Only the log has this error."""

    code = "CALLER_LEFT"


class Overloaded(GatewayError):
    """The queue is full."""

    code = "OVERLOADED"


class Unavailable(GatewayError):
    """The database or the broker is away, or a read model lags too far behind."""

    code = "UNAVAILABLE"
