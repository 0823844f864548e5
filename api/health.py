"""`/health/live`, `/health/ready` and `/metrics`: for operators. Health needs no key; its details and the metrics need
the metrics token, or come from this machine itself if there is none. They show no secret.
"""

from typing import Literal

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Struct, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.native.envelope import Described, Description
from api.native.headers import JSON
from api.requests import AnyRequest, check_metrics, may_read_metrics, services_of
from domain.errors import Unavailable
from domain.money import to_usd
from infra.database import Pool, database_errors, newest_revision
from projections.budgets import total_overage
from projections.freshness import lags, oldest_unfolded_s
from projections.quarantine import quarantined_projects
from projections.runner import is_led

State = Literal["ok", "away", "outdated"]
ProjectorState = Literal["ok", "away", "behind"]
MAX_UNFOLDED_S = 30.0
"""How old an event may become before it is folded: an everyday fold takes a fraction of a second."""
_encode = msgspec.json.Encoder().encode


class Alive(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Struct, kw_only=True, rename="camel"):
    """Whether requests can be served, and what stands in the way."""

    status: Literal["ok", "unavailable"]
    postgresql: State | UnsetType = UNSET
    """This and what follows: only for callers that may read the metrics."""
    nats: State | UnsetType = UNSET
    migrations: State | UnsetType = UNSET
    projector: ProjectorState | UnsetType = UNSET
    """`away`: no process has the lead. `behind`: it folds nothing, or too slowly."""
    quarantined_projects: int | UnsetType = UNSET
    """Projects whose events cannot be folded; others are not concerned, so the status stays `ok`."""


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The operator's routes."""

    @get(
        "/health/live",
        summary="Does the process answer?",
        operation_class=described.operation(Description(answer=Alive, errors=(), enveloped=False)),
    )
    async def live() -> Response[bytes]:
        """Answer."""
        return Response(_encode(Alive()), media_type=JSON)

    @get(
        "/health/ready",
        summary="Can requests be served?",
        operation_class=described.operation(Description(answer=Readiness, errors=(503,), enveloped=False)),
    )
    async def ready(request: AnyRequest) -> Response[bytes]:
        """Ask PostgreSQL, NATS, the migrations and the projector."""
        services = services_of(request)
        postgresql, migrations = await _database(services.pool)
        nats: State = "ok" if services.broker.is_connected else "away"
        projector, quarantined = await _projector(services.pool) if migrations == "ok" else ("away", 0)
        ok = (postgresql, nats, migrations, projector) == ("ok", "ok", "ok", "ok")
        readiness = Readiness(status="ok" if ok else "unavailable")
        if may_read_metrics(request):
            readiness = Readiness(
                status=readiness.status,
                postgresql=postgresql,
                nats=nats,
                migrations=migrations,
                projector=projector,
                quarantined_projects=quarantined,
            )
        return Response(_encode(readiness), media_type=JSON, status_code=200 if ok else 503)

    @get("/metrics", summary="Figures for Prometheus", media_type=MediaType.TEXT, include_in_schema=False)
    async def figures(request: AnyRequest) -> Response[bytes]:
        """Give this process's figures, and those of the database as it finds them."""
        check_metrics(request)
        services = services_of(request)
        metrics = services.metrics
        for name, lag in (await lags(services.pool)).items():
            metrics.projection_lag.labels(name).set(lag)
        metrics.connections.set(services.connections.count)
        metrics.bytes_in_hand.set(services.byte_budget.in_hand_bytes)
        metrics.unknown_appends.set(services.log.unknown_outcomes)
        metrics.quarantined_projects.set(len(await quarantined_projects(services.pool)))
        metrics.overage.set(float(to_usd(await total_overage(services.pool))))
        return Response(
            generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
        )

    return [live, ready, figures]


async def _projector(pool: Pool) -> tuple[ProjectorState, int]:
    try:
        quarantined = len(await quarantined_projects(pool))
        if not await is_led(pool):
            return "away", quarantined
        unfolded_s = await oldest_unfolded_s(pool)
    except Unavailable:
        return "away", 0
    return "behind" if unfolded_s is not None and unfolded_s > MAX_UNFOLDED_S else "ok", quarantined


async def _database(pool: Pool) -> tuple[State, State]:
    try:
        async with database_errors():
            revision = await pool.fetchval("SELECT version_num FROM alembic_version")
    except Unavailable:
        return "away", "away"
    return "ok", "ok" if revision == newest_revision() else "outdated"
