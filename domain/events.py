"""Every event of the system, on one page: facts in the past tense, never rewritten.

An event's envelope (position, stream, version, type, project, time, digest) is `StoredEvent`; these classes are its
data, stored as JSON byte for byte. A field may be added with a default; nothing else about a class may change, because
`tests/golden/events/` holds a sample of each that must be readable for ever.

Streams: `project-<id>`, `key-<id>`, `provider-<project>/<name>`, `route-<project>/<name>`, `request-<id>`,
`price-<provider>/<model>`, `alert-<window>`, `circuit-<project>/<provider>/<model>-<minute>`, `job-<id>`, `batch-<id>`,
`accepted-<idempotency key>`.
The events of one request in the order in which they may come::

    RequestServedFromCache                                         answered without a provider
    RequestFailed                                                  no worker had it, or the error of an earlier request
    RequestRejected                                                the budget does not cover it
    (AttemptFailed | AttemptLost)* RequestCompleted CostIncurred   the last two in one append
    (AttemptFailed | AttemptLost)+ RequestFailed
    (AttemptFailed | AttemptLost)* CostIncurred RequestFailed      a stream that was cut: the cost is estimated
    … AttemptLost … CostIncurred                                   a worker given up for lost came back with the cost
    … AttemptLost … CostReconciled                                 the provider was asked, or its bill was entered
    … RequestCompleted CostIncurred … CostReconciled               a response in the background: its cost came later

An attempt's hold is released by its CostIncurred, AttemptFailed or AttemptLost, by nothing else.

An asynchronous job has a stream beside those of the requests that it makes::

    RequestAccepted JobStarted* (JobSucceeded | JobFailed | JobCancelled) WebhookTold?

JobStarted comes before its request is published, so of two runners that have the same job only one makes the call.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from domain.budget import Period, Scope
from domain.call_origin import Origin
from domain.credentials import DEFAULT_CREDENTIAL
from domain.failover import TargetFate
from domain.idempotency import Idempotency
from domain.money import NanoUsd
from domain.pricing import ClassPrices, CostBreakdown, Price
from domain.routes import RouteSettings
from domain.routing import Kind, NamedKind
from domain.tokens import TokenUsage

Operation = Literal[
    "chat", "embeddings", "responses", "count_tokens", "completions", "moderations", "stored_responses", "compact"
]
Role = Literal["member", "admin"]

INSTALLATION = "installation"
"""The project id of events that belong to no project."""
DEFAULT_RATE_LIMIT_PER_MINUTE = 600
DEFAULT_CONCURRENCY_LIMIT = 256
"""For a new key that names none. An event without the field means no limit: older keys have none."""
DEFAULT_BUDGET_WAIT_MS = 15_000
"""For a new key that names none: time for a dozen answers one after the other."""
BUDGET_WAIT_MS_OF_OLDER_KEYS = 2_000
"""What an event without the field means."""
MINUTE_MS = 60_000


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of an event. Absent fields have their default."""


# Projects and keys


class ProjectCreated(_Event, frozen=True, kw_only=True):
    """A project exists."""

    name: str
    installation_daily_budget_nano_usd: NanoUsd | None = None
    """For requests under the installation's credentials. Set if the project was created without the master key."""


class ProjectSettingsChanged(_Event, frozen=True, kw_only=True):
    """The project has these settings now, all of them."""

    name: str
    daily_budget_nano_usd: NanoUsd | None = None
    """Over all its keys; 0 blocks them, None is no limit."""
    monthly_budget_nano_usd: NanoUsd | None = None
    alert_url: str | None = None
    """Webhook that receives budget alerts."""
    installation_daily_budget_nano_usd: NanoUsd | None = None
    """For its requests under the installation's credentials; None is no limit. The operator alone changes it."""
    cancel_on_disconnect: bool = False
    """If true, a request that is not streamed ends when its caller disconnects, unless others wait for its answer."""


