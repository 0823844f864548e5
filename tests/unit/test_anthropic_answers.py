"""An answer of Anthropic's dialect that came is given, whatever of it is missing; what it thought comes back to it."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    FunctionCall,
    ReasoningBlock,
    ToolCall,
)
from domain.canonical.stream import ChatAssembler, replay_chat
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.anthropic.kept_thinking import MARK, read_kept
from domain.dialects.anthropic.parse_request import parse_chat_request
from domain.dialects.anthropic.stream_reader import AnthropicMessagesReader
from domain.dialects.anthropic.stream_writer import AnthropicMessagesWriter
from domain.dialects.anthropic.structured import ANSWER_TOOL
from domain.dialects.anthropic.tool_ids import claude_id, read_id, written_id
from domain.dialects.codec import RenderOptions, StreamSummary
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.sse import sse
from domain.dialects.translation import Passthrough
from domain.tokens import TokenUsage, answer_usage
from tests.support.sdk_streams import anthropic_final, events_of, read_all

USAGE = TokenUsage(input=3, output=4)
PAID = StreamSummary(usage=USAGE, cost_usd=None, latency_ms=1)
TEXT = {"type": "text", "text": "hi"}
HELLO = {"role": "user", "content": "hello"}
THOUGHT = {"google": {"thought_signature": "AbC="}}


def message(**members: Any) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 4}
    whole = {"type": "message", "role": "assistant", "id": "msg_1", "model": "claude-x", "stop_reason": "end_turn"}
    return msgspec.json.encode(whole | {"content": [TEXT], "usage": usage} | members)


def events(*members: dict[str, Any]) -> bytes:
    return b"".join(sse(msgspec.json.encode(one), one["type"]) for one in members)


def stream(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn", **start: Any) -> bytes:
    begun = {"id": "msg_1", "model": "claude-x", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}
    written = [{"type": "message_start", "message": begun | start}]
    for index, (block, deltas) in enumerate(blocks):
        written.append({"type": "content_block_start", "index": index, "content_block": block})
        written += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        written.append({"type": "content_block_stop", "index": index})
    written.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 4}})
    return events(*written, {"type": "message_stop"})


def read(body: bytes) -> tuple[Any, ChatResponse]:
    found = AnthropicMessages().parse_response(body, model="mine", provider="p")
    return found, msgspec.json.decode(found.body, type=ChatResponse)


def assembled(written: bytes) -> ChatResponse:
    assembler = ChatAssembler(provider="p", model="mine")
    for chunk in read_all(AnthropicMessagesReader(model="mine"), written):
        assembler.add(chunk)
    return assembler.answer(answer_usage(USAGE))


def said(answer: ChatResponse) -> AnswerMessage:
    return answer.choices[0].message


# --- what is missing ---


@pytest.mark.parametrize(
    ("usage", "known", "of_input"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, USAGE, None),
        (None, None, None),
        ({}, None, None),
        ({"input_tokens": 3}, None, TokenUsage(input=3)),
        ({"input_tokens": 3, "output_tokens": None}, None, TokenUsage(input=3)),
        ({"output_tokens": 4}, None, None),
        ({"input_tokens": "many", "output_tokens": 4}, None, None),
        ([], None, None),
        ({"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None, "odd": {}}, USAGE, None),
    ],
)
def test_an_answer_without_usage_is_given_and_estimated(usage: Any, known: Any, of_input: Any) -> None:
    body = message(usage=usage)
    translated, answer = read(body)
    passed = AnthropicMessages().meter_response(body)
    assert said(answer).content == "hi"
    for found in (translated, passed):
        assert (found.usage, found.input_usage) == (known, of_input)
        assert found.received_output_bytes == (2 if known is None else 0)
    assert passed.body == body


def test_an_answer_without_names_is_given() -> None:
    body = message(id=None, model=None, stop_reason=None)
    translated, answer = read(body)
    assert said(answer).content == "hi"
    assert (translated.answered_by, translated.response_id[:4]) == ("", "msg_")
    assert AnthropicMessages().meter_response(body).response_id == translated.response_id


@pytest.mark.parametrize(
    ("given", "arguments"),
    [({"a": 1}, '{"a":1}'), (None, "{}"), ('{"a":1}', '{"a":1}'), ("", "{}"), ([1], "[1]")],
)
def test_a_call_without_id_or_with_other_input_is_given(given: Any, arguments: str) -> None:
    block = {"type": "tool_use", "name": "f", "input": given}
    (call,) = said(read(message(content=[block], stop_reason="tool_use"))[1]).tool_calls or ()
    assert (call.function.arguments, call.id[:6]) == (arguments, "toolu_")
    begun = stream((block | {"id": None}, []), stop="tool_use")
    (streamed,) = said(assembled(begun)).tool_calls or ()
    assert (streamed.function, streamed.id) == (call.function, call.id)


@pytest.mark.parametrize(
    ("content", "text", "is_empty"),
    [([], None, True), (None, None, True), ("hi", "hi", False), ([{"type": "text", "text": ""}], "", True)],
)
def test_content_of_other_forms_is_given(content: Any, text: Any, is_empty: bool) -> None:
    translated, answer = read(message(content=content))
    assert (said(answer).content, translated.is_empty) == (text, is_empty)
    assert AnthropicMessages().meter_response(message(content=content)).is_empty == is_empty


@pytest.mark.parametrize("body", [b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}'])
def test_a_report_of_failure_is_no_answer(body: bytes) -> None:
    for take in (read, AnthropicMessages().meter_response, AnthropicMessages().events_of_response):
        with pytest.raises(StreamFailed, match="no"):
            take(body)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"id":"x"}', b"event: ping\ndata: {}\n\n"])
def test_what_has_no_content_is_no_answer(body: bytes) -> None:
    for take in (read, AnthropicMessages().meter_response):
        with pytest.raises(UnreadableResponse):
            take(body)


# --- one form in place of the other ---

EVERYTHING = [
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    TEXT,
    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
]


def test_a_response_in_one_piece_is_the_stream_that_was_asked_for() -> None:
    body = message(content=EVERYTHING, stop_reason="tool_use")
    written = b"".join(event.raw for event in AnthropicMessages().events_of_response(body))
    final = anthropic_final(written)
    assert final["content"] == EVERYTHING
    assert (final["stop_reason"], final["id"], final["usage"]["output_tokens"]) == ("tool_use", "msg_1", 4)
    reader = AnthropicMessagesReader()
    read_all(reader, written)
    assert (reader.usage, reader.is_ended) == (USAGE, True)


def test_a_stream_is_the_response_in_one_piece_that_was_asked_for() -> None:
    whole = message(content=EVERYTHING, stop_reason="tool_use")
    written = b"".join(event.raw for event in AnthropicMessages().events_of_response(whole))
    translated, answer = read(written)
    assert (translated.usage, said(answer)) == (USAGE, said(read(whole)[1]))
    passed = AnthropicMessages().meter_response(written)
    assert msgspec.json.decode(passed.body)["content"] == EVERYTHING


# --- streams as they come ---


def test_openais_last_event_ends_a_whole_stream() -> None:
    cut = stream((TEXT, [])).replace(b'event: message_stop\ndata: {"type":"message_stop"}\n\n', b"")
    for written in (stream((TEXT, [])) + b"data: [DONE]\n\n", cut + b"data: [DONE]\n\n"):
        reader = AnthropicMessagesReader()
        read_all(reader, written)
        assert (reader.is_ended, reader.is_tail, reader.usage) == (True, True, USAGE)
    unfinished = AnthropicMessagesReader()
    read_all(unfinished, b"data: [DONE]\n\n")
    assert not unfinished.is_ended


def test_a_stream_of_nulls_is_read() -> None:
    written = stream(({"type": "text", "text": None}, [{"type": "text_delta", "text": "hi"}]), id=None, model=None)
    written = written.replace(b'"usage":{"output_tokens":4}', b'"usage":null')
    reader = AnthropicMessagesReader(model="mine")
    chunks = read_all(reader, written)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hi"
    assert (reader.usage, reader.input_usage, reader.is_ended) == (None, TokenUsage(input=3), True)
    assert reader.received_output_bytes == 2


def test_the_type_of_an_event_may_be_its_name_alone() -> None:
    reader = AnthropicMessagesReader(model="mine")
    (chunk,) = read_all(reader, sse(b'{"index":0,"delta":{"type":"text_delta","text":"hi"}}', "content_block_delta"))
    assert chunk.choices[0].delta.content == "hi"
    with pytest.raises(StreamFailed, match="no"):
        read_all(AnthropicMessagesReader(), sse(b'{"error":"no"}'))


def test_the_answers_tool_is_the_answers_text() -> None:
    block = {"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {"a": 1}}
    translated, answer = read(message(content=[block], stop_reason="tool_use"))
    assert (said(answer).content, translated.finish_reason) == ('{"a":1}', "stop")
    pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"a"', ":1}")]
    streamed = assembled(stream((block | {"input": {}}, pieces), stop="tool_use"))
    assert streamed.choices == answer.choices


# --- thinking and ids go round ---

CALL = ToolCall(id="functions.f:0", function=FunctionCall(name="f", arguments="{}"), extra_content=THOUGHT)
THOUGHTS = [
    ReasoningBlock(text="hm"),
    ReasoningBlock(data="secret", id="rs_1"),
    ReasoningBlock(text="so", signature="s2", data="d"),
]


def answer_of(message: AnswerMessage) -> ChatResponse:
    choice = Choice(index=0, message=message, finish_reason="tool_calls" if message.tool_calls else "stop")
    return ChatResponse(id="c1", model="mine", provider="p", choices=[choice], usage=answer_usage(USAGE))


def shown(answer: ChatResponse, echo: bytes | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the blocks that a client is given in one piece, and as the SDK puts them together from a stream."""
    options = RenderOptions(created_s=1, echo=echo)
    whole = AnthropicMessages().render_response(msgspec.json.encode(answer), USAGE, options)
    writer = AnthropicMessages().stream_writer(options)
    written = b"".join(writer.write(chunk) for chunk in replay_chat(answer)) + writer.end(PAID)
    return msgspec.json.decode(whole)["content"], anthropic_final(written)["content"]


