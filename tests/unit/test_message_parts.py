"""A part in another vendor's words means the same wherever it stands: every dialect's clients may send it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from domain.canonical.chat import ChatRequest
from domain.dialects.anthropic.parse_request import parse_chat_request as parse_messages
from domain.dialects.codec import TranslatedRequest
from domain.dialects.openai.request import parse_chat_request as parse_completions
from domain.dialects.openai.responses.request import parse_responses_request
from domain.errors import InvalidRequest

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0xLjQ="
HELLO = {"role": "user", "content": "hello"}
PNG_SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF_SOURCE = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="}
CONTENT_SOURCE = {
    "type": "content",
    "content": [{"type": "text", "text": "a"}, {"type": "image", "source": PNG_SOURCE}],
}
TEXT_SOURCE = {"type": "text", "media_type": "text/plain", "data": "one"}
USE = {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}
WIRE_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CALLED = {"id": "call_1", "function": {"name": "f", "arguments": '{"a":1}'}, "type": "function"}

Parse = Callable[[bytes], TranslatedRequest]
PARSERS: dict[str, tuple[Parse, dict[str, Any], str]] = {
    "chat completions": (parse_completions, {}, "messages"),
    "messages": (parse_messages, {"max_tokens": 9}, "messages"),
    "responses": (parse_responses_request, {}, "input"),
}


@pytest.fixture(params=PARSERS, ids=lambda name: name.replace(" ", "-"))
def surface(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parsed(surface: str, *messages: dict[str, Any]) -> TranslatedRequest:
    parse, fields, member = PARSERS[surface]
    return parse(msgspec.json.encode({"model": "m", member: list(messages)} | fields))


def canonical(surface: str, *messages: dict[str, Any]) -> list[Any]:
    request = parsed(surface, *messages).request
    assert isinstance(request, ChatRequest)
    found: list[Any] = msgspec.to_builtins(request.messages)
    return found


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "imageUrl": {"url": url} | more}


def file(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"url": url} | more}


SHOWN: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "input_text", "text": "a"}, [text("a")]),
    ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, [text("a")]),
    ({"type": "text", "text": "a"}, [text("a")]),
    ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, [image(PNG, detail="low")]),
    ({"type": "image_url", "image_url": PNG}, [image(PNG)]),
    ({"type": "input_image", "image_url": PNG, "detail": "high"}, [image(PNG, detail="high")]),
    ({"type": "input_image", "image_url": "https://x/a.png"}, [image("https://x/a.png")]),
    ({"type": "image", "source": PNG_SOURCE}, [image(PNG)]),
    ({"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}, [image("https://x/a.png")]),
    ({"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}, [file(PDF, filename="a.pdf")]),
    ({"type": "input_file", "file_data": PDF, "filename": "a.pdf"}, [file(PDF, filename="a.pdf")]),
    ({"type": "input_file", "file_url": "https://x/a.pdf"}, [file("https://x/a.pdf")]),
    ({"type": "document", "source": PDF_SOURCE, "title": "a.pdf"}, [file(PDF, filename="a.pdf")]),
    (
        {"type": "document", "source": TEXT_SOURCE, "title": "t", "context": "c"},
        [text('<document title="t">\nc\n\none\n</document>')],
    ),
    (
        {"type": "document", "source": CONTENT_SOURCE},
        [text("<document>\n"), text("a"), image(PNG), text("</document>")],
    ),
    (
        {"type": "search_result", "source": "https://x", "title": "t", "content": [text("a")]},
        [text('<search_result title="t" source="https://x">\na\n</search_result>')],
    ),
]


@pytest.mark.parametrize(("part", "shown"), SHOWN)
def test_what_a_user_shows_is_shown_in_any_vendors_words(surface: str, part: dict[str, Any], shown: list[Any]) -> None:
    said = canonical(surface, {"role": "user", "content": [{"type": "text", "text": "see"}, part]})
    assert said == [{"role": "user", "content": [text("see"), *shown]}]
    assert parsed(surface, {"role": "user", "content": [part]}).dropped == ()


@pytest.mark.parametrize(
    "result",
    [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "r"},
        {"type": "tool_result", "tool_use_id": "call_1", "content": [text("r")]},
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "output_text", "text": "r"}]},
        {"type": "function_call_output", "call_id": "call_1", "output": "r"},
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        USE,
        {"type": "tool_call", "id": "call_1", "name": "f", "args": {"a": 1}},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
    ],
)
def test_a_call_and_its_result_among_the_parts_are_a_call_and_its_result(
    surface: str, call: dict[str, Any], result: dict[str, Any]
) -> None:
    turns = (
        HELLO,
        {"role": "assistant", "content": [text("look"), call]},
        {"role": "user", "content": [text("well?"), result]},
    )
    hello, called, answered, asked = canonical(surface, *turns)
    assert hello == HELLO
    assert called == {"role": "assistant", "content": "look", "toolCalls": [CALLED]} or called == {
        "role": "assistant",
        "content": [text("look")],
        "toolCalls": [CALLED],
    }
    assert answered == {"role": "tool", "content": "r", "toolCallId": "call_1"}
    assert asked["role"] == "user"
    assert parsed(surface, *turns).dropped == ()


def test_a_call_in_both_vendors_words_is_one_call(surface: str) -> None:
    turn = {"role": "assistant", "content": [text("look"), USE], "tool_calls": [WIRE_CALL]}
    called = canonical(surface, HELLO, turn)[1]
    assert called["toolCalls"] == [CALLED]


def test_the_messages_of_chat_completions_are_read_everywhere(surface: str) -> None:
    """`tool_calls` were dropped by Anthropic's surface, and refused by that of responses."""
    turns = (
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [WIRE_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
    )
    _, called, answered = canonical(surface, *turns)
    assert called == {"role": "assistant", "toolCalls": [CALLED]}
    assert answered == {"role": "tool", "content": [image(PNG)], "toolCallId": "call_1"}


def test_a_result_that_failed_stays_failed(surface: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "no", "is_error": True}
    turns = (HELLO, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [result]})
    assert canonical(surface, *turns)[2] == {
        "role": "tool",
        "content": "no",
        "toolCallId": "call_1",
        "isError": True,
    }


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, {"text": "hm", "signature": "s"}),
        ({"type": "redacted_thinking", "data": "d"}, {"data": "d"}),
        ({"type": "reasoning", "text": "hm"}, {"text": "hm"}),
        ({"type": "reasoning", "reasoning": "hm"}, {"text": "hm"}),
    ],
)
def test_thinking_among_the_parts_is_thinking(surface: str, part: dict[str, Any], block: dict[str, Any]) -> None:
    said = canonical(surface, HELLO, {"role": "assistant", "content": [part, {"type": "output_text", "text": "a"}]})[1]
    assert said["reasoning"] == [block]
    assert said["content"] in ("a", [text("a")])


