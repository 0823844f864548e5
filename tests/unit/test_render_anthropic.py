"""Canonical requests become what a certain model of Anthropic's can be asked."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given

from domain.canonical.chat import ChatRequest
from domain.dialects.anthropic.render_request import adapt_chat_request, render_chat_request
from domain.dialects.anthropic.structured import ANSWER_IN_JSON, ANSWER_TOOL
from domain.dialects.anthropic.tools import CALL_SOMETHING
from domain.dialects.anthropic.turns import GO_ON, NO_RESULT, NO_TEXT
from domain.errors import InvalidRequest
from tests.support.canonical import requests

PLAIN = "claude-3-haiku-20240307"  # neither thinking nor structured output
BUDGET = "claude-haiku-4-5"  # thinks by a budget alone
LEVELS = "claude-opus-4-5"  # knows efforts
BOTH = "claude-opus-4-6"  # knows efforts and budgets, takes no prefill
NEWEST = "claude-opus-4-8"  # thinks as it sees fit, takes no sampling
CALL = {"id": "call_1", "function": {"name": "f", "arguments": '{"a":1}'}}
TOOLS = [{"function": {"name": "f", "parameters": {"type": "object"}}}]
PDF = "JVBERi0xLjQ="
PNG = "iVBORw0KGgo="
JPEG = "/9j/4AAQSkZJRg=="


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content} | fields


def said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def called(*ids: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "toolCalls": [CALL | {"id": one} for one in ids]} | fields


def result(call_id: str, content: Any = "r", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "toolCallId": call_id, "content": content} | fields


def request(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return msgspec.convert({"messages": list(messages) or [user("x")]} | fields, ChatRequest)


def asked(model: str, *messages: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what is sent, and the names of what was dropped."""
    adapted = adapt_chat_request(request(*messages, **fields), model)
    assert isinstance(adapted.request, ChatRequest)
    return render_chat_request(adapted.request, model), adapted.dropped


