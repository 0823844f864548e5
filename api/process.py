"""An API process: wires its parts, serves until it is to stop, finishes what is in flight."""

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog
import uvicorn

from api.accounts import Accounts
from api.admission_controller import AdmissionController
from api.app import create_app
from api.async_jobs.parts import JobParts
from api.async_jobs.runner import JobRunner
from api.async_jobs.running import JobRunning
from api.authentication import Authenticator, Caller
from api.connections import MAX_CONNECTIONS, Connections
from api.credential_admin import CredentialAdmin
from api.dashboard.sessions import SignIns
from api.dispatch import Dispatcher
from api.exports import Exports
from api.health import figures, report
from api.http_protocol import limited_protocol
from api.inference import InferenceService
from api.large_requests import LargeRequests
from api.metrics import Metrics
from api.missing_calls import MissingCalls
from api.observation import NOT_OBSERVED, RequestObserver
from api.pricing import PriceAdmin, refresh_prices
from api.prompt_memory import PromptMemory
from api.provider_health import ProviderHealth
from api.provider_settings import ProviderSettings
from api.readiness import Readiness
from api.refusals import RateRefusals, Refusals
from api.repeated_requests import RepeatedRequests
from api.replays import Replays
from api.reply_recovery import ReplyRecovery
from api.request_planner import RequestPlanner
from api.request_recorder import RequestRecorder
from api.response_cache import MemoryCache, ResponseCache
from api.route_admin import RouteAdmin
from api.services import Services
from domain.dialects.registry import DIALECTS, DialectRegistry
from infra.access_log import AccessLog
from infra.admission import Admission
from infra.blobs import Blobs
from infra.broker import Broker
from infra.byte_budget import ByteBudget
from infra.circuit_news import CircuitNews
from infra.dashboard_sessions import DashboardSessions
from infra.database import (
    REQUEST_COMMAND_TIMEOUT_S,
    START_WAIT_S,
    HeldConnection,
    Pool,
    open_pool,
    open_report_pool,
    warn_about_role,
)
from infra.direct import DirectDispatch
from infra.event_log import EventLog
from infra.ids import new_id
from infra.job_leases import JobLeases
from infra.jobs import JobQueue
from infra.notifications import (
    CALLS_MISSING,
    JOB_CANCELLED,
    KEYS_CHANGED,
    PRICES_CHANGED,
    PROMPTS_COUNTED,
    Notifications,
)
from infra.open_files import allow_connections
from infra.price_book import PriceBook
from infra.probes import Probes
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.replies import ReplyInbox
from infra.settings import Settings
from infra.vault import Vault
from projections.prices import price_overrides

DRAIN_TIMEOUT_S = 20
DATE_INTERVAL_S = 1.0
BACKLOG = 2_048
MAX_UNSENT_BYTES = 128 * 1024
"""The kernel keeps no more for a client that takes nothing; else it would keep megabytes for each."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backends:
    """The connections to PostgreSQL and NATS, and what speaks over them."""

    broker: Broker
    pool: Pool
    report_pool: Pool
    notifications: Notifications
    event_log: EventLog
    admission: Admission
    queue: JobQueue
    inbox: ReplyInbox
    direct: DirectDispatch

    async def close(self) -> None:
        """Close them, those that others need last."""
        await self.inbox.close()
        await self.admission.close()
        await self.event_log.close()
        await self.broker.close()
        await self.report_pool.close()
        await self.pool.close()


async def run(
    settings: Settings, listener: socket.socket, stop: asyncio.Event, *, dialects: DialectRegistry = DIALECTS
) -> None:
    """Serve on `listener` until `stop`."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # accepted connections have it from their listener
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
    backends = await _connect(settings)
    prompts = PromptMemory(backends.notifications.prompt_counted)
    services = _services(settings, backends, dialects, prompts, _observer(settings))
    runner = _job_runner(backends, services)
    recovery = ReplyRecovery(
        event_log=backends.event_log,
        admission=backends.admission,
        queue=backends.queue,
        direct=backends.direct,
        inbox=backends.inbox,
    )
    backends.broker.on_reconnect(recovery.reconnected)
    prices_changed = asyncio.Event()
    await backends.notifications.on_change(KEYS_CHANGED, services.authenticator.forget)
    await backends.notifications.on_change(PRICES_CHANGED, lambda _: prices_changed.set())
    await backends.notifications.on_change(PROMPTS_COUNTED, prompts.take)
    await backends.notifications.on_change(CALLS_MISSING, services.missing_calls.take)
    await backends.notifications.on_change(JOB_CANCELLED, runner.cancel)
    await services.provider_health.listen()
    services.prices.set_overrides(await price_overrides(backends.pool))
    await services.authenticator.prepare()
    probes = Probes.of(settings, report=partial(report, services), metrics=partial(figures, services))
    await probes.serve()
    if services.sign_ins.is_open:
        log.warning(
            "operator_pages_are_open", to="whatever reaches the loopback address", until="GATEWAY_MASTER_KEY is set"
        )
    log.info("api_ready")
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(refresh_prices(backends.pool, services.prices, prices_changed), name="refresh prices"),
            tasks.create_task(services.connections.watch(), name="age connections"),
            tasks.create_task(recovery.run(), name="recover replies"),
        ]
        tasks.create_task(runner.run(stop), name="run jobs")
        await _serve(create_app(services), services, listener, stop)
        for task in background:
            task.cancel()
    services.access_log.close()
    await probes.close()
    await services.authenticator.close()
    await backends.close()
    await services.observer.close()
    log.info("api_stopped")


