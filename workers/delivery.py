"""Deliveries of jobs by JetStream: one and its acknowledgement, and the two sets that a worker has of them.

A worker keeps the unacknowledged ones alive, and tells other workers which ones it makes attempts for. Does not read
the jobs.
"""

import asyncio
import math
import threading
import time
from typing import Literal

from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from infra.broker import Broker, BrokerErrors
from infra.jobs import MAX_DELIVERIES, Job, encode_job, message_id_of, provider_share
from infra.reply_subjects import NO, WORKER_ID, YES, claims_subject, holding_subject

IN_PROGRESS = b"+WPI"
MAX_BLOCKED_S = 120.0
"""An event loop that was blocked for so long may never go on: its jobs are left to other workers."""
MAKER_TIMEOUT_S = 0.5
GONE_LOOKS = 2
GONE_PAUSE_S = 0.4
"""Before a worker that does not listen is looked for again: it may be connecting to another server."""
_NANO = 1_000_000_000


Maker = Literal["at work", "silent", "gone"]
"""A worker and its attempt. `silent`: its process has stopped, or cannot be reached; its connections may still be open.
`gone`: it makes the attempt no more, or the process has ended, and its connections with it.
"""


class Delivery:
    """One delivery of a job. `number` counts the deliveries of the same job from 1."""

    def __init__(self, broker: Broker, message: Msg) -> None:
        self._client = broker.client
        self.ack_subject: str | None = message.reply
        """None: the job did not come from the queue, so there is nothing to acknowledge."""
        self.data = message.data
        tokens = message.reply.split(".")
        self.number = int(tokens[4] if len(tokens) < 11 else tokens[6])
        """`$JS.ACK.…` has two more tokens in front of it if the server names domain and account.

        https://docs.nats.io/reference/reference-protocols/nats_api_reference, "$JS.ACK".
        """
        self.message_id = (message.headers or {}).get("Nats-Msg-Id") or message.reply
        """The id of the request, without decoding the job."""
        tokens = message.subject.split(".")
        self.project_id, self.key_id = (tokens[3], tokens[4]) if len(tokens) >= 5 else ("", "")
        """The tenant of the job, without decoding it: see `JobQueue.publish`. An alert has its project."""
        self.provider = ".".join(tokens[5:7])
        """The provider that the job calls first, and its owner: see `provider_share`. Empty for an alert; a job of an
        earlier release has the name alone, or nothing.
        """
        self.has_caller = tokens[1:2] != ["async"]
        """False: a job of the lane for those that no caller waits for."""

    @property
    def is_last(self) -> bool:
        """True if the queue delivers the job no more after this delivery."""
        return self.number >= MAX_DELIVERIES

    def renew(self, later: "Delivery") -> None:
        """Acknowledge a later delivery of the same job instead, if it wants that."""
        if later.ack_subject is not None:
            self.ack_subject, self.number = later.ack_subject, later.number

    async def ack(self) -> None:
        """Remove the job from the queue."""
        await self._acknowledge(b"+ACK")

    async def nak(self, delay_s: float) -> None:
        """Deliver the job again, after a while."""
        await self._acknowledge(b'-NAK {"delay": %d}' % int(delay_s * _NANO))

    async def term(self) -> None:
        """Never deliver the job again."""
        await self._acknowledge(b"+TERM")

    async def in_progress(self) -> None:
        """Postpone the acknowledgement: the job waits here or is being worked on."""
        await self._acknowledge(IN_PROGRESS)

    async def _acknowledge(self, payload: bytes) -> None:
        if self.ack_subject is not None:
            await self._client.publish(self.ack_subject, payload)


class DirectDelivery(Delivery):
    """A job that a worker was given directly, not by the queue. It is delivered once."""

    def __init__(self, broker: Broker, job: Job) -> None:
        self._client = broker.client
        self.ack_subject = None
        self.has_caller = True
        self.data = encode_job(job)
        self.number = 1
        self.message_id = message_id_of(job)
        self.project_id, self.key_id = job.identity.project_id, job.identity.key_id
        self.provider = provider_share(job.identity, needs_own_credential=job.needs_own_credential)