def sent(model: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return asked(model, *messages, **fields)[0]


def turns(*messages: dict[str, Any], model: str = PLAIN, **fields: Any) -> list[tuple[str, list[Any]]]:
    """Return each turn's role and its blocks: a text as it is, others by their type."""
    return [
        (turn["role"], [block.get("text", block["type"]) for block in turn["content"]])
        for turn in sent(model, *messages, **fields)["messages"]
    ]


def refusal(*messages: dict[str, Any], **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        adapt_chat_request(request(*messages, **fields), PLAIN)
    return refused.value


@given(requests)
def test_every_request_is_sent_or_refused_by_name(request_: ChatRequest) -> None:
    refused: list[str | None] = []
    for model in (PLAIN, BUDGET, BOTH, NEWEST):
        try:
            adapted = adapt_chat_request(request_, model)
        except InvalidRequest as error:
            refused.append(error.field)
            continue
        assert isinstance(adapted.request, ChatRequest)
        wire = render_chat_request(adapted.request, model)
        roles = [turn["role"] for turn in wire["messages"]]
        assert roles[0] == "user"
        assert all(one != other for one, other in pairwise(roles))
        assert all(turn["content"] for turn in wire["messages"])
        blocks = [block for turn in wire["messages"] for block in turn["content"]]
        ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert sorted(ids) == sorted(answered)
        assert len(set(ids)) == len(ids)
    assert None not in refused


# --- the conversation ---


def test_first_instructions_are_the_system_prompt_and_later_ones_keep_their_place() -> None:
    messages = [
        {"role": "system", "content": "one"},
        {"role": "developer", "content": "two"},
        user("a"),
        {"role": "system", "content": "three"},
        said("b"),
        {"role": "developer", "content": "four"},
        user("c"),
    ]
    assert sent(PLAIN, *messages)["system"] == "one\n\ntwo"
    assert turns(*messages) == [
        ("user", ["a", "<system>\nthree\n</system>"]),
        ("assistant", ["b"]),
        ("user", ["<system>\nfour\n</system>", "c"]),
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a"), user("b")], [("user", ["a", "b"])]),
        ([said("a"), user("b")], [("user", [NO_TEXT]), ("assistant", ["a"]), ("user", ["b"])]),
        ([user(""), user("b")], [("user", ["b"])]),
        ([user("a"), said("b"), user(" ")], [("user", ["a"]), ("assistant", ["b"]), ("user", [NO_TEXT])]),
        ([user("a"), said("\n"), user("b")], [("user", ["a", "b"])]),
        ([{"role": "system", "content": "a"}], [("user", ["a"])]),
        ([{"role": "system", "content": "a"}, user("")], [("user", [NO_TEXT])]),
        ([user("a"), said("b \n")], [("user", ["a"]), ("assistant", ["b"])]),
        ([user("a"), said("b"), said(" \n")], [("user", ["a"]), ("assistant", ["b"]), ("user", [NO_TEXT])]),
    ],
)
def test_turns_are_those_that_anthropic_takes(messages: Any, expected: Any) -> None:
    assert turns(*messages) == expected


def test_a_conversation_that_says_nothing_is_refused() -> None:
    assert refusal(user(" ")).field == "messages"


def test_a_model_that_continues_no_answer_is_asked_to_go_on() -> None:
    assert turns(user("a"), said("b "), model=BOTH) == [
        ("user", ["a"]),
        ("assistant", ["b"]),
        ("user", [GO_ON]),
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (  # results of parallel calls are one turn, before what else it says
            [called("t1", "t2"), result("t1"), user("so"), result("t2")],
            [("assistant", ["t1", "t2"]), ("user", ["=t1", "=t2", "so"])],
        ),
        (  # calls of one turn in two messages
            [called("t1"), called("t2"), result("t1"), result("t2")],
            [("assistant", ["t1", "t2"]), ("user", ["=t1", "=t2"])],
        ),
        (  # two turns
            [called("t1"), result("t1"), called("t2"), result("t2")],
            [("assistant", ["t1"]), ("user", ["=t1"]), ("assistant", ["t2"]), ("user", ["=t2"])],
        ),
        (  # a result that comes late is moved to its call
            [called("t1"), user("wait"), said("ok"), result("t1"), user("so")],
            [("assistant", ["t1"]), ("user", ["=t1", "wait"]), ("assistant", ["ok"]), ("user", ["so"])],
        ),
        (  # a call without a result
            [called("t1"), user("never mind")],
            [("assistant", ["t1"]), ("user", ["!t1", "never mind"])],
        ),
        ([called("t1")], [("assistant", ["t1"]), ("user", ["!t1"])]),
        (  # a result without a call
            [result("gone"), user("so")],
            [("user", ["The result of the tool call gone:", "r", "so"])],
        ),
        (  # two results of one call
            [called("t1"), result("t1", "a"), result("t1", "b")],
            [("assistant", ["t1"]), ("user", ["=t1"])],
        ),
    ],
)
def test_every_call_has_its_result_in_the_next_turn(messages: Any, expected: Any) -> None:
    def shown(block: dict[str, Any]) -> str:
        match block["type"]:
            case "tool_use":
                return str(block["id"])
            case "tool_result":
                return ("!" if block["content"] == NO_RESULT else "=") + str(block["tool_use_id"])
            case _:
                return str(block["text"])

    wire = sent(PLAIN, user("hi"), *messages)
    found = [(turn["role"], [shown(block) for block in turn["content"]]) for turn in wire["messages"]]
    (_, first), *rest = found
    assert first[0] == "hi"
    assert ([("user", first[1:])] if first[1:] else []) + rest == expected


def test_two_results_of_one_call_are_joined() -> None:
    wire = sent(PLAIN, user("x"), called("t1"), result("t1", "a"), result("t1", "b"))
    assert [part["text"] for part in wire["messages"][2]["content"][0]["content"]] == ["a", "b"]


def test_a_failed_tool_is_marked_and_an_empty_result_is_empty() -> None:
    wire = sent(PLAIN, user("x"), called("t1", "t2"), result("t1", "no", isError=True), result("t2", " "))
    failed, empty = wire["messages"][2]["content"]
    assert (failed["is_error"], failed["content"]) == (True, "no")
    assert (empty["content"], "is_error" in empty) == ("", False)


