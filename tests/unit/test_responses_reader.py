"""OpenAI's responses become canonical answers: in one piece, as streams, and in what forms other servers send them."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import ChatResponse, ReasoningBlock
from domain.canonical.stream import ChatAssembler
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.codec import OpenAiResponses
from domain.dialects.openai.responses.reader import MAX_ITEMS, ResponsesChatReader
from domain.dialects.sse import SseParser, sse
from domain.tokens import AnswerUsage, TokenUsage

USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 19,
}
COUNTED = TokenUsage(input=6, cache_read=4, output=9, reasoning=5)
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "so"}],
    "encrypted_content": "enc",
}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Grüß"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
OTHER = CALL | {"id": "fc_2", "call_id": "call_2", "name": "g", "arguments": "{}"}
REFUSAL = MESSAGE | {"content": [{"type": "refusal", "refusal": "no"}]}
UNKNOWN = {"type": "dream_call", "id": "x_1", "dream": {"a": 1}}


def response(*output: Any, **members: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-x-1",
        "status": "completed",
        "output": list(output),
        "usage": USAGE,
    } | members


def event(kind: str, **members: Any) -> bytes:
    return sse(msgspec.json.encode({"type": kind} | members), kind)


CREATED = event("response.created", response=response(status="in_progress", usage=None))


def ended(*output: Any, **members: Any) -> bytes:
    return event("response.completed", response=response(*output, **members))


def streamed(*items: dict[str, Any]) -> bytes:
    """Return the events of items before the end, as OpenAI sends them."""
    written = b""
    for index, item in enumerate(items):
        place = {"output_index": index, "item_id": item["id"]}
        begun = item | {"content": [], "summary": [], "arguments": "", "encrypted_content": ""}
        written += event("response.output_item.added", output_index=index, item=begun)
        for number, part in enumerate(item.get("summary", ())):
            written += event("response.reasoning_summary_part.added", **place, summary_index=number, part={})
            written += event("response.reasoning_summary_text.delta", **place, summary_index=number, delta=part["text"])
        for part in item.get("content", ()):
            kind = "refusal" if "refusal" in part else "output_text"
            for piece in part.get("text") or part.get("refusal"):
                written += event(f"response.{kind}.delta", **place, content_index=0, delta=piece)
        if "arguments" in item:
            for piece in item["arguments"]:
                written += event("response.function_call_arguments.delta", **place, delta=piece)
            written += event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        written += event("response.output_item.done", output_index=index, item=item)
    return written


def read(stream: bytes) -> tuple[ResponsesChatReader, ChatResponse]:
    reader, assembler = ResponsesChatReader(model="mine"), ChatAssembler(provider="openai", model="mine")
    parser = SseParser()
    for one in (*parser.feed(stream), *parser.feed(b"\n\n")):
        for chunk in reader.take(one):
            assembler.add(chunk)
    none = AnswerUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0, cached_prompt_tokens=0)
    return reader, assembler.answer(none)


def whole(body: Any) -> tuple[Any, ChatResponse]:
    found = OpenAiResponses().parse_response(msgspec.json.encode(body), model="mine", provider="openai")
    return found, msgspec.json.decode(found.body, type=ChatResponse)


ITEMS = (THOUGHT, UNKNOWN, MESSAGE, CALL, OTHER)
KEPT = [ReasoningBlock(text="hm\n\nso", data="enc", id="rs_1")]


def test_a_response_in_one_piece_is_read_whole() -> None:
    found, answer = whole(response(*ITEMS))
    (choice,) = answer.choices
    assert (answer.id, answer.model, answer.provider) == ("resp_1", "mine", "openai")
    assert (found.answered_by, found.response_id, found.finish_reason) == ("gpt-x-1", "resp_1", "tool_calls")
    assert (found.usage, answer.usage.completion_tokens, found.item_ids) == (COUNTED, 9, ())
    assert (choice.message.content, choice.finish_reason) == ("Grüß", "tool_calls")
    assert choice.message.reasoning == KEPT
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()] == [
        ("call_1", "f", '{"a":1}'),
        ("call_2", "g", "{}"),
    ]


@pytest.mark.parametrize(
    "stream",
    [
        CREATED + streamed(*ITEMS) + ended(*ITEMS),
        CREATED + streamed(*ITEMS) + ended(),
        CREATED + ended(*ITEMS),
        ended(*ITEMS),
        CREATED
        + b"".join(event("response.output_item.done", output_index=n, item=i) for n, i in enumerate(ITEMS))
        + ended(),
        CREATED + streamed(*ITEMS) + ended(MESSAGE, CALL, OTHER),
        CREATED + b": a comment\n\n" + event("response.tomorrow", anything=[1]) + streamed(*ITEMS) + ended(*ITEMS),
        (CREATED + streamed(*ITEMS) + ended(*ITEMS)).replace(b'"output_index"', b'"x_index"'),
        CREATED + streamed(*ITEMS) + ended(*ITEMS) + b"data: [DONE]\n\n",
    ],
    ids=[
        "as-openai",
        "empty-end",
        "end-alone",
        "nothing-else",
        "items-alone",
        "end-without-thinking",
        "tomorrow",
        "no-index",
        "done",
    ],
)
def test_a_stream_equals_the_response_in_one_piece(stream: bytes) -> None:
    reader, answer = read(stream)
    assert answer.choices == whole(response(*ITEMS))[1].choices
    assert (reader.is_ended, reader.is_tail, reader.usage, reader.finish_reason) == (True, True, COUNTED, "tool_calls")
    assert (reader.response_id, reader.answered_by, reader.item_ids) == ("resp_1", "gpt-x-1", ())
    assert reader.received_output_bytes >= len('hmsoGrüß{"a":1}{}fg'.encode()) - 2


def test_a_stream_that_came_for_one_piece_is_put_together() -> None:
    found = OpenAiResponses().parse_response(
        CREATED + streamed(*ITEMS) + ended(*ITEMS), model="mine", provider="openai"
    )
    assert msgspec.json.decode(found.body, type=ChatResponse) == whole(response(*ITEMS))[1]
    with pytest.raises(UnreadableResponse):
        OpenAiResponses().parse_response(CREATED + streamed(*ITEMS), model="mine", provider="openai")


def test_one_piece_that_came_for_a_stream_is_its_end() -> None:
    events = OpenAiResponses().events_of_response(msgspec.json.encode(response(*ITEMS)))
    _, answer = read(b"".join(one.raw for one in events))
    assert answer.choices == whole(response(*ITEMS))[1].choices


@pytest.mark.parametrize(
    ("items", "members", "finish", "content"),
    [
        ((MESSAGE,), {}, "stop", "Grüß"),
        ((MESSAGE,), {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", "Grüß"),
        (
            (MESSAGE,),
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "Grüß",
        ),
        ((REFUSAL,), {}, "content_filter", "no"),
        ((THOUGHT,), {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", None),
        ((MESSAGE, MESSAGE | {"id": "msg_2"}), {}, "stop", "Grüß\n\nGrüß"),
    ],
)
def test_an_answer_ends_as_the_vendor_says(
    items: tuple[Any, ...], members: dict[str, Any], finish: str, content: str | None
) -> None:
    found, answer = whole(response(*items, **members))
    assert (found.finish_reason, answer.choices[0].finish_reason) == (finish, finish)
    assert answer.choices[0].message.content == content
    assert (answer.choices[0].message.is_refusal is True) == (items == (REFUSAL,))
    kind = "response.incomplete" if members else "response.completed"
    reader, same = read(CREATED + streamed(*items) + event(kind, response=response(**members)))
    assert (reader.finish_reason, same.choices) == (finish, answer.choices)


def test_thinking_between_calls_keeps_its_place() -> None:
    later = THOUGHT | {"id": "rs_2", "encrypted_content": "more", "summary": []}
    items = (THOUGHT, CALL, later, OTHER)
    _, answer = whole(response(*items))
    assert [(thought.id, thought.after_calls) for thought in answer.choices[0].message.reasoning or ()] == [
        ("rs_1", 0),
        ("rs_2", 1),
    ]
    assert read(CREATED + streamed(*items) + ended(*items))[1].choices == answer.choices


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": None}, {"input_tokens": -1, "output_tokens": 1}, "many"])
def test_an_answer_without_usage_is_given(usage: Any) -> None:
    found, answer = whole(response(MESSAGE, CALL, usage=usage))
    assert (found.usage, answer.choices[0].message.content) == (None, "Grüß")
    assert found.received_output_bytes == len('Grüß{"a":1}'.encode())


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (CALL | {"arguments": None}, "{}"),
        (CALL | {"arguments": {"a": 1}}, '{"a":1}'),
        (CALL | {"call_id": None}, '{"a":1}'),
        ({"type": "function_call", "name": "f", "arguments": ""}, "{}"),
    ],
)
def test_a_call_without_its_parts_is_given(call: dict[str, Any], expected: str) -> None:
    _, answer = whole(response(call, id=None, model=None))
    (given,) = answer.choices[0].message.tool_calls or ()
    assert given.id
    assert (given.function.name, given.function.arguments) == ("f", expected)
    assert answer.id.startswith("resp_")


@pytest.mark.parametrize(
    "end",
    [
        event("response.failed", response=response(status="failed", error={"code": "server_error", "message": "oh"})),
        event("error", code="server_error", message="oh", param=None),
        event("error", error={"code": "server_error", "message": "oh"}),
    ],
)
def test_a_failure_in_a_stream_is_told_in_the_vendors_words(end: bytes) -> None:
    with pytest.raises(StreamFailed, match="oh") as failed:
        read(CREATED + streamed(MESSAGE) + end)
    assert failed.value.kind == "server_error"


def test_a_failed_response_costs_nothing_unless_it_says_so() -> None:
    failed = response(status="failed", error={"code": "rate_limit_exceeded", "message": "slow down"}, usage=None)
    with pytest.raises(StreamFailed) as free:
        whole(failed)
    assert free.value.kind == "rate_limit_exceeded"
    with pytest.raises(UnreadableResponse, match="charged"):
        whole(failed | {"usage": USAGE})


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"id":"x"}', b'{"output":3,"status":"completed"}'])
def test_what_is_no_response_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        OpenAiResponses().parse_response(body, model="mine", provider="openai")


def test_a_cut_stream_has_not_ended() -> None:
    reader, answer = read(CREATED + streamed(MESSAGE))
    assert (reader.is_ended, reader.finish_reason, reader.usage) == (False, None, None)
    assert answer.choices[0].message.content == "Grüß"


def test_more_items_than_are_read_are_refused() -> None:
    pieces = [event("response.output_text.delta", output_index=n, delta="x") for n in range(MAX_ITEMS + 1)]
    assert read(b"".join(pieces[:-1]))[1].choices
    with pytest.raises(UnreadableResponse):
        read(b"".join(pieces))


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "dream"]) | _ANY},
    optional=dict.fromkeys(
        ("id", "call_id", "name", "arguments", "input", "content", "summary", "encrypted_content"), _ANY
    ),
)
_KINDS = (
    "created",
    "output_item.added",
    "output_item.done",
    "output_text.delta",
    "refusal.delta",
    "completed",
    "reasoning_summary_text.delta",
    "function_call_arguments.delta",
    "incomplete",
    "failed",
    "tomorrow",
)
_EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from([f"response.{kind}" for kind in _KINDS] + ["error"]) | _ANY},
    optional={
        **dict.fromkeys(("delta", "output_index", "summary_index", "item_id", "error", "message"), _ANY),
        "item": _ITEM | _ANY,
        "response": st.fixed_dictionaries(
            {}, optional={"output": st.lists(_ITEM, max_size=3) | _ANY, "id": _ANY, "model": _ANY, "usage": _ANY}
        )
        | _ANY,
    },
)


@given(st.lists(_EVENT | _ANY, max_size=4))
def test_whatever_a_server_sends_is_read_or_refused(events: list[Any]) -> None:
    with suppress(StreamFailed, UnreadableResponse):
        read(b"".join(sse(msgspec.json.encode(one)) for one in events))


@given(_ANY | _EVENT.map(lambda one: one.get("response")))
def test_whatever_a_server_answers_is_read_or_refused(body: Any) -> None:
    with suppress(StreamFailed, UnreadableResponse):
        assert whole(body)[0].response_id


def test_calls_without_ids_have_ids_of_their_own() -> None:
    nameless = {name: value for name, value in CALL.items() if name not in ("id", "call_id")}
    answer = msgspec.json.decode(
        OpenAiResponses()
        .parse_response(msgspec.json.encode(response(nameless, nameless, nameless)), model="mine", provider="p")
        .body,
        type=ChatResponse,
    )
    ids = [call.id for call in answer.choices[0].message.tool_calls or ()]
    assert len(set(ids)) == len(ids) == 3
