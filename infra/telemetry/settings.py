"""Where the telemetry goes, and what it may have. Read from the environment by `infra/settings/`."""

from collections.abc import Mapping

from msgspec import Struct

OTEL_PREFIX = "OTEL_"
"""Of OpenTelemetry's variables. They are often set for everything that a machine runs, so may be meant for others."""


class SignalSettings(Struct, frozen=True, kw_only=True):
    """Where the traces go, or the metrics."""

    endpoint: str
    """Over HTTP with its path."""
    is_grpc: bool
    headers: Mapping[str, str]
    """By their names in small letters."""

    def __repr__(self) -> str:
        """Show no header: one may be a token."""
        return f"SignalSettings(endpoint={self.endpoint!r}, is_grpc={self.is_grpc})"


class TelemetrySettings(Struct, frozen=True, kw_only=True):
    """The telemetry of a process."""

    traces: SignalSettings | None
    metrics: SignalSettings | None
    """None: it is not sent."""
    service_name: str
    opt_in: tuple[str, ...]
    """As `conventions_of` reads them."""
    content_bytes: int
    """The most of a request's messages, and of its answer, that a span has; 0: nothing."""

    @property
    def is_on(self) -> bool:
        """True if something is sent."""
        return self.traces is not None or self.metrics is not None
