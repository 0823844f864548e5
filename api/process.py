"""An API process: wires its parts, serves until it is told to stop, finishes what is in flight."""

import asyncio
import os
import socket
from datetime import UTC, datetime

import structlog
import uvicorn

from api.accounts import Accounts
from api.admission_controller import AdmissionController
from api.app import create_app
from api.authentication import Authenticator
from api.connections import Connections, connection_limit
from api.http_protocol import limited_protocol
from api.inference import InferenceService
from api.large_requests import LargeRequests
from api.memory_cache import MemoryCache
from api.metrics import Metrics
from api.pricing import PriceAdmin, refresh_prices
from api.provider_settings import ProviderSettings
from api.rate_refusals import RateRefusals
from api.readiness import Readiness
from api.reply_recovery import ReplyRecovery
from api.request_planner import RequestPlanner
from api.response_cache import ResponseCache
from api.services import Services
from domain.dialects.registry import DIALECTS
from infra.admission import Admission
from infra.blobs import Blobs
from infra.broker import Broker
from infra.byte_budget import ByteBudget
from infra.database import REQUEST_COMMAND_TIMEOUT_S, HeldConnection, open_pool
from infra.direct import DirectDispatch
from infra.event_log import EventLog
from infra.ids import new_id
from infra.jobs import JobQueue
from infra.notifications import KEYS_CHANGED, PRICES_CHANGED, Notifications
from infra.price_book import PriceBook
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.replies import ReplyInbox
from infra.settings import Settings
from infra.vault import Vault
from projections.prices import price_overrides

DRAIN_TIMEOUT_S = 20
BACKLOG = 2_048

log = structlog.get_logger(__name__)


async def run(settings: Settings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on `listener` until `stop`."""
    assert settings.database_url is not None, "checked by the command"
    assert settings.encryption_key is not None, "checked by the command"
    name = f"gateway api {socket.gethostname()}:{os.getpid()}"
    vault = Vault(settings.encryption_key)
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, credentials=settings.nats_credentials)
    pool = await open_pool(settings.database_url, name=name, command_timeout_s=REQUEST_COMMAND_TIMEOUT_S)
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    admission = Admission(HeldConnection(settings.database_url, name=name), pool, on_append=notifications.appended)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    inbox = ReplyInbox(broker, new_id("api"))
    await inbox.open()
    direct = DirectDispatch(broker)
    recovery = ReplyRecovery(event_log=event_log, admission=admission, queue=queue, direct=direct, inbox=inbox)
    broker.on_reconnect(recovery.reconnected)
    authenticator = Authenticator(pool, vault)
    await notifications.on_change(KEYS_CHANGED, authenticator.forget)
    prices = PriceBook()
    metrics = Metrics()
    connections = Connections(
        limit=connection_limit(),
        limit_per_address=settings.max_connections_per_address,
        on_refusal=lambda status: metrics.refused_connections.labels(str(status)).inc(),
    )
    blobs = Blobs(pool, event_log, vault)
    memory = MemoryCache(settings.cache_memory_bytes)
    large_requests, rate_refusals = LargeRequests(), RateRefusals()
    inference = InferenceService(
        authenticator=authenticator,
        event_log=event_log,
        admission=AdmissionController(
            admission=admission, log=event_log, inbox=inbox, metrics=metrics, rate_refusals=rate_refusals, now=_now
        ),
        cache=ResponseCache(log=event_log, blobs=blobs, inbox=inbox, memory=memory, now=_now),
        queue=queue,
        direct=direct,
        inbox=inbox,
        blobs=blobs,
        planner=RequestPlanner(
            prices=prices,
            dialects=DIALECTS,
            upstream_models=settings.upstream_models,
            request_timeout_s=settings.request_timeout_s,
        ),
        large_requests=large_requests,
        objects=ProviderObjectOwnership(pool),
        now=_now,
    )
    services = Services(
        settings=settings,
        pool=pool,
        vault=vault,
        broker=broker,
        log=event_log,
        prices=prices,
        accounts=Accounts(pool, event_log, vault, notifications.keys_changed),
        provider_settings=ProviderSettings(
            pool, event_log, vault, notifications.keys_changed, allow_loopback=settings.allow_loopback_urls
        ),
        authenticator=authenticator,
        dialects=DIALECTS,
        inference=inference,
        large_requests=large_requests,
        metrics=metrics,
        rate_refusals=rate_refusals,
        readiness=Readiness(pool, broker, queue),
        connections=connections,
        byte_budget=ByteBudget(settings.max_bytes_in_hand),
        price_admin=PriceAdmin(event_log, notifications.prices_changed),
    )
    prices_changed = asyncio.Event()
    await notifications.on_change(PRICES_CHANGED, lambda _: prices_changed.set())
    prices.set_overrides(await price_overrides(pool))
    log.info("api_ready")
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(refresh_prices(pool, prices, prices_changed), name="keep prices")
        ageing = tasks.create_task(connections.watch(), name="age connections")
        recovering = tasks.create_task(recovery.run(), name="recover replies")
        await _serve(create_app(services), connections, listener, stop)
        recovering.cancel()
        keeping.cancel()
        ageing.cancel()
    await inbox.close()
    await admission.close()
    await event_log.close()
    await broker.close()
    await pool.close()
    log.info("api_stopped")


def _now() -> datetime:
    return datetime.now(UTC)


async def _serve(app: object, connections: Connections, listener: socket.socket, stop: asyncio.Event) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # Litestar's ASGI types and uvicorn's are the same protocol
            loop="none",
            http=limited_protocol(connections),  # type: ignore[arg-type]  # called like a class, as uvicorn calls it
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        )
    )

    async def stop_server() -> None:
        await stop.wait()
        server.should_exit = True

    stopping = asyncio.create_task(stop_server())
    try:
        await server._serve(sockets=[listener])  # noqa: SLF001 - `serve` would take the signals from the command
    finally:
        stopping.cancel()
