"""What becomes of a provider's events on their way to the caller: passed on as they came, or told in another dialect.

Holds the end back: the caller is sent `tail` once the answer stands in the log.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec
from msgspec import Struct

from domain.canonical.stream import ChatAssembler, ChatChunk
from domain.dialects.anthropic_streamed import AnthropicMessagesReader
from domain.dialects.anthropic_writer import AnthropicMessagesWriter
from domain.dialects.native_writer import NativeWriter
from domain.dialects.openai_streamed import OpenAiChatReader
from domain.dialects.openai_writer import OpenAiChatWriter
from domain.dialects.passthrough.json_edit import event_with_cost, without_usage
from domain.dialects.provider_response import UnreadableResponse, answer_usage
from domain.dialects.responses_streamed import ResponsesReader
from domain.dialects.sse import SseEvent
from domain.dialects.streamed import StreamFailed, StreamReader
from domain.dialects.table import dialect_of
from domain.models import MAX_UNSEEN_TOKENS_PER_S
from domain.tokens import TokenUsage
from infra.jobs import Job
from workers.attempt_recorder import AttemptResult

MAX_ERROR_EVENTS_BYTES = 256 * 1024
"""What a provider says of its failure travels in one message; where it says more, the gateway speaks for it."""
UNDER_WAY_TOKENS = 16
"""What a provider may have charged for that had not arrived when its stream was cut. Text that has arrived leaves room
for more: it has several bytes a token."""

_LINES = (b"data", b"event", b":", b"id", b"retry", b"\n", b"\r")
"""What an event may begin with: a page of HTML does not."""

_encode = msgspec.json.Encoder().encode


class StreamSummary(Struct, frozen=True, kw_only=True):
    """What is known once the answer stands in the log."""

    usage: TokenUsage
    cost_usd: Decimal | None
    latency_ms: int


class Relay(Protocol):
    """One stream's."""

    reader: StreamReader

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """Add to `sent` what the caller is sent at once, up to where it fails.

        Raises:
            StreamFailed: the provider says that it failed.
            UnreadableResponse: these are no events of its wire.

        """
        ...

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """Take what comes after the provider has said that it failed."""
        ...

    def error_events(self) -> bytes | None:
        """The events by which the provider said that it failed; None where the caller does not speak its dialect."""
        ...

    def final_events(self, end: StreamSummary) -> bytes:
        """What the caller is sent at the end."""
        ...

    def full_response(self, usage: TokenUsage) -> bytes:
        """The answer in one piece, as JSON: what is kept of it. Only where the job has a cache key."""
        ...


def make_relay(job: Job) -> Relay:
    """The relay that a job's stream wants."""
    return PassthroughRelay(job) if job.is_passthrough else TranslatingRelay(job)


def close(reader: StreamReader) -> None:
    """The provider has closed the stream, in due form. Where everything was said but the vendor's last word, which not
    everybody of its kind sends, that is its end.
    """
    if reader.finish_reason is not None and reader.usage is not None:
        reader.is_ended = True


def attempt_result(relay: Relay, job: Job, elapsed_s: float) -> AttemptResult:
    """What the answer was, as far as it came; where the provider did not say, the most that it can have been after so
    many seconds.
    """
    reader = relay.reader
    return AttemptResult(
        answered_by=reader.answered_by,
        response_id=reader.response_id,
        finish_reason=reader.finish_reason,
        usage=reader.usage if reader.is_ended and reader.usage is not None else _estimated(reader, job, elapsed_s),
        is_estimated=not reader.is_ended or reader.usage is None,
    )


