"""The projector process: folds the log, ends overdue attempts, raises alerts, removes expired entries.

Several may run; one of them leads and folds.
"""

import asyncio
import os
import socket
from datetime import UTC, datetime

import structlog

from infra.broker import Broker, BrokerErrors
from infra.database import HeldConnection, open_pool, warn_about_role
from infra.event_log import EventLog
from infra.jobs import JobQueue
from infra.notifications import LOG_APPENDED, Notifications
from infra.reply_sender import ReplySender
from infra.settings import Settings
from projections.alerts import raise_alerts, redeliver
from projections.cache import remove_expired
from projections.registry import FOLDED
from projections.runner import Runner, run_as_leader
from projections.sweeper import sweep

SWEEP_INTERVAL_S = 1.0
ALERT_INTERVAL_S = 1.0
REDELIVER_INTERVAL_S = 300.0
EXPIRY_INTERVAL_S = 30.0
REPLICAS_INTERVAL_S = 30.0

log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the projector until `stop` is set."""
    assert settings.database_url is not None, "checked by the command"
    name = f"gateway projector {socket.gethostname()}:{os.getpid()}"
    broker = Broker()
    await broker.connect(settings.nats_urls, name=name, access=settings.nats_access)
    pool = await open_pool(settings.database_url, name=name)
    await warn_about_role(pool)
    notifications = Notifications(broker)
    event_log = EventLog(pool, HeldConnection(settings.database_url, name=name), on_append=notifications.appended)
    replies = ReplySender(broker)
    queue = JobQueue(broker, replicas=settings.nats_replicas)
    await queue.ensure()
    runner = Runner(pool, event_log, FOLDED)
    await notifications.on_change(LOG_APPENDED, runner.appended)

    async def sweep_once() -> None:
        await sweep(pool, event_log, datetime.now(UTC), replies.send_failed)

    async def alert_once() -> None:
        await raise_alerts(pool, event_log, queue, datetime.now(UTC))

    async def redeliver_once() -> None:
        await redeliver(pool, queue, datetime.now(UTC))

    async def expire_once() -> None:
        await remove_expired(pool)

    async def raise_replicas_once() -> None:
        try:
            await queue.raise_replicas()
        except BrokerErrors as error:  # NATS has no leader at the moment: the next round tries again
            log.info("replicas_not_raised", error=type(error).__name__, message=str(error))

    log.info("projector_ready")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_as_leader(runner, settings.database_url, stop), name="fold")
        tasks.create_task(_every(SWEEP_INTERVAL_S, sweep_once, stop), name="sweep")
        tasks.create_task(_every(ALERT_INTERVAL_S, alert_once, stop), name="alert")
        tasks.create_task(_every(REDELIVER_INTERVAL_S, redeliver_once, stop), name="redeliver alerts")
        tasks.create_task(_every(REPLICAS_INTERVAL_S, raise_replicas_once, stop), name="raise replicas")
        tasks.create_task(_every(EXPIRY_INTERVAL_S, expire_once, stop), name="expire")
    await event_log.close()
    await broker.close()
    await pool.close()
    log.info("projector_stopped")


async def _every(interval_s: float, work, stop: asyncio.Event) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Call `work` every `interval_s` until `stop`. An error is logged, and the next round tries again."""
    while not stop.is_set():
        try:
            await work()
        except Exception:
            log.exception("chore_failed", chore=work.__name__)
        try:
            await asyncio.wait_for(stop.wait(), interval_s)
        except TimeoutError:
            continue
