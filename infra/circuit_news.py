"""What processes tell each other of the providers' circuits, over core NATS; and who of them may probe, over NATS KV.

The news has every circuit that is not closed, what each worker has counted, and rate limits that are nearly used up,
once a second and at each change. Nothing is asked for and nothing is waited for: lost news cost a second. Only a probe
is claimed, since there is to be one over all processes: a key that a bucket takes once. Without a broker, or with one
that does not answer in time, each process probes by itself.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta, Struct
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyWrongLastSequenceError,
    NoStreamResponseError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from domain.circuit import CircuitKey, OpenReason, State
from domain.provider_limits import ProviderLimit
from infra.broker import Broker, BrokerErrors
from infra.jobs import REPLICAS

NEWS = "circuits.news"
REPORTS = "circuits.report"
BUCKET = "CIRCUIT_PROBES"
CLAIM_TTL_S = 120.0
"""Claims are of one opening of a circuit each, so old ones mean nothing."""
CLAIM_TIMEOUT_S = 0.5
MAX_BUCKET_BYTES = 4 * 1024 * 1024
MAX_TOLD = 256
"""Of each kind in one message of news; some 60 KB."""
MAX_REPORTED = 500
"""Circuits in one worker's report; some 400 KB."""
REPORT_WAIT_S = 0.4
"""For the workers' reports: nobody knows how many there are."""
MAX_REPORTS = 256
MAX_LAST_ERRORS = 5
MAX_LATENCIES = 32
"""Of the last answers, of each circuit and worker."""

log = structlog.get_logger(__name__)


class ToldCircuit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A circuit's state. Times are told as what is left of them: clocks of two machines differ."""

    key: CircuitKey
    state: State
    version: int
    reason: OpenReason | None = None
    is_limit: bool = False
    openings: int = 0
    until_in_s: float = 0.0
    only_until_in_s: float = 0.0
    since_ms: int = 0
    """Milliseconds since 1970, to be shown."""
    credentials: int = 1
    """How many the owner has for the provider: those of which nothing is told are well."""


class ToldCounts(Struct, frozen=True, kw_only=True):
    """What one worker has counted in the window of a circuit, by slot."""

    key: CircuitKey
    calls: tuple[int, ...]
    failures: tuple[int, ...]


class ToldLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a provider said of its limits, `age_s` ago."""

    key: CircuitKey
    limits: tuple[ProviderLimit, ...]
    age_s: float
    credentials: int = 1
    """As of a circuit."""


class WorkerNews(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The news of one worker."""

    worker: str
    circuits: Annotated[tuple[ToldCircuit, ...], Meta(max_length=MAX_TOLD)] = ()
    counts: Annotated[tuple[ToldCounts, ...], Meta(max_length=MAX_TOLD)] = ()
    limits: Annotated[tuple[ToldLimits, ...], Meta(max_length=MAX_TOLD)] = ()


class LastError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failed call, without its words."""

    code: str
    status: int | None = None
    at_ms: int


class ReportedCircuit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a worker knows of one circuit, for people."""

    told: ToldCircuit
    calls: int
    failures: int
    """In the window, by this worker."""
    last_errors: tuple[LastError, ...] = ()
    """The newest first."""
    limits: tuple[ProviderLimit, ...] = ()
    limits_at_ms: int | None = None
    latencies_ms: tuple[int, ...] = ()
    """Of the last answers, to their last byte."""
    hint: str | None = None
    """The last characters of the key; None: there is none."""


class Report(Struct, frozen=True, kw_only=True):
    """The circuits of one worker."""

    worker: str
    circuits: tuple[ReportedCircuit, ...]


class ReportAsked(Struct, frozen=True, kw_only=True):
    """A question for the workers' circuits."""

    owner: str | None = None
    """Of one owner; None: all."""


_encode = msgspec.json.Encoder().encode
_decode_news = msgspec.json.Decoder(WorkerNews).decode
_decode_asked = msgspec.json.Decoder(ReportAsked).decode
_decode_report = msgspec.json.Decoder(Report).decode


class CircuitNews:
    """Tells and hears the news for one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bucket: KeyValue | None = None

    async def tell(self, news: WorkerNews) -> None:
        """Tell every process. Those that are not told hear it within a second, or find out by themselves."""
        if self._broker.is_connected:
            with suppress(*BrokerErrors):
                await self._broker.client.publish(NEWS, _encode(news))

    async def hear(self, take: Callable[[WorkerNews], None]) -> None:
        """Call `take` with all news, those of this process too."""

        async def heard(message: Msg) -> None:
            with suppress(msgspec.MsgspecError):  # of a process that runs another version
                take(_decode_news(message.data))

        await self._broker.client.subscribe(NEWS, cb=heard)

    async def serve_reports(self, report: Callable[[str | None], Report]) -> None:
        """Answer whoever asks for this worker's circuits, of one owner or of all."""

        async def asked(message: Msg) -> None:
            with suppress(msgspec.MsgspecError, *BrokerErrors):
                await message.respond(_encode(report(_decode_asked(message.data).owner)))

        await self._broker.client.subscribe(REPORTS, cb=asked)

    async def reports(self, owner: str | None) -> list[Report]:
        """Ask every worker for its circuits, and return what they say within `REPORT_WAIT_S`."""
        found: list[Report] = []
        if not self._broker.is_connected:
            return found
        client = self._broker.client
        inbox = client.new_inbox()

        async def heard(message: Msg) -> None:
            if len(found) < MAX_REPORTS:
                with suppress(msgspec.MsgspecError):
                    found.append(_decode_report(message.data))

        try:
            subscription = await client.subscribe(inbox, cb=heard)
            await client.publish(REPORTS, _encode(ReportAsked(owner=owner)), reply=inbox)
            await asyncio.sleep(REPORT_WAIT_S)
            await subscription.unsubscribe()
        except BrokerErrors as error:
            log.warning("circuits_not_reported", error=type(error).__name__)
        return found

    async def claim_probe(self, key: CircuitKey, version: int) -> bool:
        """Claim the probe of this version of a circuit. False: another process has it.

        If the broker cannot tell in time, this process is on its own, and may probe.
        """
        if not self._broker.is_connected:
            return True
        name = f"{hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:32]}.{version}"
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                return await self._create(name)
        except (APIError, *BrokerErrors) as error:
            log.warning("probe_not_claimed", error=type(error).__name__)
            return True

    async def _create(self, name: str) -> bool:
        for is_last in (False, True):
            bucket = self._bucket or await self._open_bucket()
            try:
                await bucket.update(name, b"", last=0)  # `create` would ask once more what the refusal said
            except KeyWrongLastSequenceError:
                return False
            except (NoStreamResponseError, NotFoundError):  # the broker's store was lost
                self._bucket = None
                if is_last:
                    raise
            else:
                return True
        return False

    async def _open_bucket(self) -> KeyValue:
        jetstream = self._broker.client.jetstream(timeout=CLAIM_TIMEOUT_S)
        try:
            self._bucket = await jetstream.key_value(BUCKET)
        except BucketNotFoundError:
            self._bucket = await jetstream.create_key_value(
                KeyValueConfig(
                    bucket=BUCKET,
                    history=1,
                    ttl=CLAIM_TTL_S,
                    storage=StorageType.MEMORY,
                    max_bytes=MAX_BUCKET_BYTES,
                    replicas=REPLICAS if self._broker.cluster_servers >= REPLICAS else 1,
                )
            )
        return self._bucket
