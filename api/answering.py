"""A question's way to its answer: may it be asked → memory → admission (cache, the same question in flight, the hold)
→ queue → answer. Every surface goes this way; there is no route around it.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct

from api.authentication import Caller
from api.memory_cache import CachedAnswer, MemoryCache
from domain.answer import Receipt, error_of, receipt_of
from domain.budget import day_of
from domain.cache_key import cache_key, canonical_body
from domain.chat import ChatRequest
from domain.dialects.table import check
from domain.embeddings import EmbeddingsRequest
from domain.errors import Forbidden, Overloaded, ProviderTimeout, Unavailable
from domain.estimate import bound, input_bound, output_bound
from domain.events import Operation, RequestCompleted, RequestFailed, RequestServedFromCache, request_stream
from domain.history import after_failure, cost_of, ending
from domain.money import ZERO, NanoUsd
from domain.routing import Route, route, settled_temperature
from infra.admission import Admission, Ask, Attempt, Decision
from infra.blobs import Blobs
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from infra.jobs import INLINE_BODY_LIMIT_BYTES, Job, JobQueue, PublishUnknown
from infra.price_book import PriceBook
from infra.replies import Committed, Failed, ReplyInbox
from infra.request_log import record

FOLLOW_LOOK_S = 1.0
"""How often a follower looks into the log itself, should the news that its leader has ended be lost."""
ASK_AGAIN_S = 0.02

log = structlog.get_logger(__name__)
_encode_json = msgspec.json.Encoder().encode


class CachePolicy(Struct, frozen=True, kw_only=True):
    """What the caller wants of the cache."""

    mode: Literal["on", "off", "refresh"]
    """`refresh`: a fresh answer, kept for others."""
    ttl_s: int


class Question(Struct, frozen=True, kw_only=True):
    """What a caller asks, as every surface hands it over."""

    request_id: str
    operation: Operation
    request: ChatRequest | EmbeddingsRequest
    cache: CachePolicy
    metadata: dict[str, Any] | None
    received_at: datetime


class Answer(Struct, frozen=True, kw_only=True):
    """What the caller gets."""

    body: bytes
    """The canonical answer's JSON."""
    receipt: Receipt
    cache: Literal["HIT", "MISS", "BYPASS"]

    @property
    def cost_nano_usd(self) -> NanoUsd | None:
        """What this answer cost its caller: a cached one nothing; None where nobody can price the model."""
        return ZERO if self.cache == "HIT" else self.receipt.cost_nano_usd


class _Asked(Struct, kw_only=True):
    """A question on its way: what has been worked out about it."""

    caller: Caller
    question: Question
    route: Route
    body: bytes
    key: bytes | None
    hold_nano_usd: NanoUsd
    deadline: datetime