async def _connect(settings: Settings) -> _Backends:
    assert settings.database_url is not None, "checked by the command"
    name = f"gateway api {socket.gethostname()}:{os.getpid()}"
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, access=settings.nats_access)
    pool = await open_pool(
        settings.database_url, name=name, command_timeout_s=REQUEST_COMMAND_TIMEOUT_S, wait_s=START_WAIT_S
    )
    await warn_about_role(pool)
    report_pool = await open_report_pool(settings.database_url, name=f"{name} reports")
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    await event_log.head()  # the first answers carry it
    admission = Admission(HeldConnection(settings.database_url, name=name), pool, on_append=notifications.appended)
    await asyncio.gather(admission.prepare(), event_log.prepare())
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    inbox = ReplyInbox(broker, new_id("api"))
    await inbox.open()
    return _Backends(
        broker=broker,
        pool=pool,
        report_pool=report_pool,
        notifications=notifications,
        event_log=event_log,
        admission=admission,
        queue=queue,
        inbox=inbox,
        direct=DirectDispatch(broker),
    )


def _observer(settings: Settings) -> RequestObserver:
    """What watches the requests: nobody, unless there is a collector."""
    if not settings.telemetry.is_on:
        return NOT_OBSERVED
    from api.telemetry import RequestTelemetry  # noqa: PLC0415 - OpenTelemetry is imported only where it is on
    from infra.telemetry.provider import Telemetry  # noqa: PLC0415 - as above

    return RequestTelemetry(Telemetry(settings.telemetry, process="api"))


def _services(
    settings: Settings,
    backends: _Backends,
    dialects: DialectRegistry,
    prompts: PromptMemory,
    observer: RequestObserver,
) -> Services:
    assert settings.encryption_key is not None, "checked by the command"
    vault = Vault(settings.encryption_key)
    pool, event_log, announce = backends.pool, backends.event_log, backends.notifications.keys_changed
    authenticator, prices, metrics = Authenticator(pool, vault), PriceBook(), Metrics()
    metrics.process.watch_pool(pool)
    metrics.process.watch_log(event_log)
    metrics.process.watch_batches((event_log.batcher, *backends.admission.batchers))
    large_requests, rate_refusals = LargeRequests(), RateRefusals()
    blobs = Blobs(pool, event_log, vault)

    async def announce_prices() -> None:
        """Have the prices here before whoever has set one is answered."""
        prices.set_overrides(await price_overrides(pool))
        await backends.notifications.prices_changed()

    health = ProviderHealth(CircuitNews(backends.broker))
    planner = RequestPlanner(
        prices=prices,
        dialects=dialects,
        upstream_models=settings.upstream_models,
        request_timeout_s=settings.request_timeout_s,
        prompts=prompts,
        find_route=Caller.route,
        share=health.share,
        installation_keys=settings.provider_keys,
    )
    return Services(
        settings=settings,
        pool=backends.report_pool,
        caller_pool=pool,
        vault=vault,
        broker=backends.broker,
        log=event_log,
        prices=prices,
        accounts=Accounts(pool, event_log, vault, announce),
        provider_settings=ProviderSettings(
            pool, event_log, vault, announce, allow_loopback=settings.allow_loopback_urls
        ),
        provider_health=health,
        authenticator=authenticator,
        sign_ins=SignIns(
            DashboardSessions(pool),
            authenticator,
            vault,
            master_key=settings.master_key,
            keyless=settings.keyless_projects,
        ),
        dialects=dialects,
        inference=_inference(
            settings,
            backends,
            authenticator=authenticator,
            planner=planner,
            blobs=blobs,
            metrics=metrics,
            prompts=prompts,
            large_requests=large_requests,
            rate_refusals=rate_refusals,
            observer=observer,
        ),
        objects=ProviderObjectOwnership(pool),
        repeated_requests=RepeatedRequests(),
        missing_calls=MissingCalls(backends.notifications.call_missing),
        planner=planner,
        large_requests=large_requests,
        metrics=metrics,
        observer=observer,
        access_log=AccessLog(
            settings.access_log,
            settings.log_format,
            secrets=settings.secret_texts,
            on_left_out=lambda reason: metrics.lines_left_out.labels(reason).inc(),
        ),
        rate_refusals=rate_refusals,
        readiness=Readiness(pool, backends.broker, backends.queue, health),
        connections=Connections(
            limit=allow_connections(MAX_CONNECTIONS),
            limit_per_address=settings.max_connections_per_address,
            on_refusal=lambda status: metrics.refused_connections.labels(str(status)).inc(),
        ),
        byte_budget=ByteBudget(settings.max_bytes_in_hand),
        price_admin=PriceAdmin(event_log, announce_prices),
        queue=backends.queue,
        jobs=JobParts(blobs=blobs, cancelled=backends.notifications.job_cancelled),
        credential_admin=CredentialAdmin(pool, event_log, vault, announce),
        exports=Exports(backends.report_pool),
        route_admin=RouteAdmin(
            pool,
            event_log,
            announce,
            upstream_models=settings.upstream_models,
            kinds=dialects.kinds,
            installation_credentials=settings.installation_credentials,
        ),
    )


