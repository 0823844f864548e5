"""Every event of the system, on one page: facts in the past tense, never rewritten.

An event's envelope (position, stream, version, type, project, time, digest) is `StoredEvent`; what is here is its
data, kept as JSON byte for byte. A field may be added with a default; nothing else about a class may change, because
`tests/golden/events/` holds a sample of each that must be readable for ever.

Streams: `project-<id>`, `key-<id>`, `provider-<project>/<name>`, `request-<id>`, `price-<provider>/<model>`,
`alert-<window>`. The events of one request in the order in which they may come::

    RequestServedFromCache                                         answered without a provider
    RequestRejected                                                the budget does not cover it
    (AttemptFailed | AttemptLost)* RequestCompleted CostIncurred   the last two in one append
    (AttemptFailed | AttemptLost)+ RequestFailed
    (AttemptFailed | AttemptLost)* CostIncurred RequestFailed      a stream that was cut: the cost is estimated
    … AttemptLost … CostIncurred                                   a worker given up for lost came back with the cost
    … AttemptLost … CostReconciled                                 somebody looked at the provider's bill

An attempt's hold is released by its CostIncurred, AttemptFailed or AttemptLost, by nothing else.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from domain.budget import Period, Scope
from domain.money import NanoUsd
from domain.pricing import ClassPrices, CostBreakdown, Price
from domain.routing import NamedKind
from domain.tokens import TokenUsage

Operation = Literal["chat", "embeddings", "responses", "count_tokens"]
Role = Literal["member", "admin"]

INSTALLATION = "installation"
"""The project of what belongs to no project."""
DEFAULT_RATE_LIMIT_PER_MINUTE = 600
DEFAULT_CONCURRENCY_LIMIT = 256
"""Of a key that is issued without one. In an event that does not say it there is none: keys of before have no limit."""
DEFAULT_BUDGET_WAIT_MS = 2_000


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of an event. Absent fields have their default."""


# Projects and keys


class ProjectCreated(_Event, frozen=True, kw_only=True):
    """A project exists."""

    name: str
    installation_daily_budget_nano_usd: NanoUsd | None = None
    """Of a project that was created without the master key: for its requests under the installation's credentials."""


class ProjectSettingsChanged(_Event, frozen=True, kw_only=True):
    """The project has these settings now, all of them."""

    name: str
    daily_budget_nano_usd: NanoUsd | None = None
    """Over all its keys; 0 blocks them, None is no limit."""
    monthly_budget_nano_usd: NanoUsd | None = None
    alert_url: str | None = None
    """Where it is told that a window has reached a threshold."""
    installation_daily_budget_nano_usd: NanoUsd | None = None
    """For its requests under the installation's credentials; None is no limit. The operator alone changes it."""
    cancel_on_disconnect: bool = False
    """If true, a request that is not streamed ends when its caller disconnects, unless others wait for its answer."""


class ProviderKeySet(_Event, frozen=True, kw_only=True):
    """The project brings its own key for a provider, or (hint None) no longer does. The key itself is in no event."""

    provider: str
    hint: str | None


class ProviderConfigured(_Event, frozen=True, kw_only=True):
    """A provider can be asked by its name, by the project's keys or (of the installation) by everybody's. All of it."""

    name: str
    kind: NamedKind
    base_url: str
    models: tuple[str, ...] | None = None
    """What may be asked of it; None: anything."""
    hint: str
    """The last four characters of its key, which is in no event."""
    replaces_builtin: bool = False
    """Requests for those of its models that are built-in names go to it, not to the built-in provider."""


class ProviderRemoved(_Event, frozen=True, kw_only=True):
    """The provider is asked no longer."""

    name: str


class KeySettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key may do. None means no limit, except where a sentence says otherwise."""

    name: str
    role: Role = "member"
    daily_budget_nano_usd: NanoUsd | None = None
    """0 blocks the key."""
    monthly_budget_nano_usd: NanoUsd | None = None
    rate_limit: int | None = DEFAULT_RATE_LIMIT_PER_MINUTE
    """Requests per minute."""
    token_limit: int | None = None
    """Tokens per minute."""
    concurrency_limit: int | None = None
    models: list[str] | None = None
    expires_at: datetime | None = None
    output_cap: Literal["lower", "refuse"] = "lower"
    budget_wait_ms: int = DEFAULT_BUDGET_WAIT_MS

    def limits(self) -> tuple[int | None, ...]:
        """What admission looks at: daily and monthly budget, requests and tokens a minute, requests at a time."""
        return (
            self.daily_budget_nano_usd,
            self.monthly_budget_nano_usd,
            self.rate_limit,
            self.token_limit,
            self.concurrency_limit,
        )


class ApiKeyIssued(_Event, frozen=True, kw_only=True):
    """A key exists. Only its HMAC (hexadecimal) and its last four characters are known from here on."""

    key_id: str
    secret_hash: str
    hint: str
    settings: KeySettings


class ApiKeyChanged(_Event, frozen=True, kw_only=True):
    """The key has these settings now, all of them."""

    key_id: str
    settings: KeySettings


class ApiKeyRevoked(_Event, frozen=True, kw_only=True):
    """The key works no longer, and never will again."""

    key_id: str


# Requests


class _RequestEvent(_Event, frozen=True, kw_only=True):
    """What every event about a request says of it."""

    request_id: str
    key_id: str
    operation: Operation
    model: str
    """As the caller named it."""
    provider: str
    metadata: dict[str, Any] | None = None


class CachedCopy(Struct, frozen=True, kw_only=True):
    """Where the answer is kept for those who ask the same."""

    key: str
    """The cache key, hexadecimal."""
    ttl_s: int
    blob_id: str


class RequestCompleted(_RequestEvent, frozen=True, kw_only=True):
    """A provider answered."""

    attempt: int
    upstream_model: str
    """The name that the provider was called with."""
    answered_by: str
    """The model that the provider says it used."""
    response_id: str
    finish_reason: str | None = None
    usage: TokenUsage
    latency_ms: int
    """From admission to the provider's last byte."""
    request_bytes: int
    answer_bytes: int
    answer_digest: str
    """SHA-256, hexadecimal, of the answer's JSON; of a stream that is not kept, of its parts as they were sent."""
    cached_copy: CachedCopy | None = None


class CostIncurred(_RequestEvent, frozen=True, kw_only=True):
    """What an attempt cost, with the whole reasoning. At most one for each attempt."""

    attempt: int
    upstream_model: str
    cost_nano_usd: NanoUsd | None
    """None: nobody could price the model."""
    price: Price | None
    breakdown: CostBreakdown | None
    hold_nano_usd: NanoUsd
    budget_day: date
    """The UTC day of admission: the day and the month whose windows are charged, for the key and for its project."""
    estimated: bool = False
    """The answer was cut, or its provider did not say: the cost is the most that what was received can have cost."""
    replaces_assumed_nano_usd: NanoUsd = NanoUsd(0)
    """What AttemptLost had assumed for this attempt; no longer assumed from here on."""


class AttemptFailed(_RequestEvent, frozen=True, kw_only=True):
    """An attempt at a provider came to nothing and was not charged."""

    attempt: int
    upstream_model: str
    code: str
    message: str
    status: int | None = None
    """The provider's HTTP status, where it answered."""
    hold_nano_usd: NanoUsd
    budget_day: date


class AttemptLost(_RequestEvent, frozen=True, kw_only=True):
    """Nobody knows what came of an attempt: its hold is assumed to have been spent."""

    attempt: int
    upstream_model: str
    reason: Literal["worker_lost", "timeout", "connection_lost", "caller_left"]
    assumed_nano_usd: NanoUsd
    budget_day: date


class RequestFailed(_RequestEvent, frozen=True, kw_only=True):
    """The caller got an error."""

    code: str
    message: str
    status: int | None = None
    latency_ms: int