@pytest.mark.parametrize("odd", ["functions.f:0", "x" * 60 + "é", "call|1", "y" * 200, "_x2e_"])
def test_an_id_of_another_vendors_is_written_alike_at_both_ends(odd: str) -> None:
    wire = sent(PLAIN, user("x"), called(odd), result(odd))
    found = wire["messages"][1]["content"][0]["id"]
    assert wire["messages"][2]["content"][0]["tool_use_id"] == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=str).isascii()
    assert len(found) <= 64
    assert not set(found) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_ids_that_a_vendor_uses_again_are_each_there_once() -> None:
    wire = sent(PLAIN, user("x"), called("c0"), result("c0", "one"), called("c0"), result("c0", "two"))
    calls = [turn["content"][0] for turn in wire["messages"][1:]]
    assert calls[0]["id"] == calls[1]["tool_use_id"] == "c0"
    assert calls[2]["id"] == calls[3]["tool_use_id"] != "c0"
    assert (calls[1]["content"], calls[3]["content"]) == ("one", "two")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), ("{}", {}), ("null", {}), (' {"a":1} ', {"a": 1}), ("[1", {"unparsed_arguments": "[1"})],
)
def test_a_calls_arguments_are_an_object(arguments: str, given: Any) -> None:
    message = {"role": "assistant", "toolCalls": [{"id": "t", "function": {"name": "f", "arguments": arguments}}]}
    assert sent(PLAIN, user("x"), message, result("t"))["messages"][1]["content"][0]["input"] == given


def test_tools_of_the_history_are_defined_and_not_called() -> None:
    wire, dropped = asked(PLAIN, user("x"), called("t1"), result("t1"))
    assert wire["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert (wire["tool_choice"], dropped) == ({"type": "none"}, ())


# --- images and files ---


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (f"data:image/jpg;base64,{JPEG}", {"type": "base64", "media_type": "image/jpeg", "data": JPEG}),
        (f"data:image/png;base64,{JPEG}", {"type": "base64", "media_type": "image/jpeg", "data": JPEG}),
        (f"data:;base64,{PNG}", {"type": "base64", "media_type": "image/png", "data": PNG}),
        (f"data:application/octet-stream;base64,{PNG}", {"type": "base64", "media_type": "image/png", "data": PNG}),
        (f"DATA:IMAGE/PNG;BASE64,{PNG}", {"type": "base64", "media_type": "image/png", "data": PNG}),
        (f"data:image/png;charset=utf-8;base64,{PNG[:6]}\n{PNG[6:]}", None),
        (PNG, {"type": "base64", "media_type": "image/png", "data": PNG}),
        ("data:image/webp;base64,AAAA", {"type": "base64", "media_type": "image/webp", "data": "AAAA"}),
        ("https://x/y.png", {"type": "url", "url": "https://x/y.png"}),
        ("http://x/y.png", {"type": "url", "url": "https://x/y.png"}),
    ],
)
def test_an_image_is_shown_as_what_it_is(url: str, source: Any) -> None:
    part = {"type": "image_url", "imageUrl": {"url": url}}
    (block,) = sent(PLAIN, user([part]))["messages"][0]["content"]
    assert block == {"type": "image", "source": source or {"type": "base64", "media_type": "image/png", "data": PNG}}


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("data:image/svg+xml;base64,PHN2Zz4=", "send a PNG, JPEG, GIF or WebP"),
        ("data:image/bmp;base64,Qk0=", "send a PNG, JPEG, GIF or WebP"),
        ("data:image/png;base64,", "it is empty"),
        ("data:image/png,abc", "must be in base64"),
        ("file:///etc/passwd", "send an https address"),
    ],
)
def test_an_image_that_cannot_be_shown_is_refused_with_the_way_out(url: str, advice: str) -> None:
    error = refusal(user([{"type": "image_url", "imageUrl": {"url": url}}]))
    assert error.field == "messages[0].content[0].image_url.url"
    assert advice in error.message


