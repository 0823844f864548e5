"""A provider's stream on its way to a client that speaks the same dialect: live, or again from the cache.

The client is sent the bytes that came, without the usage that it did not ask for, or with the cost beside the usage at
the end. What the cache keeps are the bytes as they came, so that a replay is what this client would have seen live.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from domain.dialects.codec import StreamReader
from domain.dialects.passthrough.json_edit import event_with_cost, without_usages
from domain.dialects.sse import SseEvent, SseParser

REPLAY_PIECE_BYTES = 64 * 1024
"""So much of a kept stream is read and sent at a time: other requests have their turn in between."""


class PassthroughStream:
    """Passes one stream's events on, and holds its tail back until the cost is known."""

    def __init__(self, reader: StreamReader, *, hides_usage: bool) -> None:
        self._reader = reader
        self._hides_usage = hides_usage
        self._tail: list[SseEvent] = []

    def take(self, event: SseEvent, passed: list[SseEvent]) -> None:
        """Read the next event, and add to `passed` what the client is sent now. Raises as `StreamReader.take`."""
        self._reader.take(event)
        if self._reader.is_tail:
            self._tail.append(event)
            return
        if self._tail:
            passed += self._tail
            self._tail.clear()
        passed.append(event)

    def written(self, passed: Sequence[SseEvent]) -> bytes:
        """The bytes of events that the client is sent. The reader has read them, so none is unreadable here."""
        return without_usages(passed) if self._hides_usage else b"".join([event.raw for event in passed])

    def final_events(self, cost_usd: Decimal | None) -> bytes:
        """The tail, with this cost; None: the price of the model is not known."""
        if self._hides_usage:
            return without_usages(self._tail)
        return b"".join([event_with_cost(event, cost_usd) for event in self._tail])


def replay_stream(kept: bytes, reader: StreamReader, *, hides_usage: bool, cost_usd: Decimal | None) -> Iterator[bytes]:
    """Send a complete stream again, in pieces. `reader` is new; raises as `StreamReader.take`."""
    stream = PassthroughStream(reader, hides_usage=hides_usage)
    parser = SseParser()
    for start in range(0, len(kept), REPLAY_PIECE_BYTES):
        passed: list[SseEvent] = []
        for event in parser.feed(kept[start : start + REPLAY_PIECE_BYTES]):
            stream.take(event, passed)
        if passed:
            yield stream.written(passed)
    assert not parser.rest(), "complete events are kept"
    yield stream.final_events(cost_usd)
