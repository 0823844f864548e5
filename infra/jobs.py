"""The job queue on JetStream: the job, the stream and its consumers, publishing. `workers/pull.py` pulls.

If the stream is lost, requests take longer, but no fact is lost: PostgreSQL has every admitted request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from domain.dialects.codec import Dialect
from domain.errors import Overloaded, Unavailable
from domain.events import INSTALLATION, Operation
from domain.failover import MAX_ATTEMPTS, MAX_ATTEMPTS_IN_ALL, TargetFate
from domain.money import NanoUsd
from domain.pricing import Price
from domain.request_identity import RequestIdentity
from domain.routes import FailoverCause, RouteTarget
from domain.routing import Kind
from infra.broker import Broker, BrokerErrors
from infra.confirmed_publisher import ConfirmedPublisher

STREAM = "JOBS"
HttpMethod = Literal["GET", "POST", "DELETE"]
Lane = Literal["sync", "bulk", "async"]
"""`sync` has the jobs of callers that wait. `bulk` has those of callers with many requests in flight already, so that
the jobs of others do not queue behind a flood. `async` has jobs without a waiting caller: their backlog delays no one.
"""
LANES: tuple[Lane, ...] = ("sync", "bulk", "async")
ALERTS_LANE = "alerts"
WEBHOOKS_LANE = "webhooks"
"""Has the ends of asynchronous jobs that are to be told. A receiver that hangs delays no alert."""
_ALL_LANES = (*LANES, ALERTS_LANE, WEBHOOKS_LANE)

INLINE_BODY_LIMIT_BYTES = 512 * 1024
"""A larger body is kept as a blob, and the job says which: the claim check."""
MAX_STREAM_BYTES = 4 * 1024**3
MAX_STREAM_JOBS = 200_000
MAX_JOB_AGE_S = 7 * 24 * 3600.0
"""No request lives that long. It clears away what JetStream has given up on: a job whose last delivery died with its
worker is delivered no more, and stays.
"""
DUPLICATE_WINDOW_S = 120.0
ACK_WAIT_S = 2.0
"""After so long without a word from its worker a job is delivered again. Workers send four words in that time, from a
thread that does nothing else (`workers/heartbeat.py`); a delivery too many makes no second call.
"""
MAX_DELIVERIES = 5
MAX_ACK_PENDING = MAX_STREAM_JOBS
"""Over the whole pool of workers: all that the stream holds, so that none with free slots idles."""
REPLICAS = 3
"""Of the stream and its consumers, if the cluster has so many servers: the death of one is survived."""
API_TIMEOUT_S = 5.0
ENSURE_TIMEOUT_S = 30.0
ENSURE_PAUSE_S = 0.25
CONFIRM_TIMEOUT_S = 0.5
"""Before a publish that is not confirmed is sent again, at first; then twice as long each time: a server that is only
slow is not given more to do.
"""
MAX_CONFIRM_TIMEOUT_S = 2.0
REFUSED_PAUSE_S = 0.1
PUBLISH_TIMEOUT_S = 10.0
"""For all tries together. A stream whose leader has died has a new one after 4 to 9 seconds."""

_STREAM_FULL = 10077
"""JetStream's code for "maximum messages exceeded"; its sibling for bytes comes with the same code and another text."""
_TOO_FEW_SERVERS = (10005, 10023, 10074)
"""JetStream's codes: no peers for so many replicas, too few resources, no cluster at all."""
_PASSING = (408, 500, 503)
"""The codes of refusals that a cluster gives while it has no leader."""


class StreamFormat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The format of a stream to the caller."""

    surface: Dialect
    """The dialect of its events."""
    with_usage: bool = True
    """False for a client of OpenAI's dialect that did not request usage."""
    echo: bytes | None = None
    """What the stream repeats of its request: see `TranslatedRequest`."""
    tool_names: dict[str, str] = {}
    """The client's names of tools, by those that the provider is told."""


