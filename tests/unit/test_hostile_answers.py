"""No response of a provider leads to a value that the log or a read model cannot store."""

import time
from datetime import date
from typing import Any

import msgspec
import pytest

from api.native.prices import MAX_USD_PER_1K
from domain.canonical.chat import ChatRequest, UserMessage
from domain.canonical.embeddings import EmbeddingsRequest
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.token_count import AnthropicTokenCount
from domain.dialects.codec import ProviderResponse
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.codec import OpenAiChat, OpenAiEmbeddings, OpenAiResponses
from domain.dialects.openai.responses_api import ResponsesReader
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.sse import sse
from domain.errors import ProviderLost, ProviderRejected
from domain.job_result import failure_of
from domain.money import MAX_NANO_USD, NANO_PER_USD, NanoUsd
from domain.pricing import TOKENS_PER_PRICE, ClassPrices, Price, cost
from domain.sanitize import MAX_MESSAGE_CHARS, MAX_NAME_CHARS
from domain.tokens import MAX_TOKENS, TokenUsage
from infra.admission import Claim
from tests.support.jobs import make_identity
from tests.support.sdk_streams import events_of
from workers import outcome

MAX_BLOCKED_S = 0.5
"""A generous limit: skipping 16 MB takes about 10 ms."""
REQUEST = ChatRequest(model="m", messages=[UserMessage(content="x")])
TEXTS = EmbeddingsRequest(input="x")
POISON = "bad\x00thing" + "x" * 2_000_000
CLEAN = "badthing"
IDENTITY = make_identity(model="m", provider="mine", upstream_model="m")
CLAIM = Claim(attempt=1, hold_nano_usd=NanoUsd(0), budget_day=date(2026, 3, 30))


def chat(**usage: Any) -> dict[str, Any]:
    return {
        "id": POISON,
        "model": POISON,
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": POISON}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5} | usage,
    }


def embeddings(**usage: Any) -> dict[str, Any]:
    return {"model": POISON, "data": [], "usage": {"prompt_tokens": 10} | usage}


def message(**usage: Any) -> dict[str, Any]:
    return {
        "id": POISON,
        "model": POISON,
        "content": [],
        "stop_reason": POISON,
        "usage": {"input_tokens": 10, "output_tokens": 5} | usage,
    }


def response(**usage: Any) -> dict[str, Any]:
    return {"id": POISON, "model": POISON, "usage": {"input_tokens": 10, "output_tokens": 5} | usage}


def json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def read_chat(said: dict[str, Any]) -> ProviderResponse:
    return OpenAiChat().parse_response(json(said), model=REQUEST.model, provider="mine")


def read_embeddings(said: dict[str, Any]) -> ProviderResponse:
    return OpenAiEmbeddings().parse_response(json(said), model=TEXTS.model, provider="mine")


def read_message(said: dict[str, Any]) -> ProviderResponse:
    return AnthropicMessages().parse_response(json(said), model=REQUEST.model, provider="mine")


def meter_chat(said: dict[str, Any]) -> ProviderResponse:
    return OpenAiChat().meter_response(json(said))


def meter_embeddings(said: dict[str, Any]) -> ProviderResponse:
    return OpenAiEmbeddings().meter_response(json(said))


def meter_response(said: dict[str, Any]) -> ProviderResponse:
    return OpenAiResponses().meter_response(json(said))


def meter_message(said: dict[str, Any]) -> ProviderResponse:
    return AnthropicMessages().meter_response(json(said))


def stream(reader: Any, *events: dict[str, Any]) -> Any:
    for event in events_of(b"".join(sse(json(event)) for event in events)):
        reader.take(event)
    return reader


def stream_chat(said: dict[str, Any]) -> Any:
    return stream(OpenAiChatReader(), said | {"choices": []})


def stream_response(said: dict[str, Any]) -> Any:
    return stream(ResponsesReader(), {"type": "response.completed", "response": said})


def stream_start(said: dict[str, Any]) -> Any:
    return stream(AnthropicMessagesReader(), {"type": "message_start", "message": said})


def stream_end(said: dict[str, Any]) -> Any:
    return stream(
        AnthropicMessagesReader(),
        {"type": "message_start", "message": message()},
        {"type": "message_delta", "delta": {}, "usage": said["usage"]},
    )


OPENAI_CHAT = (chat, (read_chat, meter_chat, stream_chat))
EMBEDDINGS = (embeddings, (read_embeddings, meter_embeddings))
RESPONSES = (response, (meter_response, stream_response))
MESSAGES = (message, (read_message, meter_message, stream_start, stream_end))


