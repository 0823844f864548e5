"""OpenTelemetry's SDK as one process uses it: a tracer, a meter, their exporters, and an end within a bound.

Imported only if the telemetry is on. Nothing here is global: a library in the same process that is instrumented for
OpenTelemetry sends nothing by it.
"""

import asyncio
import difflib
import importlib.metadata
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import structlog
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk import environment_variables
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NoOpTracer, Tracer

from infra.logging import OneLineAnOutage
from infra.settings import VARIABLE_NAMES
from infra.telemetry.names import SCOPE, conventions_of
from infra.telemetry.settings import OTEL_PREFIX, SignalSettings, TelemetrySettings

FLUSH_TIMEOUT_S = 3.0
"""What a process that stops waits for its last spans and figures to be taken."""
MAX_WAITING_SPANS = 8_192
"""Beyond that, the oldest that wait are dropped: some 20 MB. `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise."""
MAX_WAITING_CONTENT_BYTES = 64 * 1024 * 1024
"""Of what was sent and received, in the spans that wait: with content, fewer wait."""
SPANS_SENT_TOGETHER = 512
"""The SDK's default. A queue has room for as many at least."""
MISSPELT = 0.93
"""So alike are a variable and what was meant by it: a letter or two differ."""
_QUEUE_SIZE_VARIABLE = "OTEL_BSP_MAX_QUEUE_SIZE"
_SENT_TOGETHER_VARIABLE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_TALKATIVE = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
"""The loggers that have a line for each batch while the collector is away."""

log = structlog.get_logger(__name__)


class _Provider(Protocol):
    def shutdown(self) -> None: ...


class Telemetry:
    """The telemetry of one process."""

    def __init__(self, settings: TelemetrySettings, *, process: str) -> None:
        """Send from now on, in threads of its own. `process` names the kind of process.

        Their settings beside those here (timeouts, certificates, sampling, intervals, resource attributes) the SDK
        reads from the environment: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
        """
        for name in _TALKATIVE:
            logging.getLogger(name).addFilter(OneLineAnOutage())
        for name, near in misspelt(os.environ).items():
            log.warning("otel_variable_unknown", name=name, near=near)
        resource = _resource(settings.service_name, process)
        self.conventions = conventions_of(settings.opt_in)
        self.content_bytes = settings.content_bytes
        self.tracer: Tracer = NoOpTracer()
        self.meter: Meter = NoOpMeter(SCOPE)
        self._providers: list[_Provider] = []
        if settings.traces is not None:
            queue_size = max_waiting_spans(settings.content_bytes, os.environ)
            tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(BatchSpanProcessor(_span_exporter(settings.traces), queue_size))
            self.tracer = tracers.get_tracer(SCOPE)
            self._providers.append(tracers)
        if settings.metrics is not None:
            reader = PeriodicExportingMetricReader(_metric_exporter(settings.metrics))
            meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
            self.meter = meters.get_meter(SCOPE)
            self._providers.append(meters)

    async def close(self) -> None:
        """Send what waits, for at most `FLUSH_TIMEOUT_S`. The rest is lost: a collector that is away delays no stop."""
        loop, left = asyncio.get_running_loop(), asyncio.Semaphore(0)

        def shut_down(provider: _Provider) -> None:
            provider.shutdown()
            with suppress(RuntimeError):  # the process waits no more
                loop.call_soon_threadsafe(left.release)

        for provider in self._providers:
            threading.Thread(target=shut_down, args=(provider,), daemon=True, name="ending telemetry").start()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                for _ in self._providers:
                    await left.acquire()
        except TimeoutError:
            log.warning("telemetry_lost", waited_s=FLUSH_TIMEOUT_S)


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are almost one of the SDK's, and what that is. Others may be of other programs."""
    known = {
        text for text in vars(environment_variables).values() if isinstance(text, str) and text.startswith(OTEL_PREFIX)
    }
    known |= VARIABLE_NAMES
    unknown = [name for name in environ if name.startswith(OTEL_PREFIX) and name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=MISSPELT) for name in unknown}
    return {name: found[0] for name, found in near.items() if found}


def _resource(service_name: str, process: str) -> Resource:
    """Describe this process. What `OTEL_RESOURCE_ATTRIBUTES` says goes before."""
    own: dict[str, str | int] = {
        "service.name": service_name,
        "service.version": importlib.metadata.version("ai-gateway"),
        "service.instance.id": f"{process}@{socket.gethostname()}:{os.getpid()}",
        "gateway.process": process,
        "process.pid": os.getpid(),
    }
    return Resource.create({**own}).merge(OTELResourceDetector().detect())


def max_waiting_spans(content_bytes: int, environ: Mapping[str, str]) -> int | None:
    """Return how many spans may wait, with at most so much of what was sent, and as much of what was received.

    None: as the environment says.
    """
    if environ.get(_QUEUE_SIZE_VARIABLE):
        return None
    together = environ.get(_SENT_TOGETHER_VARIABLE, "")
    least = int(together) if together.isdecimal() else SPANS_SENT_TOGETHER
    of_content = MAX_WAITING_CONTENT_BYTES // (2 * content_bytes) if content_bytes else MAX_WAITING_SPANS
    return max(least, min(MAX_WAITING_SPANS, of_content))


def _span_exporter(to: SignalSettings) -> SpanExporter:
    headers = dict(to.headers)
    if to.is_grpc:
        return GrpcSpanExporter(endpoint=to.endpoint, headers=headers)
    return HttpSpanExporter(endpoint=to.endpoint, headers=headers)


def _metric_exporter(to: SignalSettings) -> MetricExporter:
    headers = dict(to.headers)
    if to.is_grpc:
        return GrpcMetricExporter(endpoint=to.endpoint, headers=headers)
    return HttpMetricExporter(endpoint=to.endpoint, headers=headers)
