"""Figures of a projector for Prometheus: what the log says, counted once as it is folded, and what the database holds.

The leader counts the events that it folds, so the figures of all requests are here, whoever made and ended them: those
of workers that died, of jobs, of callers that left. A new leader begins at zero, as a process does that has started
again, which Prometheus expects. Labels are bounded; none is a key, a project or a user.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from domain.budget import day_of, window_start
from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    CostReconciled,
    RequestCompleted,
    RequestFailed,
    RequestRejected,
    RequestServedFromCache,
    StoredEvent,
)
from domain.money import NANO_PER_USD, NanoUsd, to_usd
from domain.tokens import TokenUsage
from infra.database import Pool, database_errors
from infra.figures import Children, ModelLabels, ProcessFigures
from projections.freshness import Lag

NEARLY_SPENT_PERCENT = 80
LEVELS_PERCENT = (50, NEARLY_SPENT_PERCENT, 100)
_CLASSES = TokenUsage.__struct_fields__
_counts = attrgetter(*_CLASSES)


class LogFigures:
    """Counts what the events say that a projector folds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models = ModelLabels()
        self._added: defaultdict[Counter, float] = defaultdict(float)
        """What a batch adds, by series."""

        def counter(name: str, says: str, *labels: str) -> Children[Counter]:
            return Children(Counter(name, says, labels, registry=registry))

        of_model = ("provider", "model")
        self._requests = counter(
            "gateway_ended_requests_total",
            "Requests that have ended, as the log has them: `completed`, `cached`, `rejected` (by a budget), or the "
            "code of the error.",
            "operation",
            "outcome",
        )
        self._attempts = counter(
            "gateway_attempts_total",
            "Attempts at a provider that have ended: `answered`, `cut`, the code of the error, or `lost_` and why.",
            "provider",
            "outcome",
        )
        self._retries = counter("gateway_retries_total", "Attempts after the first of their request.", "provider")
        self._fallbacks = counter(
            "gateway_fallbacks_total", "Failed attempts after which another target was tried.", "provider"
        )
        self._tokens = counter(
            "gateway_tokens_total",
            "Tokens of answers, by class: as the provider charges them. `reasoning` is a part of `output`.",
            *of_model,
            "class",
        )
        self._cost = counter("gateway_cost_usd_total", "What answers cost, in US dollars.", *of_model)
        self._saved = counter(
            "gateway_saved_usd_total", "What answers that were not asked for again would have cost.", *of_model
        )
        self._assumed = counter(
            "gateway_assumed_usd_total",
            "What was assumed of attempts whose outcome was not known.",
            "provider",
        )
        self._settled = counter(
            "gateway_settled_usd_total",
            "The part of `gateway_assumed_usd_total` that a true cost has replaced.",
            "provider",
        )
        self._unpriced = counter("gateway_unpriced_answers_total", "Answers without a known price.", *of_model)
        self._over_hold = counter(
            "gateway_answers_over_hold_total",
            "Answers that cost more than they held: a bound was wrong. `gateway_overage_usd` is by how much.",
            *of_model,
        )

    def count(self, events: Sequence[StoredEvent]) -> None:
        """Count events that have just been folded, each once. Each series is raised once: a batch changes few."""
        self._added.clear()
        for stored in events:
            match stored.event:
                case RequestCompleted() as event:
                    self._completed(event)
                case CostIncurred() as event:
                    self._charged(event)
                case AttemptFailed() as event:
                    self._attempt(event, event.code)
                case AttemptLost() as event:
                    self._attempt(event, f"lost_{event.reason}")
                    self._add_usd(self._assumed, (self._models.provider(event.provider),), event.assumed_nano_usd)
                case RequestServedFromCache() as event:
                    self._add(self._requests, (event.operation, "cached"))
                    labels = self._models.of(event.provider, event.model)
                    self._add_usd(self._saved, labels, event.saved_nano_usd or 0)
                case RequestFailed() as event:
                    self._add(self._requests, (event.operation, event.code))
                case RequestRejected() as event:
                    self._add(self._requests, (event.operation, "rejected"))
                case CostReconciled() as event:
                    self._reconciled(event)
                case _:
                    continue
        for series, added in self._added.items():
            series.inc(added)

    def _completed(self, event: RequestCompleted) -> None:
        self._add(self._requests, (event.operation, "completed"))
        self._attempt(event, "answered")
        self._add_tokens(self._models.answered(event.provider, event.upstream_model), event.usage)

    def _attempt(self, event: RequestCompleted | AttemptFailed | AttemptLost, outcome: str) -> None:
        provider = self._models.provider(event.provider)
        self._add(self._attempts, (provider, outcome))
        if event.attempt > 1:
            self._add(self._retries, (provider,))
        if not isinstance(event, RequestCompleted) and event.next_target is not None:
            self._add(self._fallbacks, (provider,))

    def _charged(self, event: CostIncurred) -> None:
        labels = self._models.answered(event.provider, event.upstream_model)
        if event.cost_nano_usd is None:
            self._add(self._unpriced, labels)
        if event.usage is not None:  # of an answer that was cut
            self._add(self._attempts, (labels[0], "cut"))
            self._add_tokens(labels, event.usage)
        cost = event.cost_nano_usd or 0
        self._add_usd(self._cost, labels, cost)
        if cost > event.hold_nano_usd:
            self._add(self._over_hold, labels)
        self._add_usd(self._settled, labels[:1], event.replaces_assumed_nano_usd)

    def _reconciled(self, event: CostReconciled) -> None:
        labels = self._models.of(event.provider, event.upstream_model)
        if event.usage is not None:
            self._add_tokens(labels, event.usage)
        self._add_usd(self._cost, labels, event.cost_nano_usd)
        self._add_usd(self._settled, labels[:1], event.replaces_assumed_nano_usd)

    def _add_tokens(self, labels: tuple[str, str], usage: TokenUsage) -> None:
        for name, tokens in zip(_CLASSES, _counts(usage), strict=True):
            if tokens:
                self._add(self._tokens, (*labels, name), tokens)

    def _add_usd(self, series: Children[Counter], labels: tuple[str, ...], nano_usd: int) -> None:
        if nano_usd:
            self._add(series, labels, nano_usd / NANO_PER_USD)

    def _add(self, series: Children[Counter], labels: tuple[str, ...], added: float = 1) -> None:
        self._added[series[labels]] += added