def wires(*counts: tuple[Any, Any]) -> Any:
    cases = [(says, read, usage) for (says, reads), usages in counts for read in reads for usage in usages]
    return pytest.mark.parametrize(("says", "read", "count"), cases)


@pytest.mark.parametrize("number", [-1, MAX_TOKENS + 1, 2**62, 10**25, "many", None, True])
@wires(
    (
        OPENAI_CHAT,
        [
            lambda number: {"prompt_tokens": number},
            lambda number: {"completion_tokens": number},
            lambda number: {"total_tokens": number},
            lambda number: {"prompt_tokens_details": {"cached_tokens": number}},
            lambda number: {"prompt_tokens_details": {"cache_write_tokens": number}},
            lambda number: {"prompt_tokens_details": {"audio_tokens": number}},
            lambda number: {"completion_tokens_details": {"reasoning_tokens": number}},
            lambda number: {"completion_tokens_details": {"audio_tokens": number}},
        ],
    ),
    (EMBEDDINGS, [lambda number: {"prompt_tokens": number}]),
    (
        RESPONSES,
        [
            lambda number: {"input_tokens": number},
            lambda number: {"output_tokens": number},
            lambda number: {"input_tokens_details": {"cached_tokens": number}},
            lambda number: {"input_tokens_details": {"cache_write_tokens": number}},
            lambda number: {"output_tokens_details": {"reasoning_tokens": number}},
        ],
    ),
)
def test_a_count_that_no_answer_can_have_is_not_said(says: Any, read: Any, count: Any, number: Any) -> None:
    usage = read(says(**count(number))).usage
    assert usage is None or max(msgspec.structs.astuple(usage)) <= 10


@pytest.mark.parametrize("number", [-1, MAX_TOKENS + 1, 2**62, 10**25])
@wires(
    (
        MESSAGES,
        [
            lambda number: {"input_tokens": number},
            lambda number: {"output_tokens": number},
            lambda number: {"cache_read_input_tokens": number},
            lambda number: {"cache_creation_input_tokens": number},
            lambda number: {"cache_creation": {"ephemeral_5m_input_tokens": number}},
            lambda number: {"cache_creation": {"ephemeral_1h_input_tokens": number}},
            lambda number: {"output_tokens_details": {"thinking_tokens": number}},
        ],
    ),
)
def test_a_count_that_no_message_can_have_is_not_believed(says: Any, read: Any, count: Any, number: int) -> None:
    found = read(says(**count(number)))
    assert found.usage is None
    assert found.input_usage in (None, TokenUsage(input=10))


def test_impossible_token_count_is_unreadable() -> None:
    with pytest.raises(UnreadableResponse):
        AnthropicTokenCount().meter_response(b'{"input_tokens":-1}')


