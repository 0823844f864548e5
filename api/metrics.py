"""Figures of an API process for Prometheus: requests, answers, admissions, and what it has in hand.

Never by key, project or user: the number of series stays the same, however many there are. What the answers cost is
counted where the log is folded (`projections/figures.py`), so that a request that goes on without its caller, or that
came as a job, is counted as well.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from api.request_facts import RequestFacts
from infra.admission import Outcome
from infra.figures import SECONDS, HistogramTally, ModelLabels, ProcessFigures, Tally

_GROUPS = {
    "/api/v1/completions/chat": "chat",
    "/api/v1/completions/embeddings": "embeddings",
    "/api/v1": "native",
    "/v1/chat/completions": "openai-chat",
    "/v1/embeddings": "openai-embeddings",
    "/v1/responses": "openai-responses",
    "/v1/completions": "openai-completions",
    "/v1/moderations": "openai-moderations",
    "/v1/messages": "anthropic-messages",
    "/v1/models": "vendor-models",
    "/health": "health",
    "/metrics": "metrics",
    "/static/": "dashboard",
}
"""By the beginning of their paths: the first that fits counts."""

REFUSAL_REASONS: dict[Outcome, str] = {
    "rate_limit": "rate",
    "token_limit": "tokens",
    "concurrency": "busy",
    "budget_held": "full",
    "budget_spent": "spent",
    "unpriced": "unpriced",
}
"""The `reason` label of `gateway_refusals_total` for each outcome of admission. Dashboards use these: they stay."""


def route_of(path: str, *, has_viewer: bool = False) -> str:
    """Return the group of routes that a path belongs to. It is what figures and access lines have instead of it.

    `has_viewer`: the request is of somebody who has signed in to the dashboard, whose pages have no common beginning.
    """
    if path in _GROUPS:
        return _GROUPS[path]
    found = (name for prefix, name in _GROUPS.items() if path.startswith(prefix))
    return next(found, "dashboard" if has_viewer else "other")


class Metrics:
    """The process's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = ProcessFigures(self.registry)
        self.models = ModelLabels()
        self._count_requests()
        self._count_answers()
        self._show_load()
        self._show_log()
        self._show_queue()

    def _count_requests(self) -> None:
        self._requests = self._tally("gateway_requests_total", "Requests answered.", "route", "status")
        self._seconds = self._histogram(
            "gateway_request_seconds", "From request to the last byte of its answer.", "route"
        )
        self.refusals = Counter(
            "gateway_refusals_total",
            "Requests that admission refused; reason `full`: only holds of requests in flight stood in the way.",
            ("reason",),
            registry=self.registry,
        )
        self._admissions = self._tally(
            "gateway_admissions_total",
            "Decisions of admission, by outcome; of a request that waited, the last one.",
            "outcome",
        )

    def _count_answers(self) -> None:
        self._inference = self._tally(
            "gateway_inference_requests_total",
            "Requests for a model, by who answered and how it went: `ok`, or the error's code. A model that has "
            "not answered yet is `other`.",
            *("operation", "provider", "model", "status", "outcome"),
        )
        self._inference_seconds = self._histogram(
            "gateway_inference_seconds",
            "From a request for a model to the last byte of its answer, without those that failed.",
            *("operation", "provider"),
        )
        self._first_byte_seconds = self._histogram(
            "gateway_time_to_first_token_seconds",
            "From a request for a stream to its first byte: the first token, or what the provider sends before it.",
            *("operation", "provider"),
        )
        self._cache = self._tally(
            "gateway_cache_requests_total",
            "Answers by what the cache did: hit, coalesced (the answer of an equal request in flight), replayed "
            "(that of an earlier one with the same idempotency key), miss, bypass.",
            "result",
        )

    def _tally(self, name: str, says: str, *labels: str) -> Tally:
        return Tally(Counter(name, says, labels, registry=None), self.registry)

    def _histogram(self, name: str, says: str, *labels: str) -> HistogramTally:
        return HistogramTally(Histogram(name, says, labels, buckets=SECONDS, registry=None), self.registry)

    def _show_load(self) -> None:
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
        self.in_flight = Gauge(
            "gateway_requests_in_flight", "Requests that wait for a worker or its answer.", registry=self.registry
        )
        self.waiting = Gauge(
            "gateway_requests_waiting",
            "Requests that wait until what others hold of their budget is free.",
            registry=self.registry,
        )
        self.lines_left_out = Counter(
            "gateway_access_lines_left_out_total",
            "Requests without an access line: there were too many of their kind (no_key, rate_limited), nobody reads "
            "what is written (unread), or the line could not be made (failed).",
            ("reason",),
            registry=self.registry,
        )

    def _show_log(self) -> None:
        self.projection_lag = Gauge(
            "gateway_projection_lag_events",
            "Events that a projection has yet to fold.",
            ("projection",),
            registry=self.registry,
        )
        self.projection_lag_s = Gauge(
            "gateway_projection_lag_seconds",
            "Age of the oldest event that a projection has yet to fold; 0: it has folded all.",
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

    def _show_queue(self) -> None:
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
        self.projection_lag_s.clear()
        self.quarantined_projects.set(float("nan"))
        self.overage.set(float("nan"))
        self.async_jobs.clear()
        self.async_jobs_oldest.set(float("nan"))

    def decided(self, outcome: Outcome) -> None:
        """Count a decision of admission."""
        self._admissions.since_look[(outcome,)] += 1

    def observe(self, route: str, status: str, seconds: float, facts: RequestFacts) -> None:
        """Count a request that has been answered; `route` as `route_of` says."""
        self._requests.since_look[route, status] += 1
        self._seconds.series[route,].observe(seconds)
        if facts.operation is not None and facts.provider is not None:
            self._observe_inference(facts.operation, facts.provider, status, seconds, facts)

    def _observe_inference(
        self, operation: str, provider: str, status: str, seconds: float, facts: RequestFacts
    ) -> None:
        of_model = self.models.answered if facts.has_answer else self.models.of
        provider, model = of_model(provider, facts.model or "")
        self._inference.since_look[operation, provider, model, status, facts.error_code or "ok"] += 1
        if facts.cache is not None:
            self._cache.since_look[(facts.cache,)] += 1
        if facts.error_code is None:
            self._inference_seconds.series[operation, provider].observe(seconds)
        if facts.is_stream and facts.has_answer and facts.first_byte_s is not None:
            self._first_byte_seconds.series[operation, provider].observe(facts.first_byte_s)
