"""The native surface's streams: chunks of the canonical answer, the last with usage and cost."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from api.answering import Answer
from api.question import Question
from domain.chat import ChatAnswer
from domain.dialects.native_writer import NativeWriter, error
from domain.errors import GatewayError
from domain.money import to_usd
from domain.stream import replay_chat

_decode = msgspec.json.Decoder(ChatAnswer).decode


class NativeStream:
    """One answer's."""

    def __init__(self, question: Question) -> None:
        self._question = question

    def replay(self, answer: Answer) -> Iterator[bytes]:
        """See `SurfaceStream`."""
        writer, known = NativeWriter(), _decode(answer.body)
        for chunk in replay_chat(known):
            yield writer.write(chunk)
        latency = datetime.now(UTC) - self._question.received_at
        cost = answer.cost_nano_usd
        yield writer.end(
            known.usage,
            to_usd(cost) if cost is not None else None,
            cached=answer.cache == "HIT",
            latency_ms=max(0, round(latency.total_seconds() * 1000)),
        )

    def error(self, failure: GatewayError, _sent: bytes) -> bytes:
        """See `SurfaceStream`."""
        return error(failure.code, failure.message, self._question.request_id, failure.details)
