"""A passed-through stream has the same bytes live and from the cache, except for the cost."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.codec import StreamReader, StreamSummary
from domain.dialects.openai.responses_api import ResponsesReader
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.passthrough.stream import REPLAY_PIECE_BYTES, replay_stream
from domain.dialects.relay import MAX_KEPT_STREAM_BYTES, Relay
from domain.tokens import TokenUsage
from infra.jobs import Job, StreamFormat
from tests.support.jobs import make_job
from tests.support.sdk_streams import events_of
from tests.unit import test_anthropic_stream as messages
from tests.unit import test_openai_stream as chat
from tests.unit import test_responses_stream as responses
from tests.unit.test_estimated_usage import relay_of

USAGE = TokenUsage(input=1, output=2)
PAID = StreamSummary(usage=USAGE, cost_usd=Decimal("0.5"), latency_ms=1)

IN_EVERY_CHUNK = b"".join(
    [
        chat.chunk(chat.choice({"content": "a"}), usage=chat.USAGE),
        chat.chunk(chat.choice({}, finish="stop"), usage=chat.USAGE),
        chat.chunk(chat.choice({"content": "b"}, index=1), usage=chat.USAGE),
        chat.chunk(chat.choice({}, index=1, finish="stop"), usage=chat.USAGE),
        chat.chunk(usage=chat.USAGE),
        chat.DONE,
    ]
)
LONG = chat.chunk(chat.choice({"content": "é" * 1_000})) * (3 * REPLAY_PIECE_BYTES // 1_000) + chat.TEXT
CRLF = b": ping\r\n\r\n" + chat.TEXT.replace(b"\n", b"\r\n")
COMPLETED = responses.event("response.completed", 6, response=responses.response("completed", usage=responses.USAGE))

STREAMS: dict[str, tuple[str, Callable[[], StreamReader], bytes]] = {
    "chat": ("openai", OpenAiChatReader, chat.TEXT),
    "chat with calls": ("openai", OpenAiChatReader, chat.CALLS),
    "chat with usage in every chunk": ("openai", OpenAiChatReader, IN_EVERY_CHUNK),
    "chat of many pieces": ("openai", OpenAiChatReader, LONG),
    "chat with CRLF and a comment": ("openai", OpenAiChatReader, CRLF),
    "responses": ("responses", ResponsesReader, responses.CREATED + responses.SHOWN + COMPLETED),
    "messages": ("anthropic", AnthropicMessagesReader, messages.WHOLE),
    "messages, plain": ("anthropic", AnthropicMessagesReader, messages.PLAIN),
}


def job_of(surface: str, *, with_usage: bool = True) -> Job:
    provider = "anthropic" if surface == "anthropic" else "openai"
    return make_job(
        provider=provider,
        kind=provider,
        operation="responses" if surface == "responses" else "chat",
        is_passthrough=True,
        stream=StreamFormat(surface=provider, with_usage=with_usage),
        cache_key=b"key",
        cache_ttl_s=60,
    )


def relayed(stream: bytes, job: Job) -> tuple[Relay, bytes]:
    """Relay a whole stream. Return the relay and the bytes for the caller."""
    relay = relay_of(job)
    sent: list[bytes] = []
    relay.take(events_of(stream), sent)
    return relay, b"".join([*sent, relay.final_events(PAID)])


@pytest.mark.parametrize("with_usage", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_a_replay_is_the_live_stream_but_for_the_cost(name: str, with_usage: bool) -> None:
    surface, reader, stream = STREAMS[name]
    relay, live = relayed(stream, job_of(surface, with_usage=with_usage))
    kept = relay.cached_body(USAGE)
    assert kept is not None
    replayed = b"".join(replay_stream(kept, reader(), hides_usage=not with_usage, cost_usd=Decimal(0)))
    assert replayed == live.replace(b'"cost":0.5', b'"cost":0')
    assert (b'"cost":0' in replayed) is with_usage


@pytest.mark.parametrize("name", STREAMS)
def test_the_cache_stores_the_providers_stream(name: str) -> None:
    surface, _, stream = STREAMS[name]
    relay, _ = relayed(stream, job_of(surface, with_usage=False))
    assert relay.cached_body(USAGE) == stream


def test_a_long_stream_is_replayed_in_pieces() -> None:
    pieces = list(replay_stream(LONG, OpenAiChatReader(), hides_usage=False, cost_usd=None))
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 2 * REPLAY_PIECE_BYTES


def test_a_stream_that_is_too_long_is_passed_on_and_not_kept() -> None:
    piece = chat.chunk(chat.choice({"content": "x" * 1024 * 1024}))
    relay = relay_of(job_of("openai"))
    sent: list[bytes] = []
    for _ in range(MAX_KEPT_STREAM_BYTES // len(piece) + 1):
        relay.take(events_of(piece), sent)
    assert sum(map(len, sent)) > MAX_KEPT_STREAM_BYTES
    assert relay.cached_body(USAGE) is None
