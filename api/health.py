"""`/health/live`, `/health/ready` and `/metrics`: for whoever operates the gateway. No key needed, no secret shown."""

from typing import Literal

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.native.envelope import Described, Description
from api.native.headers import JSON
from api.requests import AnyRequest, services_of
from domain.errors import Unavailable
from domain.money import to_usd
from infra.database import database_errors, newest_revision
from projections.budgets import total_overage
from projections.freshness import lags

State = Literal["ok", "away", "outdated"]
_encode = msgspec.json.Encoder().encode


class Alive(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Struct, kw_only=True):
    """Whether requests can be served, and what stands in the way."""

    status: Literal["ok", "unavailable"]
    postgresql: State
    nats: State
    migrations: State


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
        """Ask PostgreSQL, NATS and the migrations."""
        services = services_of(request)
        postgresql, migrations = await _database(services.pool)
        nats: State = "ok" if services.broker.is_connected else "away"
        ok = (postgresql, nats, migrations) == ("ok", "ok", "ok")
        readiness = Readiness(
            status="ok" if ok else "unavailable", postgresql=postgresql, nats=nats, migrations=migrations
        )
        return Response(_encode(readiness), media_type=JSON, status_code=200 if ok else 503)

    @get("/metrics", summary="Figures for Prometheus", media_type=MediaType.TEXT, include_in_schema=False)
    async def figures(request: AnyRequest) -> Response[bytes]:
        """Give this process's figures, and those of the database as it finds them."""
        services = services_of(request)
        metrics = services.metrics
        for name, lag in (await lags(services.pool)).items():
            metrics.projection_lag.labels(name).set(lag)
        metrics.unknown_appends.set(services.log.unknown_outcomes)
        metrics.overage.set(float(to_usd(await total_overage(services.pool))))
        return Response(
            generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
        )

    return [live, ready, figures]


async def _database(pool: object) -> tuple[State, State]:
    try:
        async with database_errors():
            revision = await pool.fetchval("SELECT version_num FROM alembic_version")  # type: ignore[attr-defined]  # asyncpg
    except Unavailable:
        return "away", "away"
    return "ok", "ok" if revision == newest_revision() else "outdated"
