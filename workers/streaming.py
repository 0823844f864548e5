"""Makes an attempt whose answer is streamed: the provider's events become numbered parts, sent as they come.

The end (usage, cost, the vendor's final events) is held back until the answer is in the log. A stream that is cut, by
its provider or because nothing waits for it any more, is costed by what was received.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress

from msgspec.structs import replace

from domain.dialects.codec import UNSHARED_FINISHES, Codec, RenderOptions, StreamReader, StreamSummary
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.relay import Relay
from domain.dialects.sse import SseEvent
from domain.dialects.translation import Translation
from domain.errors import ClientDisconnected, GatewayError, ProviderError, ProviderLost
from domain.events import KeptResponse
from domain.failover import CallLimits
from domain.job_result import Receipt
from domain.money import to_usd
from domain.provider_refusals import recognise
from domain.tokens import TokenUsage
from infra.byte_budget import ByteBudget, BytesInHand
from infra.cancellations import client_disconnected
from infra.crash_points import reach
from infra.jobs import Job
from infra.offload import offload
from infra.reply_sender import ReplySender
from workers import outcome
from workers.attempt_recorder import AttemptRecorder, AttemptResult, RecordedBody
from workers.calls import ProviderCalls
from workers.estimated_usage import UnseenTime, estimated_usage
from workers.job_context import JobContext
from workers.kept_responses import kept_response, with_id
from workers.outgoing import MAX_KEPT_BYTES, OutgoingStream
from workers.progress import ProgressReports
from workers.provider_failures import reported_failure

ERROR_DRAIN_S = 1.0


class StreamedAttempts:
    """Makes attempts whose answers are streamed, for one worker."""

    def __init__(
        self,
        *,
        calls: ProviderCalls,
        recorder: AttemptRecorder,
        replies: ReplySender,
        progress: ProgressReports | None = None,
    ) -> None:
        """Without `progress`, an attempt whose worker dies is assumed to have cost its hold."""
        self._progress = progress
        self._calls = calls
        self._recorder = recorder
        self._replies = replies
        self._kept = ByteBudget(MAX_KEPT_BYTES)

    async def attempt(self, ctx: JobContext, limits: CallLimits) -> None:
        """Make one attempt: relay its stream, record how it ended, and send its end.

        Raises:
            ProviderError: the provider gave no stream, or one that failed before its first byte was sent on and
                another target may answer instead; nothing is written.

        """
        job = ctx.job
        if await ctx.cancellation.has_no_waiters():
            await self._recorder.record_partial(ctx, TokenUsage(), client_disconnected())
            return
        outgoing = OutgoingStream(
            self._replies,
            job,
            ctx.claim.attempt,
            ctx.cancellation,
            kept_bytes=BytesInHand(self._kept, job.identity.project_id),
            timeout_s=limits.total_s,
            target=ctx.target,
        )
        with closing(outgoing):
            await self._attempt(ctx, outgoing, limits)

    async def _attempt(self, ctx: JobContext, outgoing: OutgoingStream, limits: CallLimits) -> None:
        """Make one attempt whose parts go out on `outgoing`. Raises as `attempt`."""
        job = ctx.job
        relay = open_relay(ctx.prepared.translation, job)
        began_s = time.monotonic()
        reach("worker.before_call")
        ctx.attempt_watch.calling()
        kept = kept_response(job, ctx.prepared)
        with self._reported(ctx, relay, kept):
            try:
                error = await ctx.cancellation.or_cancelled(self._relay(ctx, relay, outgoing, limits))
            except ClientDisconnected as disconnected:
                error = disconnected
        ctx.attempt_watch.came()
        reach("worker.after_stream")
        unseen = outgoing.unseen if job.choices == 1 else UnseenTime(began_s)
        result = attempt_result(relay.reader, job, unseen.until(time.monotonic()))
        result = replace(result, first_output_at_s=outgoing.first_output_at_s)
        if error is not None:
            named = with_id(kept, result.response_id) if result.is_estimated else None
            await self._recorder.record_partial(ctx, result.usage, error, result.extras, kept=named)
            return
        body = await offload(outgoing.size_bytes, _recorded, outgoing, relay, job, result.usage)

        end = _StreamEnd(relay, job, result.usage)
        receipt = await self._recorder.record_response(
            ctx, result, body, whole=lambda answered: outgoing.whole(end.events(answered))
        )
        if receipt is None:
            return
        await self._replies.notify_followers(job)  # they need not wait for the caller
        with suppress(ClientDisconnected):
            await outgoing.send(end.events(receipt))
        await self._replies.send_commit(
            job.reply_to, ctx.claim.attempt, outgoing.digest(), receipt, parts=outgoing.parts
        )
        reach("worker.after_commit")

    def _reported(self, ctx: JobContext, relay: Relay, kept: KeptResponse | None) -> AbstractContextManager[None]:
        """Report how far the attempt is, until the block ends."""
        if self._progress is None:
            return nullcontext()
        credential = ctx.prepared.call.credential
        name = credential.name if credential is not None else None
        return self._progress.of(ctx.job, ctx.claim, relay.reader, kept=kept, credential=name)

    async def _relay(
        self, ctx: JobContext, relay: Relay, outgoing: OutgoingStream, limits: CallLimits
    ) -> GatewayError | None:
        """Send the stream on as it comes. Returns why it was cut, None if it came to its end.

        Raises:
            ProviderError: the provider gave no stream; or it failed before its first byte was sent on, and another
                target may answer instead.

        """
        provider = ctx.job.identity.provider
        has_opened = False

        def cut(lost: ProviderError, reported: ProviderError | None = None) -> ProviderError:
            if outgoing.parts == 0 and ctx.moves_on(reported or lost):
                raise reported or lost
            return lost

        try:
            async with self._calls.stream(ctx.prepared, limits, ctx.attempt_watch.first_part) as batches:
                has_opened = True
                try:
                    codec = ctx.prepared.translation.provider
                    await _send_batches(relay, _as_events(batches, codec), outgoing)
                except StreamFailed:
                    await _drain_error(relay, batches)
                    raise
        except StreamFailed as error:
            lost = ProviderLost(f"{provider} ended the stream with an error: {error}", provider=provider)
            lost.in_stream, lost.refusal = relay.error_events(), recognise(error.message, error.kind)
            return cut(lost, None if _has_received(relay.reader) else reported_failure(error, provider))
        except UnreadableResponse as error:
            lost = ProviderLost(f"{provider} ended the stream with an error: {error}", provider=provider)
            lost.in_stream = relay.error_events()
            return cut(lost)
        except RecursionError:
            return cut(ProviderLost(f"{provider} sent an event that is nested too deeply", provider=provider))
        except ProviderError as error:
            if not has_opened:
                raise
            return cut(error)
        reader = relay.reader
        if reader.finish_reason is not None:  # without its vendor's last event, which not every provider sends
            reader.is_ended = True
        return None if reader.is_ended else cut(ProviderLost(f"{provider} broke the stream off", provider=provider))


def _has_received(reader: StreamReader) -> bool:
    """True if something came that the provider may charge for."""
    return reader.usage is not None or reader.input_usage is not None or reader.received_output_bytes > 0


class _StreamEnd:
    """The last events of a stream, written once: what its caller is sent is what a retry gets."""

    def __init__(self, relay: Relay, job: Job, usage: TokenUsage) -> None:
        self._relay = relay
        self._job = job
        self._usage = usage
        self._events: bytes | None = None

    def events(self, receipt: Receipt) -> bytes:
        """The events, with the cost of the answer."""
        if self._events is None:
            cost = receipt.cost_nano_usd
            self._events = self._relay.final_events(
                StreamSummary(
                    usage=self._usage,
                    cost_usd=to_usd(cost) if cost is not None else None,
                    latency_ms=outcome.latency_ms(self._job, receipt.answered_at),
                    is_lower_bound=receipt.is_lower_bound,
                )
            )
        return self._events


def open_relay(translation: Translation, job: Job) -> Relay:
    """Open the relay of a job's stream."""
    assert job.stream is not None, "a streamed job"
    options = RenderOptions(
        created_s=job.admitted_at_ms // 1000,
        with_usage=job.stream.with_usage,
        echo=job.stream.echo,
        tool_names=job.stream.tool_names,
    )
    return translation.relay(
        model=job.identity.model, provider=job.identity.provider, options=options, is_cached=job.cache_key is not None
    )


