"""The canonical stream: the replay of a response assembles to the same response."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from domain.canonical.chat import AnswerMessage, AnswerUsage, ChatResponse, Choice, FunctionCall, ToolCall
from domain.canonical.stream import (
    MAX_REPLAY_PIECE_CHARS,
    ChatAssembler,
    ChatChunk,
    ChunkChoice,
    Delta,
    FunctionDelta,
    ToolCallDelta,
    replay_chat,
)

USAGE = AnswerUsage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
LONG = "é" * (2 * MAX_REPLAY_PIECE_CHARS + 1)
TEXTS = st.text(max_size=20) | st.just(LONG)
NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=5)
CALLS = st.builds(
    ToolCall,
    id=NAMES,
    function=st.builds(FunctionCall, name=NAMES, arguments=TEXTS),
)
MESSAGES = st.builds(
    AnswerMessage,
    content=st.none() | TEXTS,
    tool_calls=st.just(UNSET) | st.lists(CALLS, min_size=1, max_size=3),
)
FINISHES = st.sampled_from(["stop", "length", "tool_calls", "content_filter", None])


@st.composite
def answers(draw: st.DrawFn) -> ChatResponse:
    count = draw(st.integers(1, 3))
    choices = [Choice(index=index, message=draw(MESSAGES), finish_reason=draw(FINISHES)) for index in range(count)]
    return ChatResponse(id="c1", model="m", provider="p", choices=choices, usage=USAGE)


@given(answers())
def test_a_replay_assembles_to_its_answer(answer: ChatResponse) -> None:
    assembler = ChatAssembler(provider="p", model="m")
    for chunk in replay_chat(answer):
        assembler.add(chunk)
    assert assembler.answer(USAGE) == answer


@given(answers())
def test_no_chunk_of_a_replay_is_longer_than_the_limit(answer: ChatResponse) -> None:
    texts = [
        text
        for chunk in replay_chat(answer)
        for choice in chunk.choices
        for text in (
            choice.delta.content or "",
            *(call.function.arguments or "" for call in choice.delta.tool_calls or ()),
        )
    ]
    assert max(map(len, texts)) <= MAX_REPLAY_PIECE_CHARS


def test_a_chunk_is_written_as_the_native_api_spells_it() -> None:
    call = ToolCallDelta(index=0, id="t", type="function", function=FunctionDelta(name="f", arguments=""))
    chunk = ChatChunk(
        id="c1",
        model="m",
        choices=[
            ChunkChoice(index=0, delta=Delta(role="assistant", tool_calls=[call])),
            ChunkChoice(index=1, delta=Delta(content="x"), finish_reason="stop"),
        ],
    )
    assert msgspec.json.decode(msgspec.json.encode(chunk)) == {
        "id": "c1",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "role": "assistant",
                    "toolCalls": [
                        {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}
                    ],
                },
                "finishReason": None,
            },
            {"index": 1, "delta": {"content": "x"}, "finishReason": "stop"},
        ],
    }


def test_pieces_of_interleaved_calls_find_their_call() -> None:
    assembler = ChatAssembler(provider="p", model="m")
    for index, name, arguments in ((0, "f", "{"), (1, "g", "["), (0, None, "}"), (1, None, "]")):
        function = FunctionDelta(name=name, arguments=arguments)
        delta = Delta(tool_calls=[ToolCallDelta(index=index, id=f"t{index}", function=function)])
        assembler.add(ChatChunk(id="c", model="m", choices=[ChunkChoice(index=0, delta=delta)]))
    calls = assembler.answer(USAGE).choices[0].message.tool_calls
    assert calls == [
        ToolCall(id="t0", function=FunctionCall(name="f", arguments="{}")),
        ToolCall(id="t1", function=FunctionCall(name="g", arguments="[]")),
    ]
