"""The place of a request in a trace, as HTTP headers and jobs carry it: https://www.w3.org/TR/trace-context/.

Imported only if the telemetry is on.
"""

import time
from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from infra.jobs import JobTrace

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
MAX_STATE_CHARS = 512
"""A longer `tracestate` is left out; the specification asks for no more."""

_propagator = TraceContextTextMapPropagator()


def context_of_headers(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Return the context that a request's headers name; an empty one if they name none, or more than one."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    if len(parents) != 1:
        return Context()
    return context_of(parents[0], ",".join(states) or None)


def context_of(traceparent: str, tracestate: str | None = None) -> Context:
    """Return the context that these values name; an empty one if they are not as the specification says."""
    carrier = {TRACEPARENT: traceparent}
    if tracestate is not None and len(tracestate) <= MAX_STATE_CHARS:
        carrier[TRACESTATE] = tracestate
    return _propagator.extract(carrier, Context())


def job_trace_of(span: Span) -> JobTrace | None:
    """Return what a job carries of a span that publishes it; None if the span is in no trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(span, Context()))
    if TRACEPARENT not in carrier:
        return None
    return JobTrace(
        traceparent=carrier[TRACEPARENT], tracestate=carrier.get(TRACESTATE), published_at_ns=time.time_ns()
    )


def log_fields(span: Span) -> dict[str, str]:
    """Return the fields by which a log line is found from a span, and the span from the line."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
