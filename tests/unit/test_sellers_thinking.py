"""Thinking goes back as it came: to a seller with its own marks, to Claude in its place between the calls."""

from typing import Any

import msgspec
import pytest

from domain.canonical.chat import AssistantMessage, ChatRequest, ChatResponse, ReasoningBlock
from domain.canonical.stream import MAX_DETAIL_MEMBERS, ChatAssembler, replay_chat
from domain.dialects.anthropic.codec import AnthropicMessages
from domain.dialects.codec import Codec, RenderOptions, StreamSummary
from domain.dialects.openai.codec import OpenAiChat, OpenAiResponses
from domain.dialects.openai.reasoning import parse_reasoning
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.sse import SseEvent, SseParser
from domain.tokens import TokenUsage, answer_usage

HELLO: dict[str, Any] = {"role": "user", "content": "hello"}
DETAILS: list[dict[str, Any]] = [
    {"type": "reasoning.summary", "summary": "hm", "id": "rs_1", "format": "openai-responses-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1", "index": 1},
    {"type": "reasoning.text", "text": "so", "signature": "s", "format": "anthropic-claude-v1", "index": 2},
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SELLERS_ANSWER: dict[str, Any] = {
    "id": "gen-1",
    "model": "openai/gpt-5",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "look", "reasoning_details": DETAILS, "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}
OPTIONS = RenderOptions(created_s=1)
SUMMARY = StreamSummary(usage=TokenUsage(), cost_usd=None, latency_ms=1)
CODECS: dict[str, Codec] = {"messages": AnthropicMessages(), "responses": OpenAiResponses()}


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def sellers_stream() -> bytes:
    message = SELLERS_ANSWER["choices"][0]["message"]
    pieces: list[dict[str, Any]] = [{"reasoning_details": [detail]} for detail in DETAILS]
    pieces += [{"content": "look"}, {"tool_calls": [message["tool_calls"][0] | {"index": 0}]}]
    chunks = [{"id": "gen-1", "model": "m", "choices": [{"index": 0, "delta": piece}]} for piece in pieces]
    chunks.append({"id": "gen-1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return b"".join(b"data: " + encoded(chunk) + b"\n\n" for chunk in chunks)


def whole_turn(codec: Codec) -> Any:
    body = OpenAiChat().parse_response(encoded(SELLERS_ANSWER), model="m", provider="seller").body
    return msgspec.json.decode(codec.render_response(body, TokenUsage(), OPTIONS))


def streamed_turn(codec: Codec) -> Any:
    reader, writer = OpenAiChat().stream_reader(model="m"), codec.stream_writer(OPTIONS)
    written = b"".join(
        writer.write(chunk) for event in SseParser().feed(sellers_stream()) for chunk in reader.take(event)
    )
    events = SseParser().feed(written + writer.end(SUMMARY))
    if codec.operation == "responses":
        return msgspec.json.decode(events[-1].data)["response"]
    return {"content": assembled(events)}


def assembled(events: Any) -> list[dict[str, Any]]:
    """The blocks as an Anthropic client puts them together."""
    blocks: list[dict[str, Any]] = []
    members = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
    for event in (msgspec.json.decode(one.data) for one in events):
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta" and event["delta"]["type"] in members:
            name = members[event["delta"]["type"]]
            blocks[-1][name] = blocks[-1].get(name, "") + event["delta"][name]
    return blocks


def next_request(surface: str, turn: Any) -> bytes:
    if surface == "responses":
        output = {"type": "function_call_output", "call_id": "call_1", "output": "r"}
        return encoded({"model": "m", "input": [HELLO, *turn["output"], output]})
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "r"}
    said = [
        HELLO,
        {"role": "assistant", "content": turn["content"]},
        {"role": "user", "content": [result]},
    ]
    return encoded({"model": "m", "max_tokens": 9, "messages": said})


def sent_back(surface: str, turn: Any, model: str) -> dict[str, Any]:
    request = CODECS[surface].parse_request(next_request(surface, turn)).request
    chat = OpenAiChat()
    adapted = chat.adapt_request(request, model).request
    sent: dict[str, Any] = msgspec.json.decode(chat.render_request(adapted, model, is_stream=False))["messages"][1]
    return sent


def comparable(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "index"} for one in details]


@pytest.mark.parametrize("make_turn", [whole_turn, streamed_turn])
@pytest.mark.parametrize("surface", CODECS)
@pytest.mark.parametrize("model", ["openai/gpt-5", "anthropic/claude-sonnet-4.5", "some-model"])
def test_a_seller_is_sent_back_the_details_that_it_gave(surface: str, make_turn: Any, model: str) -> None:
    sent = sent_back(surface, make_turn(CODECS[surface]), model)
    assert comparable(sent["reasoning_details"]) == comparable(DETAILS)
    assert "reasoning_content" not in sent


def test_openai_itself_is_sent_no_details() -> None:
    sent = sent_back("messages", whole_turn(CODECS["messages"]), "gpt-5")
    assert not {"reasoning_details", "reasoning_content"} & sent.keys()


def test_thinking_that_only_gemini_can_verify_is_not_sent_to_claude() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s", "format": "google-gemini-v1"}]
    messages = [HELLO, {"role": "assistant", "content": "a", "reasoning_details": details}, HELLO]
    request = (
        OpenAiChat().parse_request(encoded({"model": "m", "messages": messages, "reasoning_effort": "high"})).request
    )
    claude = AnthropicMessages()
    sent = claude.render_request(
        claude.adapt_request(request, "claude-opus-4-6").request, "claude-opus-4-6", is_stream=False
    )
    assert b'"thinking":"hm"' not in sent


BETWEEN = [
    {"type": "thinking", "thinking": "first", "signature": "s1"},
    {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
    {"type": "thinking", "thinking": "second", "signature": "s2"},
    {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
]
CLAUDES_ANSWER = {"id": "msg_1", "model": "c", "content": BETWEEN, "stop_reason": "tool_use", "usage": {}}


def claudes_answer() -> bytes:
    return AnthropicMessages().parse_response(encoded(CLAUDES_ANSWER), model="m", provider="anthropic").body


def streamed_body() -> bytes:
    """Claude's answer as it is put together of its stream."""
    claude, assembler = AnthropicMessages(), ChatAssembler(provider="anthropic", model="m")
    reader = claude.stream_reader(model="m")
    for event in claude.events_of_response(encoded(CLAUDES_ANSWER)):
        for chunk in reader.take(event):
            assembler.add(chunk)
    return encoded(assembler.answer(answer_usage(TokenUsage())))


def answers_to(surface: str, body: bytes) -> ChatRequest:
    """What a client of a surface sends after an answer."""
    results = ("call_1", "call_2")
    if surface == "chat":
        turn = msgspec.json.decode(OpenAiChat().render_response(body, TokenUsage(), OPTIONS))["choices"][0]["message"]
        outputs = [{"role": "tool", "tool_call_id": call, "content": "r"} for call in results]
        request = OpenAiChat().parse_request(encoded({"model": "m", "messages": [HELLO, turn, *outputs]})).request
    else:
        items = msgspec.json.decode(OpenAiResponses().render_response(body, TokenUsage(), OPTIONS))["output"]
        outputs = [{"type": "function_call_output", "call_id": call, "output": "r"} for call in results]
        request = OpenAiResponses().parse_request(encoded({"model": "m", "input": [HELLO, *items, *outputs]})).request
    assert isinstance(request, ChatRequest)
    return msgspec.structs.replace(request, reasoning_effort="high")


@pytest.mark.parametrize("make_body", [claudes_answer, streamed_body])
@pytest.mark.parametrize("surface", ["chat", "responses"])
def test_thinking_between_calls_goes_back_to_its_place(surface: str, make_body: Any) -> None:
    request = answers_to(surface, make_body())
    claude = AnthropicMessages()
    adapted = claude.adapt_request(request, "claude-opus-4-6").request
    sent = msgspec.json.decode(claude.render_request(adapted, "claude-opus-4-6", is_stream=False))
    assert sent["messages"][1]["content"] == BETWEEN


def test_a_replay_keeps_thinking_between_calls() -> None:
    answer = msgspec.json.decode(claudes_answer(), type=ChatResponse)
    kinds = [
        "call" if choice.delta.tool_calls else "thought"
        for chunk in replay_chat(answer)
        for choice in chunk.choices
        if choice.delta.tool_calls or choice.delta.reasoning
    ]
    assert [kind for at, kind in enumerate(kinds) if not at or kinds[at - 1] != kind] == [
        "thought",
        "call",
        "thought",
        "call",
    ]


def test_a_turn_never_ends_with_thinking() -> None:
    late = ReasoningBlock(text="late", signature="s", after_calls=9)
    message = AssistantMessage(content="a", reasoning=[late])
    request = msgspec.convert({"messages": [HELLO]}, ChatRequest)
    request = msgspec.structs.replace(
        request, messages=[*request.messages, message, *request.messages], reasoning_effort="high"
    )
    claude = AnthropicMessages()
    sent = msgspec.json.decode(claude.render_request(request, "claude-opus-4-6", is_stream=False))
    assert [block["type"] for block in sent["messages"][1]["content"]] == ["thinking", "text"]


def gpts_items() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for number, name in ((1, "f"), (2, "g")):
        items.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": f"gAAA{number}"})
        items.append({"type": "function_call", "call_id": f"call_{number}", "name": name, "arguments": "{}"})
    return items


def gpts_answer() -> bytes:
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": gpts_items()}
    return OpenAiResponses().parse_response(msgspec.json.encode(answer), model="m", provider="openai").body


@pytest.mark.parametrize("surface", ["chat", "responses", "messages"])
def test_gpts_reasoning_between_calls_goes_back_to_its_place(surface: str) -> None:
    """OpenAI refuses a reasoning item without the item that followed it."""
    if surface == "messages":
        turn = msgspec.json.decode(AnthropicMessages().render_response(gpts_answer(), TokenUsage(), OPTIONS))
        results = [{"type": "tool_result", "tool_use_id": call, "content": "r"} for call in ("call_1", "call_2")]
        said = [HELLO, {"role": "assistant", "content": turn["content"]}, {"role": "user", "content": results}]
        body = encoded({"model": "m", "max_tokens": 9, "messages": said})
        request: Any = AnthropicMessages().parse_request(body).request
    else:
        request = answers_to(surface, gpts_answer())
    gpt = OpenAiResponses()
    sent = gpt.render_request(gpt.adapt_request(request, "gpt-5").request, "gpt-5", is_stream=False)
    items = msgspec.json.decode(sent)["input"]
    assert [item for item in items if item.get("type") in ("reasoning", "function_call")] == gpts_items()


def test_entries_with_one_index_are_one_block_with_the_members_of_all() -> None:
    pieces = [{"type": "reasoning.text", "text": "ab", "index": 0, f"member_{number}": 1} for number in range(2_000)]
    ((block,), (streamed,)) = (parse_reasoning(pieces), thinking_of_a_stream(pieces))
    assert block == streamed
    assert block.text == "ab" * 2_000
    assert block.detail == {f"member_{number}": 1 for number in range(MAX_DETAIL_MEMBERS)}


def test_the_summary_of_encrypted_thinking_stands_with_it() -> None:
    pieces = [
        {"type": "reasoning.summary", "summary": "a", "index": 0},
        {"type": "reasoning.summary", "summary": "b", "index": 0},
        {"type": "reasoning.encrypted", "data": "x", "id": "rs", "index": 0},
        {"type": "reasoning.text", "text": "c", "index": 0},
    ]
    first, second = parse_reasoning(pieces, is_sellers=False)
    assert (first, second) == (ReasoningBlock(text="ab", data="x", id="rs"), ReasoningBlock(text="c"))


def thinking_of_a_stream(pieces: list[dict[str, Any]]) -> list[ReasoningBlock]:
    """Return the thinking of a stream that has each piece in a chunk of its own."""
    reader, assembler = OpenAiChatReader(model="m"), ChatAssembler(provider="p", model="m")
    for piece in pieces:
        event = msgspec.json.encode({"choices": [{"index": 0, "delta": {"reasoning_details": [piece]}}]})
        for chunk in reader.take(SseEvent("", event, b"")):
            assembler.add(chunk)
    return assembler.answer(answer_usage(TokenUsage())).choices[0].message.reasoning or []
