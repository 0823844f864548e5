"""OpenAI's chat completion chunks: their usage is counted, and they are translated to what the SDK assembles."""

from typing import Any

import msgspec
import pytest

from domain.canonical.stream import ChatAssembler
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.sse import sse
from domain.tokens import TokenUsage, answer_usage
from tests.support.sdk_streams import events_of, openai_final, present, read_all

DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
COUNTED = TokenUsage(input=6, cache_read=4, output=5, reasoning=2)


def chunk(*choices: dict[str, Any], **members: Any) -> bytes:
    frame = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "gpt-x-1",
        "service_tier": "default",
        "system_fingerprint": "fp",
        "choices": list(choices),
        "usage": None,
        "obfuscation": "abc",
    }
    return sse(msgspec.json.encode(frame | members))


def choice(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **members: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish} | members


def tool(index: int, arguments: str, **members: Any) -> dict[str, Any]:
    name = {"name": members.pop("name")} if "name" in members else {}
    return {"index": index, **members, "function": {**name, "arguments": arguments}}


def probability(token: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": []}], "refusal": None}


TEXT = b"".join(
    [
        chunk(choice({"role": "assistant", "content": "", "refusal": None})),
        chunk(choice({"content": "hé"}, logprobs=probability("hé"))),
        chunk(choice({"content": "llo"}, logprobs=probability("llo"))),
        chunk(choice({"role": "assistant", "content": "b"}, index=1)),
        chunk(choice({}, finish="stop")),
        chunk(choice({}, index=1, finish="length")),
        chunk(usage=USAGE),
        DONE,
    ]
)
CALLS = b"".join(
    [
        chunk(choice({"role": "assistant", "content": None, "reasoning_content": "hm"})),
        chunk(choice({"reasoning_content": ", so"})),
        chunk(choice({"tool_calls": [tool(0, "", id="t0", type="function", name="f")]})),
        chunk(choice({"tool_calls": [tool(0, '{"a":')]})),
        chunk(choice({"tool_calls": [tool(0, "1}"), tool(1, "{}", id="t1", type="function", name="g")]})),
        chunk(choice({}, finish="tool_calls")),
        chunk(usage=USAGE),
        DONE,
    ]
)
REFUSAL = b"".join(
    [
        chunk(choice({"role": "assistant", "content": None, "refusal": "I can"})),
        chunk(choice({"refusal": "not"})),
        chunk(
            choice(
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
                        }
                    ]
                }
            )
        ),
        chunk(choice({}, finish="stop")),
        chunk(usage=USAGE),
        DONE,
    ]
)


@pytest.mark.parametrize(("stream", "finish"), [(TEXT, "stop"), (CALLS, "tool_calls"), (REFUSAL, "content_filter")])
def test_a_stream_is_accounted_for(stream: bytes, finish: str) -> None:
    reader = OpenAiChatReader()
    assert read_all(reader, stream) == []
    assert reader.usage == COUNTED
    assert (reader.answered_by, reader.response_id) == ("gpt-x-1", "chatcmpl-1")
    assert (reader.finish_reason, reader.is_ended) == (finish, True)


@pytest.mark.parametrize(("stream", "shown"), [(TEXT, "héllob"), (CALLS, 'hm, sof{"a":1}g{}'), (REFUSAL, "I cannot")])
def test_every_byte_that_was_shown_is_counted(stream: bytes, shown: str) -> None:
    reader = OpenAiChatReader()
    read_all(reader, stream)
    assert reader.received_output_bytes == len(shown.encode())


@pytest.mark.parametrize("stream", [TEXT, CALLS, REFUSAL])
def test_the_chunks_assemble_to_the_sdks_response(stream: bytes) -> None:
    assembler = ChatAssembler(provider="openai", model="mine")
    for piece in read_all(OpenAiChatReader(model="mine"), stream):
        assembler.add(piece)
    completion = msgspec.json.encode(openai_final(stream))
    response = OpenAiChat().parse_response(completion, model="mine", provider="openai")
    assert msgspec.json.encode(assembler.answer(answer_usage(COUNTED))) == response.body