def attempt_result(reader: StreamReader, job: Job, elapsed_s: float) -> AttemptResult:
    """The response as far as it came. If the provider sent no usage, the most that it may charge after so long."""
    return AttemptResult(
        answered_by=reader.answered_by,
        response_id=reader.response_id,
        finish_reason=reader.finish_reason,
        usage=reader.usage
        if reader.is_ended and reader.usage is not None
        else estimated_usage(reader, job, elapsed_s, is_whole=reader.is_ended),
        is_estimated=not reader.is_ended or reader.usage is None,
        extras=reader.extras,
        item_ids=reader.item_ids,
        output_bytes=reader.received_output_bytes,
    )


def _recorded(outgoing: OutgoingStream, relay: Relay, job: Job, usage: TokenUsage) -> RecordedBody:
    """What the log keeps of a stream that has come to its end."""
    is_kept = job.cache_key is not None and _is_shared(relay.reader)
    return outgoing.recorded(relay.cached_body(usage) if is_kept else None)


def _is_shared(reader: StreamReader) -> bool:
    """True if the response may be cached: it is neither cut, nor filtered, nor empty."""
    return reader.finish_reason not in UNSHARED_FINISHES and reader.received_output_bytes > 0


async def _as_events(batches: AsyncIterator[list[SseEvent]], codec: Codec | None) -> AsyncIterator[list[SseEvent]]:
    """The batches, or the events of a response in one piece that came in place of a stream."""
    pieces: list[bytes] = []
    is_first = True
    async for batch in batches:
        if pieces or (is_first and batch[0].raw.lstrip().startswith(b"{")):
            pieces += (event.raw for event in batch)
        else:
            yield batch
        is_first = False
    if pieces:
        assert codec is not None, "the request was checked"
        yield codec.events_of_response(b"".join(pieces))


async def _send_batches(relay: Relay, batches: AsyncIterator[list[SseEvent]], outgoing: OutgoingStream) -> None:
    """Send on what comes, and also what came before a failure. Raises as `Relay.take`."""
    async for batch in batches:
        sent: list[bytes] = []
        try:
            relay.take(batch, sent)
        finally:
            now_s = time.monotonic()
            outgoing.unseen.saw(now_s, relay.reader.writing_run)
            if outgoing.first_output_at_s is None and relay.reader.received_output_bytes:
                outgoing.first_output_at_s = now_s
            part = sent[0] if len(sent) == 1 else b"".join(sent)
            batch.clear()  # a caller that reads slowly may hold up the part for minutes
            sent.clear()
            await outgoing.send(part)
            reach("worker.after_part")


async def _drain_error(relay: Relay, batches: AsyncIterator[list[SseEvent]]) -> None:
    """Read the rest of a stream that has failed, for a moment: the provider may say more about its failure."""
    with suppress(TimeoutError, ProviderError, UnreadableResponse):
        async with asyncio.timeout(ERROR_DRAIN_S):
            async for batch in batches:
                relay.drain_error(batch)
