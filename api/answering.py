"""A question's way to its answer: may it be asked → memory → the gate (limits, cache, the same question in flight, the
hold) → queue → answer. Every surface goes this way; there is no route around it.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

import structlog
from msgspec import Struct
from msgspec.structs import replace

from api.authentication import Caller
from api.gate import Gate
from api.known_answers import KnownAnswers
from api.memory_cache import CachedAnswer
from api.question import Asked, Question
from domain.answer import Receipt, error_of
from domain.cache_key import cache_key, canonical_body
from domain.chat import ChatRequest
from domain.dialects.table import check
from domain.errors import Forbidden, GatewayError, Overloaded, ProviderTimeout, Unavailable
from domain.estimate import bound, cap_within, input_bound, output_bound
from domain.events import RequestFailed, RequestServedFromCache, request_stream
from domain.history import after_failure
from domain.limits import Standing
from domain.money import ZERO, NanoUsd
from domain.routing import route, settled_temperature
from infra.blobs import Blobs
from infra.event_log import Commit, EventLog
from infra.ids import new_id
from infra.jobs import INLINE_BODY_LIMIT_BYTES, Job, JobQueue, PublishUnknown
from infra.price_book import PriceBook
from infra.replies import Committed, Failed, ReplyInbox
from infra.request_log import record

ASK_AGAIN_S = 0.02
CAP_FLOOR_TOKENS = 256
"""A cap that the caller did not set is lowered to no less than this."""

log = structlog.get_logger(__name__)


class Answer(Struct, frozen=True, kw_only=True):
    """What the caller gets."""

    body: bytes
    """The canonical answer's JSON."""
    receipt: Receipt
    cache: Literal["HIT", "MISS", "BYPASS"]
    standing: Standing
    lowered_cap: int | None = None
    """The output cap that the answer was made under, where the budget had room for no more."""

    @property
    def cost_nano_usd(self) -> NanoUsd | None:
        """What this answer cost its caller: a cached one nothing; None where nobody can price the model."""
        return ZERO if self.cache == "HIT" else self.receipt.cost_nano_usd