@pytest.mark.parametrize(
    ("url", "filename", "block"),
    [
        (
            f"data:application/pdf;base64,{PDF}",
            "a.pdf",
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            "data:text/plain;base64,aGk=",
            None,
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        ),
        (
            "data:;base64,YSxi",
            "t.csv",
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "a,b"},
                "title": "t.csv",
            },
        ),
        (
            "data:text/plain,h%20i",
            None,
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "h i"}},
        ),
        (
            f"data:image/png;base64,{PNG}",
            "a.png",
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        ),
        ("https://x/y.pdf", None, {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}}),
    ],
)
def test_a_file_is_a_document(url: str, filename: str | None, block: Any) -> None:
    part = {"type": "file", "file": {"url": url} | ({"filename": filename} if filename else {})}
    assert sent(PLAIN, user([part]))["messages"][0]["content"] == [block]


def test_a_file_that_cannot_be_read_is_refused_with_the_way_out() -> None:
    error = refusal(user([{"type": "file", "file": {"url": "data:application/zip;base64,UEs="}}]))
    assert error.field == "messages[0].content[0].file.url"
    assert "send a PDF, or its text" in error.message


def test_an_image_and_a_file_in_a_tools_result_are_shown() -> None:
    parts = [
        {"type": "image_url", "imageUrl": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "file", "file": {"url": f"data:application/pdf;base64,{PDF}"}},
        {"type": "text", "text": "both"},
    ]
    wire = sent(PLAIN, user("x"), called("t"), result("t", parts))
    assert [block["type"] for block in wire["messages"][2]["content"][0]["content"]] == ["image", "document", "text"]


# --- the cache ---


def test_marks_for_the_cache_are_carried() -> None:
    mark = {"cacheControl": {"type": "ephemeral", "ttl": "1h"}}
    wire = sent(
        PLAIN,
        {"role": "system", "content": [{"type": "text", "text": "s"} | mark]},
        user([{"type": "text", "text": "a"} | mark]),
        called("t"),
        result("t", [{"type": "text", "text": "r"} | mark]),
        tools=[TOOLS[0] | mark],
    )
    kept = {"type": "ephemeral", "ttl": "1h"}
    assert wire["system"] == [{"type": "text", "text": "s", "cache_control": kept}]
    assert wire["tools"][0]["cache_control"] == kept
    assert wire["messages"][0]["content"][0]["cache_control"] == kept
    assert wire["messages"][2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": "r",
        "cache_control": kept,
    }


def test_no_more_marks_are_sent_than_four() -> None:
    mark = {"cacheControl": {"type": "ephemeral"}}
    messages = [user([{"type": "text", "text": str(n)} | mark]) for n in range(6)]
    system = {"role": "system", "content": [{"type": "text", "text": "s"} | mark]}
    wire = sent(PLAIN, system, *messages, tools=[TOOLS[0] | mark])
    marked = [block["text"] for block in wire["messages"][0]["content"] if "cache_control" in block]
    assert ("cache_control" in wire["tools"][0], "cache_control" in wire["system"][0]) == (False, True)
    assert marked == ["3", "4", "5"]


# --- sampling, caps, stops ---


@pytest.mark.parametrize(
    ("model", "fields", "expected", "dropped"),
    [
        (PLAIN, {"temperature": 0.5, "topP": 0.9}, {"temperature": 0.5, "top_p": 0.9}, ()),
        (PLAIN, {"temperature": 1.5}, {"temperature": 1.0}, ("temperature",)),
        (BUDGET, {"temperature": 0.7, "topP": 1}, {"temperature": 0.7}, ()),
        (BUDGET, {"temperature": 0.7, "topP": 0.9}, {"temperature": 0.7}, ("top_p",)),
        (BUDGET, {"topP": 0.9}, {"top_p": 0.9}, ()),
        (NEWEST, {"temperature": 0.2, "topP": 0.9}, {}, ("temperature", "top_p")),
        (NEWEST, {"temperature": 1, "topP": 1}, {}, ()),
        (BUDGET, {"temperature": 0.2, "reasoningEffort": "low"}, {}, ("temperature",)),
        (BUDGET, {"topP": 0.5, "reasoningEffort": "low"}, {}, ("top_p",)),
        (BUDGET, {"topP": 0.97, "reasoningEffort": "low"}, {"top_p": 0.97}, ()),
    ],
)
def test_sampling_is_what_the_model_takes(model: str, fields: Any, expected: Any, dropped: Any) -> None:
    wire, told = asked(model, **fields)
    assert {name: wire[name] for name in ("temperature", "top_p") if name in wire} == expected
    assert told == dropped


