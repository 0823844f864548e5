"""The stream writers: the vendors' SDKs assemble each dialect's stream to the original response."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import AnswerMessage, ChatResponse, Choice, FunctionCall, ToolCall
from domain.canonical.stream import (
    ChatAssembler,
    ChatChunk,
    ChunkChoice,
    Delta,
    FunctionDelta,
    ToolCallDelta,
    replay_chat,
)
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.stream_writer import AnthropicMessagesWriter
from domain.dialects.codec import StreamSummary
from domain.dialects.errors import UnreadableResponse
from domain.dialects.native import stream as native_stream
from domain.dialects.native.stream import NativeWriter
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.openai.stream_writer import OpenAiChatWriter
from domain.tokens import TokenUsage, answer_usage
from tests.support.sdk_streams import (
    CONTENT_FIELDS,
    anthropic_client,
    anthropic_final,
    events_of,
    openai_final,
    read_all,
)

COUNTED = TokenUsage(input=6, cache_read=4, cache_write=2, output=5, reasoning=2)
USAGE = answer_usage(COUNTED)
COST = Decimal("0.000000012")
PAID = StreamSummary(usage=COUNTED, cost_usd=COST, latency_ms=12)
UNPRICED = StreamSummary(usage=COUNTED, cost_usd=None, latency_ms=12)
ANSWER = ChatResponse(
    id="c1",
    model="mine",
    provider="p",
    choices=[
        Choice(
            index=0,
            message=AnswerMessage(
                content="héllo",
                tool_calls=[
                    ToolCall(id="t0", function=FunctionCall(name="f", arguments='{"a":1}')),
                    ToolCall(id="t1", function=FunctionCall(name="g", arguments="{}")),
                ],
            ),
            finish_reason="tool_calls",
        )
    ],
    usage=USAGE,
)
OBJECTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5)
"""Control characters and spaces are taken out of ids."""
CALLS = st.builds(
    ToolCall,
    id=st.from_regex(r"[a-wyz0-9-]{1,5}", fullmatch=True),
    function=st.builds(
        FunctionCall,
        name=st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=5),
        arguments=OBJECTS.map(lambda members: msgspec.json.encode(members).decode()),
    ),
)
MESSAGES = st.builds(
    AnswerMessage,
    content=st.none() | st.text(min_size=1, max_size=2_000),
    tool_calls=st.just(msgspec.UNSET) | st.lists(CALLS, min_size=1, max_size=3),
)


def written(writer: Any, answer: ChatResponse = ANSWER) -> bytes:
    return b"".join(writer.write(chunk) for chunk in replay_chat(answer))


def calls(*pieces: tuple[int, str]) -> list[ChatChunk]:
    """Return pieces of tool calls. The first piece of each index has the name."""
    named: set[int] = set()
    chunks = []
    for index, arguments in pieces:
        identity = {"id": f"t{index}"} if index not in named else {}
        function = FunctionDelta(name=f"f{index}" if identity else None, arguments=arguments)
        named.add(index)
        delta = Delta(tool_calls=[ToolCallDelta(index=index, function=function, **identity)])
        chunks.append(ChatChunk(id="c", model="m", choices=[ChunkChoice(index=0, delta=delta)]))
    return chunks


def answer_of(message: AnswerMessage) -> ChatResponse:
    choice = Choice(index=0, message=message, finish_reason="tool_calls" if message.tool_calls else "stop")
    return ChatResponse(id="c1", model="mine", provider="p", choices=[choice], usage=USAGE)


def assembled(reader: Any, stream: bytes) -> ChatResponse:
    assembler = ChatAssembler(provider="p", model="mine")
    for chunk in read_all(reader, stream):
        assembler.add(chunk)
    return assembler.answer(USAGE)


def test_openais_sdk_reads_the_answer() -> None:
    writer = OpenAiChatWriter(created_s=7, include_usage=True)
    final = openai_final(written(writer) + writer.end(PAID))
    (choice,) = final["choices"]
    assert choice["message"]["content"] == "héllo"
    assert choice["message"]["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "t1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert (final["id"], final["model"], final["created"], choice["finish_reason"]) == ("c1", "mine", 7, "tool_calls")
    usage = final["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (12, 5, 17)
    assert (usage["prompt_tokens_details"]["cached_tokens"], usage["cost"]) == (4, 1.2e-8)


def test_chunks_have_usage_only_on_request() -> None:
    silent, telling = OpenAiChatWriter(created_s=7), OpenAiChatWriter(created_s=7, include_usage=True)
    assert b"usage" not in written(silent) + silent.end(PAID)
    events = events_of(written(telling) + telling.end(UNPRICED))
    usages = [msgspec.json.decode(event.data)["usage"] for event in events[:-1]]
    assert usages[:-1] == [None] * (len(usages) - 1)
    assert (usages[-1]["cost"], events[-1].data) == (None, b"[DONE]")


@given(MESSAGES)
def test_openais_reader_reads_its_writers_stream(message: AnswerMessage) -> None:
    writer = OpenAiChatWriter(created_s=7, include_usage=True)
    stream = written(writer, answer_of(message)) + writer.end(PAID)
    reader = OpenAiChatReader(model="mine")
    assert assembled(reader, stream) == answer_of(message)
    assert (reader.usage, reader.is_ended) == (COUNTED, True)


@given(MESSAGES)
def test_anthropics_reader_reads_its_writers_stream(message: AnswerMessage) -> None:
    writer = AnthropicMessagesWriter()
    stream = written(writer, answer_of(message)) + writer.end(PAID)
    reader = AnthropicMessagesReader(model="mine")
    assert assembled(reader, stream) == answer_of(message)
    assert (reader.usage, reader.is_ended) == (COUNTED, True)


def test_anthropics_sdk_reads_the_answer() -> None:
    writer = AnthropicMessagesWriter()
    final = anthropic_final(written(writer) + writer.end(PAID))
    assert final["content"] == [
        {"type": "text", "text": "héllo"},
        {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "t1", "name": "g", "input": {}},
    ]
    assert (final["id"], final["model"], final["role"], final["stop_reason"]) == ("c1", "mine", "assistant", "tool_use")
    usage = final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (6, 5)
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (4, 2)


def test_anthropics_cost_comes_with_the_last_usage() -> None:
    writer = AnthropicMessagesWriter()
    stream = written(writer) + writer.end(PAID)
    events = list(
        anthropic_client(stream).messages.create(model="m", max_tokens=1, messages=CONTENT_FIELDS, stream=True)
    )
    assert events[-2].to_dict()["usage"]["cost"] == 1.2e-8


def test_anthropics_blocks_open_and_close_in_turn() -> None:
    writer = AnthropicMessagesWriter()
    events = events_of(written(writer) + writer.end(PAID))
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [event.name for event in events] == ["message_start", *block * 3, "message_delta", "message_stop"]
    indexes = [msgspec.json.decode(event.data)["index"] for event in events if "block" in event.name]
    assert indexes == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, ""), (1, ""), (0, '{"a":'), (1, '{"b":'), (0, "0}"), (1, "1}")],
        [(0, '{"a":'), (1, '{"b":1}'), (0, "0}")],
        [(0, '{"a":0}'), (1, '{"b":'), (1, "1}")],
        [(0, '{"a":0}'), (1, ""), (1, '{"b":1}')],
    ],
)
def test_interleaved_calls_become_blocks_one_after_the_other(pieces: list[tuple[int, str]]) -> None:
    writer = AnthropicMessagesWriter()
    stream = b"".join(writer.write(chunk) for chunk in calls(*pieces)) + writer.end(PAID)
    assert [block["input"] for block in anthropic_final(stream)["content"]] == [{"a": 0}, {"b": 1}]
    kinds = [event.name for event in events_of(stream) if event.name in {"content_block_start", "content_block_stop"}]
    assert kinds == ["content_block_start", "content_block_stop"] * 2


def test_complete_tool_call_does_not_delay_the_next() -> None:
    writer = AnthropicMessagesWriter()
    first, second = calls((0, "{}"), (1, '{"b"'))
    writer.write(first)
    assert b'"partial_json":"{\\"b\\""' in writer.write(second)


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    writer = AnthropicMessagesWriter()
    after = ChatChunk(id="c", model="m", choices=[ChunkChoice(index=0, delta=Delta(content="so"))])
    (call,) = calls((0, "{}"))
    stream = writer.write(call) + writer.write(after) + writer.end(PAID)
    assert [block["type"] for block in anthropic_final(stream)["content"]] == ["tool_use", "text"]
    with pytest.raises(UnreadableResponse):
        writer.write(call)


def test_a_second_choice_has_no_place_in_a_message() -> None:
    second = ChatChunk(id="c", model="m", choices=[ChunkChoice(index=1, delta=Delta(content="x"))])
    with pytest.raises(UnreadableResponse):
        AnthropicMessagesWriter().write(second)


def test_a_forced_call_ends_as_a_tool_use() -> None:
    writer = AnthropicMessagesWriter()
    (call,) = calls((0, "{}"))
    stop = ChatChunk(id="c", model="m", choices=[ChunkChoice(index=0, delta=Delta(), finish_reason="stop")])
    stream = writer.write(call) + writer.write(stop) + writer.end(PAID)
    assert anthropic_final(stream)["stop_reason"] == "tool_use"


def test_a_choice_that_never_finished_is_finished_at_the_end() -> None:
    writer = OpenAiChatWriter(created_s=7)
    first = ChatChunk(id="c", model="m", choices=[ChunkChoice(index=0, delta=Delta(content="x"))])
    (choice,) = openai_final(writer.write(first) + writer.end(PAID))["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("x", "stop")


def test_an_answer_of_nothing_is_still_a_message() -> None:
    final = anthropic_final(AnthropicMessagesWriter().end(UNPRICED))
    assert (final["content"], final["stop_reason"]) == ([], "end_turn")


def test_the_native_stream_is_the_contracts() -> None:
    writer = NativeWriter()
    stream = written(writer) + writer.end(PAID)
    first, *_, finish, last, done = events_of(stream)
    assert msgspec.json.decode(first.data) == {
        "id": "c1",
        "model": "mine",
        "choices": [{"index": 0, "delta": {"role": "assistant"}, "finishReason": None}],
    }
    assert msgspec.json.decode(finish.data)["choices"] == [{"index": 0, "delta": {}, "finishReason": "tool_calls"}]
    assert msgspec.json.decode(last.data, type=dict[str, Any]) == {
        "id": "c1",
        "model": "mine",
        "choices": [],
        "usage": {
            "promptTokens": 12,
            "completionTokens": 5,
            "totalTokens": 17,
            "cachedPromptTokens": 4,
        },
        "cost": 1.2e-8,
        "cached": False,
        "latencyMs": 12,
    }
    assert done.data == b"[DONE]"


def test_a_native_error_is_the_failure_that_the_contract_shows() -> None:
    (event,) = events_of(native_stream.error_event("PROVIDER_TIMEOUT", "late", "req_1", {"provider": "openai"}))
    assert msgspec.json.decode(event.data) == {
        "success": False,
        "error": {
            "code": "PROVIDER_TIMEOUT",
            "message": "late",
            "requestId": "req_1",
            "details": {"provider": "openai"},
        },
    }
