"""Deliveries of jobs by JetStream: one and its acknowledgement, and the two sets that a worker has of them.

A worker keeps the unacknowledged ones alive, and tells other workers which ones it makes attempts for. Does not read
the jobs.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg

from infra.broker import Broker, BrokerErrors
from infra.jobs import MAX_DELIVERIES, Job, encode_job, message_id_of
from infra.reply_subjects import YES, holding_subject

IN_PROGRESS = b"+WPI"
MAX_BLOCKED_S = 120.0
"""An event loop that was blocked for so long may never go on: its jobs are left to other workers."""
HOLDER_TIMEOUT_S = 0.5
_NANO = 1_000_000_000


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
        self.project_id, self.key_id = (tokens[3], tokens[4]) if len(tokens) == 5 else ("", "")
        """The tenant of the job, without decoding it: see `JobQueue.publish`. An alert has its project."""

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
        self.data = encode_job(job)
        self.number = 1
        self.message_id = message_id_of(job)
        self.project_id, self.key_id = job.identity.project_id, job.identity.key_id


class UnackedDeliveries:
    """The unacknowledged deliveries of a worker, by their acknowledgement subjects. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ack_subjects: set[str] = set()
        self._turned_at = time.monotonic()

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

    def loop_turned(self) -> None:
        """Note that the worker's event loop is alive."""
        self._turned_at = time.monotonic()

    def in_progress(self) -> list[str]:
        """Return the deliveries that want a heartbeat; none if the event loop is blocked for `MAX_BLOCKED_S`."""
        if time.monotonic() - self._turned_at > MAX_BLOCKED_S:
            return []
        with self._lock:
            return list(self._ack_subjects)


class AttemptsInHand:
    """The deliveries for which one worker is making attempts. Other workers report theirs on request.

    A delivery's heartbeats may have been lost with a connection although its attempt is being made.
    """

    def __init__(self, broker: Broker) -> None:
        self._client = broker.client
        self._deliveries: dict[str, list[int]] = {}
        """The numbers of the deliveries whose attempts are being made, by request."""

    async def listen(self) -> None:
        """Reply to other processes from now on."""
        await self._client.subscribe(holding_subject("*"), cb=self._reply)

    @contextmanager
    def making(self, request_id: str, delivery: int) -> Iterator[None]:
        """Report this delivery's attempts as being made until the block ends."""
        deliveries = self._deliveries.setdefault(request_id, [])
        deliveries.append(delivery)
        try:
            yield
        finally:
            deliveries.remove(delivery)
            if not deliveries:
                del self._deliveries[request_id]

    async def are_made(self, request_id: str, delivery: int) -> bool:
        """Return True if a worker, this one or another, makes the attempts of this delivery."""
        if delivery in self._deliveries.get(request_id, ()):
            return True
        try:
            await self._client.request(holding_subject(request_id), b"%d" % delivery, timeout=HOLDER_TIMEOUT_S)
        except BrokerErrors:
            return False
        return True

    async def _reply(self, message: Msg) -> None:
        deliveries = self._deliveries.get(message.subject.rpartition(".")[2], ())
        if deliveries and (not message.data or int(message.data) in deliveries):
            await message.respond(YES)
