"""Figures for Prometheus that every process has, and the bounds of their labels.

No label is a key, a project or a user, and each has a bounded number of values: the number of series stays the same,
however many callers there are.
"""

import importlib.metadata
import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector
from prometheus_client import Counter as CounterMetric
from prometheus_client import Metric as MetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from domain.routing import BUILT_IN, ECHO
from infra.batching import Batcher
from infra.database import Pool
from infra.event_log import EventLog

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""The bounds of durations that a caller waits for."""
BATCH_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, 4_096)
OTHER = "other"
"""The label of what has no series of its own."""
MAX_PROVIDERS = 64
MAX_MODELS = 256
"""The providers, and their models, that have series of their own in a process: the first ones."""
MAX_MODELS_OF_BUILT_IN = 64
"""Of each built-in provider. These places are kept for it."""
MAX_MODELS_OF_ONE = 32
"""Of each other provider. A project's provider may answer to any name."""

Metric = TypeVar("Metric", bound=MetricWrapperBase)


class ModelLabels:
    """The values of the labels `provider` and `model`, bounded in number.

    A provider has its own label while there is room. A model has one only after it has answered, since callers may name
    models that do not exist. Each provider has a limited number of models, so that one which accepts any name cannot
    take all places; all models of echo share one label.
    """

    def __init__(self) -> None:
        """Keep places for the built-in providers: projects cannot take them all with providers of their own."""
        self._providers: dict[str, str] = {name: name for name in BUILT_IN}
        self._models: dict[tuple[str, str], tuple[str, str]] = {}
        self._taken: Counter[str] = Counter()

    def provider(self, provider: str) -> str:
        """Return a provider's label: `other` if all places are taken."""
        label = self._providers.get(provider)
        if label is not None:
            return label
        if len(self._providers) >= MAX_PROVIDERS:
            return OTHER
        self._providers[provider] = provider
        return provider

    def answered(self, provider: str, model: str) -> tuple[str, str]:
        """Return the labels of a model that has answered."""
        place = _place(provider, model)
        labels = self._models.get(place)
        if labels is not None:
            return labels
        label = self.provider(provider)
        if label == OTHER or not self._has_room(provider):
            return label, OTHER
        self._taken[provider] += 1
        self._models[place] = place
        return place

    def of(self, provider: str, model: str) -> tuple[str, str]:
        """Return the labels of a model that may not have answered: its name if it ever has."""
        return self._models.get(_place(provider, model)) or (self.provider(provider), OTHER)

    def _has_room(self, provider: str) -> bool:
        if provider in BUILT_IN:
            return self._taken[provider] < MAX_MODELS_OF_BUILT_IN
        by_others = len(self._models) - sum(self._taken[name] for name in BUILT_IN)
        kept = MAX_MODELS_OF_BUILT_IN * len(BUILT_IN)
        return self._taken[provider] < MAX_MODELS_OF_ONE and by_others < MAX_MODELS - kept


def _place(provider: str, model: str) -> tuple[str, str]:
    return (provider, ECHO if provider == ECHO else model)


class Children(dict[tuple[str, ...], Metric]):
    """The series of a metric by the values of its labels, in the order of the metric's. Each is made when it is asked
    for. Callers bound the values.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> Metric:
        child = self[labels] = self._metric.labels(*labels)
        return child


class Tally(Collector):
    """Counts for a Prometheus counter. Adding one takes no Python call; the counter's own `inc` takes five. The counter
    gets the counts when its registry is read. Only the thread that reads the registry may count.
    """

    def __init__(self, counter: CounterMetric, registry: CollectorRegistry) -> None:
        """Count for `counter`, which is not registered yet: the registry collects from this first, then from it."""
        self._counter = counter
        self.since_look: dict[tuple[str, ...], int] = _Counts(counter)
        """By the values of the labels, in the order of the counter's. Callers bound the values."""
        registry.register(self)
        registry.register(counter)

    def collect(self) -> Iterable[MetricFamily]:
        """Add what was counted to the counter. The registry calls this, for figures: there are none of its own."""
        for labels, count in self.since_look.items():
            if count:
                self._counter.labels(*labels).inc(count)
                self.since_look[labels] = 0
        return ()


class _Counts(dict[tuple[str, ...], int]):
    def __init__(self, counter: CounterMetric) -> None:
        super().__init__()
        self._counter = counter

    def __missing__(self, labels: tuple[str, ...]) -> int:
        self._counter.labels(*labels)  # the series says from when on it counts
        return 0


