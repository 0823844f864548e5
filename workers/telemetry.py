"""Spans and figures of a worker's jobs, for an OpenTelemetry collector. Imported only if the telemetry is on.

A job's span continues the trace of the request that published it. Below it stand the claim, one CLIENT span for each
call of a provider, and each append. No span has a key, and none has content unless a setting says so.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from structlog.contextvars import bound_contextvars

from domain.errors import GatewayError
from domain.events import CostIncurred, RequestCompleted
from domain.money import to_usd
from domain.tokens import TokenUsage
from infra.jobs import Job
from infra.telemetry import names
from infra.telemetry.calls import CallFigures, FinishedCall
from infra.telemetry.names import Convention
from infra.telemetry.provider import Telemetry
from infra.telemetry.spans import ending, fail
from infra.telemetry.trace_context import context_of, log_fields

Value = str | int | float | bool | Sequence[str]


class JobTelemetry:
    """See `JobObserver`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tracer = telemetry.tracer
        self._figures = CallFigures(telemetry.meter, telemetry.conventions)

    @contextmanager
    def working(self, job: Job, *, delivery: int) -> Iterator["_JobWatch"]:
        """See `JobObserver`."""
        identity, trace = job.identity, job.trace
        parent = context_of(trace.traceparent, trace.tracestate) if trace is not None else Context()
        if trace is not None:
            now_ns = time.time_ns()
            began_ns = min(trace.published_at_ns, now_ns)  # the clocks of two machines differ
            self._tracer.start_span(names.SPAN_QUEUE, parent, start_time=began_ns).end(now_ns)
        span = self._tracer.start_span(
            names.SPAN_JOB,
            parent,
            SpanKind.CONSUMER,
            {
                names.REQUEST_ID: identity.request_id,
                names.PROJECT_ID: identity.project_id,
                names.KEY_ID: identity.key_id,
                names.DELIVERY: delivery,
            },
        )
        with ending(span), bound_contextvars(**log_fields(span)):
            yield _JobWatch(self._telemetry, self._figures, span)

    async def close(self) -> None:
        """See `JobObserver`."""
        await self._telemetry.close()


class _JobWatch:
    """See `JobWatch`."""

    def __init__(self, telemetry: Telemetry, figures: CallFigures, span: Span) -> None:
        self._telemetry = telemetry
        self._figures = figures
        self._context = set_span_in_context(span, Context())

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """See `JobWatch`."""
        with self._step(names.SPAN_CLAIM):
            yield

    @contextmanager
    def appending(self) -> Iterator[None]:
        """See `JobWatch`."""
        with self._step(names.SPAN_APPEND):
            yield

    @contextmanager
    def attempting(
        self, job: Job, *, attempt: int, target: int, address: str | None, sent: bytes
    ) -> Iterator["_AttemptWatch"]:
        """See `JobWatch`."""
        place: dict[str, Value] = {names.ATTEMPT: attempt, names.TARGET: target} | _address(address)
        watch = _AttemptWatch(self._telemetry, self._figures, self._context, job, place, sent)
        try:
            yield watch
        except GatewayError as error:
            watch.failed(error)
            raise
        except BaseException as error:
            watch.interrupted(error)
            raise
        finally:
            watch.end()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        with ending(self._telemetry.tracer.start_span(name, self._context)):
            yield


