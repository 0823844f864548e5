"""The queue loop: pulls jobs into free slots, keeps them alive while they are worked on, drains.

One subscription with a callback receives for overlapping pull requests. Whatever may be lost (a pull request, a
heartbeat, the connection, the whole queue) is made good by asking again: the count of open requests is a guess that the
watchdog corrects. Does not know what a job is about: that is `workers/complete.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from infra.broker import Broker, BrokerClosed, BrokerErrors
from infra.jobs import ACK_WAIT_S, MAX_DELIVERIES, STREAM, Job, encode_job

PULL_EXPIRES_S = 30.0
IDLE_HEARTBEAT_S = 1.0
MISSED_HEARTBEATS = 2.5
TICK_S = ACK_WAIT_S / 3
VOID_WAIT_S = 0.25
"""Before asking again when the broker has refused, so that a refusal that lasts is no storm of requests."""
RELEASE_TIMEOUT_S = 5.0
"""How long the broker may take to hand over, at the end, what is already on its way."""
CANCEL_TIMEOUT_S = 5.0
CRASH_DELAY_S = 1.0
MAX_CRASH_DELAY_S = 8.0
PENDING_BYTES_LIMIT = 2 * 1024**3
PENDING_MESSAGES_LIMIT = 1_000_000
_NANO = 1_000_000_000
_ORDINARY_STATUSES = ("100", "404", "408")

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Delivery:
    """One delivery of a job. `number` counts the deliveries of the same job from 1."""

    def __init__(self, broker: Broker, message: Msg) -> None:
        self._client = broker.client
        self._reply = message.reply
        self.data = message.data
        self.number = delivery_number(message.reply)
        self.message_id = (message.headers or {}).get("Nats-Msg-Id", "")
        """The id of the request, without decoding the job."""

    @property
    def is_last(self) -> bool:
        """Whether the queue will give up on the job after this one."""
        return self.number >= MAX_DELIVERIES

    async def ack(self) -> None:
        """The job is done with."""
        await self._client.publish(self._reply, b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Deliver the job again, after a while."""
        await self._client.publish(self._reply, b'-NAK {"delay": %d}' % int(delay_s * _NANO))

    async def term(self) -> None:
        """Never deliver the job again."""
        await self._client.publish(self._reply, b"+TERM")

    async def in_progress(self) -> None:
        """The job is still being worked on."""
        await self._client.publish(self._reply, b"+WPI")


def delivery_number(ack_subject: str) -> int:
    """Read it from `$JS.ACK.…`, which has two tokens more where the server names domain and account.

    https://docs.nats.io/reference/reference-protocols/nats_api_reference, "$JS.ACK".
    """
    tokens = ack_subject.split(".")
    return int(tokens[4] if len(tokens) < 11 else tokens[6])


def asked_after_status(asked: int, headers: Mapping[str, str]) -> int:
    """How many jobs are still asked for after a status message: heartbeats change nothing, an expired request gives
    back what it did not get, anything else voids every request.
    """
    match headers.get("Status"):
        case "100":
            return asked
        case "404" | "408":
            return max(0, asked - int(headers.get("Nats-Pending-Messages", asked)))
        case _:
            return 0


def is_missing(headers: Mapping[str, str]) -> bool:
    """Whether a status message says that the consumer, or its stream, is not there (any more)."""
    status = headers.get("Status")
    return status == "503" or (status == "409" and headers.get("Description", "").startswith("Consumer Deleted"))


def crash_delay_s(delivery: int) -> float:
    """How long a job rests whose handler failed: twice as long each time, up to `MAX_CRASH_DELAY_S`."""
    return min(MAX_CRASH_DELAY_S, CRASH_DELAY_S * 2.0 ** (delivery - 1))


class DirectDelivery(Delivery):
    """A job that came past the queue: there is nothing to acknowledge, and it is delivered here once."""

    def __init__(self, job: Job) -> None:
        self.data = encode_job(job)
        self.number = 1
        self.message_id = job.request_id

    async def ack(self) -> None:
        """Nothing is to be done."""

    async def nak(self, delay_s: float) -> None:
        """Nothing is to be done."""

    async def term(self) -> None:
        """Nothing is to be done."""

    async def in_progress(self) -> None:
        """Nothing is to be done."""


