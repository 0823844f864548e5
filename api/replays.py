"""What a request gets whose idempotency key is that of an earlier one: the same answer, the same error, or a refusal.

The earlier request may have been another process's, and may still be in flight: the log says how it ended, and core
NATS only when to look. Does not decide who has a key: that is `admit`, in the statement that admits everything else.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from api.inference_response import InferenceResponse, Replay
from api.request_context import RequestContext
from api.request_recorder import RequestRecorder
from domain.errors import AnswerNotKept, IdempotencyMismatch, ProviderTimeout, RateLimited
from domain.events import (
    CostIncurred,
    Event,
    RequestCompleted,
    RequestFailed,
    RequestServedFromCache,
    StoredEvent,
    request_stream,
)
from domain.idempotency import MAX_REPLAYED_BYTES
from domain.job_result import Receipt, error_of, failure_in_log, receipt_of
from domain.money import ZERO
from domain.request_decider import cost_of, decide_failed, is_replayable_end
from infra.admission import Admission, AdmissionDecision
from infra.blobs import Blobs
from infra.event_log import Blob, EventLog
from infra.ids import new_id
from infra.replies import ReplyInbox
from infra.request_log import record

LOOK_S = 1.0
"""The interval in which the log is read for the end of the earlier request: the message of it may be lost."""
ABANDONED_LOOKS = 2
"""So often a request that no worker has claimed is found without a process that looks after it, before it is ended."""
OVERDUE_S = 10.0
"""So long after its deadline a request has no further attempt: its workers and the sweeper have had their say."""
MAX_WAITING_PER_KEY = 32
"""Retries of one API key that wait in one process at a time: each reads the log every second."""

End = RequestCompleted | RequestServedFromCache | RequestFailed


class WaitingRetries:
    """Counts the retries that wait in one process, by API key."""

    def __init__(self, limit: int = MAX_WAITING_PER_KEY) -> None:
        self._limit = limit
        self._by_key: Counter[str] = Counter()

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Count one as waiting until the block ends.

        Raises:
            RateLimited: as many of the key's wait already.

        """
        if self._by_key[key_id] >= self._limit:
            raise RateLimited(
                f"{self._limit} retries of this API key wait for the ends of their first requests: ask again later",
                retry_after_s=LOOK_S,
            )
        self._by_key[key_id] += 1
        try:
            yield
        finally:
            self._by_key[key_id] -= 1
            if not self._by_key[key_id]:
                del self._by_key[key_id]


