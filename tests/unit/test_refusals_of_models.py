"""A model's refusal reaches each client in the place that its API has for one."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatResponse
from domain.canonical.stream import ChatAssembler, replay_chat
from domain.dialects.codec import RenderOptions, StreamSummary
from domain.dialects.openai.codec import OpenAiChat, OpenAiResponses
from domain.dialects.sse import SseParser
from domain.tokens import TokenUsage, answer_usage

OPTIONS = RenderOptions(created_s=1)
SUMMARY = StreamSummary(usage=TokenUsage(), cost_usd=None, latency_ms=1)
REFUSED = {
    "id": "c1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "refusal": "I won't"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}
DELTAS: tuple[tuple[dict[str, str], str | None], ...] = (
    ({"refusal": "I "}, None),
    ({"refusal": "won't"}, None),
    ({}, "stop"),
)
CHUNKS = b"".join(
    b"data: %b\n\n"
    % msgspec.json.encode({"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    for delta, reason in DELTAS
)
PART = {"type": "refusal", "refusal": "I won't"}


def whole() -> bytes:
    return OpenAiChat().parse_response(msgspec.json.encode(REFUSED), model="m", provider="p").body


def chunks() -> list[Any]:
    reader = OpenAiChat().stream_reader(model="m")
    return [chunk for event in SseParser().feed(CHUNKS) for chunk in reader.take(event)]


def streamed() -> bytes:
    assembler = ChatAssembler(provider="p", model="m")
    for chunk in chunks():
        assembler.add(chunk)
    return msgspec.json.encode(assembler.answer(answer_usage(TokenUsage())))


@pytest.mark.parametrize("make_body", [whole, streamed])
def test_a_refusal_is_a_refusal_part_of_a_complete_response(make_body: Any) -> None:
    found = msgspec.json.decode(OpenAiResponses().render_response(make_body(), TokenUsage(), OPTIONS))
    assert (found["status"], found["incomplete_details"]) == ("completed", None)
    assert [item["content"] for item in found["output"]] == [[PART]]


@pytest.mark.parametrize("is_replayed", [False, True])
def test_a_streamed_refusal_has_events_of_its_own(is_replayed: bool) -> None:
    writer = OpenAiResponses().stream_writer(OPTIONS)
    pieces = replay_chat(msgspec.json.decode(whole(), type=ChatResponse)) if is_replayed else chunks()
    written = b"".join(writer.write(chunk) for chunk in pieces) + writer.end(SUMMARY)
    events = [msgspec.json.decode(event.data) for event in SseParser().feed(written)]
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"refusal.delta"}
    assert kinds[-4:] == ["refusal.done", "content_part.done", "output_item.done", "completed"]
    assert "".join(event["delta"] for event in events[4:-4]) == events[-4]["refusal"] == "I won't"
    assert events[-1]["response"]["output"][0]["content"] == [PART]


@pytest.mark.parametrize("make_body", [whole, streamed])
def test_a_refusal_stands_beside_the_content_of_a_chat_completion(make_body: Any) -> None:
    found = msgspec.json.decode(OpenAiChat().render_response(make_body(), TokenUsage(), OPTIONS))["choices"][0]
    assert found["message"] == {"role": "assistant", "content": None, "refusal": "I won't"}
    assert found["finish_reason"] == "stop"
    writer = OpenAiChat().stream_writer(OPTIONS)
    sent = b"".join(writer.write(chunk) for chunk in chunks())
    deltas = [msgspec.json.decode(event.data)["choices"][0] for event in SseParser().feed(sent)]
    assert "".join(delta["delta"].get("refusal", "") for delta in deltas) == "I won't"
    assert not any(delta["delta"].get("content") for delta in deltas)
    assert deltas[-1]["finish_reason"] == "stop"


def test_text_before_a_refusal_stays_text() -> None:
    writer = OpenAiResponses().stream_writer(OPTIONS)
    reader = OpenAiChat().stream_reader(model="m")
    said = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"well"}}]}\n\n'
    written = b"".join(writer.write(chunk) for event in SseParser().feed(said + CHUNKS) for chunk in reader.take(event))
    final = msgspec.json.decode(SseParser().feed(written + writer.end(SUMMARY))[-1].data)["response"]
    kinds = [part["type"] for item in final["output"] for part in item["content"]]
    assert kinds == ["output_text", "refusal"]


def test_a_refusal_of_the_other_api_is_one_too() -> None:
    item = {"type": "message", "role": "assistant", "content": [PART]}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": [item]}
    body = OpenAiResponses().parse_response(msgspec.json.encode(answer), model="m", provider="openai").body
    found = msgspec.json.decode(OpenAiChat().render_response(body, TokenUsage(), OPTIONS))["choices"][0]
    assert found["message"] == {"role": "assistant", "content": None, "refusal": "I won't"}
