"""The figures of finished calls to providers, under the names of each convention that is followed.

Callers and providers choose names of models: those that have series of their own are bounded as they are for Prometheus
(`infra/figures.py`), and the model that a provider says it answered with is in spans alone.

Imported only if the telemetry is on.
"""

from collections.abc import Sequence

from msgspec import Struct
from opentelemetry.metrics import Counter, Histogram, Meter

from domain.money import NanoUsd, to_usd
from domain.tokens import TokenUsage
from infra.figures import ModelLabels
from infra.telemetry import names
from infra.telemetry.names import CallMetrics, Convention, TokenCounter

_Attributes = dict[str, str | int]


class FinishedCall(Struct, frozen=True, kw_only=True):
    """A call to a provider that has ended, however."""

    operation: str
    """As the conventions name it."""
    provider: str
    model: str
    error_type: str | None
    """None: it was answered."""
    duration_s: float
    first_chunk_s: float | None
    """Of a stream: from the call to its first part. None: it is no stream, or nothing came."""
    usage: TokenUsage | None
    """None: nothing was counted."""
    is_charged: bool
    """A cost was incurred, known or not."""
    cost_nano_usd: NanoUsd | None


class CallFigures:
    """Counts the calls of one process."""

    def __init__(self, meter: Meter, conventions: Sequence[Convention]) -> None:
        self._conventions = conventions
        self._meter = meter
        self._labels = ModelLabels()
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}
        self._cost = meter.create_counter(names.COST, names.USD, "What providers charge, by the gateway's books.")
        self._unknown_cost = meter.create_counter(
            names.COST_UNKNOWN, names.ANSWERS, "Answers whose cost is not known: they are not in gateway.cost.usage."
        )

    def ended(self, call: FinishedCall) -> None:
        """Count a call. A name that several conventions share is counted once."""
        recorded: set[str] = set()
        labelled = self._labels.answered if call.error_type is None else self._labels.of
        provider, model = labelled(call.provider, call.model)
        for convention in self._conventions:
            metrics = convention.of(call.operation)
            attributes = _attributes(call.operation, provider, model, convention)
            with_error = attributes if call.error_type is None else attributes | {names.ERROR_TYPE: call.error_type}
            if metrics.duration not in recorded:
                recorded.add(metrics.duration)
                self._seconds(metrics.duration).record(call.duration_s, with_error)
            if metrics.first_chunk is not None and call.first_chunk_s is not None:
                self._seconds(metrics.first_chunk).record(call.first_chunk_s, attributes)
            self._count_tokens(metrics, call.usage, attributes)
        if call.is_charged:
            attributes = _attributes(call.operation, provider, model, names.LATEST)
            if call.cost_nano_usd is None:
                self._unknown_cost.add(1, attributes)
            else:
                self._cost.add(float(to_usd(call.cost_nano_usd)), attributes)

    def _count_tokens(self, metrics: CallMetrics, usage: TokenUsage | None, attributes: _Attributes) -> None:
        for counter in metrics.counters:
            self._add(counter, usage, attributes)
        if usage is None:
            return
        if metrics.tokens_by_type is not None:
            histogram = self._tokens(metrics.tokens_by_type)
            histogram.record(usage.prompt_tokens, attributes | {names.TOKEN_TYPE: "input"})
            if usage.completion_tokens:
                histogram.record(usage.completion_tokens, attributes | {names.TOKEN_TYPE: "output"})
        if metrics.input_tokens is not None:
            self._tokens(metrics.input_tokens).record(usage.prompt_tokens, attributes)
        if metrics.output_tokens is not None:
            self._tokens(metrics.output_tokens).record(usage.completion_tokens, attributes)

    def _add(self, counter: TokenCounter, usage: TokenUsage | None, attributes: _Attributes) -> None:
        """Add to a counter; 0 if nothing was counted, as the convention wants it."""
        sums = {"unknown": counter.unknown, "audio": counter.audio}
        for modality, classes in sums.items():
            tokens = sum(getattr(usage, name) for name in classes) if usage is not None else 0
            if tokens or modality == "unknown":
                self._counter(counter.name).add(tokens, attributes | {names.TOKEN_MODALITY: modality})

    def _seconds(self, name: str) -> Histogram:
        return self._histogram(name, names.SECONDS, names.SECONDS_BOUNDS)

    def _tokens(self, name: str) -> Histogram:
        return self._histogram(name, names.TOKENS, names.TOKENS_BOUNDS)

    def _histogram(self, name: str, unit: str, bounds: Sequence[float]) -> Histogram:
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, unit, explicit_bucket_boundaries_advisory=bounds
            )
        return self._histograms[name]

    def _counter(self, name: str) -> Counter:
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name, names.TOKENS)
        return self._counters[name]


def _attributes(operation: str, provider: str, model: str, convention: Convention) -> _Attributes:
    attributes: _Attributes = {
        names.OPERATION: operation,
        names.PROVIDER: provider,
        names.REQUEST_MODEL: model,
    }
    if convention.names_system:
        attributes[names.SYSTEM] = provider
    return attributes