class PullLoop:
    """Keeps `slots` jobs of one lane in hand."""

    def __init__(
        self,
        broker: Broker,
        *,
        consumer: str,
        slots: int,
        handle: Callable[[Delivery], Awaitable[None]],
        restore: Callable[[], Awaitable[None]],
        drain_timeout_s: float,
    ) -> None:
        """Pull for `handle`, which completes a delivery and acknowledges it; an error of it delivers the job again.

        `restore` makes the stream and the consumer where the broker has lost them.
        """
        self._broker = broker
        self._consumer = consumer
        self._slots = slots
        self._handle = handle
        self._restore = restore
        self._drain_timeout_s = drain_timeout_s
        self._in_hand: dict[asyncio.Task[None], Delivery] = {}
        self._asked = 0
        self._heard_at = 0.0
        self._ask = asyncio.Event()
        self._voided = False
        self._missing = False
        self._stopping = False
        self._subscription: Subscription | None = None

    @property
    def free_slots(self) -> int:
        """How many more jobs could be in hand."""
        return self._slots - len(self._in_hand)

    async def run(self, stop: asyncio.Event) -> None:
        """Pull until `stop`, then give back what has not begun and finish what has, for at most the drain time.

        Raises:
            ExceptionGroup[BrokerClosed]: the connection has ended for good.

        """
        client = self._broker.client
        inbox = client.new_inbox()
        self._subscription = await client.subscribe(
            inbox,
            cb=self._receive,
            pending_msgs_limit=PENDING_MESSAGES_LIMIT,
            pending_bytes_limit=PENDING_BYTES_LIMIT,
        )
        self._broker.on_reconnect(self._ask_anew)
        self._ask_anew()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(self._keep_asking(inbox), name="asking for jobs")
            ticking = tasks.create_task(self._keep_alive(), name="keeping jobs alive")
            await stop.wait()
            self._stopping = True
            asking.cancel()
            await self._release(self._subscription)
            await self._drain()
            ticking.cancel()

    async def _keep_asking(self, inbox: str) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}"
        while True:
            await self._ask.wait()
            self._ask.clear()
            if self._voided:
                await self._mend()
            if not self._broker.is_connected:
                continue  # the reconnection asks: what is buffered now would be asked twice
            wanted = self._slots - len(self._in_hand) - self._asked
            if wanted <= 0:
                continue
            self._asked += wanted
            request = {
                "batch": wanted,
                "expires": int(PULL_EXPIRES_S * _NANO),
                "idle_heartbeat": int(IDLE_HEARTBEAT_S * _NANO),
            }
            await self._broker.client.publish(subject, _encode(request), reply=inbox)

    async def _mend(self) -> None:
        """After a refusal: wait a little, and see to it that there is something to ask."""
        self._voided = False
        await asyncio.sleep(VOID_WAIT_S)
        if not self._missing or not self._broker.is_connected:
            return
        self._missing = False
        try:
            await self._restore()
        except BrokerErrors as error:  # still away: asking again leads here again
            log.warning("queue_not_restored", consumer=self._consumer, error=type(error).__name__, message=str(error))

    async def _receive(self, message: Msg) -> None:
        """Take one message of the inbox. Never waits for the work."""
        self._heard_at = time.monotonic()
        if not message.reply:
            self._take_status(message.headers or {})
        else:
            self._asked = max(0, self._asked - 1)
            delivery = Delivery(self._broker, message)
            if self._stopping:
                await delivery.nak(0)
                return
            task = asyncio.get_running_loop().create_task(self._work(delivery))
            self._in_hand[task] = delivery
            task.add_done_callback(self._done)
        self._consider_asking()

    def _take_status(self, headers: Mapping[str, str]) -> None:
        before, self._asked = self._asked, asked_after_status(self._asked, headers)
        if headers.get("Status") not in _ORDINARY_STATUSES:
            self._voided = True
            self._missing = self._missing or is_missing(headers)
            log.info("pull_refused", consumer=self._consumer, status=headers.get("Status"), asked=before)

    async def _work(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except Exception:
            log.exception(
                "job_crashed", request_id=delivery.message_id, delivery=delivery.number, is_last=delivery.is_last
            )
            with suppress(*BrokerErrors):  # unsaid, it comes again for want of an acknowledgement
                if delivery.is_last:
                    await delivery.term()  # left alone it would lie in the stream, delivered no more
                else:
                    await delivery.nak(crash_delay_s(delivery.number))

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._consider_asking()

    def _consider_asking(self) -> None:
        """Ask when half of what could be under way is neither in hand nor asked for."""
        free = self._slots - len(self._in_hand)
        if self._asked <= free // 2:
            self._ask.set()

    def _ask_anew(self) -> None:
        self._asked = 0
        self._heard_at = time.monotonic()
        self._ask.set()

    async def _keep_alive(self) -> None:
        """Say of every job in hand that it is in progress; ask anew when heartbeats stay away."""
        while True:
            await asyncio.sleep(TICK_S)
            if self._broker.is_closed:
                raise BrokerClosed
            for delivery in list(self._in_hand.values()):
                if self._broker.is_connected:
                    await delivery.in_progress()
            if not self._broker.is_connected:
                continue
            if self._asked and time.monotonic() - self._heard_at > IDLE_HEARTBEAT_S * MISSED_HEARTBEATS:
                log.warning("pull_silent", consumer=self._consumer, asked=self._asked)
                self._ask_anew()

    async def _release(self, subscription: Subscription) -> None:
        """End the interest in more; what the broker has already sent goes back to it, for other workers."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it untyped
        except BrokerErrors as error:  # the broker is away: it delivers again what is not acknowledged
            log.warning("release_failed", consumer=self._consumer, error=type(error).__name__)

    async def _drain(self) -> None:
        if not self._in_hand:
            return
        _, late = await asyncio.wait(list(self._in_hand), timeout=self._drain_timeout_s)
        if not late:
            return
        log.warning("drain_timed_out", consumer=self._consumer, jobs=len(late))
        for task in late:
            delivery = self._in_hand[task]
            task.cancel()
            with suppress(*BrokerErrors):
                await delivery.nak(0)
        await asyncio.wait(late, timeout=CANCEL_TIMEOUT_S)
