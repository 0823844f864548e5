"""A stored answer as a stream: what the vendor's SDK, and our own reader, make of it is the answer again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.stream import MAX_REPLAY_PIECE_CHARS
from domain.dialects.anthropic_replay import replay_anthropic
from domain.dialects.anthropic_streamed import AnthropicMessagesReader
from domain.dialects.openai_replay import replay_openai
from domain.dialects.openai_streamed import OpenAiChatReader
from domain.dialects.provider_response import UnreadableResponse
from domain.dialects.responses_replay import replay_responses
from domain.dialects.responses_streamed import ResponsesReader
from domain.tokens import TokenUsage
from tests.unit.sdk_streams import (
    anthropic_final,
    events_of,
    openai_client,
    openai_final,
    present,
    read_all,
    responses_final,
)

LONG = "é\n" * MAX_REPLAY_PIECE_CHARS
PROBABILITY = {"token": "h", "logprob": -0.5, "bytes": [1], "top_logprobs": []}
CITED = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "gpt-x",
    "service_tier": "default",
    "system_fingerprint": "fp",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "reasoning_content": "hm",
                "content": LONG,
                "refusal": None,
                "annotations": [CITED],
                "tool_calls": [
                    {"id": "t0", "type": "function", "function": {"name": "f", "arguments": LONG}},
                    {"id": "t1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "logprobs": {"content": [PROBABILITY], "refusal": None},
            "finish_reason": "tool_calls",
            "content_filter_results": {"hate": {"filtered": False}},
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "refusal": "I cannot", "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        },
        {"index": 2, "message": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0},
    "moderation": None,
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": LONG, "signature": "sig=="},
        {"type": "redacted_thinking", "data": "xyz"},
        {
            "type": "text",
            "text": LONG,
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "c",
                    "document_index": 0,
                    "document_title": "d",
                    "end_char_index": 1,
                    "start_char_index": 0,
                    "file_id": "f",
                }
            ],
        },
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": LONG}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s1",
            "content": [
                {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e", "page_age": "1"}
            ],
        },
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": [1, 2.5, None]}},
        {"type": "tool_use", "id": "t1", "name": "g", "input": {}},
    ],
    "stop_reason": "stop_sequence",
    "stop_sequence": "END",
    "stop_details": None,
    "container": {"id": "box", "expires_at": "2026-11-24T00:00:00Z"},
    "usage": {
        "input_tokens": 5,
        "output_tokens": 40,
        "cache_read_input_tokens": 11,
        "cache_creation_input_tokens": 13,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 3},
        "output_tokens_details": {"thinking_tokens": 9},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
        "cost": 0.5,
    },
}
URL_CITED = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 7,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-x",
    "output": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": LONG}],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": "e",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": LONG, "annotations": [URL_CITED], "logprobs": []},
                {"type": "refusal", "refusal": "I cannot"},
            ],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": LONG, "status": "completed"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c2", "name": "g", "input": "raw"},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "name": "h",
            "server_label": "s",
            "arguments": "{}",
            "output": None,
            "error": {"type": "http_error", "code": 500, "message": "m"},
            "status": "failed",
        },
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1+1",
            "container_id": "box",
            "outputs": [{"type": "logs", "logs": "2"}],
            "status": "completed",
        },
        {"type": "image_generation_call", "id": "ig_1", "result": "aGk=", "status": "completed"},
        {
            "type": "shell_call",
            "id": "sh_1",
            "call_id": "c3",
            "action": {"commands": ["ls"], "max_output_length": None, "timeout_ms": None},
            "status": "completed",
        },
        {"type": "compaction", "id": "cp_1", "encrypted_content": "e"},
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
        "cost": 0,
    },
}


def body(answer: dict[str, Any]) -> bytes:
    """As vendors send it: over many lines."""
    return msgspec.json.format(msgspec.json.encode(answer), indent=2)


def test_openais_sdk_accumulates_the_completion() -> None:
    assert openai_final(*replay_openai(body(COMPLETION), include_usage=True)) == present(COMPLETION)


def test_our_reader_assembles_the_completion() -> None:
    reader = OpenAiChatReader(keep=True)
    read_all(reader, b"".join(replay_openai(body(COMPLETION), include_usage=True)))
    assert msgspec.json.decode(reader.assembled()) == COMPLETION
    assert (reader.usage, reader.is_ended) == (TokenUsage(input=3, output=2), True)


def test_a_completion_tells_of_usage_only_who_asked() -> None:
    assert b"usage" not in b"".join(replay_openai(body(COMPLETION), include_usage=False))


def test_what_is_shown_first_is_the_role_and_last_the_end() -> None:
    events = events_of(b"".join(replay_openai(body(COMPLETION), include_usage=True)))
    delta = msgspec.json.decode(events[0].data)["choices"][0]["delta"]
    assert delta == {"role": "assistant", "content": "", "refusal": None}
    assert events[-1].data == b"[DONE]"


def test_anthropics_sdk_accumulates_the_message() -> None:
    assert present(anthropic_final(*replay_anthropic(body(MESSAGE)))) == present(MESSAGE)


def test_our_reader_assembles_the_message() -> None:
    reader = AnthropicMessagesReader(keep=True)
    read_all(reader, b"".join(replay_anthropic(body(MESSAGE))))
    assert msgspec.json.decode(reader.assembled()) == MESSAGE
    assert reader.is_ended


def test_openais_sdk_accumulates_the_response() -> None:
    assert present(responses_final(*replay_responses(body(RESPONSE)))) == present(RESPONSE)


def test_our_reader_keeps_the_response() -> None:
    reader = ResponsesReader(keep=True)
    read_all(reader, b"".join(replay_responses(body(RESPONSE))))
    assert msgspec.json.decode(reader.assembled()) == RESPONSE
    assert reader.finish_reason == "tool_calls"


def test_every_event_of_a_response_has_its_number_and_its_name() -> None:
    events = events_of(b"".join(replay_responses(body(RESPONSE))))
    read = [msgspec.json.decode(event.data) for event in events]
    assert [event["sequence_number"] for event in read] == list(range(len(events)))
    assert [event["type"] for event in read] == [event.name for event in events]


def test_a_response_is_told_in_the_vendors_order() -> None:
    only = RESPONSE | {"output": [RESPONSE["output"][2]]}
    names = [event.name for event in events_of(b"".join(replay_responses(body(only))))]
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.content_part.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_tool_that_failed_is_told_as_failed() -> None:
    only = RESPONSE | {"output": [RESPONSE["output"][5]]}
    names = [event.name for event in events_of(b"".join(replay_responses(body(only))))]
    assert names[2:-1] == [
        "response.output_item.added",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.failed",
        "response.output_item.done",
    ]


def test_an_incomplete_response_ends_as_one() -> None:
    cut = RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    events = list(openai_client(*replay_responses(body(cut))).responses.create(model="m", input="x", stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.incomplete"]
    assert present(events[-1].to_dict()["response"]) == present(cut)


@pytest.mark.parametrize(
    "broken",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[{"message":7}],"content":7,"output":7}',
        b'{"choices":[{}],"content":[{}],"usage":{},"output":[{"type":"message","content":7}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":null}}]}}],"usage":{},'
        b'"content":[{"type":"text"}],"output":[{"type":"reasoning","summary":[{}]}]}',
    ],
)
def test_what_is_no_answer_is_not_replayed(broken: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        replay_openai(broken, include_usage=True)
    with pytest.raises(UnreadableResponse):
        replay_anthropic(broken)
    with pytest.raises(UnreadableResponse):
        replay_responses(broken)


TEXTS = st.text(max_size=10) | st.just(LONG)
CALLS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=5),
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=5), "arguments": TEXTS}),
    }
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXTS},
    optional={
        "refusal": st.none() | TEXTS,
        "reasoning": TEXTS,
        "tool_calls": st.lists(CALLS, min_size=1, max_size=3),
        "reasoning_details": st.lists(st.fixed_dictionaries({"text": TEXTS}), min_size=1, max_size=2),
    },
)
INPUTS = st.dictionaries(st.text(max_size=3), st.none() | st.booleans() | st.integers() | TEXTS, max_size=3)
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXTS, "signature": TEXTS}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": TEXTS, "name": TEXTS, "input": INPUTS}),
    st.fixed_dictionaries({"type": st.just("to_come"), "input": INPUTS, "x": TEXTS}),
)


@given(MESSAGES)
def test_any_completion_assembles_again(message: dict[str, Any]) -> None:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    completion = COMPLETION | {"choices": [choice]}
    reader = OpenAiChatReader(keep=True)
    read_all(reader, b"".join(replay_openai(body(completion), include_usage=True)))
    assert msgspec.json.decode(reader.assembled()) == completion


@given(st.lists(BLOCKS, max_size=4))
def test_any_message_assembles_again(blocks: list[dict[str, Any]]) -> None:
    message = MESSAGE | {"content": blocks}
    reader = AnthropicMessagesReader(keep=True)
    read_all(reader, b"".join(replay_anthropic(body(message))))
    assert msgspec.json.decode(reader.assembled()) == message