class Replays:
    """Answers the retries that one API process gets."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        blobs: Blobs,
        inbox: ReplyInbox,
        admission: Admission,
        recorder: RequestRecorder,
        request_timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._blobs = blobs
        self._inbox = inbox
        self._admission = admission
        self._recorder = recorder
        self._request_timeout_s = request_timeout_s
        self._now = now
        self._waiting = WaitingRetries()

    async def keep(self, ctx: RequestContext, body: bytes) -> Blob | None:
        """Seal a response from the cache once more, for retries of the request that gets it. None: nothing is kept."""
        known_by = ctx.identity.idempotency
        if known_by is None or len(body) > MAX_REPLAYED_BYTES:
            return None
        expires_at = self._now() + timedelta(seconds=known_by.ttl_s)
        return await self._blobs.seal(ctx.identity.project_id, new_id("blob"), body, expires_at)

    async def replay(self, ctx: RequestContext, decision: AdmissionDecision) -> InferenceResponse | RequestContext:
        """The answer of the earlier request, once it has ended; or the context to ask for admission with once more.

        Raises:
            IdempotencyMismatch: it was another request.
            AnswerNotKept: its answer was paid for, and is not kept.
            RateLimited: too many retries of the API key wait already.
            GatewayError: its own error; it was paid for, or may have been.
            ClientDisconnected: the client left while it was waited for.

        """
        assert decision.origin is not None, "a request with the same key"
        stored: Sequence[StoredEvent] = await self._log.read_stream(request_stream(decision.origin))
        was_in_flight = _end_of(stored) is None
        if decision.outcome == "mismatch":
            if await self._is_kept(decision.origin, stored) or was_in_flight:
                raise IdempotencyMismatch(
                    "this Idempotency-Key is that of another request: send a new one with each new request, and the "
                    "same one only with the same body to the same address"
                )
            return ctx
        if was_in_flight:
            with self._waiting.place(ctx.identity.key_id):
                stored = await self._wait(ctx, decision.origin)
        if not await self._is_kept(decision.origin, stored):
            return ctx
        end = _end_of(stored)
        if isinstance(end, RequestFailed):
            await self._recorder.record_replayed_error(ctx, end)
            error = error_of(failure_in_log(end))
            error.is_replayed, error.limit_status = True, ctx.limit_status
            raise error
        assert end is not None, "what is kept has ended"
        return await self._answer(ctx, stored, end, is_shared=was_in_flight)

    async def _answer(
        self,
        ctx: RequestContext,
        stored: Sequence[StoredEvent],
        end: RequestCompleted | RequestServedFromCache,
        *,
        is_shared: bool,
    ) -> InferenceResponse | RequestContext:
        known_by = ctx.identity.idempotency
        assert known_by is not None, "it has a key"
        body = None
        if end.kept_blob_id is not None:
            body = await self._blobs.read(ctx.identity.project_id, end.kept_blob_id)
        if body is None and known_by.derived is not None:  # its caller knows of no key
            return replace(ctx, identity=replace(ctx.identity, idempotency=replace(known_by, derived="first")))
        if body is None:
            raise AnswerNotKept(
                f"request {end.request_id} with this Idempotency-Key was answered, and its answer is not kept (it was "
                "too large, or had to go for newer ones): send a new key to ask again"
            )
        if not _leads_to(ctx, end):
            raise AnswerNotKept(
                f"request {end.request_id} with this Idempotency-Key was answered by {end.provider}, in a way that the "
                "model's name no longer leads to: send a new key to ask again"
            )
        ctx.inference_request.in_hand.take(len(body))
        receipt = _receipt(stored, end)
        ctx = ctx.answered_by(receipt)
        await self._recorder.record_replayed(ctx, end, receipt, is_shared=is_shared)
        assert end.idempotency is not None, "it was found by its key"
        return InferenceResponse(
            body=body,
            receipt=receipt,
            target=ctx.inference_request.number,
            cache="HIT",
            limit_status=ctx.limit_status,
            dropped=ctx.identity.dropped,
            latency_ms=end.latency_ms,
            replay=Replay(
                request_id=end.request_id,
                received_at=datetime.fromtimestamp(end.idempotency.received_at_ms / 1000, UTC),
                is_cached=isinstance(end, RequestServedFromCache),
                is_passthrough=end.is_passthrough,
            ),
        )

    async def _is_kept(self, origin: str, stored: Sequence[StoredEvent]) -> bool:
        """Return True if the request's end is kept. If it came to nothing, its key is free from now on."""
        end = _end_of(stored)
        if end is None:
            return False
        if isinstance(end, RequestServedFromCache) or is_replayable_end([one.event for one in stored]):
            return True
        await self._admission.free_idempotency_key(origin)
        return False

    async def _wait(self, ctx: RequestContext, origin: str) -> Sequence[StoredEvent]:
        """Wait until a request has ended, and return its events; those so far if there is no time left.

        A request that nobody looks after any more is ended: its API process died before a worker had its job.
        """
        abandoned = 0
        async with self._inbox.follow(origin) as ended:
            while True:
                stored = await self._log.read_stream(request_stream(origin))
                if _end_of(stored) is not None or ctx.remaining_s(self._now()) <= 0:
                    return stored
                unclaimed = await self._admission.unclaimed_attempt(origin)
                if unclaimed is not None and not await self._inbox.is_awaited(unclaimed.reply_to):
                    abandoned += 1
                    if abandoned >= ABANDONED_LOOKS:
                        await self._admission.withdraw(origin, self._recorder.abandoned(unclaimed.identity))
                        continue
                elif stored and unclaimed is None:
                    await self._end_if_overdue(stored)
                try:
                    await ctx.disconnect.or_disconnect(asyncio.wait_for(ended.wait(), LOOK_S))
                except TimeoutError:
                    continue  # read the log again
                ended.clear()

    async def _end_if_overdue(self, stored: Sequence[StoredEvent]) -> None:
        """End a request whose last attempt has failed and whose deadline has long passed: its job was lost."""
        last, project_id = stored[-1].event, stored[-1].project_id
        known_by = getattr(last, "idempotency", None)
        if known_by is None:
            return
        now = self._now()
        if now.timestamp() * 1000 < known_by.received_at_ms + (self._request_timeout_s + OVERDUE_S) * 1000:
            return
        failed = RequestFailed(
            **{name: getattr(last, name) for name in RequestFailed.__struct_fields__ if hasattr(last, name)}
            | {"code": ProviderTimeout.code, "message": "no worker finished the request in time"}
            | {"status": None, "latency_ms": round(now.timestamp() * 1000) - known_by.received_at_ms}
        )
        request_id = failed.request_id
        await record(
            self._log,
            request_id=request_id,
            project_id=project_id,
            at=now,
            decide=lambda history: decide_failed(history, None, failed),
        )


def _end_of(stored: Sequence[StoredEvent]) -> End | None:
    """The event that ended a request; None if it has not ended."""
    events: Sequence[Event] = [one.event for one in stored]
    return next((event for event in events if isinstance(event, End)), None)


def _leads_to(ctx: RequestContext, end: RequestCompleted | RequestServedFromCache) -> bool:
    """Return True if a target of the retry is the one that answered: an answer is written as that one's."""
    targets = [one.target for one in (ctx, *ctx.further)]
    if end.upstream_model is not None:
        return (end.provider, end.upstream_model) in {(one.provider, one.upstream_model) for one in targets}
    return end.provider in {one.provider for one in targets}  # of a release that did not write the model


def _receipt(stored: Sequence[StoredEvent], end: RequestCompleted | RequestServedFromCache) -> Receipt:
    """The receipt of the answer, as its first caller's."""
    answered_at = next(one.at for one in stored if one.event is end)
    if isinstance(end, RequestCompleted):
        cost = cost_of([one.event for one in stored], end.attempt)
        assert isinstance(cost, CostIncurred), "an answer is appended with its cost"
        return receipt_of(end, cost, answered_at)
    return Receipt(
        provider=end.provider,
        upstream_model=end.upstream_model if end.upstream_model is not None else end.model,
        usage=end.usage,
        cost_nano_usd=end.saved_nano_usd if end.saved_nano_usd is not None else ZERO,
        answered_at=answered_at,
    )
