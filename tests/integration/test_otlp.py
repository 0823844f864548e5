"""OpenTelemetry's SDK as the gateway sets it up: what a collector is sent, and that nothing waits for it."""

import asyncio
import socket
from contextlib import closing
from datetime import date

import pytest

from domain.errors import ProviderTimeout
from domain.events import CostIncurred, RequestCompleted
from domain.request_identity import RequestIdentity
from domain.tokens import TokenUsage
from infra.figures import MAX_MODELS_OF_BUILT_IN, OTHER
from infra.jobs import Job
from infra.settings import load_settings
from infra.telemetry.provider import FLUSH_TIMEOUT_S, Telemetry
from infra.telemetry.settings import TelemetrySettings
from tests.support.otlp import Collector, collector
from workers.telemetry import JobTelemetry

USAGE = TokenUsage(input=20, cache_read=5, cache_write_1h=3, input_audio=2, output=8, reasoning=6)


def telemetry_of(**environ: str) -> TelemetrySettings:
    return load_settings(environ).telemetry


def job_of(model: str) -> Job:
    identity = RequestIdentity(
        request_id="req_1",
        project_id="prj_1",
        key_id="key_1",
        operation="chat",
        model=model,
        provider="openai",
        upstream_model=model,
    )
    return Job(identity=identity, kind="openai", price=None, body=b"{}", reply_to="r", admitted_at_ms=0, deadline_ms=1)


def call(observer: JobTelemetry, job: Job, *, sent: bytes = b"", received: bytes = b"", timeout: bool = False) -> None:
    """Have an attempt seen: one that is answered, or one that comes to its timeout."""
    with observer.working(job, delivery=1) as watch:
        try:
            with watch.attempting(job, attempt=1, target=0, address=None, sent=sent) as attempt:
                attempt.calling()
                if timeout:
                    raise ProviderTimeout("too late", provider="openai")  # noqa: TRY301 - as a call does
                attempt.came(received)
                attempt.answered(completed(job), cost(job))
        except ProviderTimeout:
            pass


def completed(job: Job) -> RequestCompleted:
    return RequestCompleted(
        **job.identity.attempt_fields(1),
        answered_by="as-answered",
        response_id="id",
        finish_reason="stop",
        usage=USAGE,
        latency_ms=1,
        request_bytes=1,
        answer_bytes=1,
        answer_digest="00",
        cached_copy=None,
    )


def cost(job: Job) -> CostIncurred:
    return CostIncurred(
        **job.identity.attempt_fields(1),
        cost_nano_usd=None,
        price=None,
        breakdown=None,
        hold_nano_usd=1,
        budget_day=date(2026, 11, 26),
    )


async def seen(kept: Collector, *jobs: Job, **environ: str) -> None:
    """Have a call of each job seen and sent."""
    telemetry = Telemetry(telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT=kept.http_address, **environ), process="worker")
    observer = JobTelemetry(telemetry)
    for job in jobs:
        call(observer, job, sent="what? ü".encode() * 20, received=b"this")
    await observer.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_what_waits_is_sent_when_the_process_stops(protocol: str) -> None:
    with collector() as kept:
        address = kept.grpc_address if protocol == "grpc" else kept.http_address
        telemetry = Telemetry(
            telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_PROTOCOL=protocol), process="test"
        )
        telemetry.tracer.start_span("last").end()
        telemetry.meter.create_counter("lasts").add(3)
        await telemetry.close()
        assert [span.name for span in kept.spans()] == ["last"]
        assert [point.value for point in kept.points("lasts")] == [3]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("does_it_listen", [False, True], ids=["away", "silent"])
async def test_a_collector_that_takes_nothing_delays_no_span_and_no_stop(
    protocol: str, does_it_listen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000")
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if does_it_listen:
            listener.listen(8)  # connections are made, and nothing is ever answered
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        telemetry = Telemetry(
            telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_PROTOCOL=protocol), process="test"
        )
        for _ in range(10):
            for _ in range(500):
                telemetry.tracer.start_span("dropped").end()
            await asyncio.sleep(0)
        await asyncio.wait_for(telemetry.close(), 10 * FLUSH_TIMEOUT_S)


async def test_no_content_is_sent_unless_a_setting_says_how_much() -> None:
    with collector() as kept:
        await seen(kept, job_of("m"))
        assert not {"gateway.content.sent", "gateway.content.received"} & kept.spans()[-1].attributes.keys()
    with collector() as kept:
        await seen(kept, job_of("m"), GATEWAY_TELEMETRY_CONTENT_BYTES="7")
        (span,) = (one for one in kept.spans() if one.kind == "client")
        assert span.attributes["gateway.content.sent"] == "what? ", "cut before the half of a letter"
        assert span.attributes["gateway.content.received"] == "this"


async def test_tokens_are_counted_by_class_as_the_latest_conventions_have_them() -> None:
    with collector() as kept:
        await seen(kept, job_of("m"), OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental")
        usage = "gen_ai.client.inference.usage"
        counted = {
            (name.removeprefix(f"{usage}."), point.attributes["gen_ai.token.modality"]): point.value
            for name in kept.metric_names()
            if name.startswith(usage)
            for point in kept.points(name)
        }
        assert counted == {
            ("input_tokens", "unknown"): 28,
            ("input_tokens", "audio"): 2,
            ("output_tokens", "unknown"): 8,
            ("cache_read.input_tokens", "unknown"): 5,
            ("cache_write.input_tokens", "unknown"): 3,
            ("reasoning.output_tokens", "unknown"): 6,
        }
        assert "gen_ai.client.token.usage" not in kept.metric_names()
        (span,) = (one for one in kept.spans() if one.kind == "client")
        assert span.attributes["gen_ai.usage.cache_write.input_tokens"] == 3
        assert "gen_ai.system" not in span.attributes
        assert [point.value for point in kept.points("gateway.cost.unknown")] == [1], "not silently nothing"


async def test_the_names_that_callers_choose_make_no_more_series_than_are_allowed() -> None:
    with collector() as kept:
        await seen(kept, *(job_of(f"model-{number}") for number in range(MAX_MODELS_OF_BUILT_IN + 50)))
        durations = kept.points("gen_ai.client.operation.duration")
        assert len(durations) == MAX_MODELS_OF_BUILT_IN + 1
        (others,) = (point for point in durations if point.attributes["gen_ai.request.model"] == OTHER)
        assert others.count == 50


async def test_a_failed_call_counts_with_its_error_and_no_name_that_never_answered() -> None:
    with collector() as kept:
        observer = JobTelemetry(
            Telemetry(telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT=kept.http_address), process="worker")
        )
        call(observer, job_of("made-up"), timeout=True)
        await observer.close()
        (duration,) = kept.points("gen_ai.client.operation.duration")
        assert (duration.attributes["error.type"], duration.attributes["gen_ai.request.model"]) == ("timeout", OTHER)
        assert kept.points("gen_ai.client.token.usage") == []