def sent_back(blocks: list[dict[str, Any]]) -> Any:
    result = {"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "r"}
    turns = [HELLO, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    body = msgspec.json.encode({"model": "gemini", "max_tokens": 9, "messages": turns})
    request = parse_chat_request(body).request
    assert isinstance(request, ChatRequest)
    return request.messages[1:]


def echo_of(**fields: Any) -> bytes | None:
    return parse_chat_request(msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": [HELLO]} | fields)).echo


SHOWN = echo_of(thinking={"type": "adaptive"})
HIDDEN = echo_of(thinking={"type": "disabled"})


@pytest.mark.parametrize("echo", [SHOWN, HIDDEN])
def test_thinking_and_what_belongs_to_a_call_come_back_to_their_model(echo: bytes | None) -> None:
    answer = answer_of(AnswerMessage(content="well", tool_calls=[CALL], reasoning=THOUGHTS))
    for blocks in shown(answer, echo):
        assistant, result = sent_back(blocks)
        assert assistant.reasoning == THOUGHTS
        assert assistant.tool_calls == [CALL]
        assert (assistant.content, result.tool_call_id) == ("well", CALL.id)


def test_a_client_that_says_nothing_of_thinking_sees_what_comes() -> None:
    assert echo_of() == echo_of(thinking={"type": "adaptive", "display": "summarized"}) is None
    assert echo_of(thinking={"type": "adaptive", "display": "omitted"}) == HIDDEN


def test_a_client_that_asks_for_thinking_sees_it() -> None:
    answer = answer_of(AnswerMessage(content="well", reasoning=[ReasoningBlock(text="hm")]))
    for blocks in shown(answer, SHOWN):
        assert [block["type"] for block in blocks] == ["thinking", "text"]
        assert blocks[0]["thinking"] == "hm"
        assert blocks[0]["signature"].startswith(MARK)


def test_a_client_that_asks_for_no_thinking_sees_none() -> None:
    answer = answer_of(AnswerMessage(content="well", reasoning=[ReasoningBlock(text="hm")]))
    for blocks in shown(answer, HIDDEN):
        assert blocks == [{"type": "text", "text": "well"}]


def test_anthropics_own_thinking_is_not_taken_for_ours() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    assert sent_back(blocks)[0].reasoning == [
        ReasoningBlock(text="hm", signature="EqQBCgIYAhIM"),
        ReasoningBlock(data="EmwKAhgBEgy"),
    ]


@pytest.mark.parametrize("value", [MARK, MARK + "%", MARK + "e30=x", MARK + "bm8=", MARK + "eyJjYWxscyI6MX0="])
def test_a_kept_value_that_was_changed_says_nothing(value: str) -> None:
    kept = read_kept(value)
    assert kept is not None
    assert kept.block(None) is None


def test_events_of_thinking_come_in_anthropics_order() -> None:
    answer = answer_of(AnswerMessage(content="well", reasoning=[ReasoningBlock(text="hm")]))
    writer = AnthropicMessagesWriter()
    written = b"".join(writer.write(chunk) for chunk in replay_chat(answer)) + writer.end(PAID)
    deltas = [msgspec.json.decode(event.data).get("delta", {}).get("type") for event in events_of(written)]
    assert [delta for delta in deltas if delta] == ["thinking_delta", "signature_delta", "text_delta"]


@pytest.mark.parametrize("call_id", ["call_1", "functions.f:0", "_x2e_", "é", "_x", "a__x2e", "x" * 256, "_x._x2e_"])
def test_an_id_is_read_as_it_was_written(call_id: str) -> None:
    assert read_id(written_id(call_id)) == call_id
    assert len(claude_id(call_id)) <= 64


def test_no_member_of_an_answer_is_null_but_the_stop_sequence() -> None:
    answer = answer_of(AnswerMessage(content="well", tool_calls=[CALL], reasoning=THOUGHTS))
    rendered = AnthropicMessages().render_response(msgspec.json.encode(answer), USAGE, RenderOptions(created_s=1))
    assert rendered.count(b"null") == rendered.count(b'"stop_sequence":null') == 1


def test_a_conversation_goes_on_with_claude_without_what_others_thought() -> None:
    answer = answer_of(AnswerMessage(content="well", tool_calls=[CALL], reasoning=THOUGHTS))
    own = {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"}
    blocks = shown(answer, SHOWN)[0]
    result = {"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "gw1. is a text"}
    turns = [
        HELLO,
        {"role": "assistant", "content": [own, *blocks]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": blocks[:1]},
    ]
    body = b'{"model": "claude-x", "messages": %s, "temperature": 0.50}' % msgspec.json.encode(turns)
    passed = Passthrough(AnthropicMessages()).parse_request(read_passthrough(body, AnthropicMessages())).body
    assert isinstance(passed, PassthroughRequest)
    left = msgspec.json.decode(passed.body)["messages"]
    assert [block["type"] for block in left[1]["content"]] == ["thinking", "text", "tool_use"]
    assert (left[1]["content"][0], left[2], len(left)) == (own, turns[2], 3)
    assert passed.body.endswith(b', "temperature": 0.50}')


@pytest.mark.parametrize("body", [b'{"messages":[],"x":"gw1."}', b'{"messages":[{"role":"user","content":"\\"gw1."}]}'])
def test_a_request_that_has_none_of_ours_keeps_its_bytes(body: bytes) -> None:
    assert AnthropicMessages().without_foreign_thinking(body) is body
