"""An attempt whose answer is streamed: from the provider's events to numbered parts, on their way as they come.

What comes at the end (usage, cost, the vendor's last word) is held back until the answer stands in the log. A stream
that is cut, by its provider or because nobody waits for it any more, is costed by what was received.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from domain.dialects.codec import RenderOptions, StreamSummary
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.relay import Relay
from domain.dialects.sse import SseEvent
from domain.dialects.translation import Translation
from domain.errors import ClientDisconnected, GatewayError, ProviderError, ProviderLost
from domain.money import to_usd
from domain.tokens import TokenUsage
from infra.admission import Claim
from infra.cancellations import Cancellations
from infra.jobs import Job
from infra.offload import offload
from infra.replies import ReplySender
from workers import outcome
from workers.attempt_recorder import AttemptRecorder, JobContext, RecordedBody
from workers.calls import ProviderCalls
from workers.stream_result import accept_end, attempt_result
from workers.waiting_callers import WaitingCallers, client_disconnected

ERROR_DRAIN_S = 1.0


class StreamedAttempts:
    """Makes attempts whose answers are streamed, for one worker."""

    def __init__(
        self, *, calls: ProviderCalls, recorder: AttemptRecorder, replies: ReplySender, callers: WaitingCallers
    ) -> None:
        self._calls = calls
        self._recorder = recorder
        self._replies = replies
        self._callers = callers

    async def attempt(self, ctx: JobContext, claim: Claim, cancellations: Cancellations, timeout_s: float) -> None:
        """Make one attempt, and write what came of it.

        Raises:
            ProviderError: the provider gave no stream; nothing is written.

        """
        if await self._callers.are_gone(ctx.job, cancellations):
            await self._recorder.record_partial(ctx, claim, TokenUsage(), client_disconnected())
            return
        relay = open_relay(ctx.prepared.translation, ctx.job)
        outgoing = _Outgoing(self._replies, ctx.job, claim)
        began_s = time.monotonic()
        error = await self._until_it_ends(ctx, relay, outgoing, cancellations, timeout_s)
        found = attempt_result(relay.reader, ctx.job, time.monotonic() - began_s)
        if error is not None:
            await self._recorder.record_partial(ctx, claim, found.usage, error)
            return
        body = await offload(outgoing.size_bytes, outgoing.body, relay, found.usage)
        receipt = await self._recorder.record_response(ctx, claim, found, body)
        if receipt is None:
            return
        cost = receipt.cost_nano_usd
        end = StreamSummary(
            usage=found.usage,
            cost_usd=to_usd(cost) if cost is not None else None,
            latency_ms=outcome.latency_ms(ctx.attempt.admitted_at, receipt.answered_at),
        )
        await outgoing.send(relay.final_events(end))
        await self._replies.send_commit(
            ctx.job.reply_to, claim.attempt, outgoing.digest(), receipt, parts=outgoing.parts
        )
        await self._recorder.notify_followers(ctx.job)

    async def _until_it_ends(
        self, ctx: JobContext, relay: Relay, outgoing: "_Outgoing", cancellations: Cancellations, timeout_s: float
    ) -> GatewayError | None:
        """Pass the stream on; the reason, where it was cut."""
        try:
            return await self._callers.unless_gone(
                ctx.job, cancellations, self._pass_on(ctx, relay, outgoing, timeout_s)
            )
        except ClientDisconnected as error:
            return error

    async def _pass_on(
        self, ctx: JobContext, relay: Relay, outgoing: "_Outgoing", timeout_s: float
    ) -> GatewayError | None:
        provider = ctx.job.identity.provider
        has_opened = False
        try:
            async with self._calls.stream(ctx.prepared, timeout_s) as batches:
                has_opened = True
                try:
                    await _relayed(relay, batches, outgoing)
                except StreamFailed:
                    await _drain_error(relay, batches)
                    raise
        except (StreamFailed, UnreadableResponse) as error:
            lost = ProviderLost(f"{provider} ended the stream with an error: {error}", provider=provider)
            lost.in_stream = relay.error_events()
            return lost
        except ProviderError as error:
            if not has_opened:
                raise
            return error
        accept_end(relay.reader)
        return None if relay.reader.is_ended else ProviderLost(f"{provider} broke the stream off", provider=provider)


def open_relay(translation: Translation, job: Job) -> Relay:
    """The relay of a job's stream."""
    assert job.stream is not None, "a streamed job"
    options = RenderOptions(created_s=job.admitted_at_ms // 1000, with_usage=job.stream.with_usage)
    return translation.relay(
        model=job.identity.model, provider=job.identity.provider, options=options, is_cached=job.cache_key is not None
    )


async def _relayed(relay: Relay, batches: AsyncIterator[list[SseEvent]], outgoing: "_Outgoing") -> None:
    """Pass on what comes, and what came before a failure as well. Raises as `Relay.take`."""
    async for batch in batches:
        sent: list[bytes] = []
        try:
            relay.take(batch, sent)
        finally:
            await outgoing.send(sent[0] if len(sent) == 1 else b"".join(sent))


async def _drain_error(relay: Relay, batches: AsyncIterator[list[SseEvent]]) -> None:
    """Wait a moment for what the provider has to add to its failure, up to its end."""
    with suppress(TimeoutError, ProviderError, UnreadableResponse):
        async with asyncio.timeout(ERROR_DRAIN_S):
            async for batch in batches:
                relay.drain_error(batch)


class _Outgoing:
    """The parts of one attempt, on their way to the caller."""

    def __init__(self, replies: ReplySender, job: Job, claim: Claim) -> None:
        self._replies = replies
        self._job = job
        self._attempt = claim.attempt
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.parts = 0

    async def send(self, part: bytes) -> None:
        """Send what is next; nothing where there is nothing."""
        if not part:
            return
        self._hash.update(part)
        self.size_bytes += len(part)
        self.parts = await self._replies.send_part(self._job.reply_to, self._attempt, self.parts + 1, part)

    def digest(self) -> bytes:
        """SHA-256 of everything sent so far."""
        return self._hash.digest()

    def body(self, relay: Relay, usage: TokenUsage) -> RecordedBody:
        """The body that the cache keeps, or else the size and digest of the parts sent so far."""
        body = relay.cached_body(usage) if self._job.cache_key is not None else None
        if body is not None:
            return RecordedBody.of(body, is_kept=True)
        return RecordedBody(size=self.size_bytes, digest=self._hash.digest(), kept=None)