class Holds(Struct, frozen=True, kw_only=True):
    """What the attempts in flight hold."""

    attempts: int
    held_nano_usd: NanoUsd
    oldest_s: float


class FullBudgets(Struct, frozen=True, kw_only=True):
    """How full the budgets of today and of this month are, without whose they are."""

    reached: dict[int, int]
    """The number of windows that have reached each of `LEVELS_PERCENT`, spent and assumed together."""
    fullest: float
    """The part of the fullest one that is taken: 1 if all of it is; 0 if there is no budget."""


async def holds(pool: Pool) -> Holds:
    """Return what is held at this moment, over all projects."""
    async with database_errors():
        row = await pool.fetchrow(
            "SELECT count(*) AS attempts, coalesce(sum(hold_nano_usd), 0) AS held, "
            "coalesce(extract(epoch FROM clock_timestamp() - min(admitted_at)), 0)::float8 AS oldest_s FROM inflight"
        )
    return Holds(attempts=row["attempts"], held_nano_usd=NanoUsd(int(row["held"])), oldest_s=max(0.0, row["oldest_s"]))


async def full_budgets(pool: Pool, now: datetime) -> FullBudgets:
    """Return how full the windows of the day and of the month of `now` are."""
    today = day_of(now)
    async with database_errors():
        row = await pool.fetchrow(_FULL_BUDGETS, today, window_start(today, "month"), list(LEVELS_PERCENT))
    return FullBudgets(reached=dict(zip(LEVELS_PERCENT, row["reached"], strict=True)), fullest=row["fullest"])


