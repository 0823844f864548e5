"""The queue loop: pulls jobs into free slots, keeps them alive while they are worked on, drains.

One subscription with a callback receives for overlapping pull requests. Whatever may be lost (a pull request, a
heartbeat, the connection) is made good by asking again: the count of open requests is a guess that the watchdog
corrects.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from infra.broker import Broker
from infra.jobs import ACK_WAIT_S, MAX_DELIVERIES, STREAM

PULL_EXPIRES_S = 30.0
IDLE_HEARTBEAT_S = 5.0
MISSED_HEARTBEATS = 2.5
TICK_S = ACK_WAIT_S / 3
CRASH_DELAY_S = 1.0
PENDING_BYTES_LIMIT = 2 * 1024**3
PENDING_MESSAGES_LIMIT = 1_000_000
_NANO = 1_000_000_000

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Delivery:
    """One delivery of a job. `number` counts the deliveries of the same job from 1."""

    def __init__(self, broker: Broker, message: Msg) -> None:
        self._client = broker.client
        self._reply = message.reply
        self.data = message.data
        self.number = delivery_number(message.reply)

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


class PullLoop:
    """Keeps `slots` jobs of one lane in hand."""

    def __init__(
        self,
        broker: Broker,
        *,
        consumer: str,
        slots: int,
        handle: Callable[[Delivery], Awaitable[None]],
        drain_timeout_s: float,
    ) -> None:
        """Pull for `handle`, which completes a delivery and acknowledges it; an error of it delivers the job again."""
        self._broker = broker
        self._consumer = consumer
        self._slots = slots
        self._handle = handle
        self._drain_timeout_s = drain_timeout_s
        self._in_hand: dict[asyncio.Task[None], Delivery] = {}
        self._asked = 0
        self._heard_at = 0.0
        self._ask = asyncio.Event()
        self._subscription: Subscription | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Pull until `stop`, then finish what has begun, for at most the drain time."""
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
            asking.cancel()
            await self._subscription.unsubscribe()
            await self._drain()
            ticking.cancel()

    async def _keep_asking(self, inbox: str) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}"
        while True:
            await self._ask.wait()
            self._ask.clear()
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

    async def _receive(self, message: Msg) -> None:
        """Take one message of the inbox. Never waits for the work."""
        self._heard_at = time.monotonic()
        if not message.reply:
            self._asked = asked_after_status(self._asked, message.headers or {})
        else:
            self._asked = max(0, self._asked - 1)
            delivery = Delivery(self._broker, message)
            task = asyncio.get_running_loop().create_task(self._work(delivery))
            self._in_hand[task] = delivery
            task.add_done_callback(self._done)
        self._consider_asking()

    async def _work(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except Exception:
            log.exception("job_crashed", delivery=delivery.number)
            await delivery.nak(CRASH_DELAY_S)

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
            if not self._broker.is_connected:
                continue
            for delivery in list(self._in_hand.values()):
                await delivery.in_progress()
            if self._asked and time.monotonic() - self._heard_at > IDLE_HEARTBEAT_S * MISSED_HEARTBEATS:
                log.warning("pull_silent", consumer=self._consumer, asked=self._asked)
                self._ask_anew()

    async def _drain(self) -> None:
        if not self._in_hand:
            return
        _, late = await asyncio.wait(list(self._in_hand), timeout=self._drain_timeout_s)
        for task in late:
            delivery = self._in_hand[task]
            task.cancel()
            await delivery.nak(0)
        if late:
            log.warning("drain_timed_out", jobs=len(late))
            await asyncio.wait(late)