class Answering:
    """Answers questions for one API process."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        admission: Admission,
        queue: JobQueue,
        inbox: ReplyInbox,
        blobs: Blobs,
        prices: PriceBook,
        memory: MemoryCache,
        upstream_models: dict[str, str],
        request_timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._admission = admission
        self._queue = queue
        self._inbox = inbox
        self._blobs = blobs
        self._prices = prices
        self._memory = memory
        self._upstream_models = upstream_models
        self._request_timeout_s = request_timeout_s
        self._now = now

    async def answer(self, caller: Caller, question: Question) -> Answer:
        """Find or make the answer.

        Raises:
            GatewayError: every refusal and failure of the contract's table.

        """
        asked = self._work_out(caller, question)
        newer_than = self._newer_than(question)
        if asked.key is not None and newer_than is not None:
            known = self._memory.get(asked.key, newer_than=newer_than, now=question.received_at)
            if known is not None:
                return await self._serve(asked, known, shared=False)
        while (asked.deadline - self._now()).total_seconds() > 0:
            decision = await self._admit(asked, newer_than)
            match decision.outcome:
                case "admitted":
                    return await self._dispatch(asked)
                case "hit":
                    known = await self._cached(asked, decision)
                    newer_than = None  # what the index promised is no longer kept: a fresh answer, then
                case "follow":
                    known = await self._followed(asked, decision)
                case "again":
                    known = None
            if known is not None:
                return await self._serve(asked, known, shared=decision.outcome == "follow")
            await asyncio.sleep(ASK_AGAIN_S)
        raise self._timed_out(asked)

    def _work_out(self, caller: Caller, question: Question) -> _Asked:
        """Everything about a question that needs nobody else: where it goes, what it can cost, its key."""
        request = question.request
        allowed = caller.settings.models
        found = route(request.model, self._upstream_models)
        if allowed is not None and request.model not in allowed:
            raise Forbidden(f"this key may not use model {request.model!r}; it may use: {', '.join(allowed)}")
        check(request, found, question.operation)
        if isinstance(request, ChatRequest):
            request = settled_temperature(request, found.upstream_model)
        body = canonical_body(request)
        price = self._prices.price(
            provider=found.provider,
            model=found.model,
            upstream_model=found.upstream_model,
            at=question.received_at,
        )
        hold = ZERO
        if price is not None:
            window = self._prices.context_window(provider=found.provider, upstream_model=found.upstream_model)
            hold = bound(input_bound(request), output_bound(request, found.upstream_model, window), price)
        key = None
        if question.cache.mode != "off":
            key = cache_key(
                project_id=caller.project_id,
                operation=question.operation,
                provider=found.provider,
                upstream_model=found.upstream_model,
                body=body,
            )
        return _Asked(
            caller=caller,
            question=question,
            route=found,
            body=body,
            key=key,
            hold_nano_usd=hold,
            deadline=question.received_at + timedelta(seconds=self._request_timeout_s),
        )

    def _newer_than(self, question: Question) -> datetime | None:
        if question.cache.mode != "on":
            return None
        return question.received_at - timedelta(seconds=question.cache.ttl_s)

    async def _admit(self, asked: _Asked, newer_than: datetime | None) -> Decision:
        question, found = asked.question, asked.route
        return await self._admission.admit(
            Ask(
                newer_than=newer_than,
                attempt=Attempt(
                    request_id=question.request_id,
                    project_id=asked.caller.project_id,
                    key_id=asked.caller.key_id,
                    operation=question.operation,
                    model=found.model,
                    provider=found.provider,
                    upstream_model=found.upstream_model,
                    metadata=_encode_json(question.metadata).decode() if question.metadata is not None else None,
                    cache_key=asked.key,
                    hold_nano_usd=asked.hold_nano_usd,
                    budget_day=day_of(question.received_at),
                    reply_to=self._inbox.subject(question.request_id),
                    admitted_at=question.received_at,
                    deadline=asked.deadline,
                ),
            )
        )

    async def _dispatch(self, asked: _Asked) -> Answer:
        """Publish the job and wait for what comes of it."""
        question = asked.question
        with self._inbox.expect(question.request_id) as ended:
            try:
                await self._queue.publish(await self._job(asked))
            except (Overloaded, Unavailable) as error:
                if await self._admission.drop(question.request_id):
                    await self._record_failure(asked, error.code, error.message)
                    raise
                if not isinstance(error, PublishUnknown):
                    raise
                # a worker has claimed it: the job did arrive
            remaining_s = (asked.deadline - self._now()).total_seconds()
            try:
                outcome = await asyncio.wait_for(ended, max(0.0, remaining_s))
            except TimeoutError:
                return await self._too_late(asked)
        if isinstance(outcome, Failed):
            raise error_of(outcome.failure)
        return await self._committed(asked, outcome)

    async def _job(self, asked: _Asked) -> Job:
        question, found = asked.question, asked.route
        body: bytes | None = asked.body
        blob_id = None
        if len(asked.body) > INLINE_BODY_LIMIT_BYTES:
            body, blob_id = None, new_id("blob")
            await self._blobs.write(asked.caller.project_id, blob_id, asked.body, asked.deadline)
        return Job(
            request_id=question.request_id,
            project_id=asked.caller.project_id,
            key_id=asked.caller.key_id,
            operation=question.operation,
            model=found.model,
            provider=found.provider,
            upstream_model=found.upstream_model,
            body=body,
            body_blob_id=blob_id,
            reply_to=self._inbox.subject(question.request_id),
            admitted_at_ms=round(question.received_at.timestamp() * 1000),
            deadline_ms=round(asked.deadline.timestamp() * 1000),
            cache_key=asked.key,
            cache_ttl_s=question.cache.ttl_s,
            metadata=question.metadata,
        )

    async def _committed(self, asked: _Asked, committed: Committed) -> Answer:
        body = committed.body
        if body is None:  # its frames were lost; the log may have kept it
            known = await self._answer_of(asked.caller.project_id, asked.question.request_id)
            if known is None:
                raise Unavailable("the answer was lost on its way back; it stands in the log, without its content")
            body = known.body
        if asked.key is not None:
            ttl = timedelta(seconds=asked.question.cache.ttl_s)
            answered_at = committed.receipt.answered_at
            entry = CachedAnswer(
                request_id=asked.question.request_id,
                body=body,
                receipt=committed.receipt,
                created_at=answered_at,
                expires_at=answered_at + ttl,
            )
            self._memory.put(asked.key, entry)
        return Answer(body=body, receipt=committed.receipt, cache="MISS" if asked.key is not None else "BYPASS")

    async def _too_late(self, asked: _Asked) -> Answer:
        """The deadline has passed: the log says whether there was an answer after all."""
        question = asked.question
        known = await self._answer_of(asked.caller.project_id, question.request_id)
        if known is not None:
            return Answer(body=known.body, receipt=known.receipt, cache="MISS")
        error = self._timed_out(asked)
        if await self._admission.drop(question.request_id):
            await self._record_failure(asked, error.code, error.message)
        raise error

    def _timed_out(self, asked: _Asked) -> ProviderTimeout:
        provider = asked.route.provider
        return ProviderTimeout(f"{provider} did not answer within {self._request_timeout_s:g} s", provider=provider)

    async def _cached(self, asked: _Asked, decision: Decision) -> CachedAnswer | None:
        assert decision.origin is not None, "a hit has an origin"
        known = await self._answer_of(asked.caller.project_id, decision.origin)
        if known is not None and asked.key is not None:
            self._memory.put(asked.key, known)
        return known

    async def _followed(self, asked: _Asked, decision: Decision) -> CachedAnswer | None:
        """Wait for the end of the request that asked the same first; None where it has no answer to share."""
        origin = decision.origin
        assert origin is not None, "one who follows has a leader"
        async with self._inbox.follow(origin) as ended:
            while (asked.deadline - self._now()).total_seconds() > 0:
                stored = [event.event for event in await self._log.read_stream(request_stream(origin))]
                end = ending(stored)
                if isinstance(end, RequestFailed):
                    return None  # not shared: another leads
                if end is not None:
                    return await self._answer_of(asked.caller.project_id, origin)
                try:
                    await asyncio.wait_for(ended.wait(), FOLLOW_LOOK_S)
                except TimeoutError:
                    continue  # look into the log again
                ended.clear()
        return None

    async def _answer_of(self, project_id: str, request_id: str) -> CachedAnswer | None:
        """A finished request's answer, as the log and its blob have it; None where it is not kept."""
        stored = await self._log.read_stream(request_stream(request_id))
        history = [one.event for one in stored]
        end = ending(history)
        if not isinstance(end, RequestCompleted) or end.cached_copy is None:
            return None
        cost = cost_of(history, end.attempt)
        body = await self._blobs.read(project_id, end.cached_copy.blob_id)
        if cost is None or body is None:
            return None
        created_at = next(one.at for one in stored if one.event is end)
        return CachedAnswer(
            request_id=request_id,
            body=body,
            receipt=receipt_of(end, cost, created_at),
            created_at=created_at,
            expires_at=created_at + timedelta(seconds=end.cached_copy.ttl_s),
        )

    async def _serve(self, asked: _Asked, known: CachedAnswer, *, shared: bool) -> Answer:
        """Give a known answer again; the event of it is in the log before the caller has it."""
        question, now = asked.question, self._now()
        served = RequestServedFromCache(
            **self._subject(asked),
            origin_request_id=known.request_id,
            shared=shared,
            usage=known.receipt.usage,
            saved_nano_usd=known.receipt.cost_nano_usd,
            latency_ms=_milliseconds(now - question.received_at),
        )
        await self._log.append(
            Commit(
                stream=request_stream(question.request_id),
                expected_version=0,
                project_id=asked.caller.project_id,
                at=now,
                events=(served,),
            )
        )
        return Answer(body=known.body, receipt=known.receipt, cache="HIT")

    async def _record_failure(self, asked: _Asked, code: str, message: str) -> None:
        """Note that an admitted request came to nothing before anybody called a provider."""
        now = self._now()
        failed = RequestFailed(
            **self._subject(asked),
            code=code,
            message=message,
            latency_ms=_milliseconds(now - asked.question.received_at),
        )
        await record(
            self._log,
            request_id=asked.question.request_id,
            project_id=asked.caller.project_id,
            at=now,
            decide=lambda history: after_failure(history, None, failed),
            history=[],
        )

    def _subject(self, asked: _Asked) -> dict[str, Any]:
        question, found = asked.question, asked.route
        return {
            "request_id": question.request_id,
            "key_id": asked.caller.key_id,
            "operation": question.operation,
            "model": found.model,
            "provider": found.provider,
            "metadata": question.metadata,
        }


def _milliseconds(duration: timedelta) -> int:
    return max(0, round(duration.total_seconds() * 1000))
