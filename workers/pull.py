"""Pulls the deliveries of one lane for the pool that runs them (`workers/job_pool.py`), up to a bound.

One subscription with a callback receives for pull requests that overlap. A pull request, a heartbeat, the connection
or the whole queue may be lost: the loop then pulls again, because the number of outstanding jobs is a guess that a
watchdog corrects. It pulls more than there are free slots, so that the pool can choose among more than the head of the
stream; each lane has its own bound, so that no lane keeps another's jobs out. Why not the library's `fetch`:
`docs/decisions/0019-our-own-pull-loop.md`.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from infra.broker import Broker, BrokerClosed, BrokerErrors
from infra.jobs import ACK_WAIT_S, INLINE_BODY_LIMIT_BYTES, STREAM
from workers.delivery import Delivery
from workers.job_pool import Handle, JobPool

PULL_EXPIRES_S = ACK_WAIT_S
"""No longer: a job that came to a worker which has stopped must not come to it again."""
IDLE_HEARTBEAT_S = PULL_EXPIRES_S / 2
"""The most that the server takes."""
MISSED_HEARTBEATS_S = 2.5 * IDLE_HEARTBEAT_S
SILENT_S = 3 * PULL_EXPIRES_S
"""A lane of which nothing was heard for so long gets no jobs."""
LEAST_WATCH_S = IDLE_HEARTBEAT_S / 2
"""Between two looks if heartbeats have stayed away."""
VOID_WAIT_S = 0.25
"""Before the next pull after a refusal, so that a refusal that lasts causes no storm of requests."""
RELEASE_TIMEOUT_S = 5.0
"""How long the broker may take to hand over, at the end, what is already on its way."""
_NANO = 1_000_000_000
_ORDINARY_STATUSES = ("100", "404", "408")

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


def outstanding_after_status(outstanding: int, headers: Mapping[str, str]) -> int:
    """Count the jobs that are outstanding after a status message.

    A heartbeat changes nothing. An expired request gives back what it did not bring. Anything else voids all requests.
    """
    match headers.get("Status"):
        case "100":
            return outstanding
        case "404" | "408":
            return max(0, outstanding - int(headers.get("Nats-Pending-Messages", outstanding)))
        case _:
            return 0


def is_missing(headers: Mapping[str, str]) -> bool:
    """Return True if a status message says that the consumer or its stream does not exist."""
    status = headers.get("Status")
    return status == "503" or (status == "409" and headers.get("Description", "").startswith("Consumer Deleted"))


class PullLoop:
    """Pulls the deliveries of one lane."""

    def __init__(
        self,
        broker: Broker,
        pool: JobPool,
        *,
        consumer: str,
        handle: Handle,
        restore: Callable[[], Awaitable[None]],
        max_waiting: int,
        max_waiting_bytes: int,
    ) -> None:
        """Pull for `handle`, which completes a delivery and acknowledges it; if it raises, the job is delivered again.

        `restore` makes the stream and the consumer again if the broker has lost them. At most `max_waiting` deliveries
        of the lane wait in the pool or are under way, with at most `max_waiting_bytes`; each that is under way counts
        as `INLINE_BODY_LIMIT_BYTES`.
        """
        self._broker = broker
        self._pool = pool
        self._consumer = consumer
        self._handle = handle
        self._restore = restore
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting = 0
        self._waiting_bytes = 0
        self._outstanding = 0
        self._last_message_at = 0.0
        self._heard_at_s = -math.inf
        self._pull_wanted = asyncio.Event()
        self._voided = False
        self._missing = False
        self._subscription: Subscription | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Pull until `stop`; what the broker has already sent goes back to it. The pool drains by itself.

        Raises:
            ExceptionGroup[BrokerClosed]: the connection has ended for good.

        """
        inbox = self._broker.client.new_inbox()
        self._subscription = await self._broker.subscribe_whole(inbox, self._receive)
        self._broker.on_reconnect(self._pull_again)
        self._heard_at_s = time.monotonic()  # from now on the queue has time to answer
        self._pull_again()
        async with asyncio.TaskGroup() as tasks:
            pulling = tasks.create_task(self._send_pulls(inbox), name="pulling jobs")
            watching = tasks.create_task(self._watch(), name="watching the broker")
            await stop.wait()
            pulling.cancel()
            await self._release(self._subscription)
            watching.cancel()

    @property
    def is_pulling(self) -> bool:
        """True if the queue answers this lane's pulls, or as many jobs as may wait are there."""
        if not self._room():
            return True
        return time.monotonic() - self._heard_at_s < SILENT_S

    async def _send_pulls(self, inbox: str) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}"
        while True:
            await self._pull_wanted.wait()
            self._pull_wanted.clear()
            if self._voided:
                await self._recover()
            if not self._broker.is_connected:
                continue  # the reconnection pulls: a request that is buffered now would be sent twice
            wanted = self._room() - self._outstanding
            if wanted <= 0:
                continue
            self._outstanding += wanted
            request = {
                "batch": wanted,
                "expires": int(PULL_EXPIRES_S * _NANO),
                "idle_heartbeat": int(IDLE_HEARTBEAT_S * _NANO),
            }
            await self._broker.client.publish(subject, _encode(request), reply=inbox)

    async def _recover(self) -> None:
        """Wait a little after a refusal, and make the queue again if the broker has lost it."""
        self._voided = False
        await asyncio.sleep(VOID_WAIT_S)
        if not self._missing or not self._broker.is_connected:
            return
        self._missing = False
        try:
            await self._restore()
        except BrokerErrors as error:  # still away: the next pull leads here again
            log.warning("queue_not_restored", consumer=self._consumer, error=type(error).__name__, message=str(error))

    async def _receive(self, message: Msg) -> None:
        """Take one message of the inbox. Never wait for the job that it brings."""
        self._last_message_at = self._heard_at_s = time.monotonic()
        if not message.reply:
            self._take_status(message.headers or {})
        else:
            self._outstanding = max(0, self._outstanding - 1)
            delivery = Delivery(self._broker, message)
            size = len(delivery.data)
            self._waiting += 1
            self._waiting_bytes += size
            if not self._pool.take(delivery, self._handle, partial(self._left_queue, size)):
                await delivery.nak(0)
                return
        self._pull_if_low()

    def _take_status(self, headers: Mapping[str, str]) -> None:
        before, self._outstanding = self._outstanding, outstanding_after_status(self._outstanding, headers)
        if headers.get("Status") not in _ORDINARY_STATUSES:
            self._voided = True
            self._missing = self._missing or is_missing(headers)
            log.info("pull_refused", consumer=self._consumer, status=headers.get("Status"), asked=before)

    def _left_queue(self, size_bytes: int) -> None:
        self._waiting -= 1
        self._waiting_bytes -= size_bytes
        self._pull_if_low()

    def _room(self) -> int:
        """Count how many more deliveries may wait."""
        left_bytes = self._max_waiting_bytes - self._waiting_bytes
        return max(0, min(self._max_waiting - self._waiting, left_bytes // INLINE_BODY_LIMIT_BYTES))

    def _pull_if_low(self) -> None:
        """Pull more if half of what may wait neither waits nor is outstanding."""
        room = self._room()
        if room and self._outstanding <= room // 2:
            self._pull_wanted.set()

    def _pull_again(self) -> None:
        self._outstanding = 0
        self._last_message_at = time.monotonic()
        self._pull_wanted.set()

    async def _watch(self) -> None:
        """Pull again if idle heartbeats stay away. Looks when they would have, and not before."""
        while True:
            due_s = self._last_message_at + MISSED_HEARTBEATS_S
            await asyncio.sleep(max(LEAST_WATCH_S, due_s - time.monotonic()))
            if self._broker.is_closed:
                raise BrokerClosed
            if not self._broker.is_connected:
                continue
            if self._outstanding and time.monotonic() - self._last_message_at >= MISSED_HEARTBEATS_S:
                log.warning("pull_silent", consumer=self._consumer, asked=self._outstanding)
                self._pull_again()

    async def _release(self, subscription: Subscription) -> None:
        """End the subscription; what the broker has already sent goes back to it, for other workers."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it untyped
        except BrokerErrors as error:  # the broker is away: it delivers again what is not acknowledged
            log.warning("release_failed", consumer=self._consumer, error=type(error).__name__)
