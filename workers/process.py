"""A worker process: wires its parts and pulls jobs until it is stopped."""

import asyncio
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from domain.dialects.registry import DIALECTS, DialectRegistry
from domain.routing import Kind
from infra.admission import Claims
from infra.blobs import Blobs
from infra.broker import Broker
from infra.cancellations import CancellationListener
from infra.circuit_news import CircuitNews
from infra.database import REQUEST_COMMAND_TIMEOUT_S, START_WAIT_S, HeldConnection, Pool, open_pool, warn_about_role
from infra.direct import DirectJobs
from infra.event_log import EventLog
from infra.ids import new_id
from infra.jobs import ALERTS_LANE, WEBHOOKS_LANE, JobQueue, consumer_name
from infra.notifications import KEYS_CHANGED, Notifications
from infra.open_files import allow_connections
from infra.probes import Probes
from infra.provider_keys import ProviderKeys
from infra.reply_sender import ReplySender
from infra.reply_subjects import WORKER_ID
from infra.settings import Settings
from infra.vault import Vault
from projections.alerts import MAX_QUEUED_PER_PROJECT
from workers.attempt_recorder import AttemptRecorder
from workers.calls import ProviderCalls
from workers.circuit_exchange import CircuitExchange
from workers.circuits import CircuitBreaker, Circuits
from workers.delivery import AttemptsInHand, DirectDelivery, UnackedDeliveries
from workers.fair_queue import PROJECT_FACTOR
from workers.figures import CountedCalls, WorkerFigures, WorkerInstruments
from workers.heartbeat import HeartbeatThread
from workers.job_handler import JobHandler
from workers.job_pool import Handle, JobPool
from workers.lost_attempts import LostAttempts
from workers.observation import NOT_OBSERVED, JobObserver
from workers.progress import ProgressReports
from workers.providers.http import Sessions
from workers.providers.provider import Provider
from workers.providers.registry import PROVIDERS, Adapters, make_providers
from workers.pull import PullLoop
from workers.settlements import Settlements
from workers.streaming import StreamedAttempts
from workers.webhooks import SLOTS as WEBHOOK_SLOTS
from workers.webhooks import AlertWebhooks, JobWebhooks, WebhookSender

DRAIN_TIMEOUT_S = 20.0
POOLS_OF_CALLS = 2
"""One pool has the jobs whose callers wait, the other has the asynchronous ones. Each has as many slots."""
OPEN_FOR_A_CALL = 2
"""Connections: one in use, and one that is kept for the next call of another provider."""
ALERT_PROJECT_FACTOR = 1
"""A project whose receiver hangs has half of the slots, two have a third each: others find one free."""
MAX_WAITING_ALERTS = 8 * MAX_QUEUED_PER_PROJECT
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of each lane's deliveries that wait for a slot or are under way."""

