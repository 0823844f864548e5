"""`/providers/health`: how the providers answer. With the master key all of them, with an admin key those that its
project calls with credentials of its own.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from msgspec import Struct

from api.authentication import Caller
from api.guards import requires_admin_or_operator
from api.native.envelope import Success
from api.native.openapi import KEY_OR_MASTER_KEY
from api.provider_health import CallsState, CircuitHealth, calls_state
from api.requests import HttpRequest
from api.services import Services
from domain.circuit import OpenReason, State
from domain.events import INSTALLATION
from domain.provider_limits import ProviderLimit

_STATES: dict[State, Literal["closed", "open", "halfOpen"]] = {
    "closed": "closed",
    "open": "open",
    "half_open": "halfOpen",
}


class ProviderErrorOut(Struct, kw_only=True):
    """A call that failed."""

    code: str
    """As callers get it: `PROVIDER_UNAVAILABLE`, `PROVIDER_TIMEOUT`, `PROVIDER_RATE_LIMITED` …"""
    status: int | None
    """The provider's HTTP status; null if it did not respond."""
    at: datetime


class ProviderLimitOut(Struct, kw_only=True, rename="camel"):
    """What the provider said of one of its rate limits."""

    kind: str
    remaining: int
    limit: int | None
    resets_at: datetime | None


class LatencyOut(Struct, kw_only=True):
    """Of the last answers, to their last byte, in milliseconds; null if there were none."""

    p50: int | None
    p95: int | None


class ProviderHealthOut(Struct, kw_only=True, rename="camel"):
    """A model at a provider, under one credential."""

    provider: str
    model: str
    """As the provider knows it."""
    scope: Literal["project", "installation"]
    """Whose credential it is."""
    project_id: str | None
    """Of a project's own credential."""
    credential: str | None
    """The key's last characters; null if it is called without one."""
    credential_name: str | None
    """Of one of several credentials."""
    state: Literal["closed", "open", "halfOpen"]
    """`open`: it is not called. `halfOpen`: one call finds out whether it answers again."""
    reason: OpenReason | None
    """Null: closed. `wait_asked`: the provider named a time. `down`: it answered no call. `failing`: it answers too
    few. `credentials`: it refuses the key, or the account is empty.
    """
    since: datetime | None
    """Null: closed for as long as the workers remember."""
    next_probe_in_s: float | None
    """Of an open one."""
    calls: int
    failures: int
    """Of the last minute (GATEWAY_CIRCUIT_WINDOW_S), without requests that were refused for what they said."""
    failure_ratio: float | None
    last_calls: CallsState
    """What the calls of the last minute have met, beside what became of the circuit. `failing`: none was answered.
    `failingPartly`: at least one in twenty failed. `notCalled`: there were none.
    """
    latency_ms: LatencyOut
    last_errors: list[ProviderErrorOut]
    """The newest first."""
    rate_limits: list[ProviderLimitOut]
    """As the provider's last answer told them; empty: it tells none."""


@get(
    "/providers/health",
    summary="How the providers answer",
    operation_id="ApiV1ProvidersHealthEvery",
    guards=[requires_admin_or_operator],
    security=KEY_OR_MASTER_KEY,
)
async def get_provider_health(
    request: HttpRequest, services: NamedDependency[Services]
) -> Success[list[ProviderHealthOut]]:
    """Ask the workers which providers they have called lately, and with what outcome. Empty: none."""
    owner = request.user.project_id if isinstance(request.user, Caller) else None
    return Success(data=[health_out(one) for one in await services.provider_health.of(owner)])


HANDLERS = (get_provider_health,)


def health_out(health: CircuitHealth) -> ProviderHealthOut:
    """A circuit as it is shown."""
    told, key = health.told, health.told.key
    is_shared = key.owner == INSTALLATION
    return ProviderHealthOut(
        provider=key.provider,
        model=key.model,
        scope="installation" if is_shared else "project",
        project_id=None if is_shared else key.owner,
        credential=f"…{health.hint}" if health.hint is not None else None,
        credential_name=key.credential or None,
        state=_STATES[told.state],
        reason=told.reason,
        since=_time(told.since_ms) if told.since_ms else None,
        next_probe_in_s=round(told.until_in_s, 3) if told.state == "open" else None,
        calls=health.calls,
        failures=health.failures,
        failure_ratio=round(health.failures / health.calls, 4) if health.calls else None,
        last_calls=calls_state(health.calls, health.failures),
        latency_ms=LatencyOut(p50=health.p50_ms, p95=health.p95_ms),
        last_errors=[
            ProviderErrorOut(code=error.code, status=error.status, at=_time(error.at_ms))
            for error in health.last_errors
        ],
        rate_limits=[_limit(limit, health.limits_at_ms) for limit in health.limits],
    )


def _limit(limit: ProviderLimit, told_at_ms: int | None) -> ProviderLimitOut:
    resets_at = None
    if limit.reset_s is not None and told_at_ms is not None:
        resets_at = _time(told_at_ms) + timedelta(seconds=limit.reset_s)
    return ProviderLimitOut(kind=limit.kind, remaining=limit.remaining, limit=limit.limit, resets_at=resets_at)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