def called(index: int | None, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """Return a piece of a tool call, without the members that are None."""
    function = {"name": name, "arguments": arguments}
    return present({"index": index, "id": call_id, "function": function})  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([called(None, "a", "f", '{"x":1}'), called(None, "b", "g", "{}")], id="no index"),
        pytest.param([called(0, "a", "f", '{"x":1}'), called(0, "b", "g", "{}")], id="one index"),
        pytest.param(
            [called(None, "a", "f", '{"x"'), called(None, None, None, ":1}"), called(None, "b", "g", "{}")],
            id="no index, in pieces",
        ),
        pytest.param(
            [
                called(0, "a", "f", ""),
                called(0, "a", "f", '{"x":'),
                called(0, "a", None, "1}"),
                called(1, "b", "g", "{}"),
            ],
            id="a repeated id",
        ),
        pytest.param(
            [called(0, "a", "f", '{"x"'), called(0, "a2", None, ":1}"), called(1, "b", "g", "{}")],
            id="an id for each piece",
        ),
        pytest.param(
            [called(0, "a", "f", '{"x"'), called(None, None, None, ":1}"), called(1, "b", "g", "{}")],
            id="an index for the first piece",
        ),
        pytest.param(
            [called(0, "a", "f", '{"x"'), called(1, "b", "g", "{}"), called(0, None, None, ":1}")], id="by turns"
        ),
        pytest.param([called(3, "a", "f", '{"x":1}'), called(7, "b", "g", "{}")], id="with gaps"),
        pytest.param([called(None, None, "f", '{"x":1}'), called(None, None, "g", "{}")], id="neither index nor id"),
    ],
)
def test_each_call_is_one_however_it_is_numbered(pieces: list[dict[str, Any]]) -> None:
    assembler = ChatAssembler(provider="openai", model="mine")
    reader = OpenAiChatReader(model="mine")
    for chunks in read_all(reader, b"".join(chunk(choice({"tool_calls": [piece]})) for piece in pieces)):
        assembler.add(chunks)
    (choice_,) = assembler.answer(answer_usage(COUNTED)).choices
    expected = [("f", '{"x":1}'), ("g", "{}")]
    assert [(call.function.name, call.function.arguments) for call in choice_.message.tool_calls or ()] == expected


def test_calls_of_one_delta_without_index_are_as_many() -> None:
    reader = OpenAiChatReader(model="mine")
    both = [called(None, "a", "f", "{}"), called(None, "b", "g", "{}")]
    (choice_,) = read_all(reader, chunk(choice({"tool_calls": both})))
    assert [(call.index, call.id) for call in choice_.choices[0].delta.tool_calls] == [(0, "a"), (1, "b")]