def test_what_the_model_said_is_carried_in_any_vendors_words(surface: str) -> None:
    turn = {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]}
    assert canonical(surface, HELLO, turn)[1]["content"] == [text("a"), text("b")]


def test_instructions_may_be_parts_of_any_vendor(surface: str) -> None:
    said = canonical(surface, {"role": "system", "content": [{"type": "input_text", "text": "a"}]}, HELLO)[0]
    assert said["role"] == "system"
    assert said["content"] in ("a", [text("a")])


def test_what_a_server_tool_found_is_text(surface: str) -> None:
    used = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "t", "url": "https://x"}]}
    said = canonical(surface, HELLO, {"role": "assistant", "content": [used, found]})[1]["content"]
    assert [part["text"] for part in said] == ['[web_search: {"query":"q"}]', "[web_search result]\nt\nhttps://x"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "hologram"},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "input_image", "file_id": "f"},
        {"type": "input_file", "file_id": "f"},
        {"type": "file", "file": {"file_id": "f"}},
    ],
)
def test_what_the_model_cannot_be_shown_is_refused_with_the_way_out(surface: str, part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(surface, {"role": "user", "content": [part]})
    assert refused.value.field is not None
    assert refused.value.field.startswith(f"{PARSERS[surface][2]}[0].content[0]")
    assert "send" in refused.value.message


@pytest.mark.parametrize(
    "part", [7, None, [], {"type": 7}, {"type": "text", "text": 7}, {"type": "image", "source": 7}]
)
def test_a_part_that_is_none_is_refused(surface: str, part: Any) -> None:
    with pytest.raises(InvalidRequest):
        parsed(surface, {"role": "user", "content": [part]})


def test_parts_inside_of_parts_end_somewhere(surface: str) -> None:
    part: dict[str, Any] = text("deep")
    for _ in range(8):
        part = {"type": "document", "source": {"type": "content", "content": [part]}}
    with pytest.raises(InvalidRequest):
        parsed(surface, {"role": "user", "content": [part]})


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_part_whose_type_is_no_text_is_refused_by_name(surface: str, role: str) -> None:
    said = {"role": role, "content": [{"type": ["output_text"], "text": "Rain."}]}
    with pytest.raises(InvalidRequest) as refused:
        parsed(surface, HELLO, said)
    assert refused.value.message.startswith("`" + PARSERS[surface][2] + "[1].content[0]")