class _AttemptWatch:
    """See `AttemptWatch`. Its span begins with the call, and ends when the answer is here, not when it is recorded."""

    def __init__(
        self,
        telemetry: Telemetry,
        figures: CallFigures,
        parent: Context,
        job: Job,
        place: Mapping[str, Value],
        sent: bytes,
    ) -> None:
        self._tracer = telemetry.tracer
        self._conventions = telemetry.conventions
        self._content_bytes = telemetry.content_bytes
        self._figures = figures
        self._parent = parent
        self._job = job
        self._place = place
        self._sent = sent
        self._operation = names.OPERATION_NAMES[job.identity.operation]
        self._span: Span | None = None
        self._began_ns = 0
        self._first_ns: int | None = None
        self._ended_ns: int | None = None
        self._error_type: str | None = None
        self._response_model: str | None = None
        self._usage: TokenUsage | None = None
        self._cost: CostIncurred | None = None

    def calling(self) -> None:
        """See `AttemptWatch`."""
        job = self._job
        identity = job.identity
        attributes: dict[str, Value] = {
            names.OPERATION: self._operation,
            names.PROVIDER: identity.provider,
            names.REQUEST_MODEL: identity.upstream_model,
            names.REQUEST_ID: identity.request_id,
            names.PROJECT_ID: identity.project_id,
            names.KEY_ID: identity.key_id,
            names.ASKED_MODEL: identity.asked_as or identity.model,
            **self._place,
        }
        if any(convention.names_system for convention in self._conventions):
            attributes[names.SYSTEM] = identity.provider
        if job.stream is not None:
            attributes[names.REQUEST_STREAM] = True
        if job.choices != 1:
            attributes[names.REQUEST_CHOICES] = job.choices
        if self._content_bytes:
            attributes[names.SENT] = self._cut(self._sent)
        self._began_ns = time.time_ns()
        self._span = self._tracer.start_span(
            f"{self._operation} {identity.upstream_model}",
            self._parent,
            SpanKind.CLIENT,
            attributes,
            start_time=self._began_ns,
        )

    def first_part(self) -> None:
        """See `AttemptWatch`."""
        if self._first_ns is None:
            self._first_ns = time.time_ns()

    def came(self, content: bytes = b"") -> None:
        """See `AttemptWatch`."""
        self._ended_ns = time.time_ns()
        if self._content_bytes and content and self._span is not None:
            self._span.set_attribute(names.RECEIVED, self._cut(content))

    def answered(self, completed: RequestCompleted, cost: CostIncurred) -> None:
        """See `AttemptWatch`."""
        self._response_model, self._usage, self._cost = completed.answered_by or None, completed.usage, cost
        if self._span is not None:
            self._span.set_attribute(names.RESPONSE_ID, completed.response_id)
            if completed.finish_reason is not None:
                self._span.set_attribute(names.FINISH_REASONS, [completed.finish_reason])

    def failed(self, error: GatewayError, cost: CostIncurred | None = None) -> None:
        """See `AttemptWatch`."""
        self.interrupted(error)
        if cost is not None:
            self._usage, self._cost = cost.usage, cost

    def interrupted(self, error: BaseException) -> None:
        """Note what ended the attempt, unless it had ended by itself before."""
        if self._usage is None and self._error_type is None:
            self._error_type = names.call_error_type(error)

    def _outcome(self, first_s: float | None) -> dict[str, Value]:
        """What the call has come to, in the attributes of its span."""
        attributes: dict[str, Value] = {}
        if self._response_model is not None:
            attributes[names.RESPONSE_MODEL] = self._response_model
        if first_s is not None:
            attributes[names.TIME_TO_FIRST_CHUNK] = first_s
        if self._usage is not None and self._operation in (*names.INFERENCE, names.EMBEDDINGS):
            attributes |= _usage_attributes(self._usage, self._conventions)
        if self._cost is not None:
            attributes |= _cost_attributes(self._cost)
        return attributes

    def _cut(self, content: bytes) -> str:
        return content[: self._content_bytes].decode("utf-8", "ignore")

    def end(self) -> None:
        """End the span as of when the answer was here, and count the call. There is none if none was made."""
        span = self._span
        if span is None:
            return
        ended_ns = max(self._began_ns, self._ended_ns or time.time_ns())
        first_s = (self._first_ns - self._began_ns) / 1e9 if self._first_ns is not None else None
        if span.is_recording():
            span.set_attributes(self._outcome(first_s))
        if self._error_type is not None:
            fail(span, self._error_type)
        span.end(ended_ns)
        identity, cost = self._job.identity, self._cost
        self._figures.ended(
            FinishedCall(
                operation=self._operation,
                provider=identity.provider,
                model=identity.upstream_model,
                error_type=self._error_type,
                duration_s=(ended_ns - self._began_ns) / 1e9,
                first_chunk_s=first_s,
                usage=self._usage,
                is_charged=cost is not None,
                cost_nano_usd=cost.cost_nano_usd if cost is not None else None,
            )
        )


def _address(address: str | None) -> dict[str, Value]:
    """The host and the port of a provider's address; nothing else of it, which may hold a secret."""
    if address is None:
        return {}
    parts = urlsplit(address)
    if parts.hostname is None:
        return {}
    return {
        names.SERVER_ADDRESS: parts.hostname,
        names.SERVER_PORT: parts.port or (443 if parts.scheme == "https" else 80),
    }


def _usage_attributes(usage: TokenUsage, conventions: Sequence[Convention]) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        names.INPUT_TOKENS: usage.prompt_tokens,
        names.OUTPUT_TOKENS: usage.completion_tokens,
    }
    if usage.cached_prompt_tokens:
        attributes[names.CACHE_READ_TOKENS] = usage.cached_prompt_tokens
    written = usage.cache_write + usage.cache_write_1h
    if written:
        attributes |= {convention.cache_write_tokens: written for convention in conventions}
    if usage.reasoning:
        attributes[names.REASONING_TOKENS] = usage.reasoning
    return attributes


def _cost_attributes(cost: CostIncurred) -> dict[str, Value]:
    attributes: dict[str, Value] = {}
    if cost.cost_nano_usd is not None:
        attributes |= {
            names.COST_NANO_USD: cost.cost_nano_usd,
            names.COST_USD: float(to_usd(cost.cost_nano_usd)),
        }
    if cost.estimated:
        attributes[names.COST_IS_ESTIMATED] = True
    if cost.is_lower_bound:
        attributes[names.COST_IS_LOWER_BOUND] = True
    return attributes
