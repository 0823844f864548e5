"""Errors as OpenAI's and Anthropic's clients know them: status, body and headers. The contract's table of errors.

Both SDKs raise by the status, show the message, and repeat 408, 409, 429 and 5xx by themselves unless `x-should-retry`
says otherwise. An error that comes in the middle of a stream has the same body.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from api.delivery import REPLAYED, anthropic_limit_headers, failure_headers, limit_headers
from api.vendors.refusal_words import ANTHROPIC_WORDS, OPENAI_WORDS
from domain.dialects.passthrough.json_edit import rewrite
from domain.errors import (
    AnswerNotKept,
    BodyTooLarge,
    BudgetExceeded,
    ClientDisconnected,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidRequest,
    JobExpired,
    NotFound,
    Overloaded,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
    UnknownModel,
    UnsupportedEncoding,
)
from domain.limits import LimitStatus
from domain.provider_refusals import Refusal

DEFAULT_RETRY_AFTER_S = 1.0
REQUEST_ID_HEADER = "request-id"
"""The header in which Anthropic's clients look for a request's id."""
UNEXPECTED = "something went wrong here; the log says what"

_DETAILS = {"thread": {"error_code": "thread_unsupported_request"}}
"""Details of a refusal by its field: on these, Anthropic's SDK sends the whole conversation instead."""

_RETRY_STATUSES = frozenset({429, 503, 529})
_encode = msgspec.json.encode


class VendorError(Struct, frozen=True, kw_only=True):
    """An error ready to be sent: JSON in the vendor's shape."""

    status: int
    body: bytes
    headers: dict[str, str]


PAYMENT_REQUIRED = 402
REPEATS_429 = frozenset({"opencode", "QwenCode", "Cline", "ai"})
"""Programs that repeat a 429 many times and ignore its code and `x-should-retry`. They stop at a 402:
opencode 1.18, Qwen Code 0.24, Cline 3.0 and what is built on the Vercel AI SDK, as they behaved in November 2026.
"""


class _OpenAI(Struct, frozen=True):
    status: int
    type: str
    code: str | None = None


class _Anthropic(Struct, frozen=True):
    status: int
    type: str


_OPENAI: dict[type[GatewayError], _OpenAI] = {
    Unauthorized: _OpenAI(401, "invalid_request_error", "invalid_api_key"),
    Forbidden: _OpenAI(403, "permission_error"),
    NotFound: _OpenAI(404, "invalid_request_error"),
    InvalidRequest: _OpenAI(400, "invalid_request_error"),
    UnknownModel: _OpenAI(404, "invalid_request_error", "model_not_found"),
    IdempotencyMismatch: _OpenAI(422, "invalid_request_error", "idempotency_mismatch"),
    AnswerNotKept: _OpenAI(410, "invalid_request_error", "answer_not_kept"),
    BodyTooLarge: _OpenAI(413, "invalid_request_error"),
    UnsupportedEncoding: _OpenAI(415, "invalid_request_error"),
    RateLimited: _OpenAI(429, "rate_limit_exceeded", "rate_limit_exceeded"),
    BudgetExceeded: _OpenAI(429, "insufficient_quota", "insufficient_quota"),
    ProviderRejected: _OpenAI(400, "invalid_request_error"),  # or the provider's own status
    ProviderCredentials: _OpenAI(502, "api_error"),
    ProviderRateLimited: _OpenAI(429, "rate_limit_exceeded", "rate_limit_exceeded"),
    ProviderUnavailable: _OpenAI(502, "api_error"),
    ProviderLost: _OpenAI(502, "api_error"),
    ProviderTimeout: _OpenAI(504, "api_error"),
    JobExpired: _OpenAI(504, "api_error"),  # a job's own, which is no call of a vendor's
    ResultLost: _OpenAI(502, "api_error"),
    ClientDisconnected: _OpenAI(499, "api_error"),  # never received: the client is gone
    Overloaded: _OpenAI(503, "api_error"),
    Unavailable: _OpenAI(503, "api_error"),
}

_ANTHROPIC: dict[type[GatewayError], _Anthropic] = {
    Unauthorized: _Anthropic(401, "authentication_error"),
    Forbidden: _Anthropic(403, "permission_error"),
    NotFound: _Anthropic(404, "not_found_error"),
    InvalidRequest: _Anthropic(400, "invalid_request_error"),
    UnknownModel: _Anthropic(404, "not_found_error"),
    IdempotencyMismatch: _Anthropic(422, "invalid_request_error"),
    AnswerNotKept: _Anthropic(410, "invalid_request_error"),
    BodyTooLarge: _Anthropic(413, "request_too_large"),
    UnsupportedEncoding: _Anthropic(415, "invalid_request_error"),
    RateLimited: _Anthropic(429, "rate_limit_error"),
    BudgetExceeded: _Anthropic(402, "billing_error"),
    ProviderRejected: _Anthropic(400, "invalid_request_error"),  # or the provider's own status, and its type
    ProviderCredentials: _Anthropic(502, "api_error"),
    ProviderRateLimited: _Anthropic(429, "rate_limit_error"),
    ProviderUnavailable: _Anthropic(502, "api_error"),
    ProviderLost: _Anthropic(502, "api_error"),
    ProviderTimeout: _Anthropic(504, "timeout_error"),
    JobExpired: _Anthropic(504, "timeout_error"),
    ResultLost: _Anthropic(502, "api_error"),
    ClientDisconnected: _Anthropic(499, "api_error"),
    Overloaded: _Anthropic(529, "overloaded_error"),
    Unavailable: _Anthropic(529, "overloaded_error"),
}

