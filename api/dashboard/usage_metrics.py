"""What of usage the pages show: each metric with its columns, of which the first is drawn and compared."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from api.dashboard.charts import Unit, Value
from domain.money import from_usd
from projections.histograms import Measure
from projections.reports.figures import Figures


class Column(Struct, frozen=True):
    """One figure."""

    label: str
    unit: Unit
    value: Callable[[Figures], Value]


class Metric(Struct, frozen=True, kw_only=True):
    """What a report shows of each group."""

    label: str
    columns: tuple[Column, ...]
    measures: tuple[Measure, ...] = ()
    """The durations whose percentiles are among the columns."""

    @property
    def first(self) -> Column:
        """The figure that is drawn and compared."""
        return self.columns[0]


_REQUESTS = Column("Requests", "count", lambda figures: figures.requests)
METRICS: Mapping[str, Metric] = {
    "cost": Metric(
        label="Cost",
        columns=(
            Column("Cost", "usd", lambda figures: from_usd(figures.cost)),
            Column("Assumed", "usd", lambda figures: from_usd(figures.assumed_cost)),
            Column("Saved by the cache", "usd", lambda figures: from_usd(figures.saved_cost)),
            _REQUESTS,
            Column("Of unknown cost", "count", lambda figures: figures.unpriced_requests),
        ),
    ),
    "requests": Metric(
        label="Requests",
        columns=(
            _REQUESTS,
            Column("Cached", "count", lambda figures: figures.cached_requests),
            Column("Failed", "count", lambda figures: figures.failed_requests),
            Column("Over budget", "count", lambda figures: figures.rejected_requests),
            Column("Error rate", "share", lambda figures: figures.error_rate),
        ),
    ),
    "tokens": Metric(
        label="Tokens",
        columns=(
            Column("Tokens", "count", lambda figures: figures.total_tokens),
            Column("In", "count", lambda figures: figures.prompt_tokens),
            Column("of it cached", "count", lambda figures: figures.cached_prompt_tokens),
            Column("of it cache writes", "count", lambda figures: figures.cache_write_tokens),
            Column("Out", "count", lambda figures: figures.completion_tokens),
            Column("of it reasoning", "count", lambda figures: figures.reasoning_tokens),
        ),
    ),
    "latency": Metric(
        label="Latency",
        columns=(
            Column("p95", "ms", lambda figures: figures.p95_latency_ms),
            Column("p50", "ms", lambda figures: figures.p50_latency_ms),
            Column("Mean", "ms", lambda figures: figures.avg_latency_ms),
            _REQUESTS,
        ),
        measures=("answer",),
    ),
    "first-token": Metric(
        label="Time to first token",
        columns=(
            Column("p95", "ms", lambda figures: figures.p95_first_token_ms),
            Column("p50", "ms", lambda figures: figures.p50_first_token_ms),
            _REQUESTS,
        ),
        measures=("first_token",),
    ),
    "cache": Metric(
        label="Cache",
        columns=(
            Column("Cache rate", "share", lambda figures: figures.cache_hit_rate),
            Column("Cached", "count", lambda figures: figures.cached_requests),
            Column("Saved", "usd", lambda figures: from_usd(figures.saved_cost)),
            _REQUESTS,
        ),
    ),
}
DEFAULT_METRIC = "cost"