log = structlog.get_logger(__name__)
_now = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backends:
    """The connections to PostgreSQL and NATS, and what speaks over them."""

    broker: Broker
    pool: Pool
    notifications: Notifications
    event_log: EventLog
    claims: Claims
    queue: JobQueue
    replies: ReplySender
    cancellations: CancellationListener
    attempts: AttemptsInHand
    progress: ProgressReports
    keys: ProviderKeys
    vault: Vault

    async def close(self) -> None:
        """Close them, those that others need last."""
        await self.claims.close()
        await self.event_log.close()
        self.replies.close()
        await self.broker.close()
        await self.pool.close()


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    dialects: DialectRegistry = DIALECTS,
    adapters: Adapters = PROVIDERS,
) -> None:
    """Handle jobs until `stop`, then finish those that have begun."""
    name = f"gateway worker {socket.gethostname()}:{os.getpid()}"
    backends = await _connect(settings, name)
    sessions = Sessions(
        allow_loopback=settings.allow_loopback_urls, max_connections=connections_of(settings.worker_slots)
    )
    pool, event_log = backends.pool, backends.event_log
    sender = WebhookSender(pool=pool, vault=backends.vault, allow_loopback=settings.allow_loopback_urls, now=_now)
    alerts = AlertWebhooks(pool=pool, event_log=event_log, sender=sender, now=_now)
    job_ends = JobWebhooks(pool=pool, event_log=event_log, sender=sender, now=_now)
    changed = asyncio.Event()
    news = CircuitNews(backends.broker)
    circuits = Circuits(settings.circuits, worker=name, claim=news.claim_probe, on_change=changed.set)
    await backends.notifications.on_change(KEYS_CHANGED, circuits.forget)
    instruments = _instruments(backends)
    counted, observer = CountedCalls(circuits, instruments), _observer(settings)
    calls = _calls(settings, backends, make_providers(sessions, adapters), dialects, counted)
    settlements = Settlements(pool=pool, calls=calls, event_log=event_log, now=_now)
    handler = _job_handler(backends, calls, observer)
    unacked = UnackedDeliveries()
    heartbeats = HeartbeatThread(
        unacked,
        settings.nats_urls,
        name=f"{name} heartbeats",
        attempts=backends.attempts,
        beside=backends.broker,
        access=settings.nats_access,
    )
    heartbeats.start()
    figures = WorkerFigures(backends.pool, backends.broker, backends.queue, unacked, circuits, stop, instruments)
    exchange = CircuitExchange(
        circuits, news, backends.event_log, changed=changed, openings=instruments.circuit_openings
    )
    probes = Probes.of(settings, report=figures.report, metrics=figures.metrics)
    await probes.serve()
    await _serve(
        settings.worker_slots, backends, handler, alerts, job_ends, unacked, exchange, settlements, figures, stop
    )
    await probes.close()
    await heartbeats.stop()
    await sender.close()
    await sessions.close()
    await backends.close()
    await observer.close()
    log.info("worker_stopped")


def connections_of(slots: int) -> int:
    """Return how many connections each session of a worker may use: one for a call, if so many files may be open."""
    calls = POOLS_OF_CALLS * slots
    connections = min(calls, allow_connections(OPEN_FOR_A_CALL * calls))
    if connections < calls:
        log.warning(
            "few_open_files",
            message=f"calls wait for each other: {calls} may be under way, but the limit of open files allows fewer",
            connections=connections,
        )
    return connections


async def _connect(settings: Settings, name: str) -> _Backends:
    assert settings.database_url is not None, "checked by the command"
    assert settings.encryption_key is not None, "checked by the command"
    vault = Vault(settings.encryption_key)
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, access=settings.nats_access)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    pool = await open_pool(
        settings.database_url, name=name, command_timeout_s=REQUEST_COMMAND_TIMEOUT_S, wait_s=START_WAIT_S
    )
    await warn_about_role(pool)
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    keys = ProviderKeys(pool, vault, settings.provider_keys, settings.further_provider_keys)
    await notifications.on_change(KEYS_CHANGED, keys.forget)
    worker_id = new_id(WORKER_ID)
    claims = Claims(HeldConnection(settings.database_url, name=name), pool, worker=worker_id)
    await asyncio.gather(claims.prepare(), event_log.prepare(), keys.prepare())
    replies, cancellations = ReplySender(broker), CancellationListener(broker)
    attempts = AttemptsInHand(broker, worker_id)
    await cancellations.listen()
    await replies.listen()
    await attempts.listen()
    return _Backends(
        broker=broker,
        pool=pool,
        notifications=notifications,
        event_log=event_log,
        claims=claims,
        queue=queue,
        replies=replies,
        cancellations=cancellations,
        attempts=attempts,
        progress=ProgressReports(claims),
        keys=keys,
        vault=vault,
    )


def _instruments(backends: _Backends) -> WorkerInstruments:
    instruments, event_log = WorkerInstruments(), backends.event_log
    instruments.process.watch_pool(backends.pool)
    instruments.process.watch_batches((event_log.batcher, *backends.claims.batchers))
    instruments.process.watch_log(event_log)
    return instruments