@pytest.mark.parametrize(
    ("model", "asked_for", "cap"),
    [(PLAIN, None, 4_096), (PLAIN, 100_000, 4_096), (PLAIN, 9, 9), (BUDGET, None, 64_000), (NEWEST, None, 128_000)],
)
def test_the_cap_is_the_models_own_unless_a_lower_one_is_asked_for(model: str, asked_for: Any, cap: int) -> None:
    wire, dropped = asked(model, **({"maxTokens": asked_for} if asked_for else {}))
    assert (wire["max_tokens"], dropped) == (cap, ())


@pytest.mark.parametrize(
    ("stop", "kept", "dropped"),
    [
        ("END", ["END"], ()),
        ("\n", None, ("stop",)),
        (["\n", "END", "END", " "], ["END"], ("stop",)),
        ([""], None, ()),
    ],
)
def test_blank_stops_are_dropped(stop: Any, kept: Any, dropped: Any) -> None:
    wire, told = asked(PLAIN, stop=stop)
    assert (wire.get("stop_sequences"), told) == (kept, dropped)


@pytest.mark.parametrize(
    ("given", "is_hashed"),
    [("u-1", False), ("a" * 256, False), ("a" * 257, True), ("me@example.com", True), ("+49 170 1234567", True)],
)
def test_a_user_that_anthropic_refuses_is_hashed(given: str, is_hashed: bool) -> None:
    wire, dropped = asked(PLAIN, user=given)
    assert (wire["metadata"]["user_id"] != given, dropped) == (is_hashed, ("user",) if is_hashed else ())
    assert len(wire["metadata"]["user_id"]) <= 256


def test_several_answers_are_several_calls() -> None:
    adapted = adapt_chat_request(request(n=3), PLAIN)
    assert (adapted.calls, adapted.dropped) == (3, ())
    assert adapted.request == request()


def test_requests_that_differ_in_what_is_dropped_are_one() -> None:
    one = adapt_chat_request(request(user("x", name="a"), seed=1, topP=0.5, temperature=0.5, stop=" "), NEWEST)
    other = adapt_chat_request(request(user("x", name="b"), seed=2), NEWEST)
    assert one.request == other.request == request(user("x"))


def test_what_no_model_of_anthropics_takes_is_dropped_and_told() -> None:
    image = {"type": "image_url", "imageUrl": {"url": "https://x/y.png", "detail": "low"}}
    wire, dropped = asked(PLAIN, user([image], name="me"), user("\n"), seed=1)
    assert dropped == ("seed", "name", "detail", "content")
    assert set(wire) == {"model", "max_tokens", "messages"}


# --- thinking ---


