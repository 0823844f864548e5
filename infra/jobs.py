"""The job queue on JetStream: the envelope, the stream and its consumers, publishing. Pulling is `workers/pull.py`.

Wiping the stream may cost latency, never a fact: what was admitted stands in PostgreSQL.
"""

import asyncio
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from domain.errors import Overloaded, Unavailable
from domain.events import Operation
from domain.pricing import Price
from domain.routing import Kind
from infra.broker import Broker, BrokerErrors

STREAM = "JOBS"
Lane = Literal["sync", "bulk", "async"]
"""`sync` has the jobs of callers who wait, `bulk` those of callers who have many in flight already, so that the jobs of
others do not stand in line behind a flood. A backlog of jobs that nobody waits for (`async`) never delays a caller.
"""
LANES: tuple[Lane, ...] = ("sync", "bulk", "async")
ALERTS_LANE = "alerts"

INLINE_BODY_LIMIT_BYTES = 512 * 1024
"""A larger body is kept as a blob, and the job says which: the claim check."""
MAX_STREAM_BYTES = 4 * 1024**3
MAX_STREAM_JOBS = 200_000
MAX_JOB_AGE_S = 7 * 24 * 3600.0
"""No request lives that long. It clears away what JetStream has given up on: a job whose last delivery died with its
worker is delivered no more, and stays.
"""
DUPLICATE_WINDOW_S = 120.0
ACK_WAIT_S = 10.0
MAX_DELIVERIES = 5
MAX_ACK_PENDING = 20_000
"""Over the whole pool of workers: more than their slots together, or they idle."""
PUBLISH_TIMEOUT_S = 5.0

_STREAM_FULL = 10077
"""JetStream's code for "maximum messages exceeded"; its sibling for bytes comes with the same code and another text."""


Surface = Literal["native", "openai", "anthropic", "responses"]


