"""Spans and figures of an API process's requests, for an OpenTelemetry collector. Imported only if the telemetry is on.

A request's SERVER span continues the trace that its `traceparent` names. Below it stand the decision about it and the
publishing of its job, which the worker's spans continue.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from litestar.types import Scope
from msgspec.structs import replace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    use_span,
)
from structlog.contextvars import bound_contextvars

from api.observation import RequestWatch
from api.request_facts import facts_of
from api.request_lifetime import BYTES_SCOPE, REQUEST_ID_SCOPE
from domain.money import to_usd
from infra.admission import AdmissionDecision
from infra.byte_budget import BytesInHand
from infra.jobs import Job, Lane
from infra.telemetry import names
from infra.telemetry.provider import Telemetry
from infra.telemetry.spans import ending
from infra.telemetry.trace_context import context_of, context_of_headers, job_trace_of, log_fields

UNTRACED = ("/health", "/metrics", "/schema", "/static")
"""Paths, and those below them, whose requests have no spans: nobody looks for them, and probes come every second."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
"""What the convention calls any other."""
_SERVER_ERROR = 500


class RequestTelemetry:
    """See `RequestObserver`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tracer = telemetry.tracer
        self._seconds = telemetry.meter.create_histogram(
            names.HTTP_DURATION,
            names.SECONDS,
            "From a request's head to the last byte of its answer.",
            explicit_bucket_boundaries_advisory=names.HTTP_SECONDS_BOUNDS,
        )

    @contextmanager
    def request(self, scope: Scope) -> Iterator[RequestWatch]:
        """See `RequestObserver`."""
        given = scope.get("method")
        method = given if given in METHODS else OTHER_METHOD
        if scope["path"].startswith(UNTRACED):
            yield _RequestWatch({})
            return
        began_s = time.perf_counter()
        span = self._tracer.start_span(
            method,
            context_of_headers(scope["headers"]),
            SpanKind.SERVER,
            {names.HTTP_METHOD: method, names.URL_SCHEME: scope["scheme"]},
        )
        watch = _RequestWatch(log_fields(span))
        try:
            with _current(span):
                yield watch
        finally:
            attributes = _ended(scope, watch.status)
            span.update_name(f"{method} {attributes.get(names.HTTP_ROUTE, '')}".rstrip())
            if span.is_recording():
                span.set_attributes(attributes | _facts(scope))
            if watch.status is None or watch.status >= _SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
            self._seconds.record(time.perf_counter() - began_s, {**attributes, names.HTTP_METHOD: method})

    @contextmanager
    def admitting(self) -> Iterator["_AdmissionWatch"]:
        """See `RequestObserver`."""
        with self._step(names.SPAN_ADMIT) as span:
            yield _AdmissionWatch(span)

    @contextmanager
    def publishing(self, lane: Lane) -> Iterator["_PublishingWatch"]:
        """See `RequestObserver`."""
        with self._step(names.SPAN_PUBLISH, SpanKind.PRODUCER, {names.LANE: lane}) as span:
            yield _PublishingWatch(span)

    def accepting(self) -> str | None:
        """See `RequestObserver`."""
        trace = job_trace_of(get_current_span())
        return trace.traceparent if trace is not None else None

    @contextmanager
    def running(self, job_id: str, accepted_in: str | None) -> Iterator[None]:
        """See `RequestObserver`."""
        accepted = get_current_span(context_of(accepted_in)) if accepted_in is not None else None
        links = [Link(accepted.get_span_context())] if accepted is not None else []
        span = self._tracer.start_span(names.SPAN_ASYNC_JOB, Context(), attributes={names.JOB_ID: job_id}, links=links)
        with _current(span), ending(span):
            yield

    async def close(self) -> None:
        """See `RequestObserver`."""
        await self._telemetry.close()

    @contextmanager
    def _step(
        self, name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: dict[str, str] | None = None
    ) -> Iterator[Span]:
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        with ending(span):
            yield span


class _RequestWatch:
    """See `RequestWatch`."""

    def __init__(self, log_fields: Mapping[str, str]) -> None:
        self.log_fields = log_fields
        self.status: int | None = None
        """None: there was no answer."""

    def answering(self, status: int) -> None:
        """See `RequestWatch`."""
        self.status = status


class _AdmissionWatch:
    """See `AdmissionWatch`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def decided(self, decision: AdmissionDecision) -> None:
        """See `AdmissionWatch`."""
        self._span.set_attribute(names.OUTCOME, decision.outcome)
        if decision.origin is not None:
            self._span.set_attribute(names.ORIGIN_REQUEST, decision.origin)


class _PublishingWatch:
    """See `PublishingWatch`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def traced(self, job: Job) -> Job:
        """See `PublishingWatch`."""
        trace = job_trace_of(self._span)
        return replace(job, trace=trace) if trace is not None else job


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Have what is watched in the block belong to a span, and its log lines name it."""
    with (
        use_span(span, record_exception=False, set_status_on_exception=False),
        bound_contextvars(**log_fields(span)),
    ):
        yield


def _ended(scope: Scope, status: int | None) -> dict[str, Any]:
    """What is said of a request when it has ended, by its span and by its figures."""
    attributes: dict[str, Any] = {}
    route = scope.get("path_template")
    if route:
        attributes[names.HTTP_ROUTE] = route
    error_type = facts_of(scope).error_code
    if status is not None:
        attributes[names.HTTP_STATUS] = status
        if error_type is None and status >= _SERVER_ERROR:
            error_type = str(status)
    elif error_type is None:
        error_type = "no_answer"
    if error_type is not None:
        attributes[names.ERROR_TYPE] = error_type
    return attributes


def _facts(scope: Scope) -> dict[str, Any]:
    """What is said of a request by its span alone: whose it was, and what became of it."""
    facts, in_hand = facts_of(scope), scope.get(BYTES_SCOPE)
    cost = facts.cost_nano_usd
    attributes = {
        names.REQUEST_ID: scope.get(REQUEST_ID_SCOPE),
        names.PROJECT_ID: in_hand.owner if isinstance(in_hand, BytesInHand) else None,
        names.KEY_ID: facts.key_id,
        names.GATEWAY_PROVIDER: facts.provider,
        names.MODEL: facts.model,
        names.CACHE: facts.cache,
        names.ATTEMPTS: facts.attempts,
        names.CHARGED_NANO_USD: cost,
        names.CHARGED_USD: float(to_usd(cost)) if cost is not None else None,
    }
    return {name: value for name, value in attributes.items() if value is not None}
