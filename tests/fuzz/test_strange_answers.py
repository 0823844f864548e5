"""Whatever a provider sends is an answer that can be stored and sent on, or a failure that is named."""

import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.dialects.codec import ProviderResponse, RenderOptions, StreamSummary
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.registry import DIALECTS
from domain.dialects.sse import SseParser, sse
from domain.dialects.translation import Passthrough, Translated
from domain.provider_refusals import recognise
from domain.sanitize import MAX_MESSAGE_CHARS, MAX_NAME_CHARS
from domain.tokens import MAX_TOKENS, TokenUsage
from tests.fuzz.seeds import (
    CHAT_ANSWERS,
    CHAT_STREAMS,
    EMBEDDINGS_ANSWERS,
    MESSAGE_ANSWERS,
    MESSAGE_STREAMS,
    RESPONSE_ANSWERS,
    RESPONSE_STREAMS,
)
from tests.fuzz.strange_json import strange_json

CHAT = DIALECTS.codec("openai", "chat")
RESPONSES = DIALECTS.codec("openai", "responses")
MESSAGES = DIALECTS.codec("anthropic", "chat")
EMBEDDINGS = DIALECTS.codec("openai", "embeddings")
NATIVE = DIALECTS.codec("native", "chat")
OPTIONS = RenderOptions(created_s=1)
SUMMARY = StreamSummary(usage=TokenUsage(input=9, output=3), cost_usd=Decimal("0.01"), latency_ms=5)

WAYS = {
    "chat, passed through": (Passthrough(CHAT), CHAT_ANSWERS, CHAT_STREAMS),
    "responses, passed through": (Passthrough(RESPONSES), RESPONSE_ANSWERS, RESPONSE_STREAMS),
    "messages, passed through": (Passthrough(MESSAGES), MESSAGE_ANSWERS, MESSAGE_STREAMS),
    "Claude for a client of chat": (Translated(CHAT, MESSAGES), MESSAGE_ANSWERS, MESSAGE_STREAMS),
    "Claude for a client of responses": (Translated(RESPONSES, MESSAGES), MESSAGE_ANSWERS, MESSAGE_STREAMS),
    "Claude for a native client": (Translated(NATIVE, MESSAGES), MESSAGE_ANSWERS, MESSAGE_STREAMS),
    "GPT for a client of messages": (Translated(MESSAGES, CHAT), CHAT_ANSWERS, CHAT_STREAMS),
    "GPT for a client of responses": (Translated(RESPONSES, CHAT), CHAT_ANSWERS, CHAT_STREAMS),
    "GPT's responses for a client of chat": (Translated(CHAT, RESPONSES), RESPONSE_ANSWERS, RESPONSE_STREAMS),
    "GPT's responses for a client of messages": (Translated(MESSAGES, RESPONSES), RESPONSE_ANSWERS, RESPONSE_STREAMS),
    "GPT for a native client": (Translated(NATIVE, CHAT), CHAT_ANSWERS, CHAT_STREAMS),
}
checked = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
@checked
def test_a_strange_answer_is_stored_and_sent_on_or_named(way: str, data: st.DataObject) -> None:
    translation, seeds, _ = WAYS[way]
    body = data.draw(strange_json(seeds))
    try:
        answer = translation.parse_response(body, model="asked", provider="mine")
    except (StreamFailed, UnreadableResponse) as failure:
        assert_storable(str(failure))
        return
    assert_sound(answer)
    try:
        sent = translation.render_response(answer.body, answer.usage or TokenUsage(), Decimal("0.01"), OPTIONS)
    except UnreadableResponse as failure:
        assert_storable(str(failure))
        return
    if isinstance(translation, Translated):
        msgspec.json.decode(sent)


@given(body=strange_json(EMBEDDINGS_ANSWERS))
@checked
def test_strange_vectors_are_sent_on_or_named(body: bytes) -> None:
    for translation in (Passthrough(EMBEDDINGS), Translated(EMBEDDINGS, EMBEDDINGS)):
        try:
            answer = translation.parse_response(body, model="asked", provider="mine")
            assert_sound(answer)
            translation.render_response(answer.body, answer.usage or TokenUsage(), Decimal("0.01"), OPTIONS)
        except (StreamFailed, UnreadableResponse) as failure:
            assert_storable(str(failure))


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
@checked
def test_a_strange_stream_is_relayed_up_to_the_event_that_is_strange(way: str, data: st.DataObject) -> None:
    translation, _, seeds = WAYS[way]
    events = [msgspec.json.encode(event) for event in data.draw(st.sampled_from(seeds))]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(events) - 1))
        events[place] = data.draw(
            strange_json(
                (
                    msgspec.json.decode(
                        msgspec.json.encode(data.draw(st.sampled_from(data.draw(st.sampled_from(seeds)))))
                    ),
                )
            )
        )
    is_named = translation.provider is not CHAT
    stream = b"".join(sse(event.replace(b"\n", b" "), _type_of(event) if is_named else None) for event in events)
    if not is_named:
        stream += b"data: [DONE]\n\n"
    relay = translation.relay(model="asked", provider="mine", options=OPTIONS, is_cached=True)
    parser = SseParser()
    sent: list[bytes] = []
    cut = data.draw(st.integers(0, len(stream)))
    try:
        for piece in (stream[:cut], stream[cut:]):
            relay.take(parser.feed(piece), sent)
    except (StreamFailed, UnreadableResponse) as failure:
        assert_storable(str(failure))
        recognise(str(failure), "error")
    reader = relay.reader
    for usage in (reader.usage, reader.input_usage):
        assert usage is None or 0 <= usage.output <= MAX_TOKENS
    assert_storable(reader.answered_by, MAX_NAME_CHARS)
    assert_storable(reader.response_id, MAX_NAME_CHARS)
    if reader.is_ended:
        sent.append(relay.final_events(SUMMARY))
        kept = relay.cached_body(SUMMARY.usage)
        if kept is not None:
            b"".join(translation.replay(kept, SUMMARY, OPTIONS))


def assert_sound(answer: ProviderResponse) -> None:
    """The answer's figures and names fit the log."""
    for usage in (answer.usage, answer.input_usage):
        assert usage is None or (0 <= usage.input <= MAX_TOKENS and 0 <= usage.output <= MAX_TOKENS)
    assert answer.received_output_bytes >= 0
    assert_storable(answer.answered_by, MAX_NAME_CHARS)
    assert_storable(answer.response_id, MAX_NAME_CHARS)
    msgspec.json.encode(answer.extras)


def assert_storable(text: str, most: int = 4 * MAX_MESSAGE_CHARS) -> None:
    """PostgreSQL stores the text, and an event has room for it."""
    assert "\x00" not in text
    assert len(text) <= most
    text.encode()


def _type_of(event: bytes) -> str:
    found = re.search(rb'"type":"([a-z_.]+)"', event)
    return found[1].decode() if found else "message"
