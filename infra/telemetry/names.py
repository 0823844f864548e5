"""Every name in the telemetry: of spans, attributes and metrics. No other module spells one.

- HTTP and errors: https://github.com/open-telemetry/semantic-conventions v1.45.0.
- Model calls, as dashboards read them today: the same repository's v1.41.0, the last that had them.
- Model calls, the latest: https://github.com/open-telemetry/semantic-conventions-genai v0.1.0.
- `gateway.…`: our own. Money, above all, for which there is no convention.
"""

import asyncio
from typing import Final

from msgspec import Struct

from domain.errors import (
    ClientDisconnected,
    GatewayError,
    ProviderCredentials,
    ProviderError,
    ProviderLost,
    ProviderTimeout,
    ProviderUnavailable,
)
from domain.events import Operation

SCOPE: Final = "ai-gateway"
"""Of the tracer and the meter."""

SPAN_ADMIT: Final = "admit"
SPAN_PUBLISH: Final = "publish job"
SPAN_JOB: Final = "work on job"
SPAN_QUEUE: Final = "queue"
SPAN_CLAIM: Final = "claim"
SPAN_APPEND: Final = "append"
SPAN_ASYNC_JOB: Final = "run async job"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
SYSTEM: Final = "gen_ai.system"
"""What `PROVIDER` was called up to v1.36.0; dashboards still group by it."""
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - the name of an attribute
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - as above

REQUEST_ID: Final = "gateway.request.id"
PROJECT_ID: Final = "gateway.project.id"
KEY_ID: Final = "gateway.key.id"
JOB_ID: Final = "gateway.job.id"
ASKED_MODEL: Final = "gateway.asked.model"
"""As the caller named it."""
GATEWAY_PROVIDER: Final = "gateway.provider"
MODEL: Final = "gateway.model"
"""Who answered a request, or was asked last; the model as its provider knows it."""
CACHE: Final = "gateway.cache"
"""How the cache was used."""
ATTEMPTS: Final = "gateway.attempts"
LANE: Final = "gateway.lane"
OUTCOME: Final = "gateway.admission.outcome"
ORIGIN_REQUEST: Final = "gateway.origin.request.id"
"""The request whose answer is shared with this one."""
DELIVERY: Final = "gateway.delivery"
ATTEMPT: Final = "gateway.attempt"
TARGET: Final = "gateway.target"
"""The number of the target in the request's plan, from 0."""
SENT: Final = "gateway.content.sent"
"""What a provider was sent, as JSON, cut. Only if a setting says so, as the next."""
RECEIVED: Final = "gateway.content.received"
"""A whole answer, cut."""
COST_NANO_USD: Final = "gateway.cost.nano_usd"
COST_USD: Final = "gateway.cost.usd"
CHARGED_NANO_USD: Final = "gateway.charged.nano_usd"
CHARGED_USD: Final = "gateway.charged.usd"
"""What the caller of a request is charged. Not `COST…`, which stands on its attempts: sums would count it twice."""
COST_IS_ESTIMATED: Final = "gateway.cost.is_estimated"
COST_IS_LOWER_BOUND: Final = "gateway.cost.is_lower_bound"

SECONDS_BOUNDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS_BOUNDS: Final = (
    1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864
)  # fmt: skip
HTTP_SECONDS_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300)
"""The convention's, and three more: a model may take minutes."""

SECONDS: Final = "s"
TOKENS: Final = "{token}"
USD: Final = "USD"
ANSWERS: Final = "{answer}"

HTTP_DURATION: Final = "http.server.request.duration"
COST: Final = "gateway.cost.usage"
"""Dollars that providers charge."""
COST_UNKNOWN: Final = "gateway.cost.unknown"
"""Answers whose cost is not known: they are missing from `COST`."""

OPERATION_NAMES: Final[dict[Operation, str]] = {
    "chat": "chat",
    "responses": "chat",
    "compact": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "stored_responses": "fetch_response",
    "count_tokens": "count_tokens",
    "moderations": "moderations",
}
"""What the conventions call an operation; the last two are unknown to them."""
INFERENCE: Final = frozenset({"chat", "text_completion"})
EMBEDDINGS: Final = "embeddings"


class TokenCounter(Struct, frozen=True):
    """A counter of tokens: its name, and the classes of `TokenUsage` that it sums, by modality."""

    name: str
    unknown: tuple[str, ...]
    """Classes that a provider does not tell apart by modality: text and images are one price."""
    audio: tuple[str, ...] = ()