class HistogramTally(Collector):
    """Observations for a Prometheus histogram, which gets them as a counter gets those of `Tally`. To observe takes two
    calls; the histogram's own `observe` takes seven.
    """

    def __init__(self, histogram: Histogram, registry: CollectorRegistry) -> None:
        """Observe for `histogram`, which is not registered yet: the registry collects from this first, then from it."""
        self.series: dict[tuple[str, ...], ObservedSeries] = _AllObserved(histogram)
        """By the values of the labels, in the order of the histogram's. Callers bound the values."""
        registry.register(self)
        registry.register(histogram)

    def collect(self) -> Iterable[MetricFamily]:
        """Hand what was observed to the histogram. See `Tally.collect`."""
        for series in self.series.values():
            series.hand_over()
        return ()


class ObservedSeries:
    """One series of a histogram."""

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds: Sequence[float] = child._upper_bounds  # noqa: SLF001 - there is no public way to set a histogram
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Count one; the last bound is infinite."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def hand_over(self) -> None:
        """Have the histogram show what has been counted."""
        self._child._sum.set(self._sum)  # noqa: SLF001 - as above
        for bucket, count in zip(self._child._buckets, self._counts, strict=True):  # noqa: SLF001 - as above
            bucket.set(count)


class _AllObserved(dict[tuple[str, ...], ObservedSeries]):
    def __init__(self, histogram: Histogram) -> None:
        super().__init__()
        self._histogram = histogram

    def __missing__(self, labels: tuple[str, ...]) -> ObservedSeries:
        series = self[labels] = ObservedSeries(self._histogram.labels(*labels))
        return series


class ProcessFigures:
    """What each process says of itself: its build, its memory and time, its servers, its connections, its batches and
    its appends.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        build = Gauge(
            "gateway_build_info", "1, with the version of the gateway.", ("version", "python"), registry=registry
        )
        build.labels(importlib.metadata.version("ai-gateway"), platform.python_version()).set(1)
        self.is_up = Gauge(
            "gateway_up", "1 if this process finds what it needs in order.", ("part",), registry=registry
        )
        self._unknown_appends = Gauge(
            "gateway_unknown_appends",
            "Appends whose connection died under way: the stream was read to see whether they had landed.",
            registry=registry,
        )
        self._connections = Gauge(
            "gateway_pool_connections",
            "Connections to PostgreSQL in this process's pool, by state; a statement that finds none free waits.",
            ("state",),
            registry=registry,
        )
        self._most_connections = Gauge(
            "gateway_pool_max_connections", "The most connections that the pool may have.", registry=registry
        )
        self._sizes = HistogramTally(
            Histogram(
                "gateway_batch_items",
                "Items that went to PostgreSQL together, by what was done with them.",
                ("batch",),
                buckets=BATCH_SIZES,
                registry=None,
            ),
            registry,
        )
        self._seconds = HistogramTally(
            Histogram(
                "gateway_batch_seconds",
                "How long such a batch took: the round trip and the commit.",
                ("batch",),
                buckets=BATCH_SECONDS,
                registry=None,
            ),
            registry,
        )

    def watch_pool(self, pool: Pool) -> None:
        """Show the connections of a pool, as they are when somebody looks."""
        self._most_connections.set_function(pool.get_max_size)
        self._connections.labels("idle").set_function(pool.get_idle_size)
        self._connections.labels("busy").set_function(lambda: pool.get_size() - pool.get_idle_size())

    def watch_log(self, log: EventLog) -> None:
        """Show how appends to a log went, as it is when somebody looks."""
        self._unknown_appends.set_function(lambda: log.unknown_outcomes)

    def watch_batches(self, batchers: Sequence[Batcher]) -> None:  # type: ignore[type-arg]  # of whatever items
        """Count the batches of these from now on."""
        for batcher in batchers:
            batcher.on_batch = self.batch(batcher.name)

    def batch(self, name: str) -> "BatchFigures":
        """Return what counts the batches of this name."""
        return BatchFigures(self._sizes.series[name,], self._seconds.series[name,])


class BatchFigures:
    """Counts the batches of one kind."""

    def __init__(self, sizes: ObservedSeries, seconds: ObservedSeries) -> None:
        self._sizes = sizes
        self._seconds = seconds

    def __call__(self, size: int, took_s: float) -> None:
        """Count one."""
        self._sizes.observe(size)
        self._seconds.observe(took_s)
