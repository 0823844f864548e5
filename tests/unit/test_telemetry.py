"""Telemetry is off until it has an address, costs nothing then, and never delays what it watches."""

import subprocess
import sys

import pytest
from opentelemetry.trace import get_current_span

from infra.settings import SettingsError, load_settings
from infra.telemetry.names import ESTABLISHED, LATEST, OPERATION_NAMES, conventions_of
from infra.telemetry.provider import MAX_WAITING_SPANS, max_waiting_spans, misspelt
from infra.telemetry.settings import TelemetrySettings
from infra.telemetry.trace_context import context_of, context_of_headers, job_trace_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def telemetry_of(**environ: str) -> TelemetrySettings:
    return load_settings(environ).telemetry


def test_nothing_is_sent_without_an_address() -> None:
    assert not telemetry_of().is_on
    assert not telemetry_of(OTEL_SERVICE_NAME="x", OTEL_EXPORTER_OTLP_HEADERS="a=b").is_on
    assert not telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318", OTEL_SDK_DISABLED="TRUE").is_on


def test_a_process_without_a_collector_imports_nothing_of_the_sdk() -> None:
    program = (
        "import sys, api.process, workers.process, cli.main\n"
        "wrong = [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', "
        "'opentelemetry.proto', 'grpc', 'google.protobuf', 'infra.telemetry.provider'))]\n"
        "print(wrong)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_signal_goes_where_its_variables_say() -> None:
    both = telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT="https://c/otlp/", OTEL_EXPORTER_OTLP_HEADERS="X-Key=a%20b,c=d")
    assert both.traces is not None
    assert both.metrics is not None
    assert (both.traces.endpoint, both.metrics.endpoint) == ("https://c/otlp/v1/traces", "https://c/otlp/v1/metrics")
    assert both.traces.headers == {"x-key": "a b", "c": "d"}
    assert "a b" not in repr(both)
    one = telemetry_of(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://c:4317",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="t=1",
    )
    assert one.traces is not None
    assert (one.traces.endpoint, one.traces.is_grpc, one.traces.headers, one.metrics) == (
        "http://c:4317",
        True,
        {"t": "1"},
        None,
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", "http(s) address"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_SDK_DISABLED", "yes", "true or false"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "token", "name=value"),
        ("GATEWAY_TELEMETRY_CONTENT_BYTES", "1000000", "0 to 65536"),
    ],
)
def test_a_wrong_value_stops_the_start_of_what_sends(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", name: value})
    assert name in str(refused.value)
    assert allowed in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "sends"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, True),
        ({"OTEL_SDK_DISABLED": "1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_SDK_DISABLED": "true"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, False),
    ],
)
def test_a_wrong_value_for_others_is_told_and_stops_nothing_that_sends_nothing(
    environ: dict[str, str], sends: bool
) -> None:
    told: list[str] = []
    load_settings(environ, sends_telemetry=sends, on_ignored=told.append)
    (line,) = told
    assert "allowed is" in line


def test_a_signal_whose_exporter_is_none_is_not_sent() -> None:
    one = telemetry_of(OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318", OTEL_TRACES_EXPORTER="none")
    assert (one.traces, one.metrics is not None) == (None, True)
    other = telemetry_of(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://c:4318/v1/metrics",
        OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_EXPORTER="otlp,console",
    )
    assert (other.traces is not None, other.metrics) == (True, None)


@pytest.mark.parametrize(
    ("content_bytes", "environ", "spans"),
    [
        (0, {}, MAX_WAITING_SPANS),
        (1_024, {}, MAX_WAITING_SPANS),
        (16_384, {}, 2_048),
        (65_536, {}, 512),
        (65_536, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1000"}, 1_000),
        (65_536, {"OTEL_BSP_MAX_QUEUE_SIZE": "9000"}, None),
    ],
)
def test_fewer_spans_wait_if_they_have_content(content_bytes: int, environ: dict[str, str], spans: int | None) -> None:
    assert max_waiting_spans(content_bytes, environ) == spans


def test_other_variables_of_the_sdk_are_none_of_our_business() -> None:
    load_settings({"OTEL_TRACES_SAMPLER": "always_off", "OTEL_SOMETHING_NEW": "x"})


@pytest.mark.parametrize(
    ("opt_in", "expected"),
    [
        ((), (ESTABLISHED,)),
        (("http", "database/dup"), (ESTABLISHED,)),
        (("http", "gen_ai_latest_experimental"), (LATEST,)),
        (("gen_ai_latest_experimental/dup",), (ESTABLISHED, LATEST)),
    ],
)
def test_the_conventions_are_those_that_are_opted_into(opt_in: tuple[str, ...], expected: tuple[object, ...]) -> None:
    assert conventions_of(opt_in) == expected


def test_each_kind_of_call_has_its_duration_under_each_convention() -> None:
    names = {operation: LATEST.of(name).duration for operation, name in OPERATION_NAMES.items()}
    assert names["chat"] == names["completions"] == "gen_ai.client.inference.duration"
    assert names["embeddings"] == "gen_ai.client.embeddings.duration"
    assert names["moderations"] == "gen_ai.client.operation.duration", "what is no inference keeps the old name"
    assert {ESTABLISHED.of(name).duration for name in OPERATION_NAMES.values()} == {"gen_ai.client.operation.duration"}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"traceparent", b"nonsense")],
        [(b"traceparent", b"\xff")],
        [(b"traceparent", TRACEPARENT.encode()), (b"traceparent", TRACEPARENT.encode())],
        [(b"traceparent", b"00-00000000000000000000000000000000-b7ad6b7169203331-01")],
    ],
)
def test_a_trace_that_is_not_clearly_named_is_not_joined(headers: list[tuple[bytes, bytes]]) -> None:
    assert not get_current_span(context_of_headers(headers)).get_span_context().is_valid


def test_a_job_carries_the_trace_that_its_headers_named() -> None:
    headers = [(b"traceparent", TRACEPARENT.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    span = get_current_span(context_of_headers(headers))
    trace = job_trace_of(span)
    assert trace is not None
    assert (trace.traceparent, trace.tracestate) == (TRACEPARENT, "a=1,b=2")
    assert (
        get_current_span(context_of(trace.traceparent, trace.tracestate)).get_span_context() == span.get_span_context()
    )
    long = get_current_span(context_of(TRACEPARENT, "a=" + "x" * 600))
    assert not long.get_span_context().trace_state


def test_nothing_of_no_trace_is_carried() -> None:
    assert job_trace_of(get_current_span()) is None


def test_a_misspelt_variable_is_told() -> None:
    assert misspelt({"OTEL_EXPORTER_OTLP_ENDPIONT": "x", "OTEL_BSP_MAX_QUEUE_SIZ": "1"}) == {
        "OTEL_EXPORTER_OTLP_ENDPIONT": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_BSP_MAX_QUEUE_SIZ": "OTEL_BSP_MAX_QUEUE_SIZE",
    }
    assert misspelt({"OTEL_TRACES_SAMPLER": "x", "OTEL_JAVA_AGENT_SOMETHING": "y", "PATH": "z"}) == {}
