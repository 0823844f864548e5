"""The projector process: folds the log, signs its heads, ends overdue attempts, raises alerts, removes expired entries.

Several may run; one of them leads and folds.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import asyncpg
import structlog

from domain.errors import Unavailable
from infra.audit_keys import DERIVED_ADVICE, is_derived, signing_key, trusted_keys
from infra.broker import Broker, BrokerErrors
from infra.database import START_WAIT_S, HeldConnection, Pool, open_pool, warn_about_role
from infra.event_log import EventLog
from infra.head_anchors import AnchorFile, AnchorStore, AnchorWebhook
from infra.job_leases import remove_job_leases
from infra.jobs import JobQueue
from infra.notifications import LOG_APPENDED, Notifications
from infra.object_store import ObjectStore
from infra.presence import IsGone, gone_workers
from infra.probes import Probes
from infra.reply_sender import ReplySender
from infra.settings import Settings
from projections.abandoned import AbandonedRequests
from projections.alerts import raise_alerts, redeliver
from projections.audit_runner import AuditRunner
from projections.cache import MAX_EXPIRED_PER_SWEEP, remove_expired
from projections.figures import ProjectorFigures
from projections.head_signer import HeadSigner
from projections.held import watch_held
from projections.idempotency import remove_expired_keys
from projections.job_ends import JobEnds
from projections.outage import OUTAGES, Outage
from projections.registry import FOLDED
from projections.runner import Runner, run_as_leader
from projections.sweeper import sweep
from projections.watch import Watch, Work

SWEEP_INTERVAL_S = 1.0
ALERT_INTERVAL_S = 1.0
TELL_INTERVAL_S = 1.0
"""The ends of batches, and what webhooks are to be told."""
REDELIVER_INTERVAL_S = 300.0
EXPIRY_INTERVAL_S = 30.0
HELD_INTERVAL_S = 60.0
LAST_HEAD_TIMEOUT_S = 5.0
"""For the head that is signed when the process stops. If it takes longer, the next start signs it."""
REPLICAS_INTERVAL_S = 30.0
AUDIT_INTERVAL_S = 1.0
"""Between two looks if a verification was asked for."""

log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the projector until `stop` is set."""
    assert settings.database_url is not None, "checked by the command"
    name = f"gateway projector {socket.gethostname()}:{os.getpid()}"
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, access=settings.nats_access)
    pool = await open_pool(settings.database_url, name=name, wait_s=START_WAIT_S)
    await warn_about_role(pool)
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    replies = ReplySender(broker)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    figures = ProjectorFigures()
    figures.process.watch_pool(pool)
    figures.process.watch_batches((event_log.batcher,))
    figures.process.watch_log(event_log)
    runner, outage = Runner(pool, event_log, FOLDED, on_fold=figures.on_fold), Outage()
    await notifications.on_change(LOG_APPENDED, runner.appended)

    signer, audits = _head_signer(settings, pool), AuditRunner(pool)

    async def raise_replicas_once() -> None:
        await _raise_replicas(queue)

    watch = Watch(pool, broker, runner, signer, figures)
    probes = Probes.of(settings, report=watch.report, metrics=watch.metrics)
    await probes.serve()
    log.info("projector_ready")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_as_leader(runner, settings.database_url, stop, outage=outage), name="fold")
        tasks.create_task(_every(REPLICAS_INTERVAL_S, raise_replicas_once, stop, outage), name="raise replicas")
        for interval_s, chore in (
            *_chores(settings, pool, event_log, queue, replies, signer, gone_workers(broker)),
            (AUDIT_INTERVAL_S, audits.look),
        ):
            tasks.create_task(_every(interval_s, watch.chore(interval_s, chore), stop, outage), name=chore.__name__)
    await audits.stop()
    await _sign_last(signer)
    for part in (probes, event_log, broker, pool):
        await part.close()
    log.info("projector_stopped")