@pytest.mark.parametrize(
    ("model", "fields", "thinking", "effort", "dropped"),
    [
        (PLAIN, {"reasoningEffort": "high"}, None, None, ("reasoning_effort",)),
        (PLAIN, {"reasoningEffort": "none"}, None, None, ()),
        (BUDGET, {"reasoningEffort": "low"}, 1_024, None, ()),
        (BUDGET, {"reasoningEffort": "high"}, 24_576, None, ()),
        (BUDGET, {"reasoningEffort": "high", "maxTokens": 4_000}, 2_000, None, ()),
        (BUDGET, {"reasoningEffort": "low", "maxTokens": 1_500}, 1_024, None, ()),
        (BUDGET, {"reasoningEffort": "low", "maxTokens": 1_024}, None, None, ("reasoning_effort",)),
        (BUDGET, {"thinkingBudget": 5_000}, 5_000, None, ()),
        (BUDGET, {"thinkingBudget": 5_000, "maxTokens": 3_000}, 2_999, None, ()),
        (BUDGET, {"thinkingBudget": 10}, 1_024, None, ()),
        (LEVELS, {"reasoningEffort": "low"}, None, "low", ()),
        (LEVELS, {"reasoningEffort": "minimal"}, None, "low", ()),
        (LEVELS, {"reasoningEffort": "max"}, None, "high", ()),
        (BOTH, {"reasoningEffort": "xhigh"}, "adaptive", "high", ()),
        (BOTH, {"thinkingBudget": 5_000}, 5_000, None, ()),
        (NEWEST, {"reasoningEffort": "xhigh"}, "adaptive", "xhigh", ()),
        (NEWEST, {"thinkingBudget": 9_000}, "adaptive", "medium", ()),
        (NEWEST, {"reasoningEffort": "none"}, None, None, ()),
        (NEWEST, {"showsReasoning": True}, "adaptive", None, ()),
    ],
)
def test_thinking_is_asked_for_as_the_model_knows_it(
    model: str, fields: Any, thinking: Any, effort: Any, dropped: Any
) -> None:
    wire, told = asked(model, **fields)
    found = wire.get("thinking")
    assert (found.get("budget_tokens", found["type"]) if found else None) == thinking
    assert wire.get("output_config", {}).get("effort") == effort
    assert told == dropped
    assert found is None or found.get("budget_tokens", 0) < wire["max_tokens"]


def test_a_forced_call_and_a_begun_answer_leave_no_room_for_thinking() -> None:
    forced = sent(BUDGET, reasoningEffort="low", tools=TOOLS, toolChoice="required")
    begun = sent(BUDGET, user("x"), said("y"), reasoningEffort="low")
    assert "thinking" not in forced
    assert forced["tool_choice"] == {"type": "any"}
    assert "thinking" not in begun


OWN_THOUGHT = {"text": "hm", "signature": "sig=="}
FOREIGN = {"text": "hm"}


@pytest.mark.parametrize(
    ("messages", "thinks"),
    [
        ([called("t"), result("t")], False),
        ([called("t", reasoning=[FOREIGN]), result("t")], False),
        ([called("t", reasoning=[OWN_THOUGHT]), result("t")], True),
        ([called("t", reasoning=[OWN_THOUGHT]), result("t"), called("u"), result("u")], True),
        ([called("t"), result("t"), said("done"), user("more")], True),
    ],
)
def test_calls_that_began_without_thinking_go_on_without_it(messages: Any, thinks: bool) -> None:
    wire = sent(BUDGET, user("x"), *messages, reasoningEffort="low", tools=TOOLS)
    assert ("thinking" in wire) == thinks


def test_only_thoughts_of_anthropics_own_are_sent_back_and_in_front() -> None:
    thoughts = [OWN_THOUGHT, {"data": "secret"}, FOREIGN, {"data": "item", "id": "rs_1"}, {"signature": "gw1.e30="}]
    wire = sent(NEWEST, user("x"), called("t", content="so", reasoning=thoughts), result("t"), reasoningEffort="low")
    assert wire["messages"][1]["content"][:3] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig=="},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "text", "text": "so"},
    ]


# --- tools ---


@pytest.mark.parametrize(
    ("fields", "choice", "dropped"),
    [
        ({"toolChoice": "auto"}, {"type": "auto"}, ()),
        (
            {"toolChoice": "required", "parallelToolCalls": False},
            {"type": "any", "disable_parallel_tool_use": True},
            (),
        ),
        ({"toolChoice": "none", "parallelToolCalls": False}, {"type": "none"}, ()),
        ({"toolChoice": {"function": {"name": "f"}}}, {"type": "tool", "name": "f"}, ()),
    ],
)
def test_the_choice_of_a_tool_has_its_word(fields: Any, choice: Any, dropped: Any) -> None:
    wire, told = asked(PLAIN, tools=TOOLS, **fields)
    assert (wire["tool_choice"], told) == (choice, dropped)