class JobTrace(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job belongs in a trace: the values of https://www.w3.org/TR/trace-context/."""

    traceparent: str
    tracestate: str | None = None
    published_at_ns: int
    """Nanoseconds since 1970, by the clock of the API process."""


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The message of a job: one admitted request, at its first target or at a further one."""

    identity: RequestIdentity
    kind: Kind
    base_url: str | None = None
    """Of a provider by configuration: where it was when the job was admitted; None: it is built in."""
    price: Price | None
    """The price that the hold was computed with; the answer is costed at it even if it has changed. None: unknown."""
    body: bytes | None
    """The request as JSON; None: it is the blob `body_blob_id`."""
    body_blob_id: str | None = None
    is_passthrough: bool = False
    """True: the body is in the provider's own dialect and is forwarded as it is. False: it is canonical."""
    asked_operation: Operation | None = None
    """The operation that the provider is asked for, if it is not the usual one for such a request."""
    calls: int = 1
    """How often the provider is called, each time for one of the answers that the request asks for."""
    needs_own_credential: bool = False
    """The call may be made under a credential of the project's own only: it was admitted as such a call."""
    headers: dict[str, str] | None = None
    query: str | None = None
    """The caller's vendor headers and query (`anthropic-beta`, `beta=true`), forwarded with a passed-through body."""
    method: HttpMethod = "POST"
    path: str | None = None
    """At the provider, behind its base address; None: its codec's."""
    stream: StreamFormat | None = None
    """None: the answer is given in one piece."""
    cancel_on_disconnect: bool = False
    """Of an answer in one piece: the call is cancelled once nothing waits for the answer."""
    input_bound: int = 0
    output_bound: int = 0
    """The most tokens that the request may be counted as, for the cost of an answer that is cut or has no usage."""
    unseen_input_tokens: int = 0
    unseen_output_tokens: int = 0
    """What may be charged beside the prompt and the answer and does not come: a summary, a predicted answer."""
    input_class: str = "input"
    """The class of tokens that an input of unknown classes is charged as: the dearest that it can be."""
    audio_bound: int = 0
    """The part of the input's bound that may be audio, which has a price of its own."""
    writes_audio: bool = False
    """The answer may be spoken."""
    choices: int = 1
    """The answers that share the output."""
    context_window: int = 0
    """Of a request with hosted tools: what the model may read again for each of their calls."""
    asked_terms: dict[str, str] | None = None
    """The terms that the request asks for, other than the standard ones: they count where the answer says nothing."""
    unpriced: tuple[str, ...] = ()
    """What the request uses that has no known price: the cost of its answer is a lower bound."""
    may_think_unseen: bool = False
    """The provider may charge for output that it does not show, for the same purpose."""
    deliveries_before: int = 0
    """Deliveries of the job as earlier messages. They number its deliveries on: the higher number is the later."""
    reply_to: str
    admitted_at_ms: int
    deadline_ms: int
    """Milliseconds since 1970; a job past its deadline is dropped unserved."""
    cache_key: bytes | None = None
    """None: the answer is neither cached nor shared."""
    cache_ttl_s: int = 0
    keep_until: datetime | None = None
    """Of a request that nobody waits for: its answer is stored with its event, and kept so long."""
    asked: RouteTarget | None = None
    """What the request's plan says of this target: the time for an attempt, the credential. None: nothing."""
    hold_nano_usd: NanoUsd | None = None
    """Of a further target: what an attempt at it has to hold; None: its cost has no bound. The first was admitted."""
    failover: "JobFailover | None" = None
    """Where the request goes if this target fails; None: nowhere."""
    trace: JobTrace | None = None
    """None: nobody traces the request. That of the first target is the job's."""

    @property
    def targets(self) -> int:
        """The number of targets that the request may go to."""
        return 1 if self.failover is None else 1 + len(self.failover.further)

    @property
    def most_tries(self) -> int:
        """The most attempts at one target."""
        return MAX_ATTEMPTS if self.failover is None else self.failover.attempts

    @property
    def most_attempts(self) -> int:
        """The most attempts in all."""
        return MAX_ATTEMPTS if self.failover is None else MAX_ATTEMPTS_IN_ALL

    def at(self, target: int) -> "Job":
        """Return the job of a target, by its number: 0 is this job."""
        if target == 0:
            return self
        assert self.failover is not None, "it has further targets"
        further = self.failover.further[target - 1]
        if further.body is None and further.body_blob_id is None:
            further = replace(further, body=self.body, body_blob_id=self.body_blob_id)
        return further

    @property
    def has_followers(self) -> bool:
        """True if other requests may wait for this one's end: equal ones, or its retries."""
        return self.cache_key is not None or self.identity.idempotency is not None

    @property
    def outlives_its_caller(self) -> bool:
        """True if its call is made to the end whoever waits: a retry with the caller's own key fetches the answer."""
        return self.identity.idempotency is not None and self.identity.idempotency.derived is None


class JobFailover(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rest of a request's plan, behind its first target."""

    further: tuple[Job, ...]
    """The job of each further target. One that has neither a body nor names one has the first target's."""
    fail_over_on: tuple[FailoverCause, ...]
    attempts: int
    """At one target, before the next is tried."""
    dropped: tuple[TargetFate, ...] = ()
    """The targets that the plan does without."""


class Replicas(Struct, frozen=True, kw_only=True):
    """On how many servers the queue is stored."""

    wanted: int
    current: int
    """Those that have all of them at this moment."""
    lagging: tuple[str, ...]
    """The names of the servers that are behind, or away."""


class _Oldest(Struct, frozen=True):
    time: datetime


class _OldestAnswer(Struct, frozen=True):
    message: _Oldest | None = None


class PublishUnknown(Unavailable):
    """The broker did not confirm the job: it may be in the queue."""


log = structlog.get_logger(__name__)
encode_job = msgspec.msgpack.Encoder().encode
decode_job = msgspec.msgpack.Decoder(Job).decode


def consumer_name(lane: str) -> str:
    """The durable consumer that the workers of a lane share."""
    return f"workers-{lane}"


def message_id_of(job: Job) -> str:
    """The id under which the stream takes a job once."""
    request_id = job.identity.request_id
    return f"{request_id}/{job.deliveries_before}" if job.deliveries_before else request_id


def provider_share(identity: RequestIdentity, *, needs_own_credential: bool) -> str:
    """Name whom a job calls, in two tokens of a subject: the provider and its owner.

    The owner is the project whose own credential is used, else the installation: providers of two owners may have the
    same name, and nobody else waits for a project's own.
    """
    return f"{identity.provider}.{identity.project_id if needs_own_credential else INSTALLATION}"


class Backlog(Struct, frozen=True, kw_only=True):
    """What lies in the queue's stream, over all lanes: jobs that wait, and jobs in hand."""

    messages: int
    size_bytes: int


class JobQueue:
    """The stream of jobs, as one process sees it."""

    def __init__(self, broker: Broker, *, replicas: int | None = None) -> None:
        """Keep the jobs on `replicas` servers; None: on three if the cluster has three, else on one."""
        self._broker = broker
        self._jetstream = broker.client.jetstream(timeout=API_TIMEOUT_S)
        self._publisher = ConfirmedPublisher(broker)
        self._replicas = replicas
        self._restoring = asyncio.Lock()

    async def ensure(self) -> None:
        """Create the stream and its consumers, or update their settings. Several processes may do so at a time.

        Waits for a cluster that is still starting.

        Raises:
            APIError, BrokerErrors: as the last of `ENSURE_TIMEOUT_S` was refused.

        """
        until = time.monotonic() + ENSURE_TIMEOUT_S
        while True:
            try:
                return await self._ensure_once()
            except (APIError, NoStreamResponseError, *BrokerErrors) as error:
                if time.monotonic() > until or (isinstance(error, APIError) and error.code not in _PASSING):
                    raise
            await asyncio.sleep(ENSURE_PAUSE_S)

    async def raise_replicas(self) -> None:
        """Add the replicas that the stream lacks, if the cluster has the servers for them."""
        if self._broker.is_clustered:
            await self._ensure_once()

    async def replicas(self) -> Replicas:
        """Return how many servers should store the queue, how many do, and which of them lag behind.

        Raises:
            Unavailable: the stream has no leader, or the broker is away.

        """
        try:
            info = await self._jetstream.stream_info(STREAM)
        except (APIError, NoStreamResponseError, *BrokerErrors) as error:
            raise Unavailable(f"the queue is away: {type(error).__name__}", retry_after_s=1) from error
        configured = info.config.num_replicas or 1
        peers = (info.cluster.replicas if info.cluster is not None else None) or []
        lagging = tuple(sorted(peer.name or "" for peer in peers if peer.offline or not peer.current))
        fitting = REPLICAS if self._broker.cluster_servers >= REPLICAS else 1
        return Replicas(
            wanted=max(configured, self._replicas or fitting), current=1 + len(peers) - len(lagging), lagging=lagging
        )

    async def restore(self) -> None:
        """Make the stream and its consumers again if the broker has lost them, once for all callers at a time.

        Raises:
            APIError, BrokerErrors: it cannot be known, or done, at the moment.

        """
        if self._restoring.locked():
            async with self._restoring:
                return
        async with self._restoring:
            if not await self._is_complete():
                await self._ensure_once()
                log.warning("queue_restored")

    async def waiting_jobs(self) -> dict[str, int]:
        """Count the jobs of each lane that no worker has pulled yet. Empty while the queue has no leader.

        Takes at most `CONFIRM_TIMEOUT_S`.
        """
        counts: dict[str, int] = {}
        with suppress(APIError, *BrokerErrors):
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                for lane in _ALL_LANES:
                    info = await self._jetstream.consumer_info(STREAM, consumer_name(lane), timeout=CONFIRM_TIMEOUT_S)
                    counts[lane] = info.num_pending or 0
        return counts

    async def backlog(self) -> Backlog | None:
        """Return what lies in the stream; None while it has no leader, or the broker is away."""
        with suppress(APIError, *BrokerErrors):
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                state = (await self._jetstream.stream_info(STREAM)).state
                return Backlog(messages=state.messages, size_bytes=state.bytes)
        return None

    async def has_workers(self, lane: Lane = "sync") -> bool:
        """Return True if a worker is waiting for the lane's jobs at this moment.

        Raises:
            APIError, BrokerErrors: the consumer has no leader, or the broker is away.

        """
        try:
            info = await self._jetstream.consumer_info(STREAM, consumer_name(lane), timeout=CONFIRM_TIMEOUT_S)
        except NotFoundError:  # the stream has not been made yet
            return False
        return bool(info.num_waiting)

    async def oldest(self) -> dict[str, float]:
        """Return the age in seconds of the oldest message of each lane; 0 of an empty one.

        Raises:
            Unavailable: the stream has no leader, or the broker is away.

        """
        try:
            return {lane: await self._oldest_s(lane) for lane in _ALL_LANES}
        except (msgspec.DecodeError, *BrokerErrors) as error:
            raise Unavailable(f"the queue is away: {type(error).__name__}", retry_after_s=1) from error

    async def _oldest_s(self, lane: str) -> float:
        """Return the age of a lane's first message, which is in the stream until it is acknowledged."""
        asked = msgspec.json.encode({"seq": 1, "next_by_subj": f"jobs.{lane}.>"})
        answer = await self._broker.client.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", asked, timeout=CONFIRM_TIMEOUT_S)
        message = msgspec.json.decode(answer.data, type=_OldestAnswer).message
        return max(0.0, (datetime.now(UTC) - message.time).total_seconds()) if message is not None else 0.0

    async def publish(
        self, job: Job, lane: Lane = "sync", *, otherwise: Callable[[Job], Awaitable[bool]] | None = None
    ) -> None:
        """Put a job into its lane; when this returns, the broker or a worker has it.

        While the broker does not confirm it, `otherwise` is called to give it to a worker directly: True if it has.

        Raises:
            Overloaded: the stream is full; the job is not in it.
            PublishUnknown: no confirmation came; the job may be in it.

        """
        identity = job.identity
        share = provider_share(identity, needs_own_credential=job.needs_own_credential)
        await self._publish(
            # the lane's consumer filters by its head, and a worker reads from it whose job it is and whom it calls
            f"jobs.{lane}.{identity.operation}.{identity.project_id}.{identity.key_id}.{share}",
            encode_job(job),
            message_id_of(job),
            (lambda: otherwise(job)) if otherwise is not None else None,
        )

    async def publish_alert(self, alert: str, project_id: str, message_id: str) -> None:
        """Queue the delivery of a project's alert, by its stream. The same message id again is the same message.

        Raises:
            Overloaded, PublishUnknown: as `publish`.

        """
        await self._publish(f"jobs.{ALERTS_LANE}.alert.{project_id}.all", alert.encode(), message_id)

    async def publish_webhook(self, stream: str, project_id: str, message_id: str) -> None:
        """Queue that the end of a project's job or batch is told, by its stream. Otherwise as `publish_alert`."""
        await self._publish(f"jobs.{WEBHOOKS_LANE}.end.{project_id}.all", stream.encode(), message_id)

    async def _publish(
        self, subject: str, payload: bytes, message_id: str, otherwise: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        """Publish, again and again under the same id until it is confirmed: the stream takes it once."""
        until = time.monotonic() + PUBLISH_TIMEOUT_S
        confirm_s = CONFIRM_TIMEOUT_S
        while True:
            try:
                if not self._broker.is_connected:  # else every try would wait in the buffer, to be sent in the end
                    await self._broker.wait_until_connected(until - time.monotonic())
                await self._publisher.publish(subject, payload, message_id, confirm_s)
                return
            except APIError as error:
                if error.err_code == _STREAM_FULL:
                    raise Overloaded("the queue is full", retry_after_s=1) from error
                failure: Exception = error
            except (NoStreamResponseError, *BrokerErrors) as error:
                failure = error
            if otherwise is not None and self._broker.is_connected and await otherwise():
                return
            if time.monotonic() > until:
                raise PublishUnknown(f"the queue is away: {type(failure).__name__}", retry_after_s=1) from failure
            if isinstance(failure, TimeoutError):
                confirm_s = min(MAX_CONFIRM_TIMEOUT_S, 2 * confirm_s)
            else:
                await self._pause(failure)

    async def _pause(self, refusal: Exception) -> None:
        """Wait before the next try: for a leader to be elected, or until the stream is made again."""
        if isinstance(refusal, NoStreamResponseError):
            with suppress(APIError, *BrokerErrors):
                await self.restore()
        await asyncio.sleep(REFUSED_PAUSE_S)

    async def _is_complete(self) -> bool:
        """Return True if the cluster has the stream and all its consumers, even without a leader at the moment."""
        answer = await self._broker.client.request(f"$JS.API.CONSUMER.NAMES.{STREAM}", b"{}", timeout=CONFIRM_TIMEOUT_S)
        names = msgspec.json.decode(answer.data)
        if "error" in names:
            if names["error"]["code"] == 404:
                return False
            raise APIError.from_error(names["error"])
        return {consumer_name(lane) for lane in _ALL_LANES} <= set(names["consumers"] or ())

    async def _ensure_once(self) -> None:
        await self._ensure_stream()
        for lane in _ALL_LANES:
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

    async def _ensure_stream(self) -> None:
        """Create the stream or update its settings, with as many replicas as are wanted and possible."""
        stream = StreamConfig(
            name=STREAM,
            subjects=[f"jobs.{lane}.>" for lane in _ALL_LANES],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=MAX_STREAM_BYTES,
            max_msgs=MAX_STREAM_JOBS,
            max_age=MAX_JOB_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
        )
        wanted = self._replicas or (REPLICAS if self._broker.is_clustered else 1)
        try:
            present = (await self._jetstream.stream_info(STREAM)).config.num_replicas or 1
        except NotFoundError:
            put, present = self._jetstream.add_stream, 1
        else:
            put, wanted = self._jetstream.update_stream, max(present, wanted)
        try:
            await put(stream.evolve(num_replicas=wanted))
        except APIError as error:
            if wanted == present or error.err_code not in _TOO_FEW_SERVERS:
                raise
            await put(stream.evolve(num_replicas=present))
            if self._replicas is not None:
                log.warning("queue_replicas_missing", wanted=wanted, present=present, message=error.description)