_FULL_BUDGETS = """
    WITH taken AS (
        SELECT (b.spent_nano_usd::numeric + b.assumed_nano_usd) / l.budget AS part
        FROM budget_balances b
        LEFT JOIN api_keys k ON b.scope = 'key' AND k.key_id = b.scope_id
        LEFT JOIN projects p ON b.scope = 'project' AND p.project_id = b.scope_id
        CROSS JOIN LATERAL (
            SELECT CASE b.period
                       WHEN 'day' THEN coalesce(k.daily_budget_nano_usd, p.daily_budget_nano_usd)
                       ELSE coalesce(k.monthly_budget_nano_usd, p.monthly_budget_nano_usd)
                   END AS budget
        ) AS l
        WHERE (b.period, b.starts_on) IN (('day', $1::date), ('month', $2::date)) AND l.budget > 0
    )
    SELECT coalesce(max(part), 0)::float8 AS fullest,
           (SELECT array_agg(n ORDER BY ordinality) FROM (
               SELECT ordinality, (SELECT count(*) FROM taken WHERE part * 100 >= percent) AS n
               FROM unnest($3::integer[]) WITH ORDINALITY AS levels (percent, ordinality)
           ) AS counted) AS reached
    FROM taken
"""


class ProjectorFigures:
    """The instruments of one projector."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.process = ProcessFigures(registry)
        self.log = LogFigures(registry)

        def gauge(name: str, says: str, *labels: str) -> Gauge:
            return Gauge(name, says, labels, registry=registry)

        self.leads = gauge("gateway_projector_leads", "1 if this projector has the lead.")
        self.signed = gauge(
            "gateway_log_signed_position", "Position of the newest signed head of the log that this projector knows."
        )
        self.head_refused = gauge(
            "gateway_log_head_refused",
            "1 if this projector signs no head, since the log does not go on from what was signed.",
        )
        self.head_not_anchored = gauge(
            "gateway_log_head_not_anchored",
            "1 if a copy of the newest signed head could not be made outside the database.",
        )
        self._lag = gauge("gateway_projection_lag_events", "Events that a projection has yet to fold.", "projection")
        self._lag_s = gauge(
            "gateway_projection_lag_seconds",
            "Age of the oldest event that a projection has yet to fold; 0: it has folded all.",
            "projection",
        )
        self._held = gauge("gateway_held_usd", "What attempts in flight hold of budgets, over all projects.")
        self._held_attempts = gauge("gateway_held_attempts", "Attempts in flight, or whose outcome is not folded yet.")
        self._held_oldest = gauge("gateway_held_oldest_seconds", "Age of the oldest of them; 0: there is none.")
        self._budgets = gauge(
            "gateway_budgets_reached",
            "Budgets of this day and month of which so many percent are spent, assumed costs included, over all "
            "projects and keys.",
            "percent",
        )
        self._fullest = gauge(
            "gateway_budget_fullest_ratio", "The spent part of the fullest budget of all; 1: nothing is left of it."
        )

        self._folds = self.process.batch("folds")

    def on_fold(self, events: Sequence[StoredEvent], took_s: float) -> None:
        """Count a batch that has been folded."""
        self._folds(len(events), took_s)
        self.log.count(events)

    def show(self, lags: Mapping[str, Lag], held: Holds, budgets: FullBudgets) -> None:
        """Show what the database holds."""
        for name, lag in lags.items():
            self._lag.labels(name).set(lag.events)
            self._lag_s.labels(name).set(lag.seconds)
        self._held.set(float(to_usd(held.held_nano_usd)))
        self._held_attempts.set(held.attempts)
        self._held_oldest.set(held.oldest_s)
        for percent, reached in budgets.reached.items():
            self._budgets.labels(str(percent)).set(reached)
        self._fullest.set(budgets.fullest)

    def forget(self) -> None:
        """Show no figures of a database that is away, rather than its last ones."""
        for figures in (self._lag, self._lag_s, self._budgets):
            figures.clear()
        for figure in (self._held, self._held_attempts, self._held_oldest, self._fullest):
            figure.set(float("nan"))