_ANTHROPIC_TYPES: dict[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai_error(error: GatewayError, client: str | None = None) -> VendorError:
    """A refusal or failure as OpenAI's clients know it: `{"error": {"message", "type", "param", "code"}}`.

    `client` is the program that is told, as `Origin` names it.
    """
    row = next(_OPENAI[kind] for kind in type(error).__mro__ if kind in _OPENAI)
    refusal = _recognised(error)
    if refusal is None:
        status = _own_status(error) or row.status
        if client in REPEATS_429 and isinstance(error, BudgetExceeded) and error.retry_after_s is None:
            status = PAYMENT_REQUIRED
        body = error.own_body or _openai_body(error.message, row.type, param=_param(error), code=row.code)
    else:
        words = OPENAI_WORDS[refusal.reason]
        status, message = words.status, words.message(refusal, error.message)
        body = _openai_body(message, words.type, param=words.param, code=words.code)
    return VendorError(status=status, body=body, headers=_headers(error, status, limit_headers))


def anthropic_error(error: GatewayError, request_id: str) -> VendorError:
    """A refusal or failure as Anthropic's clients know it: `{"type": "error", "error": {"type", "message"}, …}`."""
    row = next(_ANTHROPIC[kind] for kind in type(error).__mro__ if kind in _ANTHROPIC)
    own = _own_status(error)
    status = own or row.status
    kind, message = _ANTHROPIC_TYPES.get(own, row.type) if own is not None else row.type, error.message
    details = _DETAILS.get(error.field or "") if isinstance(error, InvalidRequest) else None
    refusal = _recognised(error)
    if refusal is not None:
        words = ANTHROPIC_WORDS[refusal.reason]
        status, kind, message = words.status, words.type, words.message(refusal, message)
    body = _anthropic_body(message, kind, request_id, details)
    if error.own_body is not None:
        body = rewrite(error.own_body, {"request_id": request_id})
    headers = {REQUEST_ID_HEADER: request_id} | _headers(error, status, _limits)
    return VendorError(status=status, body=body, headers=headers)


def openai_http_error(status: int, message: str) -> VendorError:
    """A refusal of the framework (no such route, no such method), or a crash, in OpenAI's form."""
    kind = "api_error" if status >= 500 else "invalid_request_error"
    return VendorError(status=status, body=_openai_body(message, kind), headers={})


def anthropic_http_error(status: int, message: str, request_id: str) -> VendorError:
    """A refusal of the framework (no such route, no such method), or a crash, in Anthropic's form."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = _anthropic_body(message, kind, request_id)
    return VendorError(status=status, body=body, headers={REQUEST_ID_HEADER: request_id})


def _openai_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _anthropic_body(message: str, kind: str, request_id: str, details: dict[str, str] | None = None) -> bytes:
    error = {"type": kind, "message": message} | ({"details": details} if details is not None else {})
    return _encode({"type": "error", "error": error, "request_id": request_id})


def _param(error: GatewayError) -> str | None:
    if isinstance(error, InvalidRequest):
        return error.field
    if isinstance(error, Forbidden) and error.details is not None:
        return error.details.get("field")
    return "model" if isinstance(error, UnknownModel) else None


def _recognised(error: GatewayError) -> Refusal | None:
    """Why a provider refused, if the client is not given that as the provider wrote it."""
    return error.refusal if isinstance(error, ProviderError) and error.own_body is None else None


def _own_status(error: GatewayError) -> int | None:
    """The provider's status if it refused the request; None for a redirection, which is of no use to a client."""
    own = error.status if isinstance(error, ProviderRejected) else None
    return own if own is not None and 400 <= own < 500 else None


def _limits(limit_status: LimitStatus) -> dict[str, str]:
    return anthropic_limit_headers(limit_status, datetime.now(UTC))


def _headers(error: GatewayError, status: int, limits: Callable[[LimitStatus], dict[str, str]]) -> dict[str, str]:
    """The headers that say when to retry, whether to, and what is left of the key's limits.

    A budget's refusal is to be repeated where nothing but requests in flight stand in its way, and then in a moment;
    `retry_after_s` tells (`domain.errors.BudgetExceeded`).
    """
    headers = failure_headers(error)
    retry_after_s = error.retry_after_s
    if error.is_replayed:
        headers |= REPLAYED | {"x-should-retry": "false"}  # its key gives nothing else
    elif isinstance(error, ProviderCredentials) or (isinstance(error, ProviderError) and error.refusal is not None):
        headers["x-should-retry"] = "false"
    elif isinstance(error, BudgetExceeded):
        headers["x-should-retry"] = "false" if retry_after_s is None else "true"
    elif status in _RETRY_STATUSES and retry_after_s is None:
        retry_after_s = DEFAULT_RETRY_AFTER_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    return headers | limits(error.limit_status) if error.limit_status is not None else headers