class PassthroughRelay:
    """Events as their provider wrote them, to a caller who speaks its dialect."""

    def __init__(self, job: Job) -> None:
        assert job.stream is not None, "a streamed job"
        self.reader: StreamReader = _reader(job, model=None)
        self._hides_usage = job.stream.surface == "openai" and not job.stream.with_usage
        self._tail: list[SseEvent] = []
        self._error_events: list[bytes] = []

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """See `Relay`."""
        for number, event in enumerate(events):
            if not event.raw.startswith(_LINES):
                raise UnreadableResponse("this is no stream of events")
            try:
                self.reader.take(event)
            except StreamFailed:
                self.drain_error(events[number:])
                raise
            self._tail.append(event)
            if not self.reader.is_tail:
                sent += (without_usage(held) if self._hides_usage else held.raw for held in self._tail)
                self._tail.clear()

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """See `Relay`."""
        self._error_events += (event.raw for event in events)

    def error_events(self) -> bytes | None:
        """See `Relay`."""
        said = b"".join(self._error_events)
        return said if 0 < len(said) <= MAX_ERROR_EVENTS_BYTES else None

    def final_events(self, end: StreamSummary) -> bytes:
        """See `Relay`."""
        if self._hides_usage:
            return b"".join(without_usage(event) for event in self._tail)
        return b"".join(event_with_cost(event, end.cost_usd) for event in self._tail)

    def full_response(self, usage: TokenUsage) -> bytes:  # noqa: ARG002 - it stands in the events
        """See `Relay`."""
        return self.reader.assembled()


class TranslatingRelay:
    """Events told in the caller's dialect, by way of the canonical stream."""

    def __init__(self, job: Job) -> None:
        assert job.stream is not None, "a streamed job"
        self.reader: StreamReader = _reader(job, model=job.identity.model)
        self._assembler = (
            ChatAssembler(provider=job.identity.provider, model=job.identity.model)
            if job.cache_key is not None
            else None
        )
        self._write, self._end = _writer(job)

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """See `Relay`."""
        for event in events:
            for chunk in self.reader.take(event):
                if self._assembler is not None:
                    self._assembler.add(chunk)
                sent.append(self._write(chunk))

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """See `Relay`."""

    def error_events(self) -> None:
        """See `Relay`."""

    def final_events(self, end: StreamSummary) -> bytes:
        """See `Relay`."""
        return self._end(end)

    def full_response(self, usage: TokenUsage) -> bytes:
        """See `Relay`."""
        assert self._assembler is not None, "only what is kept is put together"
        return _encode(self._assembler.answer(answer_usage(usage)))


_READERS: dict[tuple[str, str], Callable[..., StreamReader]] = {
    ("openai", "chat"): OpenAiChatReader,
    ("openai", "responses"): lambda *, model, keep: ResponsesReader(keep=keep),  # noqa: ARG005 - never told
    ("anthropic", "chat"): AnthropicMessagesReader,
}


def _reader(job: Job, model: str | None) -> StreamReader:
    keep = job.is_passthrough and job.cache_key is not None
    return _READERS[dialect_of(job.kind), job.identity.operation](model=model, keep=keep)


def _writer(job: Job) -> tuple[Callable[[ChatChunk], bytes], Callable[[StreamSummary], bytes]]:
    assert job.stream is not None, "a streamed job"
    match job.stream.surface:
        case "native":
            native = NativeWriter()
            return native.write, lambda end: native.end(
                answer_usage(end.usage), end.cost_usd, cached=False, latency_ms=end.latency_ms
            )
        case "openai":
            chat = OpenAiChatWriter(created_s=job.admitted_at_ms // 1000, include_usage=job.stream.with_usage)
            return chat.write, lambda end: chat.end(end.usage, end.cost_usd)
        case "anthropic":
            messages = AnthropicMessagesWriter()
            return messages.write, lambda end: messages.end(end.usage, end.cost_usd)
        case "responses":
            raise AssertionError("responses are passed on, never told")


def _estimated(reader: StreamReader, job: Job, elapsed_s: float) -> TokenUsage:
    """No text has more tokens than bytes, nobody thinks faster than `MAX_UNSEEN_TOKENS_PER_S`, and no answer is longer
    than its cap.
    """
    known = reader.usage or TokenUsage()
    unseen = math.ceil(elapsed_s * MAX_UNSEEN_TOKENS_PER_S) if job.may_think_unseen else 0
    under_way = 0 if reader.is_ended else UNDER_WAY_TOKENS
    output = max(known.output, min(reader.received_output_bytes + under_way + unseen, job.output_bound))
    if reader.input_usage is not None:
        return msgspec.structs.replace(reader.input_usage, output=output)
    return TokenUsage(input=job.input_bound, output=output)