def thought(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def written(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


THINKING = b"".join(
    [
        chunk(choice({"role": "assistant", "content": ""})),
        chunk(choice({"content": [thought("hm")]})),
        chunk(choice({"content": [thought("so"), written("it is ")]})),
        chunk(choice({"content": "fo"})),
        chunk(choice({"content": "ur"})),
        chunk(choice({"content": [written(".")]})),
        chunk(choice({}, finish="stop"), usage=USAGE),
        DONE,
    ]
)
"""Content parts as Mistral's thinking models send them."""


def test_content_parts_translate_text_without_thinking() -> None:
    assembler = ChatAssembler(provider="openai", model="mine")
    for piece in read_all(OpenAiChatReader(model="mine"), THINKING):
        assembler.add(piece)
    (choice_,) = assembler.answer(answer_usage(COUNTED)).choices
    assert (choice_.message.content, choice_.finish_reason) == ("it is four.", "stop")


@pytest.mark.parametrize("content", [{"a": "hm, so"}, 7, [["x"], 1, None, {"type": "text"}]])
def test_a_content_of_any_shape_is_counted_by_its_bytes(content: Any) -> None:
    reader = OpenAiChatReader(model="mine")
    assert read_all(reader, chunk(choice({"content": content}))) == []
    assert reader.received_output_bytes == len(msgspec.json.encode(content))


def test_the_tail_begins_with_the_usage() -> None:
    reader = OpenAiChatReader()
    tails = []
    for event in events_of(TEXT):
        reader.take(event)
        tails.append(reader.is_tail)
    assert tails == [False] * 6 + [True, True]


def test_usage_beside_the_finish_reason_begins_the_tail() -> None:
    reader = OpenAiChatReader()
    sums = USAGE | {"completion_tokens": 1}
    stream = chunk(choice({"content": "a"}), usage=sums) + chunk(choice({}, finish="stop"), usage=USAGE)
    first, last = events_of(stream)
    reader.take(first)
    assert not reader.is_tail
    reader.take(last)
    assert reader.is_tail
    assert reader.usage == COUNTED
    assert not reader.is_ended


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [choice({"content": "a"}), choice({"content": "b"}, index=1), choice({}, finish="stop"),
             choice({"content": "c"}, index=1), choice({}, index=1, finish="stop")],
            [False, False, False, False, True],
            id="side by side",
        ),
        pytest.param(
            [choice({"content": "a"}), choice({}, finish="stop"), choice({"content": "b"}, index=1),
             choice({}, index=1, finish="stop")],
            [False, True, False, True],
            id="one after the other",
        ),
    ],
)  # fmt: skip
def test_final_events_start_at_the_last_finish(chunks: list[dict[str, Any]], expected: list[bool]) -> None:
    reader = OpenAiChatReader()
    tails = []
    for event in events_of(b"".join(chunk(one, usage=USAGE) for one in chunks) + chunk(usage=USAGE) + DONE):
        reader.take(event)
        tails.append(reader.is_tail)
    assert tails == [*expected, True, True]


def test_events_after_the_end_are_held_back() -> None:
    reader = OpenAiChatReader()
    read_all(reader, DONE + chunk(choice({"content": "a"})))
    assert reader.is_tail


def test_azures_first_chunk_is_ignored() -> None:
    reader = OpenAiChatReader(model="mine")
    assert read_all(reader, chunk(id="", model="", prompt_filter_results=[])) == []
    assert (reader.is_tail, reader.response_id) == (False, "")
    read_all(reader, chunk(choice({"content": "x"})))
    assert (reader.answered_by, reader.response_id) == ("gpt-x-1", "chatcmpl-1")


def test_a_repeated_role_stays_one_role() -> None:
    assembler = ChatAssembler(provider="openai", model="mine")
    for piece in read_all(OpenAiChatReader(model="mine"), chunk(choice({"role": "assistant", "content": "a"})) * 2):
        assembler.add(piece)
    (only,) = assembler.answer(answer_usage(COUNTED)).choices
    assert (only.message.role, only.message.content) == ("assistant", "aa")


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        (b'{"message":"m","type":"tokens","code":"rate_limit_exceeded"}', "m", "rate_limit_exceeded"),
        (b'{"message":"m","type":"server_error","param":null,"code":null}', "m", "server_error"),
        (b'{"message":"m","code":502}', "m", "502"),
        (b'"down"', "down", "error"),
    ],
)
def test_an_error_inside_the_stream_is_raised(error: bytes, message: str, kind: str) -> None:
    with pytest.raises(StreamFailed) as failed:
        read_all(OpenAiChatReader(), b'data: {"error":' + error + b"}\n\n")
    assert (failed.value.message, failed.value.kind) == (message, kind)


@pytest.mark.parametrize("data", [b"<html>", b"[]", b'{"choices":{}}', b'{"choices":[{"delta":{"content":"\xff"}}]}'])
def test_garbage_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        read_all(OpenAiChatReader(), sse(data))


def test_comments_and_unknown_members_are_passed_over() -> None:
    reader = OpenAiChatReader(model="m")
    assert read_all(reader, b": ping\n\n" + chunk(x={"y": 1})) == []
