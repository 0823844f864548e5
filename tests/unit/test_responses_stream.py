"""OpenAI's Responses events: their usage is counted."""

from typing import Any

import msgspec
import pytest

from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.codec import OpenAiResponses
from domain.dialects.openai.responses_api import ResponsesReader, error_events
from domain.dialects.sse import sse
from domain.tokens import TokenUsage
from tests.support.sdk_streams import events_of, openai_client, read_all

USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 15,
}
COUNTED = TokenUsage(input=5, cache_read=4, cache_write=1, output=5, reasoning=2)
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}


def event(kind: str, number: int, **members: Any) -> bytes:
    return sse(msgspec.json.encode({"type": kind, "sequence_number": number} | members), kind)


def response(status: str, **members: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "gpt-x", "status": status, "output": []} | members


CREATED = event("response.created", 0, response=response("in_progress", usage=None))
SHOWN = (
    event("response.output_item.added", 1, output_index=0, item=CALL | {"arguments": ""})
    + event("response.function_call_arguments.delta", 2, output_index=0, item_id="fc_1", delta="{}")
    + event("response.reasoning_summary_text.delta", 3, output_index=1, delta="é")
    + event("response.shell_call_output_content.delta", 4, output_index=2, delta={"stdout": "not the model's"})
    + event("response.output_item.done", 5, output_index=0, item=CALL)
)


ANSWERS = [
    ("completed", response("completed", usage=USAGE), "stop"),
    ("completed", response("completed", usage=USAGE, output=[CALL]), "tool_calls"),
    ("incomplete", response("incomplete", usage=USAGE, incomplete_details={"reason": "max_output_tokens"}), "length"),
    (
        "incomplete",
        response("incomplete", usage=USAGE, incomplete_details={"reason": "content_filter"}),
        "content_filter",
    ),
]


@pytest.mark.parametrize(("kind", "final", "finish"), ANSWERS)
def test_a_stream_is_accounted_for(kind: str, final: dict[str, Any], finish: str) -> None:
    reader = ResponsesReader()
    read_all(reader, CREATED + SHOWN)
    assert (reader.response_id, reader.answered_by, reader.usage) == ("resp_1", "gpt-x", None)
    assert (reader.is_ended, reader.is_tail) == (False, False)
    read_all(reader, event(f"response.{kind}", 6, response=final))
    assert (reader.usage, reader.finish_reason) == (COUNTED, finish)
    assert (reader.is_ended, reader.is_tail) == (True, True)


@pytest.mark.parametrize(("_kind", "final", "finish"), ANSWERS)
def test_response_and_stream_have_equal_usage(_kind: str, final: dict[str, Any], finish: str) -> None:
    found = OpenAiResponses().meter_response(msgspec.json.encode(final))
    assert (found.response_id, found.answered_by) == ("resp_1", "gpt-x")
    assert (found.usage, found.finish_reason) == (COUNTED, finish)


def test_response_may_have_failed() -> None:
    final = response("failed", usage=USAGE, error={"code": "server_error", "message": "no"})
    found = OpenAiResponses().meter_response(msgspec.json.encode(final))
    assert (found.usage, found.finish_reason) == (COUNTED, "failed")


def test_a_response_without_usage_is_given_for_its_bytes() -> None:
    body = msgspec.json.encode(response("completed", usage=None, output=[{"type": "message", "id": "msg_1"}]))
    found = OpenAiResponses().meter_response(body)
    assert (found.usage, found.received_output_bytes, found.item_ids) == (None, len(body), ("msg_1",))


@pytest.mark.parametrize("final", [{"id": "resp_1"}, {}])
def test_what_has_neither_output_nor_usage_is_no_response(final: dict[str, Any]) -> None:
    with pytest.raises(UnreadableResponse):
        OpenAiResponses().meter_response(msgspec.json.encode(final))


def test_every_byte_that_was_shown_is_counted() -> None:
    reader = ResponsesReader()
    read_all(reader, CREATED + SHOWN)
    assert reader.received_output_bytes == len("f{}é".encode())


def test_a_failed_response_is_raised_and_its_usage_kept() -> None:
    reader = ResponsesReader()
    final = response("failed", usage=USAGE, error={"code": "server_error", "message": "m"})
    with pytest.raises(StreamFailed) as failed:
        read_all(reader, CREATED + event("response.failed", 1, response=final))
    assert (failed.value.message, failed.value.kind) == ("m", "server_error")
    assert (reader.usage, reader.is_ended, reader.is_tail) == (COUNTED, True, True)


@pytest.mark.parametrize(
    "said",
    [
        b'{"type":"error","code":"rate_limit_exceeded","message":"m","param":null,"sequence_number":3}',
        b'{"type":"error","error":{"type":"tokens","code":"rate_limit_exceeded","message":"m"}}',
        b'{"error":{"code":"rate_limit_exceeded","message":"m"}}',
    ],
)
def test_an_error_inside_the_stream_is_raised(said: bytes) -> None:
    with pytest.raises(StreamFailed) as failed:
        read_all(ResponsesReader(), sse(said))
    assert (failed.value.message, failed.value.kind) == ("m", "rate_limit_exceeded")


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"{}",
        b'{"type":"response.completed","response":7}',
        b'{"type":"response.output_text.delta","delta":7}',
    ],
)
def test_garbage_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        read_all(ResponsesReader(), sse(data))


def test_events_to_come_are_passed_over() -> None:
    reader = ResponsesReader()
    assert read_all(reader, CREATED + event("response.weather.delta", 1, delta=7) + b"data: [DONE]\n\n") == []


def test_our_own_error_is_one_that_the_sdk_reads_and_that_agents_do() -> None:
    stream = openai_client(CREATED, error_events("away", "server_error", "req_1", 1)).responses.create(
        model="m", input="x", stream=True
    )
    error, failed = list(stream)[-2:]
    expected = {"type": "error", "sequence_number": 1, "code": "server_error", "message": "away", "param": None}
    assert error.to_dict() == expected
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert (failed.sequence_number, failed.response.status, failed.response.error.code) == (2, "failed", "server_error")
    assert [event.name for event in events_of(error_events("away", "server_error", "req_1", 1))] == [
        "error",
        "response.failed",
    ]
