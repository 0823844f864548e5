"""`/`, `/health`, `/health/live`, `/health/ready` and `/metrics`: for operators, and for clients that look whether
anything answers. Health needs no key; its details and the metrics need the metrics token, or come from this machine
itself if there is none. They show no secret.
"""

import asyncio
from typing import Literal

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Struct, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.guards import may_read_metrics, requires_metrics_access
from api.metrics import Metrics
from api.readiness import LOOK_TIMEOUT_S, Findings, ProjectorState, State
from api.requests import HttpRequest
from api.services import Services
from domain.errors import Unavailable
from domain.money import to_usd
from infra.database import Connection, brief, database_errors
from infra.jobs import Replicas
from infra.merged_figures import merge, read_pages
from infra.probes import Report
from projections.budgets import total_overage
from projections.freshness import lags
from projections.jobs import queue_figures
from projections.quarantine import quarantined_projects


class LiveOut(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadyOut(Struct, kw_only=True, rename="camel"):
    """Readiness to serve requests, and the state of what is needed for it."""

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
    open_circuits: tuple[str, ...] | UnsetType = UNSET
    """The installation's models that are not called at the moment, since their provider does not answer or asks for a
    pause; others are, so the status stays `ok`.
    """


_NOT_READY = ResponseSpec(
    ReadyOut, generate_examples=False, description="The queue is full, or the database or the broker is away"
)


@get(["/", "/health"], include_in_schema=False)
async def get_reachable() -> LiveOut:
    """Return `ok`: clients look whether a base URL answers before they use it, Claude Code with HEAD."""
    return LiveOut()


@get("/health/live", summary="Does the process answer?", operation_id="HealthLiveLive")
async def get_live() -> LiveOut:
    """Return `ok`."""
    return LiveOut()


@get(
    "/health/ready",
    summary="Can requests be served?",
    operation_id="HealthReadyReady",
    responses={503: _NOT_READY},
)
async def get_ready(request: HttpRequest, services: NamedDependency[Services]) -> Response[ReadyOut]:
    """Look at PostgreSQL, NATS, the migrations and the projector."""
    findings = await services.readiness.findings()
    details = (
        {name: getattr(findings, name) for name in Findings.__struct_fields__} if may_read_metrics(request) else {}
    )
    if findings.is_ready:
        return Response(ReadyOut(status="ok", **details))
    return Response(ReadyOut(status="unavailable", **details), status_code=503)


@get("/metrics", media_type=MediaType.TEXT, include_in_schema=False, guards=[requires_metrics_access])
async def get_metrics(services: NamedDependency[Services]) -> Response[bytes]:
    """Return this process's figures, and those of the database; under `gateway up` those of all processes."""
    socket = services.settings.metrics_socket
    page = await figures(services) if socket is None else merge(await read_pages(socket.parent)).encode()
    return Response(page, media_type=CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8"))


async def figures(services: Services) -> bytes:
    """Return this process's figures, and those of the database while it answers, in Prometheus' text format."""
    metrics = services.metrics
    metrics.connections.set(services.connections.count)
    metrics.bytes_in_hand.set(services.byte_budget.in_hand_bytes)
    findings = await services.readiness.findings()
    for part in ("postgresql", "nats", "migrations", "projector"):
        metrics.process.is_up.labels(part).set(getattr(findings, part) == "ok")
    if findings.postgresql != "ok" or not await _take_figures_of_database(services):
        metrics.process.is_up.labels("postgresql").set(False)
        metrics.forget_database()
    await _take_figures_of_queue(services)
    return generate_latest(metrics.registry)


async def _take_figures_of_queue(services: Services) -> None:
    metrics = services.metrics
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S if services.broker.is_connected else 0):
            oldest = await services.queue.oldest()
    except (Unavailable, TimeoutError):
        metrics.forget_queue()
        return
    for lane, age_s in oldest.items():
        metrics.queue_oldest.labels(lane).set(age_s)


async def _take_figures_of_database(services: Services) -> bool:
    """Take them. False: the database has gone away since it was looked at."""
    try:
        async with database_errors(), brief(services.caller_pool, LOOK_TIMEOUT_S) as connection:
            await _show_database(services.metrics, connection)
    except Unavailable:
        return False
    return True


async def _show_database(metrics: Metrics, connection: Connection) -> None:
    for name, lag in (await lags(connection)).items():
        metrics.projection_lag.labels(name).set(lag.events)
        metrics.projection_lag_s.labels(name).set(lag.seconds)
    metrics.quarantined_projects.set(len(await quarantined_projects(connection)))
    queue = await queue_figures(connection)
    metrics.async_jobs.labels("queued").set(queue.queued)
    metrics.async_jobs.labels("running").set(queue.running)
    metrics.async_jobs_oldest.set(queue.oldest_s)
    metrics.overage.set(float(to_usd(await total_overage(connection))))


async def report(services: Services) -> Report:
    """Return the readiness of this process for the probes."""
    findings = await services.readiness.findings()
    return Report(is_ready=findings.is_ready, details=msgspec.to_builtins(findings))


HANDLERS = (get_reachable, get_live, get_ready, get_metrics)
