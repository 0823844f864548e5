"""Figures of this process for Prometheus: requests and their durations, by route group and status. Never by key or
project: the number of series stays the same, however many there are.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from infra.admission import Outcome

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_GROUPS = (
    ("/api/v1/completions/chat", "chat"),
    ("/api/v1/completions/embeddings", "embeddings"),
    ("/api/v1", "native"),
    ("/v1/chat/completions", "openai-chat"),
    ("/v1/embeddings", "openai-embeddings"),
    ("/v1/responses", "openai-responses"),
    ("/v1/completions", "openai-completions"),
    ("/v1/moderations", "openai-moderations"),
    ("/v1/messages", "anthropic-messages"),
    ("/v1/models", "vendor-models"),
    ("/health", "health"),
)

REFUSAL_REASONS: dict[Outcome, str] = {
    "rate_limit": "rate",
    "token_limit": "tokens",
    "concurrency": "busy",
    "budget_held": "full",
    "budget_spent": "spent",
    "unpriced": "unpriced",
}
"""The `reason` label of `gateway_refusals_total` for each outcome of admission. Dashboards use these: they stay."""


class Metrics:
    """The process's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.is_up = Gauge(
            "gateway_up", "1 if this process finds what it needs in order.", ("part",), registry=self.registry
        )
        self.requests = Counter(
            "gateway_requests_total", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "gateway_request_seconds", "From request to answer.", ("route",), buckets=BUCKETS_S, registry=self.registry
        )
        self.refusals = Counter(
            "gateway_refusals_total",
            "Requests that admission refused; reason `full`: only holds of requests in flight stood in the way.",
            ("reason",),
            registry=self.registry,
        )
        self.connections = Gauge("gateway_connections", "Open connections of clients.", registry=self.registry)
        self.refused_connections = Counter(
            "gateway_refused_connections_total",
            "Connections that were closed for what they sent or left unsent, before any key was looked at.",
            ("status",),
            registry=self.registry,
        )
        self.bytes_in_hand = Gauge(
            "gateway_bytes_in_hand", "Bytes of requests and answers that are being worked on.", registry=self.registry
        )
        self.unknown_appends = Gauge(
            "gateway_unknown_appends",
            "Appends whose connection died under way: the stream was read to see whether they had landed.",
            registry=self.registry,
        )
        self.projection_lag = Gauge(
            "gateway_projection_lag_events",
            "Events that a projection has yet to fold.",
            ("projection",),
            registry=self.registry,
        )
        self.quarantined_projects = Gauge(
            "gateway_quarantined_projects",
            "Projects whose events cannot be folded, so that the projector leaves them out.",
            registry=self.registry,
        )
        self.overage = Gauge(
            "gateway_overage_usd",
            "By how much answers have cost more than they held, over all time.",
            registry=self.registry,
        )

        self.queue_oldest = Gauge(
            "gateway_queue_oldest_seconds",
            "Age of the oldest job in a lane of the queue, whether a worker has it or not.",
            ("lane",),
            registry=self.registry,
        )
        self.async_jobs = Gauge(
            "gateway_async_jobs",
            "Asynchronous jobs that have not ended, by state.",
            ("state",),
            registry=self.registry,
        )
        self.async_jobs_oldest = Gauge(
            "gateway_async_jobs_oldest_seconds",
            "Age of the oldest asynchronous job that is queued.",
            registry=self.registry,
        )

    def forget_queue(self) -> None:
        """Show no figures of a queue that is away."""
        self.queue_oldest.clear()

    def forget_database(self) -> None:
        """Show no figures of a database that is away, rather than its last ones."""
        self.projection_lag.clear()
        self.quarantined_projects.set(float("nan"))
        self.overage.set(float("nan"))
        self.async_jobs.clear()
        self.async_jobs_oldest.set(float("nan"))

    def observe(self, path: str, status: str, seconds: float) -> None:
        """Count a request that has been answered."""
        route = next((name for prefix, name in _GROUPS if path.startswith(prefix)), "other")
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)
