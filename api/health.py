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
from api.readiness import Findings, ProjectorState, State
from api.requests import HttpRequest, check_metrics, may_read_metrics, services_of
from domain.money import to_usd
from infra.jobs import Replicas
from projections.budgets import total_overage
from projections.freshness import lags
from projections.quarantine import quarantined_projects

_encode = msgspec.json.Encoder().encode


class Alive(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Struct, kw_only=True, rename="camel"):
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
    queue_replicas: Replicas | None | UnsetType = UNSET
    """On how many servers jobs are kept; null while the queue has no leader: jobs go past it then."""


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
        operation_class=described.operation(Description(answer=Ready, errors=(503,), enveloped=False)),
    )
    async def ready(request: HttpRequest) -> Response[bytes]:
        """Look at PostgreSQL, NATS, the migrations and the projector."""
        findings = await services_of(request).readiness.findings()
        shown = (
            {name: getattr(findings, name) for name in Findings.__struct_fields__} if may_read_metrics(request) else {}
        )
        ready = Ready(status="ok" if findings.is_ready else "unavailable", **shown)
        return Response(_encode(ready), media_type=JSON, status_code=200 if findings.is_ready else 503)

    @get("/metrics", summary="Figures for Prometheus", media_type=MediaType.TEXT, include_in_schema=False)
    async def figures(request: HttpRequest) -> Response[bytes]:
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