async def _raise_replicas(queue: JobQueue) -> None:
    try:
        await queue.raise_replicas()
    except BrokerErrors as error:  # NATS has no leader at the moment: the next round tries again
        log.info("replicas_not_raised", error=type(error).__name__, message=str(error))


def _chores(
    settings: Settings,
    pool: Pool,
    event_log: EventLog,
    queue: JobQueue,
    replies: ReplySender,
    signer: HeadSigner,
    is_gone: IsGone,
) -> tuple[tuple[float, Callable[[], Awaitable[None]]], ...]:
    """Return what is done again and again beside folding, each with its interval in seconds."""

    async def sweep_once() -> None:
        await sweep(pool, event_log, datetime.now(UTC), replies.send_failed, is_gone=is_gone)

    abandoned = AbandonedRequests(pool, listens=replies.listens, now=partial(datetime.now, UTC))

    async def end_abandoned_once() -> None:
        await abandoned.end()

    async def alert_once() -> None:
        await raise_alerts(pool, event_log, queue, datetime.now(UTC))

    async def redeliver_once() -> None:
        await redeliver(pool, queue, datetime.now(UTC))

    async def expire_once() -> None:
        await remove_expired(pool)
        await remove_expired_keys(
            pool, max_answers=settings.idempotency_max_answers, max_bytes=settings.idempotency_max_bytes
        )
        await remove_job_leases(pool, MAX_EXPIRED_PER_SWEEP)

    async def watch_held_once() -> None:
        await watch_held(pool, datetime.now(UTC))

    return (
        (TELL_INTERVAL_S, JobEnds(pool, event_log, queue).tell_once),
        (SWEEP_INTERVAL_S, sweep_once),
        (SWEEP_INTERVAL_S, end_abandoned_once),
        (ALERT_INTERVAL_S, alert_once),
        (REDELIVER_INTERVAL_S, redeliver_once),
        (EXPIRY_INTERVAL_S, expire_once),
        (HELD_INTERVAL_S, watch_held_once),
        (settings.audit_interval_s, signer.sign_if_due),
    )


def _head_signer(settings: Settings, pool: Pool) -> HeadSigner:
    key = signing_key(settings)
    assert key is not None, "derived from the encryption key, which the command has checked"
    log.info("log_heads_are_signed", key_id=key.key_id)
    if is_derived(settings, key):
        log.warning("log_key_is_derived", advice=DERIVED_ADVICE)
    return HeadSigner(
        pool,
        key=key,
        trusted=trusted_keys(settings),
        interval_s=settings.audit_interval_s,
        now=partial(datetime.now, UTC),
        file=AnchorFile(settings.audit_anchor_file) if settings.audit_anchor_file is not None else None,
        others=[
            *([AnchorWebhook(settings.audit_webhook)] if settings.audit_webhook is not None else []),
            *(
                [AnchorStore(ObjectStore.of(settings.audit_object_store))]
                if settings.audit_object_store is not None
                else []
            ),
        ],
    )


async def _sign_last(signer: HeadSigner) -> None:
    """Sign what was appended since the last interval: nothing else signs until the next start."""
    try:
        async with asyncio.timeout(LAST_HEAD_TIMEOUT_S):
            await signer.sign()
    except (TimeoutError, Unavailable, asyncpg.PostgresError, OSError) as error:
        log.warning("last_head_not_signed", error=type(error).__name__)


async def _every(interval_s: float, work: Work, stop: asyncio.Event, outage: Outage) -> None:
    """Call `work` every `interval_s` until `stop`. An error is logged, and the next round tries again."""
    while not stop.is_set():
        try:
            await work()
            outage.is_over(work.__name__)
        except OUTAGES as error:
            outage.note(work.__name__, error)
        except Exception:
            log.exception("chore_failed", chore=work.__name__)
        try:
            await asyncio.wait_for(stop.wait(), interval_s)
        except TimeoutError:
            continue