class WebhookSecretRotated(_Event, frozen=True, kw_only=True):
    """The project's webhooks are signed with another secret from now on, for a while beside the one before."""

    rotation: int
    """How often it was rotated. The secret itself is in no event: it is derived."""


class ProviderKeySet(_Event, frozen=True, kw_only=True):
    """The project has its own key for a provider, or (hint None) no longer has. The key itself is in no event."""

    provider: str
    hint: str | None


class ProviderConfigured(_Event, frozen=True, kw_only=True):
    """A provider by configuration has these settings now, all of them. The installation's serve every project."""

    name: str
    kind: NamedKind
    base_url: str
    models: tuple[str, ...] | None = None
    """The models that it serves; None: any."""
    hint: str
    """The last four characters of its key. The key itself is in no event."""
    replaces_builtin: bool = False
    """Requests for its models whose names are built in go to it instead of the built-in provider."""


class ProviderRemoved(_Event, frozen=True, kw_only=True):
    """A provider by configuration is removed."""

    name: str


class CredentialSet(_Event, frozen=True, kw_only=True):
    """A further credential of a provider, or another weight of its `default` one. The key itself is in no event."""

    provider: str
    name: str
    hint: str
    """The last four characters of its key."""
    weight: int = 1
    """Its share of the provider's calls, among its credentials."""


class CredentialRemoved(_Event, frozen=True, kw_only=True):
    """A further credential of a provider is removed."""

    provider: str
    name: str


class RouteSet(_Event, frozen=True, kw_only=True):
    """A route has these settings now, all of them. The installation's serve every project that has none of the name."""

    name: str
    settings: RouteSettings


class RouteRemoved(_Event, frozen=True, kw_only=True):
    """A route is removed."""

    name: str


class KeySettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key's permissions and limits. None means no limit unless a field says otherwise."""

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
    budget_wait_ms: int = BUDGET_WAIT_MS_OF_OLDER_KEYS
    translation: Literal["lenient", "strict"] = "lenient"
    """`strict`: a request is refused if its translation would leave out a field."""
    idempotency: Literal["off", "auto"] = "off"
    """`auto`: a request that names itself a retry gets the answer of the equal one that it repeats, without a key."""

    def limits(self) -> tuple[int | None, ...]:
        """Return the limits: daily and monthly budget, requests and tokens a minute, requests at a time."""
        return (
            self.daily_budget_nano_usd,
            self.monthly_budget_nano_usd,
            self.rate_limit,
            self.token_limit,
            self.concurrency_limit,
        )


class ApiKeyIssued(_Event, frozen=True, kw_only=True):
    """A key exists. The event has its HMAC (hexadecimal) and its last four characters; the key itself is not stored."""

    key_id: str
    secret_hash: str
    hint: str
    settings: KeySettings


class ApiKeyChanged(_Event, frozen=True, kw_only=True):
    """The key has these settings now, all of them."""

    key_id: str
    settings: KeySettings


class ApiKeyRevoked(_Event, frozen=True, kw_only=True):
    """The key is revoked for good."""

    key_id: str


# Requests


class _RequestEvent(_Event, frozen=True, kw_only=True):
    """The subject: the fields of every event about a request, whoever writes it."""

    request_id: str
    key_id: str
    operation: Operation
    model: str
    """As the caller named it, or, of a request with several targets, as its target's is named."""
    provider: str
    metadata: dict[str, Any] | None = None
    origin: Origin | None = None
    """The session, the agent and the program that it came from, as its client says. None: it says nothing."""
    dropped: tuple[str, ...] = ()
    """The names of the fields that were left out in its translation, since they change nothing."""
    asked_as: str | None = None
    """What the caller named, where `model` is another: a route, or the model before its fallbacks."""
    idempotency: Idempotency | None = None
    """What its retries know it by; None: each of them would be a request of its own."""


class KeptResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A response that its provider keeps, and how it is asked what that has cost."""

    response_id: str
    operation: Operation
    """As the provider was asked."""
    kind: Kind
    base_url: str | None = None
    """Of a provider by configuration: where it was; None: it is built in. Another server is not asked."""
    credential: str = DEFAULT_CREDENTIAL
    """The name that the credential of the call is stored under, also if the provider has it alone."""
    is_own: bool = False
    """That credential is the project's own, not the installation's."""
    price: Price
    """The price that the attempt is charged at."""
    asked_terms: dict[str, str] | None = None
    unpriced: tuple[str, ...] = ()
    """Both: what the request asks for, as its cost depends on it."""


class CachedCopy(Struct, frozen=True, kw_only=True):
    """The cache entry of the response."""

    key: str
    """The cache key, hexadecimal."""
    ttl_s: int
    blob_id: str


class KeptCopy(Struct, frozen=True, kw_only=True):
    """The response of a job, kept until the job has taken it over. It is not in the cache."""

    blob_id: str
    expires_at: datetime


class RequestCompleted(_RequestEvent, frozen=True, kw_only=True):
    """A provider responded and the request is complete."""

    attempt: int
    upstream_model: str
    """The model name sent to the provider."""
    answered_by: str
    """The model that the provider says it used."""
    response_id: str
    finish_reason: str | None = None
    usage: TokenUsage
    latency_ms: int
    """From admission to the provider's last byte."""
    request_bytes: int
    answer_bytes: int
    output_bytes: int = 0
    """Of a stream: UTF-8 bytes of text, tool calls and thinking that it has shown. 0: it was none, or showed none."""
    answer_digest: str
    """SHA-256, hexadecimal, of the response body; of a stream that is not cached, of its parts as they were sent."""
    cached_copy: CachedCopy | None = None
    item_ids: tuple[str, ...] = ()
    """The provider's ids of the items of a response, at most `MAX_ITEM_IDS` of them. Later requests may name them."""
    kept_copy: KeptCopy | None = None
    """None: its caller was waiting, or the copy in the cache serves."""
    credential: str | None = None
    """The name of the credential that the call was made with; None: the provider has one alone, or it is not known."""
    targets: tuple[TargetFate, ...] = ()
    """The request's plan and what became of it; empty: it had one target."""
    kept_blob_id: str | None = None
    """What a retry under the same key is given: the response's body or, of a stream, all that was sent. None: it is
    not kept, or too large."""
    is_passthrough: bool | None = None
    """True: that body is as the provider wrote it; False: it is canonical, and translated for its client. None: there
    is no key, or an older release has written the event."""
    first_token_ms: int | None = None
    """From admission to the first of a stream's output. None: it came in one piece, or an older release wrote this."""


class CostIncurred(_RequestEvent, frozen=True, kw_only=True):
    """The cost of an attempt, with its price and its breakdown. At most one for each attempt."""

    attempt: int
    upstream_model: str
    cost_nano_usd: NanoUsd | None
    """None: the model has no price."""
    price: Price | None
    breakdown: CostBreakdown | None
    hold_nano_usd: NanoUsd
    budget_day: date
    """The UTC day of admission. The key's and the project's windows of this day and its month are charged."""
    estimated: bool = False
    """The stream was cut, or the provider reported no usage: the cost is an upper bound for what was received."""
    replaces_assumed_nano_usd: NanoUsd = NanoUsd(0)
    """The cost that AttemptLost assumed for this attempt, and that this event replaces."""
    usage: TokenUsage | None = None
    """Of a response that was cut: its tokens so far, estimated. Those of a complete one are in RequestCompleted."""
    is_lower_bound: bool = False
    """Something was used that has no known price: the breakdown's `unpriced` names it."""
    provider_cost_nano_usd: NanoUsd | None = None
    """The cost that the provider's answer states. It counts only where we have no price."""
    credential: str | None = None
    """The name of the credential that the call was made with; None: the provider has one alone, or it is not known."""
    is_late: bool = False
    """The request had ended before: its retries have been told what they get."""
    kept: KeptResponse | None = None
    """Of a response in the background, whose cost is not known yet: how its provider is asked."""


