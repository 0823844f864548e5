"""A worker process: wires its parts and pulls jobs until it is stopped."""

import asyncio
import os
import socket
from datetime import UTC, datetime
from functools import partial

import structlog

from domain.dialects.registry import DIALECTS, DialectRegistry
from infra.admission import Claims
from infra.blobs import Blobs
from infra.broker import Broker
from infra.cancellations import CancellationListener
from infra.database import REQUEST_COMMAND_TIMEOUT_S, HeldConnection, open_pool
from infra.direct import DirectJobs
from infra.event_log import EventLog
from infra.jobs import ALERTS_LANE, JobQueue, consumer_name
from infra.notifications import KEYS_CHANGED, Notifications
from infra.provider_keys import ProviderKeys
from infra.reply_sender import ReplySender
from infra.settings import Settings
from infra.vault import Vault
from workers.attempt_recorder import AttemptRecorder
from workers.calls import ProviderCalls
from workers.delivery import AttemptsInHand, DirectDelivery, UnackedDeliveries
from workers.heartbeat import HeartbeatThread
from workers.job_handler import JobHandler
from workers.job_pool import Handle, JobPool
from workers.providers.registry import PROVIDERS, Adapters, make_providers
from workers.providers.sdk import Sessions
from workers.pull import PullLoop
from workers.streaming import StreamedAttempts
from workers.webhooks import AlertWebhooks

DRAIN_TIMEOUT_S = 20.0
ALERT_SLOTS = 8
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of each lane's deliveries that wait for a slot or are under way."""

log = structlog.get_logger(__name__)
_now = partial(datetime.now, UTC)


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    dialects: DialectRegistry = DIALECTS,
    adapters: Adapters = PROVIDERS,
) -> None:
    """Handle jobs until `stop`, then finish those that have begun."""
    assert settings.database_url is not None, "checked by the command"
    assert settings.encryption_key is not None, "checked by the command"
    name = f"gateway worker {socket.gethostname()}:{os.getpid()}"
    vault = Vault(settings.encryption_key)
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, credentials=settings.nats_credentials)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    pool = await open_pool(settings.database_url, name=name, command_timeout_s=REQUEST_COMMAND_TIMEOUT_S)
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    claims = Claims(HeldConnection(settings.database_url, name=name), pool, worker=name)
    blobs = Blobs(pool, event_log, vault)
    keys = ProviderKeys(pool, vault, settings.provider_keys)
    await notifications.on_change(KEYS_CHANGED, keys.forget)
    sessions = Sessions(allow_loopback=settings.allow_loopback_urls)
    calls = ProviderCalls(
        providers=make_providers(sessions, adapters),
        dialects=dialects,
        keys=keys,
        base_urls=settings.provider_base_urls,
        blobs=blobs,
    )
    replies, cancellations = ReplySender(broker), CancellationListener(broker)
    await cancellations.listen()
    await replies.listen()
    attempts = AttemptsInHand(broker)
    await attempts.listen()
    recorder = AttemptRecorder(event_log=event_log, blobs=blobs, replies=replies, now=_now)
    handler = JobHandler(
        event_log=event_log,
        claims=claims,
        calls=calls,
        recorder=recorder,
        streams=StreamedAttempts(calls=calls, recorder=recorder, replies=replies),
        cancellations=cancellations,
        attempts=attempts,
        replies=replies,
        now=_now,
    )
    webhooks = AlertWebhooks(
        pool=pool,
        event_log=event_log,
        vault=vault,
        allow_loopback=settings.allow_loopback_urls,
        now=_now,
    )
    unacked = UnackedDeliveries()
    heartbeats = HeartbeatThread(
        unacked, settings.nats_urls, name=f"{name} heartbeats", credentials=settings.nats_credentials
    )
    heartbeats.start()

    def pool_of(slots: int) -> JobPool:
        return JobPool(broker, unacked, slots=slots, drain_timeout_s=DRAIN_TIMEOUT_S)

    def loop_of(lane: str, jobs: JobPool, handle: Handle, max_waiting: int) -> PullLoop:
        return PullLoop(
            broker,
            jobs,
            consumer=consumer_name(lane),
            handle=handle,
            restore=queue.restore,
            max_waiting=max_waiting,
            max_waiting_bytes=MAX_WAITING_BYTES,
        )

    slots = settings.worker_slots
    interactive, background, alerts = pool_of(slots), pool_of(slots), pool_of(ALERT_SLOTS)
    loops = (
        loop_of("sync", interactive, handler.handle, slots),
        loop_of("bulk", interactive, handler.handle, slots),
        loop_of("async", background, handler.handle, slots),
        loop_of(ALERTS_LANE, alerts, webhooks.tell, ALERT_SLOTS),
    )
    direct = DirectJobs(
        broker,
        take=lambda job: interactive.take_direct(DirectDelivery(broker, job), handler.handle),
        is_in_hand=interactive.is_in_hand,
    )
    log.info("worker_ready", slots=slots)
    async with asyncio.TaskGroup() as tasks:
        for part in (*loops, direct, interactive, background, alerts):
            tasks.create_task(part.run(stop))
    await heartbeats.stop()
    await webhooks.close()
    await sessions.close()
    await claims.close()
    await event_log.close()
    replies.close()
    await broker.close()
    await pool.close()
    log.info("worker_stopped")