class UnackedDeliveries:
    """The unacknowledged deliveries of a worker, by their acknowledgement subjects. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ack_subjects: set[str] = set()
        self._turned_at = time.monotonic()
        self._beaten_at = -math.inf

    def add(self, ack_subject: str | None) -> None:
        """Send heartbeats for a delivery from now on, if it wants an acknowledgement."""
        if ack_subject is not None:
            with self._lock:
                self._ack_subjects.add(ack_subject)

    def discard(self, ack_subject: str | None) -> None:
        """Send no more heartbeats for a delivery."""
        if ack_subject is not None:
            with self._lock:
                self._ack_subjects.discard(ack_subject)

    @property
    def count(self) -> int:
        """The number of deliveries."""
        return len(self._ack_subjects)

    def beaten(self) -> None:
        """Note that every delivery has just had a heartbeat from the thread."""
        self._beaten_at = time.monotonic()

    def are_beaten_since(self, age_s: float) -> bool:
        """Return True if the thread has sent heartbeats in the last `age_s` seconds."""
        return time.monotonic() - self._beaten_at <= age_s

    @property
    def is_blocked(self) -> bool:
        """True if the event loop is blocked for `MAX_BLOCKED_S`: it may never go on."""
        return time.monotonic() - self._turned_at > MAX_BLOCKED_S

    def loop_turned(self) -> None:
        """Note that the worker's event loop is alive."""
        self._turned_at = time.monotonic()

    def in_progress(self) -> list[str]:
        """Return the deliveries that want a heartbeat; none if the event loop is blocked for `MAX_BLOCKED_S`."""
        if self.is_blocked:
            return []
        with self._lock:
            return list(self._ack_subjects)


class _Making(Struct):
    """A delivery whose attempts are being made, as long as the block runs."""

    deliveries: dict[str, tuple[int, ...]]
    request_id: str
    delivery: int

    def __enter__(self) -> None:
        self.deliveries[self.request_id] = (*self.deliveries.get(self.request_id, ()), self.delivery)

    def __exit__(self, *_: object) -> None:
        left = list(self.deliveries[self.request_id])
        left.remove(self.delivery)
        if left:
            self.deliveries[self.request_id] = tuple(left)
        else:
            del self.deliveries[self.request_id]


class AttemptsInHand:
    """The deliveries for which one worker is making attempts. Other workers ask for them.

    A delivery's heartbeats may have been lost with a connection although its attempt is being made. The worker's
    heartbeat thread answers too (`workers/heartbeat.py`), so that a blocked event loop is not taken for a dead process.
    """

    def __init__(self, broker: Broker, worker_id: str) -> None:
        self._client = broker.client
        self.worker_id = worker_id
        self._deliveries: dict[str, tuple[int, ...]] = {}
        """The numbers of the deliveries whose attempts are being made, by request. Read by two threads."""

    async def listen(self) -> None:
        """Reply to other processes from now on."""
        await self._client.subscribe(claims_subject(self.worker_id), cb=self.reply)
        await self._client.subscribe(holding_subject("*"), cb=self._reply_of_request)

    def making(self, request_id: str, delivery: int) -> "_Making":
        """Report this delivery's attempts as being made until the block ends."""
        return _Making(self._deliveries, request_id, delivery)

    async def maker_of(self, request_id: str, delivery: int, worker_id: str | None) -> Maker:
        """Find out what became of a delivery's attempt, of the worker that claimed it: this one or another."""
        if delivery in self._deliveries.get(request_id, ()):
            return "at work"
        subject, payload = holding_subject(request_id), b"%d" % delivery
        if worker_id is not None and worker_id.startswith(WORKER_ID):
            subject, payload = claims_subject(worker_id), f"{request_id} {delivery}".encode()
        unheard = 0
        for _ in range(GONE_LOOKS):
            asked_s, reconnects = time.monotonic(), self._client.stats["reconnects"]
            try:
                reply = await self._client.request(subject, payload, timeout=MAKER_TIMEOUT_S)
            except NoRespondersError:
                unheard += 1
                if unheard == GONE_LOOKS:
                    return "gone"
                await asyncio.sleep(GONE_PAUSE_S)
            except TimeoutError:
                if time.monotonic() - asked_s <= 2 * MAKER_TIMEOUT_S:
                    return "silent" if await self._is_heard(reconnects) else "at work"
                # else this process has stood still itself: the reply may lie here
            except BrokerErrors:
                break
            else:
                return "at work" if reply.data == YES else "gone"
        return "at work"  # nothing is known: no second call is made on a guess

    async def _is_heard(self, reconnects: int) -> bool:
        """Return True if this process's own server replies, over the connection that it had after so many reconnects.

        If it does not, or if the connection was lost, the question may not have been heard.
        """
        try:  # nats-py's flush does not wait for a server that is away
            await self._client.flush(MAKER_TIMEOUT_S)  # type: ignore[arg-type]  # a float is waited for as well
        except BrokerErrors:
            return False
        return bool(self._client.is_connected and self._client.stats["reconnects"] == reconnects)

    async def reply(self, message: Msg) -> None:
        """Reply if this worker makes the attempts of the delivery that is asked for. For either thread."""
        request_id, _, delivery = message.data.decode("ascii", "replace").partition(" ")
        is_made = delivery.isdecimal() and int(delivery) in self._deliveries.get(request_id, ())
        await message.respond(YES if is_made else NO)

    async def _reply_of_request(self, message: Msg) -> None:
        """Reply to a worker of the release before this one, and to API processes; without a yes they wait in vain."""
        deliveries = self._deliveries.get(message.subject.rpartition(".")[2], ())
        if deliveries and (not message.data or int(message.data) in deliveries):
            await message.respond(YES)
