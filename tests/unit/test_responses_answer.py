"""Canonical answers as responses, in one piece and as a stream, as OpenAI's SDK reads them."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from domain.canonical.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    FinishReason,
    FunctionCall,
    ReasoningBlock,
    ToolCall,
)
from domain.canonical.stream import replay_chat
from domain.dialects.codec import RenderOptions, StreamSummary
from domain.dialects.openai.codec import OpenAiResponses
from domain.dialects.sse import SseParser
from domain.tokens import TokenUsage, answer_usage

USAGE = TokenUsage(input=5, cache_read=3, output=7, reasoning=2)
TOOLS: Any = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "p"},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "namespace", "name": "mcp__a", "description": "", "tools": [{"type": "function", "name": "g"}]},
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def answer(message: AnswerMessage, finish: FinishReason = "stop") -> ChatResponse:
    choice = Choice(index=0, message=message, finish_reason=finish)
    return ChatResponse(id="msg_1", model="claude", provider="p", choices=[choice], usage=answer_usage(USAGE))


def call(name: str, arguments: str, number: int = 1, **fields: Any) -> ToolCall:
    return ToolCall(id=f"call_{number}", function=FunctionCall(name=name, arguments=arguments), **fields)


def options() -> RenderOptions:
    request = {"model": "claude", "input": "x", "tools": TOOLS, "temperature": 0.5, "instructions": "be kind"}
    return RenderOptions(created_s=7, echo=OpenAiResponses().parse_request(msgspec.json.encode(request)).echo)


def whole(found: ChatResponse) -> dict[str, Any]:
    body = OpenAiResponses().render_response(msgspec.json.encode(found), USAGE, options())
    Response.model_validate_json(body, strict=True)
    members: dict[str, Any] = msgspec.json.decode(body)
    return members


def events(found: ChatResponse) -> list[dict[str, Any]]:
    writer = OpenAiResponses().stream_writer(options())
    stream = b"".join(writer.write(chunk) for chunk in replay_chat(found))
    stream += writer.end(StreamSummary(usage=USAGE, cost_usd=Decimal("0.25"), latency_ms=1))
    read: list[dict[str, Any]] = [msgspec.json.decode(event.data) for event in SseParser().feed(stream)]
    for event in read:
        EVENT.validate_python(event)
    return read


EVERYTHING = answer(
    AnswerMessage(
        content="sure",
        reasoning=[ReasoningBlock(text="hm", signature="sig"), ReasoningBlock(data="sealed")],
        tool_calls=[
            call("f", '{"a":1}', 1),
            call("p", '{"input":"*** Begin"}', 2),
            call("local_shell", '{"command":["ls"]}', 3),
            call("shell", '{"commands":["ls"]}', 4),
            call("apply_patch", '{"operation":{"type":"delete_file","path":"a"}}', 5),
            call("mcp__a__g", "{}", 6, extra_content={"google": {"thought_signature": "s"}}),
        ],
    ),
    "tool_calls",
)


def test_each_part_of_an_answer_is_an_item_of_its_tools_kind() -> None:
    output = whole(EVERYTHING)["output"]
    assert [item["type"] for item in output] == [
        *("reasoning", "reasoning", "message", "function_call", "custom_tool_call", "local_shell_call", "shell_call"),
        *("apply_patch_call", "function_call", "reasoning"),
    ]
    assert len({item["id"] for item in output}) == len(output)
    assert output[0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert output[4]["input"] == "*** Begin"
    assert output[5]["action"]["command"] == ["ls"]
    assert output[7]["operation"] == {"type": "delete_file", "path": "a"}
    assert (output[8]["namespace"], output[8]["name"]) == ("mcp__a", "g")


def test_a_stream_amounts_to_the_response_in_one_piece() -> None:
    streamed = events(EVERYTHING)
    final = streamed[-1]["response"]
    assert final["usage"].pop("cost") == 0.25
    assert final == whole(EVERYTHING)
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    done = [event["item"] for event in streamed if event["type"] == "response.output_item.done"]
    added = [event["item"]["id"] for event in streamed if event["type"] == "response.output_item.added"]
    assert done == final["output"]
    assert sorted(added) == sorted(item["id"] for item in done)


def test_an_answer_goes_round() -> None:
    items = [*whole(EVERYTHING)["output"], {"type": "function_call_output", "call_id": "call_1", "output": "r"}]
    body = msgspec.json.encode({"model": "claude", "input": [{"role": "user", "content": "x"}, *items]})
    request: Any = OpenAiResponses().parse_request(body).request
    _, said, result = request.messages
    assert said.content == "sure"
    assert said.reasoning == EVERYTHING.choices[0].message.reasoning
    assert [one.function.name for one in said.tool_calls] == [
        *("f", "p", "local_shell", "shell", "apply_patch", "mcp__a__g")
    ]
    assert said.tool_calls[-1].extra_content == {"google": {"thought_signature": "s"}}
    assert result.tool_call_id == "call_1"


def test_events_of_a_text_are_in_the_vendors_order() -> None:
    assert [event["type"].removeprefix("response.") for event in events(answer(AnswerMessage(content="hi")))] == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]


def test_events_of_thinking_are_those_of_a_summary() -> None:
    found = answer(AnswerMessage(content=None, reasoning=[ReasoningBlock(text="hm", signature="s")]))
    assert [event["type"].removeprefix("response.") for event in events(found)] == [
        *("created", "in_progress", "output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done"),
        *("output_item.done", "completed"),
    ]


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(finish: FinishReason, reason: str) -> None:
    found = answer(AnswerMessage(content="ha"), finish)
    for response in (whole(found), events(found)[-1]["response"]):
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
        assert response["output"][0]["status"] == "incomplete"
    assert events(found)[-1]["type"] == "response.incomplete"


def test_arguments_that_a_tools_item_cannot_hold_are_a_functions() -> None:
    found = answer(AnswerMessage(content=None, tool_calls=[call("local_shell", "{oops")]), "tool_calls")
    (item,) = whole(found)["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "local_shell", "{oops")
    assert [event["item"] for event in events(found) if event["type"] == "response.output_item.done"] == [item]


def test_a_response_repeats_its_request() -> None:
    response = whole(answer(AnswerMessage(content="hi")))
    assert (response["tools"], response["temperature"], response["instructions"]) == (TOOLS, 0.5, "be kind")
    assert (response["store"], response["created_at"]) == (False, 7)


def test_usage_has_the_vendors_sums() -> None:
    assert whole(answer(AnswerMessage(content="hi")))["usage"] == {
        "input_tokens": 8,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }


def test_what_is_too_long_is_not_repeated() -> None:
    request = {"model": "claude", "input": "x", "instructions": "i" * 70_000, "metadata": {"a": "b"}}
    echo = OpenAiResponses().parse_request(msgspec.json.encode(request)).echo
    assert echo is not None
    assert len(echo) < 1_000
    assert b'"metadata":{"a":"b"}' in echo