def _calls(
    settings: Settings,
    backends: _Backends,
    providers: Mapping[Kind, Provider],
    dialects: DialectRegistry,
    circuits: CircuitBreaker,
) -> ProviderCalls:
    return ProviderCalls(
        providers=providers,
        dialects=dialects,
        keys=backends.keys,
        base_urls=settings.provider_base_urls,
        blobs=Blobs(backends.pool, backends.event_log, backends.vault),
        circuits=circuits,
    )


def _job_handler(backends: _Backends, calls: ProviderCalls, observer: JobObserver) -> JobHandler:
    event_log, replies = backends.event_log, backends.replies
    blobs = Blobs(backends.pool, event_log, backends.vault)
    recorder = AttemptRecorder(event_log=event_log, blobs=blobs, replies=replies, now=_now)
    return JobHandler(
        event_log=event_log,
        claims=backends.claims,
        calls=calls,
        recorder=recorder,
        streams=StreamedAttempts(calls=calls, recorder=recorder, replies=replies, progress=backends.progress),
        cancellations=backends.cancellations,
        attempts=backends.attempts,
        lost_attempts=LostAttempts(backends.pool, event_log),
        replies=replies,
        now=_now,
        observer=observer,
    )


def _observer(settings: Settings) -> JobObserver:
    """What watches the jobs: nobody, unless there is a collector."""
    if not settings.telemetry.is_on:
        return NOT_OBSERVED
    from infra.telemetry.provider import Telemetry  # noqa: PLC0415 - OpenTelemetry is imported only where it is on
    from workers.telemetry import JobTelemetry  # noqa: PLC0415 - as above

    return JobTelemetry(Telemetry(settings.telemetry, process="worker"))


async def _serve(
    slots: int,
    backends: _Backends,
    handler: JobHandler,
    alerts: AlertWebhooks,
    job_ends: JobWebhooks,
    unacked: UnackedDeliveries,
    exchange: CircuitExchange,
    settlements: Settlements,
    figures: WorkerFigures,
    stop: asyncio.Event,
) -> None:
    """Pull every lane, and take direct jobs, until `stop`; then wait for the jobs that have begun."""
    broker = backends.broker

    def pool_of(slots: int, project_factor: int = PROJECT_FACTOR) -> JobPool:
        return JobPool(broker, unacked, slots=slots, drain_timeout_s=DRAIN_TIMEOUT_S, project_factor=project_factor)

    def loop_of(lane: str, jobs: JobPool, handle: Handle, max_waiting: int) -> PullLoop:
        return PullLoop(
            broker,
            jobs,
            consumer=consumer_name(lane),
            handle=handle,
            restore=backends.queue.restore,
            max_waiting=max_waiting,
            max_waiting_bytes=MAX_WAITING_BYTES,
        )

    interactive, background = pool_of(slots), pool_of(slots)
    alert_pool, end_pool = (pool_of(WEBHOOK_SLOTS, ALERT_PROJECT_FACTOR) for _ in range(2))
    loops = (
        loop_of("sync", interactive, handler.handle, slots),
        loop_of("bulk", interactive, handler.handle, slots),
        loop_of("async", background, handler.handle, slots),
        loop_of(ALERTS_LANE, alert_pool, alerts.deliver, MAX_WAITING_ALERTS),
        loop_of(WEBHOOKS_LANE, end_pool, job_ends.deliver, MAX_WAITING_ALERTS),
    )
    figures.loops = loops
    figures.pools = {"interactive": interactive, "jobs": background, "alerts": alert_pool, "webhooks": end_pool}
    direct = DirectJobs(
        broker,
        take=lambda job: interactive.take_direct(DirectDelivery(broker, job), handler.handle),
        is_in_hand=interactive.is_in_hand,
    )
    log.info("worker_ready", slots=slots, worker_id=backends.attempts.worker_id)
    async with asyncio.TaskGroup() as tasks:
        for part in (
            *loops,
            direct,
            interactive,
            background,
            alert_pool,
            end_pool,
            exchange,
            backends.progress,
            settlements,
        ):
            tasks.create_task(part.run(stop))
