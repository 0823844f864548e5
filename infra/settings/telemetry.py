"""OpenTelemetry: where traces and metrics go, and how. What becomes of it is in `infra/telemetry/`."""

from typing import Annotated, Literal
from urllib.parse import unquote

from msgspec import Meta, field

from infra.environment_variables import (
    Variable,
    names,
    pairs,
    true_or_false,
    without_final_slash,
)
from infra.settings.kinds import (
    HttpUrl,
    NonEmpty,
    OtlpHeaders,
    OtlpProtocol,
)
from infra.settings.limits import LimitSettings
from infra.telemetry.settings import SignalSettings, TelemetrySettings

COLLECTOR_VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
"""Without one of them nothing is sent."""
_NO_EXPORTER = "none"


class TelemetryVariables(LimitSettings, frozen=True, kw_only=True):
    """Where traces and metrics go."""

    telemetry_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "the OpenTelemetry collector that the API and the workers send traces and metrics to; unset: they send "
            "none (docs/how-to/send-telemetry.md)",
            "an http(s) address",
            parse=without_final_slash,
        ),
    ] = None
    traces_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "another one for the traces; over http/protobuf with its path",
            "an http(s) address",
        ),
    ] = None
    metrics_endpoint: Annotated[
        HttpUrl | None,
        Variable(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "another one for the metrics; over http/protobuf with its path",
            "an http(s) address",
        ),
    ] = None
    telemetry_protocol: Annotated[
        OtlpProtocol,
        Variable("OTEL_EXPORTER_OTLP_PROTOCOL", "how the collector is spoken to", "grpc or http/protobuf"),
    ] = "http/protobuf"
    traces_protocol: Annotated[
        OtlpProtocol | None,
        Variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "otherwise for the traces", "grpc or http/protobuf"),
    ] = None
    metrics_protocol: Annotated[
        OtlpProtocol | None,
        Variable("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "otherwise for the metrics", "grpc or http/protobuf"),
    ] = None
    telemetry_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "headers that the collector is sent, such as its token",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = field(default_factory=dict)
    traces_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "others for the traces",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = field(default_factory=dict)
    metrics_headers: Annotated[
        OtlpHeaders,
        Variable(
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            "others for the metrics",
            "name=value, with commas between, percent-encoded",
            secret=True,
            parse=pairs,
        ),
    ] = field(default_factory=dict)
    telemetry_disabled: Annotated[
        bool,
        Variable(
            "OTEL_SDK_DISABLED",
            "whether nothing is sent, whatever the other variables say",
            "true or false",
            parse=true_or_false,
        ),
    ] = False
    traces_exporter: Annotated[
        tuple[str, ...],
        Variable(
            "OTEL_TRACES_EXPORTER",
            "`none`: no traces are sent; anything else says nothing here",
            "names with commas between",
            parse=names,
        ),
    ] = ()
    metrics_exporter: Annotated[
        tuple[str, ...],
        Variable(
            "OTEL_METRICS_EXPORTER",
            "`none`: no metrics are sent; anything else says nothing here",
            "names with commas between",
            parse=names,
        ),
    ] = ()
    service_name: Annotated[
        NonEmpty,
        Variable("OTEL_SERVICE_NAME", "the name of this gateway in the telemetry", "a name"),
    ] = "ai-gateway"
    telemetry_conventions: Annotated[
        tuple[str, ...],
        Variable(
            "OTEL_SEMCONV_STABILITY_OPT_IN",
            "which names model calls have in the telemetry: `gen_ai_latest_experimental` for those of the latest "
            "conventions, `gen_ai_latest_experimental/dup` for both; unset: those that dashboards read today",
            "names with commas between; those of other areas say nothing here",
            parse=names,
        ),
    ] = ()
    telemetry_content_bytes: Annotated[
        int,
        Meta(ge=0, le=65_536),
        Variable(
            "GATEWAY_TELEMETRY_CONTENT_BYTES",
            "how much of what a provider is sent, and of its answer, a span carries at most; 0: no content is ever in "
            "the telemetry",
            "bytes, 0 to 65536",
        ),
    ] = 0

    @property
    def telemetry(self) -> TelemetrySettings:
        """Return where traces and metrics go, and how."""
        base, is_off = self.telemetry_endpoint, self.telemetry_disabled
        return TelemetrySettings(
            traces=None if is_off else self._signal("traces", base, self.traces_endpoint),
            metrics=None if is_off else self._signal("metrics", base, self.metrics_endpoint),
            service_name=self.service_name,
            opt_in=self.telemetry_conventions,
            content_bytes=self.telemetry_content_bytes,
        )

    def _signal(self, signal: Literal["traces", "metrics"], base: str | None, own: str | None) -> SignalSettings | None:
        """Return where one signal goes; None: nowhere. Over HTTP, the common address lacks the signal's path."""
        exporter: tuple[str, ...] = getattr(self, f"{signal}_exporter")
        if exporter == (_NO_EXPORTER,) or (own is None and base is None):
            return None
        protocol: OtlpProtocol = getattr(self, f"{signal}_protocol") or self.telemetry_protocol
        with_path = f"{base}/v1/{signal}" if protocol == "http/protobuf" else base
        headers: dict[str, str] = getattr(self, f"{signal}_headers") or self.telemetry_headers
        return SignalSettings(
            endpoint=own or with_path or "",
            is_grpc=protocol == "grpc",
            headers={name.lower(): unquote(value) for name, value in headers.items()},
        )