class StreamWish(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the caller wants its answer streamed."""

    surface: Surface
    """Whose events they are to be."""
    with_usage: bool = True
    """Whether an OpenAI client asked for the usage."""


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker has to know to answer a request."""

    request_id: str
    project_id: str
    key_id: str
    operation: Operation
    model: str
    provider: str
    kind: Kind
    base_url: str | None = None
    """Of a provider by configuration: where it was when the job was admitted; None: it is built in."""
    upstream_model: str
    price: Price | None
    """What the hold was made for: the answer is costed at it, whatever the price is by then. None: nobody knows one."""
    body: bytes | None
    """The request as JSON; None: it is the blob `body_blob_id`."""
    body_blob_id: str | None = None
    is_wire: bool = False
    """The body is in its provider's own dialect, to be passed on as it is; else it is canonical."""
    needs_own_credential: bool = False
    """It may be asked under a credential of the project's own alone: it was admitted as a call under one."""
    headers: dict[str, str] | None = None
    query: str | None = None
    """What the caller's vendor headers and query say (`anthropic-beta`, `beta=true`), passed on with a wire body."""
    stream: StreamWish | None = None
    """None: the answer is given in one piece."""
    cancel_on_disconnect: bool = False
    """Of an answer in one piece: the call is given up once nothing waits for it."""
    input_bound: int = 0
    output_bound: int = 0
    """The most tokens that the answer can be counted as: for the cost of one that is cut."""
    may_think_unseen: bool = False
    """Whether more output may be charged than is shown: for the same."""
    reply_to: str
    admitted_at_ms: int
    deadline_ms: int
    """Milliseconds since 1970; a job past its deadline is dropped unserved."""
    cache_key: bytes | None = None
    """None: the answer is neither kept nor shared."""
    cache_ttl_s: int = 0
    metadata: dict[str, Any] | None = None


class PublishUnknown(Unavailable):
    """The broker did not confirm the job: it may be in the queue."""


log = structlog.get_logger(__name__)
encode_job = msgspec.msgpack.Encoder().encode
decode_job = msgspec.msgpack.Decoder(Job).decode


def consumer_name(lane: str) -> str:
    """The durable consumer that the workers of a lane share."""
    return f"workers-{lane}"


def job_subject(job: Job, lane: Lane) -> str:
    """A job's subject: the lane's consumer filters by its head, and a worker reads from it whose job it is."""
    return f"jobs.{lane}.{job.operation}.{job.project_id}.{job.key_id}"


class JobQueue:
    """The stream of jobs, as one process sees it."""

    def __init__(self, broker: Broker) -> None:
        self._jetstream = broker.client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._restoring = asyncio.Lock()

    async def ensure(self) -> None:
        """Create the stream and its consumers, or bring them to today's settings. Safe from several processes."""
        stream = StreamConfig(
            name=STREAM,
            subjects=[f"jobs.{lane}.>" for lane in (*LANES, ALERTS_LANE)],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=MAX_STREAM_BYTES,
            max_msgs=MAX_STREAM_JOBS,
            max_age=MAX_JOB_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
        )
        try:
            await self._jetstream.add_stream(stream)
        except APIError:  # it exists with other settings
            await self._jetstream.update_stream(stream)
        for lane in (*LANES, ALERTS_LANE):
            await self._jetstream.add_consumer(
                STREAM,
                ConsumerConfig(
                    durable_name=consumer_name(lane),
                    filter_subject=f"jobs.{lane}.>",
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT_S,
                    max_deliver=MAX_DELIVERIES,
                    max_ack_pending=MAX_ACK_PENDING,
                ),
            )

    async def has_workers(self, lane: Lane = "sync") -> bool:
        """Whether somebody is waiting for the lane's jobs at this moment."""
        try:
            info = await self._jetstream.consumer_info(STREAM, consumer_name(lane))
        except NotFoundError:  # nobody has made the stream yet
            return False
        return bool(info.num_waiting)

    async def publish(self, job: Job, lane: Lane = "sync") -> None:
        """Put a job into its lane; once this returns, the broker has it.

        Raises:
            Overloaded: the stream is full; the job is not in it.
            PublishUnknown: no confirmation came; the job may be in it.

        """
        try:
            try:
                await self._send(job, lane)
            except NoStreamResponseError:  # nobody took it: the broker has lost its store, and is given a new stream
                await self._restore()
                await self._send(job, lane)
        except APIError as error:
            if error.err_code == _STREAM_FULL:
                raise Overloaded("the queue is full", retry_after_s=1) from error
            raise PublishUnknown(f"the queue refused the job: {error.description}", retry_after_s=1) from error
        except (NoStreamResponseError, *BrokerErrors) as error:
            raise PublishUnknown(f"the queue is away: {type(error).__name__}", retry_after_s=1) from error

    async def publish_alert(self, alert: str, message_id: str) -> None:
        """Have somebody told of an alert, by its stream; the same message id again is the same message.

        Raises:
            PublishUnknown: no confirmation came.

        """
        try:
            await self._publish(f"jobs.{ALERTS_LANE}.alert", alert.encode(), message_id)
        except (APIError, NoStreamResponseError, *BrokerErrors) as error:
            raise PublishUnknown(f"the queue is away: {type(error).__name__}", retry_after_s=1) from error

    async def _send(self, job: Job, lane: Lane) -> None:
        await self._publish(job_subject(job, lane), encode_job(job), job.request_id)

    async def _publish(self, subject: str, payload: bytes, message_id: str) -> None:
        await self._jetstream.publish(subject, payload, timeout=PUBLISH_TIMEOUT_S, headers={"Nats-Msg-Id": message_id})

    async def _restore(self) -> None:
        """Make the stream again, once for all who miss it at the same time."""
        if self._restoring.locked():
            async with self._restoring:
                return
        async with self._restoring:
            await self.ensure()
            log.warning("queue_restored")