class CallMetrics(Struct, frozen=True, kw_only=True):
    """The metrics of one kind of call under one convention. None: it has none."""

    duration: str
    first_chunk: str | None = None
    tokens_by_type: str | None = None
    """A histogram for input and output, told apart by `TOKEN_TYPE`."""
    input_tokens: str | None = None
    output_tokens: str | None = None
    """Histograms of their own."""
    counters: tuple[TokenCounter, ...] = ()


class Convention(Struct, frozen=True, kw_only=True):
    """The names of model calls under one convention."""

    inference: CallMetrics
    embeddings: CallMetrics
    other: CallMetrics
    cache_write_tokens: str
    """The span's attribute."""
    names_system: bool
    """`SYSTEM` stands beside `PROVIDER`."""

    def of(self, operation: str) -> CallMetrics:
        """Return the metrics of an operation, by its name here."""
        if operation in INFERENCE:
            return self.inference
        return self.embeddings if operation == EMBEDDINGS else self.other


_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
_ESTABLISHED_CALL: Final = CallMetrics(
    duration=_OPERATION_DURATION,
    first_chunk="gen_ai.client.operation.time_to_first_chunk",
    tokens_by_type="gen_ai.client.token.usage",
)
_OTHER_CALL: Final = CallMetrics(duration=_OPERATION_DURATION)

ESTABLISHED: Final = Convention(
    inference=_ESTABLISHED_CALL,
    embeddings=_ESTABLISHED_CALL,
    other=_OTHER_CALL,
    cache_write_tokens=CACHE_CREATION_TOKENS,
    names_system=True,
)
"""What dashboards read today."""

_USAGE: Final = "gen_ai.client.inference.usage"
LATEST: Final = Convention(
    inference=CallMetrics(
        duration="gen_ai.client.inference.duration",
        first_chunk="gen_ai.client.inference.time_to_first_chunk",
        input_tokens="gen_ai.client.inference.operation.input_tokens",
        output_tokens="gen_ai.client.inference.operation.output_tokens",
        counters=(
            TokenCounter(
                f"{_USAGE}.input_tokens",
                ("input", "cache_read", "cache_write", "cache_write_1h"),
                ("input_audio", "cache_audio_read"),
            ),
            TokenCounter(f"{_USAGE}.output_tokens", ("output",), ("output_audio",)),
            TokenCounter(f"{_USAGE}.cache_read.input_tokens", ("cache_read",), ("cache_audio_read",)),
            TokenCounter(f"{_USAGE}.cache_write.input_tokens", ("cache_write", "cache_write_1h")),
            TokenCounter(f"{_USAGE}.reasoning.output_tokens", ("reasoning",)),
        ),
    ),
    embeddings=CallMetrics(
        duration="gen_ai.client.embeddings.duration",
        input_tokens="gen_ai.client.embeddings.operation.input_tokens",
    ),
    other=_OTHER_CALL,
    cache_write_tokens=CACHE_WRITE_TOKENS,
    names_system=False,
)
"""v0.1.0 of the conventions' new home, where embeddings are no inference."""

OPT_IN: Final = "gen_ai_latest_experimental"
OPT_IN_DUP: Final = f"{OPT_IN}/dup"


def conventions_of(opt_in: tuple[str, ...]) -> tuple[Convention, ...]:
    """Return the conventions to be followed, by the values of `OTEL_SEMCONV_STABILITY_OPT_IN`. Others say nothing."""
    if OPT_IN_DUP in opt_in:
        return ESTABLISHED, LATEST
    return (LATEST,) if OPT_IN in opt_in else (ESTABLISHED,)


ERROR_TYPES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ProviderTimeout, "timeout"),
    (ProviderLost, "connection_lost"),
    (ProviderCredentials, "no_credential"),
    (ProviderUnavailable, "unreachable"),
    (ClientDisconnected, "cancelled"),
    (asyncio.CancelledError, "cancelled"),
)
"""Of calls to which the provider gave no status."""


def call_error_type(error: BaseException) -> str:
    """Return what `ERROR_TYPE` says of a provider's call: its status, or why there was none."""
    if isinstance(error, ProviderError) and error.status is not None:
        return str(error.status)
    return next((name for kind, name in ERROR_TYPES if isinstance(error, kind)), error_type(error))


def error_type(error: BaseException) -> str:
    """Return what `ERROR_TYPE` says of an error elsewhere: its code, or its class if it is none of ours."""
    return error.code if isinstance(error, GatewayError) else type(error).__name__