class AttemptFailed(_RequestEvent, frozen=True, kw_only=True):
    """An attempt failed and was not charged."""

    attempt: int
    upstream_model: str
    code: str
    message: str
    status: int | None = None
    """The provider's HTTP status; None if it did not respond."""
    hold_nano_usd: NanoUsd
    budget_day: date
    credential: str | None = None
    """As RequestCompleted's."""
    target: int = 0
    """The number of its target in the request's plan, from 0."""
    next_target: int | None = None
    """The number of the target that is tried next; None: the same one, or none."""
    is_late: bool = False
    """The request had ended before: its retries have been told what they get."""


class AttemptLost(_RequestEvent, frozen=True, kw_only=True):
    """The outcome of an attempt is unknown: as much as is known of it is assumed to be spent."""

    attempt: int
    upstream_model: str
    reason: Literal["worker_lost", "timeout", "connection_lost", "caller_left"]
    assumed_nano_usd: NanoUsd
    """At most its hold; less if it is known how far it was, or what such answers usually cost."""
    budget_day: date
    hold_nano_usd: NanoUsd | None = None
    """None in events of releases that did not write it: the assumption was the hold, or that of a cut stream."""
    credential: str | None = None
    """As RequestCompleted's."""
    target: int = 0
    next_target: int | None = None
    """Both: as AttemptFailed's."""
    message: str = ""
    """The error that the attempt ended with; empty: nothing is known of it."""
    response_id: str | None = None
    """By which the provider can be asked for its response; None: it cannot, or the id had not come."""
    is_late: bool = False
    """The request had ended before: its retries have been told what they get."""
    kept: KeptResponse | None = None
    """How its provider is asked what it has cost; None: it cannot be, or an older release has written this."""


class RequestFailed(_RequestEvent, frozen=True, kw_only=True):
    """The caller got an error."""

    code: str
    message: str
    status: int | None = None
    latency_ms: int
    targets: tuple[TargetFate, ...] = ()
    """As RequestCompleted's."""
    replays_request_id: str | None = None
    """The request under the same idempotency key whose error this is; no provider was called."""


class RequestServedFromCache(_RequestEvent, frozen=True, kw_only=True):
    """The caller got a response from the cache, or one shared with an identical request."""

    origin_request_id: str
    """The request that made the response."""
    shared: bool = False
    """The identical request was still in flight."""
    usage: TokenUsage
    saved_nano_usd: NanoUsd | None
    """The cost of the original request; None if unknown."""
    latency_ms: int
    replayed: bool = False
    """The original request has the same idempotency key: this one is its retry."""
    kept_blob_id: str | None = None
    """As in `RequestCompleted`, of a response from the cache under an idempotency key."""
    upstream_model: str | None = None
    is_passthrough: bool | None = None
    """Both: as in `RequestCompleted`, if a body is kept."""


class RequestRejected(_RequestEvent, frozen=True, kw_only=True):
    """A budget did not cover the request, and no provider was called. The figures are those of the refusing window."""

    window: str
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd
    """Spent and assumed."""
    held_nano_usd: NanoUsd
    asked_nano_usd: NanoUsd


class CostReconciled(_RequestEvent, frozen=True, kw_only=True):
    """The true cost of a lost attempt is known: it replaces the assumed cost. Or that of a response in the background,
    whose cost was not known.
    """

    attempt: int
    upstream_model: str
    cost_nano_usd: NanoUsd
    replaces_assumed_nano_usd: NanoUsd
    budget_day: date
    usage: TokenUsage | None = None
    """What the provider counted, if it was asked; None: an operator entered the cost, or nothing was charged."""
    source: Literal["provider", "operator", "worker"] | None = None
    """Who said it: the provider, when it was asked for the response; an operator, from its bill; or the worker that was
    given up, whose call had failed uncharged. None: an older release has written this.
    """
    was_unknown: bool = False
    """The cost of the attempt was unknown, so that reports counted its request as unpriced until now."""