def _job_runner(backends: _Backends, services: Services) -> JobRunner:
    event_log, blobs, now = backends.event_log, services.jobs.blobs, partial(datetime.now, UTC)
    cache = ResponseCache(log=event_log, blobs=blobs, inbox=backends.inbox, memory=MemoryCache(0), now=now)
    running = JobRunning(
        services=services,
        admission=backends.admission,
        cache=cache,
        blobs=blobs,
        direct=backends.direct,
        now=now,
    )
    leases = JobLeases(backends.pool, f"{socket.gethostname()}:{os.getpid()}:{new_id('run')}")
    inference = services.inference
    assert isinstance(inference, InferenceService), "made by `_inference`"
    runner = JobRunner(
        leases, running.run, slots=services.settings.job_slots, callers=lambda: inference.callers_in_flight
    )
    services.jobs.on_accepted = runner.wake
    return runner


def _inference(
    settings: Settings,
    backends: _Backends,
    *,
    authenticator: Authenticator,
    planner: RequestPlanner,
    blobs: Blobs,
    metrics: Metrics,
    prompts: PromptMemory,
    large_requests: LargeRequests,
    rate_refusals: RateRefusals,
    observer: RequestObserver,
) -> InferenceService:
    event_log, inbox = backends.event_log, backends.inbox
    now = partial(datetime.now, UTC)
    recorder = RequestRecorder(event_log, now)
    cache = ResponseCache(
        log=event_log, blobs=blobs, inbox=inbox, memory=MemoryCache(settings.cache_memory_bytes), now=now
    )
    dispatcher = Dispatcher(
        admission=backends.admission,
        recorder=recorder,
        queue=backends.queue,
        direct=backends.direct,
        inbox=inbox,
        blobs=blobs,
        cache=cache,
        prompts=prompts,
        now=now,
        max_in_flight=settings.max_requests_in_flight,
        observer=observer,
    )
    metrics.in_flight.set_function(lambda: dispatcher.in_flight)
    return InferenceService(
        authenticator=authenticator,
        planner=planner,
        large_requests=large_requests,
        objects=ProviderObjectOwnership(backends.pool),
        cache=cache,
        admission=AdmissionController(admission=backends.admission, inbox=inbox, metrics=metrics, observer=observer),
        refusals=Refusals(recorder=recorder, metrics=metrics, rate_refusals=rate_refusals),
        dispatcher=dispatcher,
        recorder=recorder,
        replays=Replays(
            event_log=event_log,
            blobs=blobs,
            inbox=inbox,
            admission=backends.admission,
            recorder=recorder,
            request_timeout_s=settings.request_timeout_s,
            now=now,
        ),
        event_log=event_log,
        now=now,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which stops when it is told to. Its own loop looks ten times a second if it should."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def main_loop(self) -> None:
        """Renew the `Date` header of responses once a second, until `stop`."""
        while not self._stop.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), DATE_INTERVAL_S)


async def _serve(app: object, services: Services, listener: socket.socket, stop: asyncio.Event) -> None:
    protocol = limited_protocol(services.connections, unread_timeout_s=services.settings.unread_timeout_s)
    server = _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # Litestar's ASGI types and uvicorn's are the same protocol
            interface="asgi3",
            loop="none",
            http=protocol,  # type: ignore[arg-type]  # called like a class, as uvicorn calls it
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        ),
        stop,
    )
    await server._serve(sockets=[listener])  # noqa: SLF001 - `serve` would take the signals from the command
