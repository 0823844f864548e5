"""Tells the broker that every unacknowledged delivery is in progress, from a thread of its own.

JetStream delivers a job again if it has no news of it for `ACK_WAIT_S`. A heartbeat must not wait for the work that
it vouches for, so the thread has its own event loop and its own connection to NATS: it goes on while the worker's event
loop is blocked, and answers other workers that ask if an attempt is being made. In a cluster it connects to another
server than the event loop: if one server stands still, the other connection answers for the worker. The thread needs
the interpreter's lock for a moment twice a second; a call of C code that holds the lock for longer than `ACK_WAIT_S`
stops it too, and nothing in a worker makes one.
"""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog
from nats.aio.msg import Msg

from infra.broker import Broker, BrokerErrors
from infra.broker_access import ANONYMOUS, BrokerAccess
from infra.jobs import ACK_WAIT_S
from infra.reply_subjects import claims_subject
from workers.delivery import IN_PROGRESS, AttemptsInHand, UnackedDeliveries

INTERVAL_S = ACK_WAIT_S / 4
RECONNECT_DELAY_S = 0.25
STOP_TIMEOUT_S = 10.0
MAX_MOVES = 10
"""In a row, to find another server than the event loop's. There may be none that can be reached."""
MOVE_PAUSE_S = 30.0
"""Before one more move after so many."""

log = structlog.get_logger(__name__)


class HeartbeatThread:
    """Sends the heartbeats of one process until it is stopped."""

    def __init__(
        self,
        deliveries: UnackedDeliveries,
        urls: Sequence[str],
        *,
        name: str,
        attempts: AttemptsInHand | None = None,
        beside: Broker | None = None,
        access: BrokerAccess = ANONYMOUS,
    ) -> None:
        """Send the heartbeats of `deliveries` over a connection that the server lists under `name`.

        Other workers are answered for `attempts`; None: not by this thread. `beside` is the connection of the worker's
        event loop.
        """
        self._deliveries = deliveries
        self._attempts = attempts
        self._beside = beside
        self._moves, self._moved_at_s = 0, -math.inf
        self.server_id: str | None = None
        """The id of the server that the thread is, or was last, connected to."""
        self._urls = urls
        self._name = name
        self._access = access
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Start the thread. It ends with the process."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep_beating())

    async def _keep_beating(self) -> None:
        while not self._stopping.is_set():
            broker = Broker()
            try:
                await broker.connect(self._urls, name=self._name, access=self._access)
                await self._beat(broker)
            except BrokerErrors as error:  # the worker's event loop sends heartbeats too, meanwhile alone
                log.warning("heartbeats_interrupted", error=type(error).__name__, message=str(error))
            except Exception:  # the thread outlives its faults: without it a blocked event loop loses its jobs
                log.exception("heartbeats_failed")
            finally:
                await broker.close()
            await self._pause(RECONNECT_DELAY_S)

    async def _beat(self, broker: Broker) -> None:
        """Send heartbeats until the thread is stopped or the connection has ended for good."""
        if self._attempts is not None:
            await broker.client.subscribe(claims_subject(self._attempts.worker_id), cb=self._reply)
        while not (self._stopping.is_set() or broker.is_closed):
            self.server_id = broker.server_id
            if broker.is_connected:  # what is buffered for a lost connection would be sent too late
                for ack_subject in self._deliveries.in_progress():
                    await broker.client.publish(ack_subject, IN_PROGRESS)
                self._deliveries.beaten()
                await self._move_away(broker)
            await self._pause(INTERVAL_S)

    async def _move_away(self, broker: Broker) -> None:
        """Look for another server if the event loop's connection has the same one."""
        if self._beside is None or not broker.knows_other_servers or broker.server_id != self._beside.server_id:
            self._moves = 0
        elif self._moves < MAX_MOVES or time.monotonic() - self._moved_at_s > MOVE_PAUSE_S:
            self._moves, self._moved_at_s = self._moves + 1, time.monotonic()
            await broker.leave_server()

    async def _reply(self, message: Msg) -> None:
        if self._attempts is not None and not self._deliveries.is_blocked:
            await self._attempts.reply(message)

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)