RequestEvent = (
    RequestCompleted
    | CostIncurred
    | AttemptFailed
    | AttemptLost
    | RequestFailed
    | RequestServedFromCache
    | RequestRejected
    | CostReconciled
)


def subject_of(event: RequestEvent) -> dict[str, Any]:
    """Return an event's fields that every other event of its request has too."""
    return {name: getattr(event, name) for name in SUBJECT_FIELDS}


SUBJECT_FIELDS = _RequestEvent.__struct_fields__

# Prices and alerts


class PriceSet(_Event, frozen=True, kw_only=True):
    """The operator sets a model's price from a moment on. It goes before the price library's."""

    provider: str
    model: str
    """The model's name as callers or as its provider write it."""
    prices: ClassPrices
    effective_from: datetime


class BudgetAlertRaised(_Event, frozen=True, kw_only=True):
    """Spent plus assumed cost of a window has reached a threshold. Raised once for each window and threshold."""

    scope: Scope
    scope_id: str
    period: Period
    starts_on: date
    threshold_percent: int
    limit_nano_usd: NanoUsd
    taken_nano_usd: NanoUsd


class AlertTold(_Event, frozen=True, kw_only=True):
    """The outcome of sending an alert to the project's webhook."""

    alert: str
    """The alert's stream."""
    outcome: Literal["delivered", "given_up"]
    deliveries: int
    status: int | None = None
    """The webhook's last HTTP status; None if it did not respond."""


# Asynchronous jobs


class _JobEvent(_Event, frozen=True, kw_only=True):
    """The fields of every event about a job."""

    job_id: str
    key_id: str


class RequestAccepted(_JobEvent, frozen=True, kw_only=True):
    """A request is accepted as a job: it is made later, without its caller. Its content is a blob."""

    operation: str
    """As `POST /jobs` takes it: `chat`, `embeddings`, or the path of a vendor's call."""
    model: str
    """As the caller named it."""
    batch_id: str | None = None
    custom_id: str | None = None
    """The caller's own name of the job."""
    request_blob_id: str
    request_bytes: int
    webhook_url: str | None = None
    deadline: datetime
    """The job has failed if it has not ended by then."""
    traceparent: str | None = None
    """Of the call that it came with, if that was traced: its run is linked to it."""


class BatchAccepted(_Event, frozen=True, kw_only=True):
    """Jobs are accepted together. Their RequestAccepted are in the same commit."""

    batch_id: str
    key_id: str
    jobs: int
    webhook_url: str | None = None
    deadline: datetime


class JobsClaimed(_Event, frozen=True, kw_only=True):
    """A job or a batch is accepted under an `Idempotency-Key`, in the same commit: a repeat of the call gets it."""

    key_id: str
    fingerprint: str
    """As that of `Idempotency`."""
    job_id: str | None = None
    batch_id: str | None = None
    """One of both."""


class JobStarted(_JobEvent, frozen=True, kw_only=True):
    """A request of the job is admitted, and about to be given to a worker."""

    request_id: str
    run: int
    """From 1. A job runs again if its provider was away, or if what became of its request is not known. A run that a
    provider put off, doing nothing, does not count: the next one has its number."""


class JobSucceeded(_JobEvent, frozen=True, kw_only=True):
    """The job has its answer."""

    request_id: str
    result_blob_id: str
    result_bytes: int
    result_expires_at: datetime


class JobFailed(_JobEvent, frozen=True, kw_only=True):
    """The job has ended without an answer. Code, message and status are those that a synchronous caller gets."""

    request_id: str | None = None
    """The last request that was made for it."""
    code: str
    message: str
    status: int


class JobCancelled(_JobEvent, frozen=True, kw_only=True):
    """The job was cancelled. A call that had begun is charged as far as it went."""

    by_key_id: str


