"""Anthropic's stream events: their usage is counted, and they are translated to what the SDK assembles."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatResponse
from domain.canonical.stream import ChatAssembler
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.usage import MAX_ITERATIONS
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.sse import sse
from domain.tokens import TokenUsage, answer_usage
from tests.support.sdk_streams import anthropic_final, events_of, present, read_all

STARTED = {
    "input_tokens": 5,
    "output_tokens": 1,
    "cache_creation_input_tokens": 13,
    "cache_read_input_tokens": 11,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 3},
    "service_tier": "standard",
}
INPUT = TokenUsage(input=5, cache_read=11, cache_write=10, cache_write_1h=3)
COUNTED = TokenUsage(input=5, cache_read=11, cache_write=10, cache_write_1h=3, output=40, reasoning=9)


def event(kind: str, **members: Any) -> bytes:
    return sse(msgspec.json.encode({"type": kind} | members), kind)


def start(**members: Any) -> bytes:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": STARTED,
    }
    return event("message_start", message=message | members)


def block(index: int, content_block: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    return b"".join(
        [
            event("content_block_start", index=index, content_block=content_block),
            *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
            event("content_block_stop", index=index),
        ]
    )


def end(stop_reason: str, **usage: Any) -> bytes:
    counted = {"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 9}} | usage
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=counted) + event("message_stop")


def text(piece: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": piece}


def written(piece: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": piece}


CITATION = {
    "type": "char_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": "d",
    "end_char_index": 1,
    "start_char_index": 0,
    "file_id": "f",
}
SEARCHED = {
    "type": "web_search_tool_result",
    "tool_use_id": "s1",
    "content": [{"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e", "page_age": "1 day"}],
}
WHOLE = b"".join(
    [
        start(),
        event("ping"),
        block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "h"},
            {"type": "thinking_delta", "thinking": "m"},
            {"type": "signature_delta", "signature": "sig=="},
        ),
        block(1, {"type": "redacted_thinking", "data": "xyz"}),
        block(
            2,
            {"type": "text", "text": "", "citations": []},
            text("hé"),
            {"type": "citations_delta", "citation": CITATION},
            text("llo"),
        ),
        block(3, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}, written('{"query":"q"}')),
        block(4, SEARCHED),
        block(
            5, {"type": "tool_use", "id": "t0", "name": "f", "input": {}}, written(""), written('{"a"'), written(":1}")
        ),
        block(6, {"type": "tool_use", "id": "t1", "name": "g", "input": {}}, written("")),
        end("tool_use", server_tool_use={"web_search_requests": 1}),
    ]
)
PLAIN = start() + block(0, {"type": "text", "text": ""}, text("a"), text("b")) + end("end_turn", input_tokens=6)


def test_a_stream_is_accounted_for() -> None:
    reader = AnthropicMessagesReader()
    assert read_all(reader, WHOLE) == []
    assert reader.usage == COUNTED
    assert (reader.answered_by, reader.response_id) == ("claude-x", "msg_1")
    assert (reader.finish_reason, reader.is_ended) == ("tool_calls", True)


def test_input_usage_is_known_first() -> None:
    reader = AnthropicMessagesReader()
    read_all(reader, start())
    assert (reader.input_usage, reader.usage, reader.is_ended) == (INPUT, None, False)


def test_the_last_sums_replace_the_first() -> None:
    reader = AnthropicMessagesReader()
    read_all(reader, PLAIN)
    assert reader.usage == msgspec.structs.replace(COUNTED, input=6)


COMPACTION = {
    "type": "compaction",
    "input_tokens": 100,
    "output_tokens": 200,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
}
SAMPLED = {"type": "message", "model": "claude-x"} | dict.fromkeys(("input_tokens", "output_tokens"), 7)
ITERATIONS = [COMPACTION, SAMPLED, COMPACTION | {"cache_creation": None, "cache_creation_input_tokens": None}]
WITH_SUMMARIES = TokenUsage(
    input=205, cache_read=11 + 80, cache_write=10 + 10, cache_write_1h=3 + 20, output=440, reasoning=9
)


def test_compaction_usage_counts_in_a_stream() -> None:
    reader = AnthropicMessagesReader()
    read_all(reader, start() + end("end_turn", iterations=ITERATIONS))
    assert reader.usage == WITH_SUMMARIES


def test_compaction_usage_counts_in_a_response() -> None:
    usage = STARTED | {"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 9}, "iterations": ITERATIONS}
    body = msgspec.json.encode({"id": "msg_1", "content": [], "stop_reason": "end_turn", "usage": usage})
    assert AnthropicMessages().meter_response(body).usage == WITH_SUMMARIES


def test_usage_of_more_turns_than_are_believed_is_estimated_in_both_shapes() -> None:
    turns = [SAMPLED] * (MAX_ITERATIONS + 1)
    reader = AnthropicMessagesReader()
    read_all(reader, start() + end("end_turn", iterations=turns))
    assert (reader.usage, reader.is_ended) == (None, True)
    body = msgspec.json.encode({"id": "msg_1", "content": [], "usage": STARTED | {"iterations": turns}})
    assert AnthropicMessages().meter_response(body).usage is None


def test_a_stream_without_its_last_usage_has_none() -> None:
    reader = AnthropicMessagesReader()
    read_all(reader, start() + event("message_delta", delta={"stop_reason": "end_turn"}) + event("message_stop"))
    assert (reader.usage, reader.is_ended) == (None, True)


def test_every_byte_that_was_shown_is_counted() -> None:
    reader = AnthropicMessagesReader()
    read_all(reader, WHOLE)
    assert reader.received_output_bytes == len('hmhélloweb_search{"query":"q"}f{"a":1}g'.encode())


@pytest.mark.parametrize("stream", [WHOLE, PLAIN])
def test_the_chunks_assemble_to_the_sdks_response(stream: bytes) -> None:
    reader = AnthropicMessagesReader(model="mine")
    assembler = ChatAssembler(provider="anthropic", model="mine")
    for piece in read_all(reader, stream):
        assembler.add(piece)
    message = msgspec.json.encode(present(anthropic_final(stream)))
    assert reader.usage is not None
    response = AnthropicMessages().parse_response(message, model="mine", provider="anthropic")
    answer = msgspec.json.decode(response.body, type=ChatResponse)
    assert assembler.answer(answer_usage(reader.usage)) == msgspec.structs.replace(
        answer, usage=answer_usage(reader.usage)
    )


def test_tool_without_parameters_gets_an_empty_object() -> None:
    reader = AnthropicMessagesReader(model="mine")
    chunks = read_all(
        reader, start() + block(0, {"type": "tool_use", "id": "t", "name": "f", "input": {}}, written(""))
    )
    arguments = [call.function.arguments for chunk in chunks[1:] for call in chunk.choices[0].delta.tool_calls]
    assert arguments == ["", "{}"]


def test_the_tail_is_the_message_delta_and_all_after_it() -> None:
    reader = AnthropicMessagesReader()
    tails = []
    for one in events_of(PLAIN + event("ping")):
        reader.take(one)
        tails.append(reader.is_tail)
    assert tails == [False] * 5 + [True] * 3


def test_an_error_inside_the_stream_is_raised() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    reader = AnthropicMessagesReader()
    with pytest.raises(StreamFailed) as failed:
        read_all(reader, start() + error)
    assert (failed.value.message, failed.value.kind) == ("Overloaded", "overloaded_error")
    assert reader.input_usage == INPUT


@pytest.mark.parametrize(
    "data", [b"<html>", b"{}", b'{"type":"content_block_delta","delta":7}', b'{"type":"message_start","message":1}']
)
def test_garbage_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        read_all(AnthropicMessagesReader(), sse(data))


def test_events_and_deltas_to_come_are_passed_over() -> None:
    reader = AnthropicMessagesReader(model="m")
    unknown = event("weather", message="sunny", delta=3)
    compaction = block(0, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "short"})
    chunks = read_all(reader, start() + unknown + compaction + end("end_turn"))
    assert [chunk.choices[0].delta.content for chunk in chunks] == [None, None]
