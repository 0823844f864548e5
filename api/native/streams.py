"""The native surface's streams: chunks of the canonical response, the last with usage and cost."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from api.inference_response import InferenceResponse
from api.native.envelope import FailureEnvelope
from api.native.openapi import Stream
from api.request_context import InferenceRequest
from domain.canonical.chat import ChatResponse
from domain.canonical.stream import ChatChunk, replay_chat
from domain.dialects.codec import StreamSummary
from domain.dialects.native.stream import LastChunk, NativeWriter, error_event
from domain.errors import GatewayError
from domain.money import to_usd

STREAM = Stream(
    types=(ChatChunk, LastChunk, FailureEnvelope),
    description=(
        "If `stream` is true: each event's data is a ChatChunk, the last has usage and cost (LastChunk), and "
        "`[DONE]` ends them. A stream that breaks off ends with a FailureEnvelope instead."
    ),
)

_decode = msgspec.json.Decoder(ChatResponse).decode


class NativeStream:
    """Streams one native response."""

    def __init__(self, inference_request: InferenceRequest) -> None:
        self._inference_request = inference_request

    def replay(self, response: InferenceResponse) -> Iterator[bytes]:
        """See `SurfaceStream`."""
        writer = NativeWriter()
        for chunk in replay_chat(_decode(response.body)):
            yield writer.write(chunk)
        cost = response.stated_cost_nano_usd
        yield writer.end(
            StreamSummary(
                usage=response.receipt.usage,
                cost_usd=to_usd(cost) if cost is not None else None,
                latency_ms=stated_latency_ms(response, self._inference_request),
                is_cached=response.is_cached,
            )
        )

    def error(self, failure: GatewayError, _sent: bytes) -> bytes:
        """See `SurfaceStream`."""
        return error_event(failure.code, failure.message, self._inference_request.request_id, failure.details)


def stated_latency_ms(response: InferenceResponse, inference_request: InferenceRequest) -> int:
    """How long the answer took, as it says itself: until now, or what each of its retries is to say too."""
    if response.latency_ms is not None:
        return response.latency_ms
    latency = datetime.now(UTC) - inference_request.received_at
    return max(0, round(latency.total_seconds() * 1000))