@wires(
    (OPENAI_CHAT, [{"prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9, "audio_tokens": 9}}]),
    (OPENAI_CHAT, [{"completion_tokens_details": {"audio_tokens": 9, "reasoning_tokens": 9}}]),
    (RESPONSES, [{"input_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9}}]),
    (RESPONSES, [{"output_tokens_details": {"reasoning_tokens": 9}}]),
    (MESSAGES, [{"output_tokens_details": {"thinking_tokens": 9}}]),
)
def test_parts_are_never_more_than_their_whole(says: Any, read: Any, count: Any) -> None:
    usage: TokenUsage = read(says(**count)).usage or read(says(**count)).input_usage
    assert usage.prompt_tokens == 10
    assert usage.reasoning <= usage.output <= 5
    assert min(msgspec.structs.astuple(usage)) == 0


@wires((OPENAI_CHAT, [{}]), (EMBEDDINGS, [{}]), (RESPONSES, [{}]), (MESSAGES, [{}]))
def test_hostile_names_are_bounded(says: Any, read: Any, count: Any) -> None:
    found = read(says(**count))
    assert found.answered_by.startswith(CLEAN)
    assert "\x00" not in found.answered_by + found.response_id
    assert len(found.answered_by) <= MAX_NAME_CHARS
    assert len(found.response_id) <= MAX_NAME_CHARS


@pytest.mark.parametrize(
    ("reader", "event"),
    [
        (OpenAiChatReader, {"error": {"message": POISON, "code": POISON}}),
        (OpenAiChatReader, {"error": {"message": {"deep": POISON}, "type": POISON}}),
        (OpenAiChatReader, {"error": POISON}),
        (AnthropicMessagesReader, {"type": "error", "error": {"type": POISON, "message": POISON}}),
        (ResponsesReader, {"type": "error", "message": POISON, "code": POISON}),
        (
            ResponsesReader,
            {"type": "response.failed", "response": {"id": "r", "error": {"message": POISON, "code": POISON}}},
        ),
    ],
)
def test_provider_texts_in_a_stream_are_sanitized(reader: Any, event: dict[str, Any]) -> None:
    with pytest.raises(StreamFailed) as failed:
        stream(reader(), event)
    assert "\x00" not in failed.value.message + failed.value.kind
    assert len(failed.value.message) <= MAX_MESSAGE_CHARS
    assert len(failed.value.kind) <= MAX_NAME_CHARS


def test_event_texts_are_sanitized() -> None:
    completed = outcome.completed(
        IDENTITY,
        CLAIM,
        answered_by=POISON,
        response_id=POISON,
        finish_reason=POISON,
        usage=TokenUsage(),
        request_bytes=0,
        answer_bytes=0,
        answer_digest=b"",
        cached_copy=None,
        latency_ms=0,
    )
    rejected = ProviderRejected(POISON, provider="mine", status=400)
    events = [
        completed,
        outcome.attempt_ended(IDENTITY, CLAIM, rejected, CLAIM.hold_nano_usd),
        outcome.attempt_not_made(IDENTITY, CLAIM, rejected),
        outcome.request_failed(IDENTITY, code="X", message=POISON, status=None, latency_ms=0),
    ]
    written = [json(event) for event in events]
    assert [CLEAN.encode() in event for event in written] == [True] * 4
    assert [rb"\u0000" in event for event in written] == [False] * 4
    assert max(map(len, written)) < 2 * MAX_MESSAGE_CHARS


def test_error_messages_are_sanitized() -> None:
    shown = failure_of(ProviderLost(POISON, provider="mine"), "mine").message
    assert shown.startswith(CLEAN)
    assert len(shown) <= MAX_MESSAGE_CHARS


def test_largest_possible_cost_fits_into_bigint() -> None:
    dearest = MAX_USD_PER_1K * NANO_PER_USD * TOKENS_PER_PRICE // 1_000
    price = Price(provider="p", model="m", source="override", prices=ClassPrices(input=dearest, output=dearest))
    most = [
        AnthropicMessages().meter_response(
            json(
                message(
                    input_tokens=MAX_TOKENS,
                    output_tokens=MAX_TOKENS,
                    cache_read_input_tokens=MAX_TOKENS,
                    cache_creation_input_tokens=MAX_TOKENS,
                    cache_creation={
                        "ephemeral_5m_input_tokens": MAX_TOKENS,
                        "ephemeral_1h_input_tokens": MAX_TOKENS,
                    },
                )
            )
        ),
        OpenAiChat().meter_response(json(chat(prompt_tokens=MAX_TOKENS, completion_tokens=MAX_TOKENS))),
    ]
    assert max(cost(found.usage, price).total_nano_usd for found in most) <= MAX_NANO_USD


def test_nothing_that_is_nested_without_end_is_read() -> None:
    with pytest.raises(UnreadableResponse):
        OpenAiChat().meter_response(b'{"id":"x","usage":' + b"[" * 100_000)


def test_many_choices_are_not_made_into_objects() -> None:
    many = b'{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[%s{}]}' % (b"{}," * 5_000_000)
    before = time.process_time()
    response = OpenAiChat().meter_response(many)
    assert (response.finish_reason, response.usage) == (None, TokenUsage(input=1, output=2))
    assert time.process_time() - before < MAX_BLOCKED_S


def test_one_long_choice_has_its_finish_reason() -> None:
    said = chat() | {"choices": [{"finish_reason": "length", "message": {"content": "x" * 2_000_000}}]}
    assert OpenAiChat().meter_response(json(said)).finish_reason == "length"


@pytest.mark.parametrize("vector", [[1, "x"], {"a": 1}, None, "text"])
def test_a_vector_is_numbers(vector: Any) -> None:
    said = embeddings() | {"data": [{"index": 0, "embedding": vector}]}
    with pytest.raises(UnreadableResponse):
        read_embeddings(said)


def test_more_vectors_than_there_can_be_inputs_are_not_read() -> None:
    many = b'{"usage":{"prompt_tokens":1},"data":[%s{}]}' % (b'{"index":0,"embedding":[]},' * 1_000_000)
    before = time.process_time()
    with pytest.raises(UnreadableResponse, match="arrays"):
        OpenAiEmbeddings().parse_response(many, model=TEXTS.model, provider="mine")
    assert time.process_time() - before < MAX_BLOCKED_S
