"""A worker: wires its parts, pulls until it is told to stop."""

import asyncio
import os
import socket
from datetime import UTC, datetime

import structlog

from infra.admission import Claims
from infra.blobs import Blobs
from infra.broker import Broker
from infra.cancels import Cancels
from infra.database import REQUEST_COMMAND_TIMEOUT_S, HeldConnection, open_pool
from infra.direct import DirectJobs
from infra.event_log import EventLog
from infra.hints import KEYS_CHANGED, LogHints
from infra.jobs import ALERTS_LANE, LANES, JobQueue, consumer_name
from infra.provider_keys import ProviderKeys
from infra.replies import ReplySender
from infra.settings import Settings
from infra.vault import Vault
from workers.attempts import AttemptsInHand
from workers.books import Books
from workers.calls import ProviderCalls
from workers.complete import Completer
from workers.providers.registry import make_providers
from workers.providers.sessions import Sessions
from workers.pull import DirectDelivery, PullLoop
from workers.streaming import StreamedAttempts
from workers.webhooks import AlertTeller

DRAIN_TIMEOUT_S = 20.0
ALERT_SLOTS = 8

log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Complete jobs until `stop`, then finish those in hand."""
    assert settings.database_url is not None, "checked by the command"
    assert settings.encryption_key is not None, "checked by the command"
    name = f"gateway worker {socket.gethostname()}:{os.getpid()}"
    vault = Vault(settings.encryption_key)
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, credentials=settings.nats_credentials)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    pool = await open_pool(settings.database_url, name=name, command_timeout_s=REQUEST_COMMAND_TIMEOUT_S)
    hints = LogHints(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=hints.appended)
    claims = Claims(HeldConnection(settings.database_url, name=name), pool, worker=name)
    blobs = Blobs(pool, event_log, vault)
    keys = ProviderKeys(pool, vault, settings.provider_keys)
    await hints.on_change(KEYS_CHANGED, keys.forget)
    sessions = Sessions(allow_loopback=settings.allow_loopback_urls)
    calls = ProviderCalls(
        providers=make_providers(sessions), keys=keys, base_urls=settings.provider_base_urls, blobs=blobs
    )
    replies, cancels = ReplySender(broker), Cancels()
    await cancels.listen(broker)
    await replies.listen()
    attempts = AttemptsInHand(broker)
    await attempts.listen()
    books = Books(event_log=event_log, blobs=blobs, replies=replies, now=_now)
    completer = Completer(
        event_log=event_log,
        claims=claims,
        calls=calls,
        books=books,
        streams=StreamedAttempts(calls=calls, books=books, replies=replies, cancels=cancels),
        attempts=attempts,
        replies=replies,
        now=_now,
    )
    teller = AlertTeller(
        pool=pool,
        event_log=event_log,
        vault=vault,
        allow_loopback=settings.allow_loopback_urls,
        now=_now,
    )
    handles = dict.fromkeys(LANES, completer.complete) | {ALERTS_LANE: teller.tell}
    log.info("worker_ready", slots=settings.worker_slots)
    loops: dict[str, PullLoop] = {}
    direct = DirectJobs(
        broker,
        handle=lambda job: completer.complete(DirectDelivery(job)),
        room=lambda: loops["sync"].free_slots,
        drain_timeout_s=DRAIN_TIMEOUT_S,
    )
    async with asyncio.TaskGroup() as lanes:
        for lane, handle in handles.items():
            loop = loops[lane] = PullLoop(
                broker,
                consumer=consumer_name(lane),
                slots=settings.worker_slots if lane in LANES else ALERT_SLOTS,
                handle=handle,
                restore=queue.restore,
                drain_timeout_s=DRAIN_TIMEOUT_S,
            )
            lanes.create_task(loop.run(stop), name=f"lane {lane}")
        lanes.create_task(direct.run(stop), name="direct jobs")
    await teller.close()
    await sessions.close()
    await claims.close()
    await event_log.close()
    replies.close()
    await broker.close()
    await pool.close()
    log.info("worker_stopped")


def _now() -> datetime:
    return datetime.now(UTC)