class Answering:
    """Answers questions for one API process."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        gate: Gate,
        known: KnownAnswers,
        queue: JobQueue,
        inbox: ReplyInbox,
        blobs: Blobs,
        prices: PriceBook,
        upstream_models: dict[str, str],
        request_timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._log = event_log
        self._gate = gate
        self._known = known
        self._queue = queue
        self._inbox = inbox
        self._blobs = blobs
        self._prices = prices
        self._upstream_models = upstream_models
        self._request_timeout_s = request_timeout_s
        self._now = now

    async def answer(self, caller: Caller, question: Question) -> Answer:
        """Find or make the answer.

        Raises:
            GatewayError: every refusal and failure of the contract's table.

        """
        asked = self._work_out(caller, question)
        try:
            return await self._answer(asked)
        except GatewayError as error:
            error.standing = asked.standing
            raise

    async def _answer(self, asked: Asked) -> Answer:
        known = self._known.remembered(asked)
        if known is not None:
            return await self._serve(asked, known, shared=False)
        newer_than = asked.newer_than
        while (asked.deadline - self._now()).total_seconds() > 0:
            decision = await self._gate.decide(asked, newer_than)
            match decision.outcome:
                case "admitted":
                    self._cap(asked, decision.hold_nano_usd)
                    return await self._dispatch(asked, decision.hold_nano_usd)
                case "hit":
                    assert decision.origin is not None, "a hit has an origin"
                    known = await self._known.cached(asked, decision.origin)
                    newer_than = None  # what the index promised is no longer kept: a fresh answer, then
                case "follow":
                    assert decision.origin is not None, "one who follows has a leader"
                    known = await self._known.followed(asked, decision.origin)
                case _:
                    known = None
            if known is not None:
                return await self._serve(asked, known, shared=decision.outcome == "follow")
            await asyncio.sleep(ASK_AGAIN_S)
        raise self._timed_out(asked)

    def _work_out(self, caller: Caller, question: Question) -> Asked:
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
        input_tokens = input_bound(request)
        hold, floor = None, ZERO
        if price is not None:
            window = self._prices.context_window(provider=found.provider, upstream_model=found.upstream_model)
            longest = output_bound(request, found.upstream_model, window)
            hold = floor = bound(input_tokens, longest, price)
            may_lower = isinstance(request, ChatRequest) and request.max_tokens is None
            if may_lower and caller.settings.output_cap == "lower":
                floor = bound(input_tokens, min(longest, CAP_FLOOR_TOKENS), price)
        key = None
        if question.cache.mode != "off":
            key = cache_key(
                project_id=caller.project_id,
                operation=question.operation,
                provider=found.provider,
                upstream_model=found.upstream_model,
                body=body,
            )
        return Asked(
            caller=caller,
            question=question,
            route=found,
            request=request,
            body=body,
            key=key,
            price=price,
            input_tokens=input_tokens,
            hold_nano_usd=hold,
            floor_nano_usd=floor,
            deadline=question.received_at + timedelta(seconds=self._request_timeout_s),
        )

    def _cap(self, asked: Asked, granted_nano_usd: NanoUsd) -> None:
        """Lower the output cap to what a smaller hold than asked for covers; such an answer is nobody else's."""
        if asked.hold_nano_usd is None or granted_nano_usd >= asked.hold_nano_usd:
            return
        assert asked.price is not None, "what was held has a price"
        assert isinstance(asked.request, ChatRequest), "only a chat's cap is lowered"
        asked.lowered_cap = cap_within(granted_nano_usd, asked.input_tokens, asked.price)
        asked.request = replace(asked.request, max_tokens=asked.lowered_cap)
        asked.body = canonical_body(asked.request)
        asked.key = None

    async def _dispatch(self, asked: Asked, hold_nano_usd: NanoUsd) -> Answer:
        """Publish the job and wait for what comes of it."""
        question = asked.question
        with self._inbox.expect(question.request_id) as ended:
            try:
                await self._queue.publish(await self._job(asked))
            except (Overloaded, Unavailable) as error:
                if await self._gate.drop(asked):
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
        asked.standing = _settled(asked.standing, hold_nano_usd, outcome.receipt.cost_nano_usd)
        return await self._committed(asked, outcome)

    async def _job(self, asked: Asked) -> Job:
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
            price=asked.price,
            body=body,
            body_blob_id=blob_id,
            reply_to=self._inbox.subject(question.request_id),
            admitted_at_ms=round(question.received_at.timestamp() * 1000),
            deadline_ms=round(asked.deadline.timestamp() * 1000),
            cache_key=asked.key,
            cache_ttl_s=question.cache.ttl_s,
            metadata=question.metadata,
        )

    async def _committed(self, asked: Asked, committed: Committed) -> Answer:
        body = committed.body
        if body is None:  # its frames were lost; the log may have kept it
            known = await self._known.of_request(asked.caller.project_id, asked.question.request_id)
            if known is None:
                raise Unavailable("the answer was lost on its way back; it stands in the log, without its content")
            body = known.body
        self._known.remember(asked, body, committed.receipt)
        return Answer(
            body=body,
            receipt=committed.receipt,
            cache="MISS" if asked.key is not None else "BYPASS",
            standing=asked.standing,
            lowered_cap=asked.lowered_cap,
        )

    async def _too_late(self, asked: Asked) -> Answer:
        """The deadline has passed: the log says whether there was an answer after all."""
        known = await self._known.of_request(asked.caller.project_id, asked.question.request_id)
        if known is not None:
            return Answer(body=known.body, receipt=known.receipt, cache="MISS", standing=asked.standing)
        error = self._timed_out(asked)
        if await self._gate.drop(asked):
            await self._record_failure(asked, error.code, error.message)
        raise error

    def _timed_out(self, asked: Asked) -> ProviderTimeout:
        provider = asked.route.provider
        return ProviderTimeout(f"{provider} did not answer within {self._request_timeout_s:g} s", provider=provider)

    async def _serve(self, asked: Asked, known: CachedAnswer, *, shared: bool) -> Answer:
        """Give a known answer again; the event of it is in the log before the caller has it."""
        now = self._now()
        served = RequestServedFromCache(
            **asked.subject(),
            origin_request_id=known.request_id,
            shared=shared,
            usage=known.receipt.usage,
            saved_nano_usd=known.receipt.cost_nano_usd,
            latency_ms=asked.latency_ms(now),
        )
        await self._gate.serve(
            asked,
            Commit(
                stream=request_stream(asked.question.request_id),
                expected_version=0,
                project_id=asked.caller.project_id,
                at=now,
                events=(served,),
            ),
        )
        return Answer(body=known.body, receipt=known.receipt, cache="HIT", standing=asked.standing)

    async def _record_failure(self, asked: Asked, code: str, message: str) -> None:
        """Note that an admitted request came to nothing before anybody called a provider."""
        now = self._now()
        failed = RequestFailed(**asked.subject(), code=code, message=message, latency_ms=asked.latency_ms(now))
        await record(
            self._log,
            request_id=asked.question.request_id,
            project_id=asked.caller.project_id,
            at=now,
            decide=lambda history: after_failure(history, None, failed),
            history=[],
        )


def _settled(standing: Standing, hold_nano_usd: NanoUsd, cost_nano_usd: NanoUsd | None) -> Standing:
    """The standing once a request's own hold has become its cost."""
    left = standing.budget_left_nano_usd
    if left is None or cost_nano_usd is None:
        return standing
    return replace(standing, budget_left_nano_usd=NanoUsd(left + hold_nano_usd - cost_nano_usd))