def test_a_tool_that_is_given_twice_is_sent_once() -> None:
    other = {"function": {"name": "g", "parameters": {"type": "object"}}}
    assert [tool["name"] for tool in sent(PLAIN, tools=[*TOOLS, other, *TOOLS])["tools"]] == ["f", "g"]


def test_settings_of_tools_without_tools_are_dropped_and_told() -> None:
    wire, dropped = asked(PLAIN, toolChoice="required", parallelToolCalls=False)
    assert ("tool_choice" in wire, dropped) == (False, ("tool_choice", "parallel_tool_calls"))
    assert asked(PLAIN, toolChoice="auto")[1] == ()


def test_a_model_that_cannot_be_forced_is_told_to_call() -> None:
    wire, dropped = asked("claude-opus-5-5", tools=TOOLS, toolChoice="required")
    assert (wire["tool_choice"], wire["system"], dropped) == ({"type": "auto"}, CALL_SOMETHING, ("tool_choice",))


def test_a_strict_tool_is_strict_where_its_schema_allows() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}
    strict = [{"function": {"name": "f", "parameters": schema, "strict": True}}]
    (tool,) = sent(BUDGET, tools=strict)["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"]["properties"]["n"] == {"type": "integer", "description": "{minimum: 0}"}
    wire, dropped = asked(PLAIN, tools=strict)
    assert ("strict" in wire["tools"][0], dropped) == (False, ("strict",))
    assert wire["tools"][0]["input_schema"] == schema


# --- the format of the answer ---

CITY = {
    "type": "object",
    "properties": {"zip": {"type": "integer", "minimum": 0}, "name": {"type": "string"}},
    "required": ["zip", "name"],
    "additionalProperties": False,
}


def by_schema(schema: Any, **fields: Any) -> dict[str, Any]:
    return {"responseFormat": {"type": "json_schema", "jsonSchema": {"name": "s", "schema": schema} | fields}}


def test_a_schema_is_the_answers_format_with_its_bounds_in_words() -> None:
    wire = sent(BUDGET, **by_schema(CITY, description="a city"))
    schema = wire["output_config"]["format"]["schema"]
    assert list(schema["properties"]) == ["zip", "name"]
    assert schema["properties"]["zip"] == {"type": "integer", "description": "{minimum: 0}"}
    assert schema["description"] == "a city"


def test_a_model_without_structured_output_answers_by_a_tool() -> None:
    wire = sent(PLAIN, **by_schema(CITY))
    assert [tool["name"] for tool in wire["tools"]] == [ANSWER_TOOL]
    assert wire["tools"][0]["input_schema"] == CITY
    assert wire["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL}
    with_tools = sent(PLAIN, tools=TOOLS, **by_schema(CITY))
    assert [tool["name"] for tool in with_tools["tools"]] == ["f", ANSWER_TOOL]
    assert with_tools["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (PLAIN, {"type": "array", "items": {"type": "string"}}),
        (BUDGET, {"type": "array", "items": {}}),
        (NEWEST, {"anyOf": [{"type": "object"}, {"type": "null"}]}),
    ],
)
def test_a_schema_that_nothing_holds_a_model_to_is_an_instruction(model: str, schema: Any) -> None:
    wire = sent(model, {"role": "system", "content": "s"}, user("x"), **by_schema(schema))
    assert wire["system"].startswith("s\n\nAnswer with JSON")
    assert msgspec.json.encode(schema).decode() in wire["system"]
    assert "output_config" not in wire


def test_a_json_object_is_an_instruction() -> None:
    assert sent(BUDGET, responseFormat={"type": "json_object"})["system"] == ANSWER_IN_JSON


def test_a_format_by_schema_without_a_schema_is_refused() -> None:
    assert refusal(responseFormat={"type": "json_schema"}).field == "response_format.json_schema"
