"""An OpenTelemetry collector as the tests need one: takes traces and metrics over gRPC and HTTP, and keeps them."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from msgspec import Struct
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

KINDS = {
    WireSpan.SPAN_KIND_INTERNAL: "internal",
    WireSpan.SPAN_KIND_SERVER: "server",
    WireSpan.SPAN_KIND_CLIENT: "client",
    WireSpan.SPAN_KIND_PRODUCER: "producer",
    WireSpan.SPAN_KIND_CONSUMER: "consumer",
}
ERROR = 2


class Span(Struct, frozen=True, kw_only=True):
    """A span as it was received."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it has none."""
    name: str
    kind: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """The spans that it is linked to."""
    is_error: bool
    began_ns: int
    ended_ns: int
    process: str


class Point(Struct, frozen=True, kw_only=True):
    """The newest value of a series."""

    name: str
    attributes: dict[str, Any]
    value: float
    """Of a histogram: its sum."""
    count: int
    """Of a histogram; else 0."""
    bounds: tuple[float, ...]
    unit: str


class Collector:
    """Keeps what comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._points: dict[tuple[str, str, str], Point] = {}
        self.raw: list[bytes] = []
        """Every message as it came."""
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self.http_address = ""
        self.grpc_address = ""

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """Return the spans that have come, of a trace or of all, in the order in which they began."""
        with self._lock:
            found = [span for span in self._spans if trace_id is None or span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.began_ns)

    def points(self, name: str, **attributes: Any) -> list[Point]:
        """Return the series of a metric, of all processes; `attributes` with `__` for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        with self._lock:
            points = list(self._points.values())
        return [one for one in points if one.name == name and wanted.items() <= one.attributes.items()]

    def metric_names(self) -> set[str]:
        """Return the names of all metrics that have come."""
        with self._lock:
            return {point.name for point in self._points.values()}

    def take_traces(self, request: Any, headers: Mapping[str, str]) -> None:
        """Take one message."""
        with self._lock:
            self._note(request, headers)
            for group in request.resource_spans:
                resource = plain(group.resource.attributes)
                self.resources.append(resource)
                for scope in group.scope_spans:
                    self._spans += (_span(span, str(resource.get("gateway.process"))) for span in scope.spans)

    def take_metrics(self, request: Any, headers: Mapping[str, str]) -> None:
        """Take one message."""
        with self._lock:
            self._note(request, headers)
            for group in request.resource_metrics:
                resource = plain(group.resource.attributes)
                self.resources.append(resource)
                for metric in (metric for scope in group.scope_metrics for metric in scope.metrics):
                    for point in _points(metric):
                        series = (
                            str(resource["service.instance.id"]),
                            point.name,
                            repr(sorted(point.attributes.items())),
                        )
                        self._points[series] = point

    def _note(self, request: Message, headers: Mapping[str, str]) -> None:
        self.raw.append(request.SerializeToString())
        self.headers.append({name.lower(): value for name, value in headers.items()})


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector on two ports of this machine."""
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(kept), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(kept), server)
    kept.grpc_address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kept))
    kept.http_address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        http.shutdown()
        http.server_close()
        server.stop(0)


def _handler(kept: Collector) -> type[BaseHTTPRequestHandler]:
    takers = {
        "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, kept.take_traces),
        "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, kept.take_metrics),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kind, take = takers[self.path]
            assert self.headers["content-type"] == "application/x-protobuf"
            message = kind()
            message.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            take(message, dict(self.headers.items()))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the protocol
        self._kept.take_traces(request, _metadata(context))
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        self._kept.take_metrics(request, _metadata(context))
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _metadata(context: Any) -> dict[str, str]:
    return {name: str(value) for name, value in context.invocation_metadata()}


def plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _span(span: Any, process: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS[span.kind],
        attributes=plain(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        is_error=span.status.code == ERROR,
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        process=process,
    )


def _points(metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        is_histogram = kind == "histogram"
        yield Point(
            name=metric.name,
            attributes=plain(point.attributes),
            value=point.sum if is_histogram else float(getattr(point, point.WhichOneof("value"))),
            count=point.count if is_histogram else 0,
            bounds=tuple(point.explicit_bounds) if is_histogram else (),
            unit=metric.unit,
        )


class Tree:
    """The spans of one trace by their place in it."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans

    @classmethod
    def of(cls, kept: Collector, trace_id: str) -> Self:
        """Return the trace as far as it has come."""
        return cls(kept.spans(trace_id))

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        """Return the only span of a name."""
        (span,) = self.named(name)
        return span

    def of_kind(self, kind: str) -> list[Span]:
        """Return the spans of a kind."""
        return [span for span in self.spans if span.kind == kind]

    def shape(self) -> list[tuple[str, str]]:
        """Return each span's name with its parent's, in the order in which they began."""
        names = {span.span_id: span.name for span in self.spans}
        return [(names.get(span.parent_id, ""), span.name) for span in self.spans]
