"""From a provider's stream to a client's: events as they came, or translated by way of canonical chunks."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from domain.canonical.stream import ChatAssembler
from domain.dialects.codec import StreamReader, StreamSummary, StreamWriter
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.passthrough.stream import PassthroughStream
from domain.dialects.sse import SseEvent
from domain.tokens import TokenUsage, answer_usage

MAX_ERROR_EVENTS_BYTES = 256 * 1024
"""A provider's report of its failure travels in one message. The gateway writes its own in place of a longer one."""
MAX_KEPT_STREAM_BYTES = 32 * 1024 * 1024
"""The cache keeps a passed-through stream as it came; a longer one is sent to its caller and not kept."""

_LINES = (b"data", b"event", b":", b"id", b"retry", b"\n", b"\r")
"""An event begins with one of these; a page of HTML does not."""

_encode = msgspec.json.Encoder().encode


class Relay(Protocol):
    """Takes the events of one provider's stream and gives what its client is sent.

    It holds back the end: the client is sent `final_events` once the response stands in the log.
    """

    reader: StreamReader

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """Add to `sent` what the client is sent at once, up to the event that fails.

        Raises:
            StreamFailed: the provider reports a failure.
            UnreadableResponse: these are no events of its dialect.

        """
        ...

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """Take the events that follow the provider's report of a failure."""
        ...

    def error_events(self) -> bytes | None:
        """The events by which the provider reported its failure; None if the client does not speak its dialect."""
        ...

    def final_events(self, summary: StreamSummary) -> bytes:
        """The end of the stream."""
        ...

    def cached_body(self, usage: TokenUsage) -> bytes | None:
        """The body for the cache, once the stream has ended; None if it is too long. Only if `is_cached` was set."""
        ...


class PassthroughRelay:
    """Events as their provider wrote them."""

    def __init__(self, reader: StreamReader, *, hides_usage: bool, is_cached: bool) -> None:
        self.reader = reader
        self._stream = PassthroughStream(reader, hides_usage=hides_usage)
        self._kept: bytearray | None = bytearray() if is_cached else None
        self._error_events: list[bytes] = []

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """See `Relay`."""
        passed: list[SseEvent] = []
        try:
            for number, event in enumerate(events):
                if not event.raw.startswith(_LINES):
                    raise UnreadableResponse("this is no stream of events")
                try:
                    self._stream.take(event, passed)
                except StreamFailed:
                    self.drain_error(events[number:])
                    raise
                if self._kept is not None:
                    self._keep(self._kept, event)
        finally:
            if passed:
                sent.append(self._stream.written(passed))

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """See `Relay`."""
        self._error_events += (event.raw for event in events)

    def error_events(self) -> bytes | None:
        """See `Relay`."""
        written = b"".join(self._error_events)
        return written if 0 < len(written) <= MAX_ERROR_EVENTS_BYTES else None

    def final_events(self, summary: StreamSummary) -> bytes:
        """See `Relay`."""
        return self._stream.final_events(summary.cost_usd)

    def cached_body(self, usage: TokenUsage) -> bytes | None:
        """See `Relay`: the provider's own bytes."""
        return bytes(self._kept) if self._kept is not None else None

    def _keep(self, kept: bytearray, event: SseEvent) -> None:
        kept += event.raw
        if len(kept) > MAX_KEPT_STREAM_BYTES:
            self._kept = None


class TranslatingRelay:
    """Events in the client's dialect. `assembler` puts together the body for the cache; None: there is none."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, assembler: ChatAssembler | None) -> None:
        self.reader = reader
        self._writer = writer
        self._assembler = assembler

    def take(self, events: Sequence[SseEvent], sent: list[bytes]) -> None:
        """See `Relay`."""
        for event in events:
            for chunk in self.reader.take(event):
                if self._assembler is not None:
                    self._assembler.add(chunk)
                sent.append(self._writer.write(chunk))

    def drain_error(self, events: Sequence[SseEvent]) -> None:
        """See `Relay`."""

    def error_events(self) -> None:
        """See `Relay`."""

    def final_events(self, summary: StreamSummary) -> bytes:
        """See `Relay`."""
        return self._writer.end(summary)

    def cached_body(self, usage: TokenUsage) -> bytes:
        """See `Relay`: the canonical response in one piece, as JSON."""
        assert self._assembler is not None, "only the body for the cache is put together"
        return _encode(self._assembler.answer(answer_usage(usage)))