class RequestServedFromCache(_RequestEvent, frozen=True, kw_only=True):
    """The caller got an answer that had been paid for already."""

    origin_request_id: str
    """The request whose answer it is."""
    shared: bool = False
    """The answer was still on its way when it was asked for again."""
    usage: TokenUsage
    saved_nano_usd: NanoUsd | None
    """What it cost the first time; None where that is not known."""
    latency_ms: int


class RequestRejected(_RequestEvent, frozen=True, kw_only=True):
    """A budget did not cover the request; no provider was asked. With the figures of the window that refused."""

    window: str
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd
    """Spent and assumed."""
    held_nano_usd: NanoUsd
    asked_nano_usd: NanoUsd


class CostReconciled(_RequestEvent, frozen=True, kw_only=True):
    """Somebody has found out what a lost attempt cost: this replaces what was assumed."""

    attempt: int
    upstream_model: str
    cost_nano_usd: NanoUsd
    replaces_assumed_nano_usd: NanoUsd
    budget_day: date


# Prices and alerts


class PriceSet(_Event, frozen=True, kw_only=True):
    """The operator sets a model's price, from a moment on; it goes before the price book's."""

    provider: str
    model: str
    """The name that callers write, or the provider's own."""
    prices: ClassPrices
    effective_from: datetime


class BudgetAlertRaised(_Event, frozen=True, kw_only=True):
    """What is spent and assumed in a window has reached a threshold: once for each window and threshold."""

    scope: Scope
    scope_id: str
    period: Period
    starts_on: date
    threshold_percent: int
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd


class AlertTold(_Event, frozen=True, kw_only=True):
    """What became of telling the project's address of an alert."""

    alert: str
    """Its stream."""
    outcome: Literal["delivered", "given_up"]
    deliveries: int
    status: int | None = None
    """The address's last HTTP status, where it answered."""


Event = (
    ProjectCreated
    | ProjectSettingsChanged
    | ProviderKeySet
    | ProviderConfigured
    | ProviderRemoved
    | ApiKeyIssued
    | ApiKeyChanged
    | ApiKeyRevoked
    | RequestCompleted
    | CostIncurred
    | AttemptFailed
    | AttemptLost
    | RequestFailed
    | RequestServedFromCache
    | RequestRejected
    | CostReconciled
    | PriceSet
    | BudgetAlertRaised
    | AlertTold
)

EVENT_TYPES: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__args__}


class StoredEvent(Struct, frozen=True, kw_only=True):
    """An event as the log holds it."""

    position: Annotated[int, Meta(ge=1)]
    """Gapless over the whole log, in commit order, from 1."""
    stream: str
    version: Annotated[int, Meta(ge=1)]
    """Gapless within the stream, from 1."""
    type: str
    project_id: str
    at: datetime
    event: Event


def project_stream(project_id: str) -> str:
    """The stream of a project's own events."""
    return f"project-{project_id}"


def key_stream(key_id: str) -> str:
    """The stream of a key."""
    return f"key-{key_id}"


def provider_stream(project_id: str, name: str) -> str:
    """The stream of a provider by configuration."""
    return f"provider-{project_id}/{name}"


def request_stream(request_id: str) -> str:
    """The stream of a request."""
    return f"request-{request_id}"


def request_of(stream: str) -> str | None:
    """The request that a stream is about; None if it is about something else."""
    _, prefix, request_id = stream.rpartition("request-")
    return request_id if prefix and stream == request_stream(request_id) else None


def price_stream(provider: str, model: str) -> str:
    """The stream of a model's price."""
    return f"price-{provider}/{model}"


def alert_stream(alert: BudgetAlertRaised) -> str:
    """The stream of one alert: its only event is its first, so it is raised once."""
    return f"alert-{alert.scope}-{alert.scope_id}-{alert.period}-{alert.starts_on}-{alert.threshold_percent}"