class BatchEnded(_Event, frozen=True, kw_only=True):
    """Every job of a batch has ended."""

    batch_id: str
    key_id: str
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class WebhookTold(_Event, frozen=True, kw_only=True):
    """The outcome of sending the end of a job, or of a batch, to its webhook."""

    outcome: Literal["delivered", "given_up"]
    deliveries: int
    status: int | None = None
    """The webhook's last HTTP status; None if it did not respond."""


# Circuits of providers


class _CircuitEvent(_Event, frozen=True, kw_only=True):
    """The circuit of a model at a provider, under one credential. The event's project is the credential's."""

    provider: str
    model: str
    """As the provider knows it."""
    credential: str = ""
    """The name of one of several credentials; empty: the only one."""
    hint: str | None = None
    """The last four characters of the key that was used."""


class CircuitOpened(_CircuitEvent, frozen=True, kw_only=True):
    """The provider is called no more for a while: its calls failed, or it asked for that."""

    reason: Literal["wait_asked", "down", "failing", "credentials"]
    """`wait_asked`: it named a time. `down`: no call of the window was answered. `failing`: too few were.
    `credentials`: it refuses the key, or its account is empty.
    """
    wait_ms: int
    """Until the first call that probes whether it answers again."""
    calls: int
    failures: int
    """In the window, over all workers."""
    code: str | None = None
    status: int | None = None
    """Of the last error; None: the provider did not respond."""


class CircuitClosed(_CircuitEvent, frozen=True, kw_only=True):
    """The provider has answered a probe, and is called again."""

    open_ms: int
    """For how long it was not called."""


Event = (
    ProjectCreated
    | ProjectSettingsChanged
    | WebhookSecretRotated
    | ProviderKeySet
    | ProviderConfigured
    | ProviderRemoved
    | CredentialSet
    | CredentialRemoved
    | RouteSet
    | RouteRemoved
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
    | RequestAccepted
    | BatchAccepted
    | JobsClaimed
    | JobStarted
    | JobSucceeded
    | JobFailed
    | JobCancelled
    | BatchEnded
    | WebhookTold
    | CircuitOpened
    | CircuitClosed
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
    """The stream of a provider by configuration, and of the further credentials of any."""
    return f"provider-{project_id}/{name}"


def route_stream(project_id: str, name: str) -> str:
    """The stream of a route."""
    return f"route-{project_id}/{name}"


def request_stream(request_id: str) -> str:
    """The stream of a request."""
    return f"request-{request_id}"


def request_of(stream: str) -> str | None:
    """The request that a stream is about; None if it is about something else."""
    _, prefix, request_id = stream.rpartition("request-")
    return request_id if prefix and stream == request_stream(request_id) else None


def job_stream(job_id: str) -> str:
    """The stream of an asynchronous job."""
    return f"job-{job_id}"


def batch_stream(batch_id: str) -> str:
    """The stream of a batch of jobs."""
    return f"batch-{batch_id}"


def claim_stream(idempotency_key: str) -> str:
    """The stream of what `POST /jobs` has accepted under an idempotency key, as `Idempotency` has it."""
    return f"accepted-{idempotency_key}"


def price_stream(provider: str, model: str) -> str:
    """The stream of a model's price."""
    return f"price-{provider}/{model}"


def alert_stream(alert: BudgetAlertRaised) -> str:
    """The stream of one alert: its only event is its first, so it is raised once."""
    return f"alert-{alert.scope}-{alert.scope_id}-{alert.period}-{alert.starts_on}-{alert.threshold_percent}"


def circuit_stream(owner: str, provider: str, credential: str, model: str, opened_ms: int) -> str:
    """The stream of one opening of a circuit and of its closing. It is of the minute: workers that open the circuit at
    once append it once, and one that opens and closes all the time is in the log once a minute.
    """
    return f"circuit-{owner}/{provider}/{credential}/{model}-{opened_ms // MINUTE_MS}"
