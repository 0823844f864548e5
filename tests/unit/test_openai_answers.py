"""Answers as providers of OpenAI's dialect really send them: whatever came is given, whole and as a stream."""

import hashlib
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from domain.canonical.chat import AnswerMessage, ChatResponse, Choice, FunctionCall, ReasoningBlock, ToolCall
from domain.canonical.stream import ChatAssembler, replay_chat
from domain.dialects.codec import ProviderResponse, RenderOptions, StreamSummary
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.openai import response as response_reader
from domain.dialects.openai.codec import OpenAiChat
from domain.dialects.openai.stream import OpenAiChatReader
from domain.dialects.openai.tools import ToolEcho
from domain.dialects.openai.usage import parse_extras, parse_responses_usage, parse_usage
from domain.dialects.sse import SseEvent, SseParser, sse
from domain.errors import ProviderCredentials, ProviderError, ProviderRateLimited, ProviderRejected, ProviderUnavailable
from domain.tokens import AnswerUsage, TokenUsage, answer_usage
from workers.provider_failures import reported_failure

USAGE = {"prompt_tokens": 5, "completion_tokens": 3}
COUNTED = TokenUsage(input=5, output=3)
NO_USAGE = AnswerUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
EMPTY_CALL: dict[str, Any] = {"function": {"name": "f", "arguments": None}}


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def completion(message: Any, finish: Any = "stop", **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": USAGE} | members


def read(body: Any) -> tuple[ProviderResponse, Choice]:
    content = body if isinstance(body, bytes) else encoded(body)
    found = OpenAiChat().parse_response(content, model="mine", provider="p")
    return found, msgspec.json.decode(found.body, type=ChatResponse).choices[0]


def streamed(*chunks: Any) -> tuple[OpenAiChatReader, Choice]:
    reader, assembler = OpenAiChatReader(model="mine"), ChatAssembler(provider="p", model="mine")
    for chunk in chunks:
        for piece in reader.take(SseEvent("", chunk if isinstance(chunk, bytes) else encoded(chunk), b"")):
            assembler.add(piece)
    return reader, assembler.answer(NO_USAGE).choices[0]


def chunk(delta: Any, finish: Any = None, **members: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | members


@pytest.mark.parametrize(
    ("said", "usage", "input_usage"),
    [
        (None, None, None),
        ({}, None, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None, None),
        ({"prompt_tokens": -1, "completion_tokens": 3}, None, None),
        ({"prompt_tokens": 5}, None, TokenUsage(input=5)),
        ({"prompt_tokens": 5.0, "completion_tokens": "3"}, COUNTED, None),
        ({"completion_tokens": 3, "total_tokens": 8}, COUNTED, None),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": None}, COUNTED, None),
        ([], None, None),
    ],
)
def test_usage_is_what_can_be_read_of_it(said: Any, usage: Any, input_usage: Any) -> None:
    body = completion({"content": "hello"}) | {"usage": said}
    for found in (
        read(body)[0],
        OpenAiChat().meter_response(encoded(body)),
        streamed(chunk({"content": "hello"}, usage=said))[0],
    ):
        assert (found.usage, found.input_usage) == (usage, input_usage)
        assert found.usage is not None or isinstance(found, OpenAiChatReader) or found.received_output_bytes >= 5


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"audio_tokens": 90, "cached_tokens": 80}, TokenUsage(cache_read=10, input_audio=90, output=3)),
        (
            {"audio_tokens": 50, "cached_tokens": 60, "cached_tokens_details": {"audio_tokens": 20, "text_tokens": 40}},
            TokenUsage(input=10, cache_read=40, input_audio=30, cache_audio_read=20, output=3),
        ),
        ({"audio_tokens": 500, "cached_tokens": 500}, TokenUsage(input_audio=100, output=3)),
    ],
)
def test_cached_audio_is_not_counted_as_text_which_costs_less(details: Any, usage: TokenUsage) -> None:
    said = {"prompt_tokens": 100, "completion_tokens": 3, "prompt_tokens_details": details}
    assert parse_usage(said).usage == usage
    in_responses = {"input_tokens": 100, "output_tokens": 3, "input_tokens_details": details}
    if "cached_tokens_details" not in details:
        assert parse_responses_usage(in_responses) == usage


@pytest.mark.parametrize(
    ("usage", "unpriced"),
    [
        ({"completion_tokens_details": {"image_tokens": 9, "reasoning_tokens": 1}}, ("output_image_tokens",)),
        ({"prompt_tokens_details": {"video_tokens": 9, "image_tokens": 9}}, ("input_video_tokens",)),
        ({"completion_tokens_details": {"rejected_prediction_tokens": 9, "smell_tokens": 0}}, ()),
        ({"num_sources_used": 3}, ("num_sources_used",)),
        ({"completion_tokens_details": "none"}, ()),
    ],
)
def test_tokens_of_a_class_that_nobody_priced_make_the_cost_a_lower_bound(
    usage: Any, unpriced: tuple[str, ...]
) -> None:
    assert parse_extras(usage, None, has_citations=False).unpriced == unpriced


def test_an_answer_without_id_and_model_has_an_id_of_its_own() -> None:
    one, other = (read(completion({"content": text}, id=None, model=None))[0] for text in ("a", "b"))
    assert one.response_id.startswith("chatcmpl-")
    assert one.response_id != other.response_id
    metered = OpenAiChat().meter_response(encoded(completion({"content": "a"}, id=None, model=None)))
    assert (metered.response_id != "", metered.answered_by) == (True, "")


@pytest.mark.parametrize(
    ("message", "finish", "text", "reason"),
    [
        ({"content": None}, "stop", None, "stop"),
        ({"content": ""}, None, "", "stop"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "eos", "ab", "stop"),
        ({"content": "a"}, "MAX_TOKENS", "a", "length"),
        ({"content": "a"}, "end_turn", "a", "stop"),
        ({"content": "a"}, 7, "a", "stop"),
        ({"content": None, "refusal": "no"}, "stop", "no", "content_filter"),
        ({"content": "a", "tool_calls": None}, "stop", "a", "stop"),
    ],
)
def test_text_and_finish_are_read_in_any_form(message: Any, finish: Any, text: Any, reason: str) -> None:
    _, choice = read(completion(message, finish))
    assert (choice.message.content, choice.finish_reason) == (text, reason)


@pytest.mark.parametrize(
    ("arguments", "read_as"), [(None, "{}"), ("", "{}"), ({"a": 1}, '{"a":1}'), ('{"a": 1}', '{"a": 1}')]
)
def test_a_call_has_an_id_and_arguments(arguments: Any, read_as: str) -> None:
    given = {"function": {"name": "f", "arguments": arguments}}
    body = completion({"content": None, "tool_calls": [given, given]}, "stop")
    _, whole = read(body)
    _, piece = streamed(chunk({"tool_calls": [given]}), chunk({"tool_calls": [given]}), chunk({}, "stop"))
    for choice in (whole, piece):
        calls = choice.message.tool_calls or []
        assert [call.function for call in calls] == [FunctionCall(name="f", arguments=read_as)] * 2
        assert len({call.id for call in calls}) == 2
        assert all(call.id for call in calls)
        assert choice.finish_reason == "tool_calls"


def test_calls_without_ids_have_ids_of_their_own_which_stay_the_same() -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}] * 3
    choices = [{"index": index, "message": {"tool_calls": calls}} for index in range(2)]

    def ids(body: Any) -> list[str]:
        answer = msgspec.json.decode(read(body)[0].body, type=ChatResponse)
        return [call.id for choice in answer.choices for call in choice.message.tool_calls or ()]

    assert len(set(ids({"choices": choices}))) == 6
    assert ids({"choices": choices}) == ids({"choices": choices})
    assert not set(ids({"choices": choices})) & set(ids({"id": "another", "choices": choices}))


def test_streamed_calls_without_ids_have_ids_of_their_own() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    event = encoded({"choices": [{"index": index, "delta": {"tool_calls": [call] * 3}} for index in range(2)]})
    chunks = OpenAiChatReader(model="mine").take(SseEvent("", event, b""))
    ids = [piece.id for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    assert len(set(ids)) == len(ids) == 6
    assert None not in ids


def test_a_text_whose_parts_have_ids_is_not_hashed_and_any_other_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def sha256(text: bytes) -> Any:
        hashed.append(len(text))
        return hashlib.sha256(text)

    monkeypatch.setattr(response_reader, "hashlib", SimpleNamespace(sha256=sha256))
    call = {"function": {"name": "f", "arguments": "x" * 1_000}}
    message = {"content": None, "tool_calls": [call | {"id": f"c{number}"} for number in range(9)]}
    read({"id": "r", "choices": [{"message": message}]})
    assert not hashed
    read({"id": "r", "choices": [{"message": {"content": None, "tool_calls": [call] * 9}}]})
    assert sum(length > 1_000 for length in hashed) == 1


def test_a_deprecated_function_call_is_a_call() -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    for choice in (
        read(completion({"content": None, "function_call": function}, "function_call"))[1],
        streamed(chunk({"function_call": function}), chunk({}, "function_call"))[1],
    ):
        (call,) = choice.message.tool_calls or []
        assert (call.function.name, call.function.arguments, choice.finish_reason) == ("f", '{"a":1}', "tool_calls")


@pytest.mark.parametrize(
    ("members", "blocks"),
    [
        ({"reasoning_content": "hm"}, [ReasoningBlock(text="hm")]),
        ({"reasoning": "hm"}, [ReasoningBlock(text="hm")]),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            [ReasoningBlock(text="hm")],
        ),
        (
            {
                "reasoning": "hm",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0},
                    {"type": "reasoning.encrypted", "data": "d", "id": "r1", "index": 1},
                ],
            },
            [ReasoningBlock(text="hm", signature="s", detail={}), ReasoningBlock(data="d", id="r1", detail={})],
        ),
    ],
)
def test_thinking_is_kept(members: Any, blocks: list[ReasoningBlock]) -> None:
    assert read(completion({"content": "a"} | members))[1].message.reasoning == blocks
    assert streamed(chunk({"content": "a"} | members), chunk({}, "stop"))[1].message.reasoning == blocks


def test_geminis_signature_is_kept() -> None:
    extra = {"google": {"thought_signature": "s"}}
    given = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    for choice in (read(completion({"tool_calls": [given]}))[1], streamed(chunk({"tool_calls": [given]}, "stop"))[1]):
        (call,) = choice.message.tool_calls or []
        assert call.extra_content == extra


def test_no_choice_with_usage_is_an_empty_answer() -> None:
    found, choice = read({"id": "x", "choices": [], "usage": USAGE})
    assert (found.is_empty, choice.message.content, choice.finish_reason) == (True, None, "stop")


@pytest.mark.parametrize(
    ("message", "is_empty"),
    [
        ({"content": None}, True),
        ({"content": ""}, True),
        ({"content": "", "reasoning_content": "hm"}, True),
        ({"content": "a"}, False),
        ({"content": None, "tool_calls": [EMPTY_CALL]}, False),
    ],
)
def test_an_answer_that_says_nothing_is_empty(message: Any, is_empty: bool) -> None:
    body = completion(message)
    assert (read(body)[0].is_empty, OpenAiChat().meter_response(encoded(body)).is_empty) == (is_empty, is_empty)


def test_a_byte_order_mark_is_no_part_of_an_answer() -> None:
    body = b"\xef\xbb\xbf" + encoded(completion({"content": "a"}))
    assert read(body)[1].message.content == "a"
    assert OpenAiChat().meter_response(body).body.startswith(b"{")
    (event,) = SseParser().feed(b"\xef\xbb\xbfdata:{}\r\n\r\n")
    assert event.data == b"{}"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"code": 429, "message": "slow down"}, ProviderRateLimited, 429),
        ({"code": "429", "message": "slow down"}, ProviderRateLimited, 429),
        ({"type": "invalid_request_error", "message": "no"}, ProviderRejected, None),
        ({"code": 401, "message": "sk-secret"}, ProviderCredentials, 401),
        ({"code": 502, "message": "upstream"}, ProviderUnavailable, 502),
        ("it broke", ProviderUnavailable, None),
    ],
)
def test_an_error_with_status_200_is_the_error_that_it_reports(
    error: Any, kind: type[ProviderError], status: int | None
) -> None:
    for reads in (read, lambda body: OpenAiChat().meter_response(encoded(body))):
        with pytest.raises(StreamFailed) as failed:
            reads({"error": error})  # type: ignore[operator]
        reported = reported_failure(failed.value, "p")
        assert (type(reported), reported.status) == (kind, status)
        assert "sk-secret" not in reported.message


EVENTS = b"".join(
    sse(encoded(one)) for one in (chunk({"role": "assistant", "content": "he"}), chunk({"content": "llo"}, "stop"))
)


def test_a_stream_in_place_of_one_piece_is_put_together() -> None:
    body = EVENTS + sse(encoded({"choices": [], "usage": USAGE})) + b"data: [DONE]\n\n"
    found, choice = read(b": keep-alive\n\n" + body)
    assert (found.usage, choice.message.content, choice.finish_reason) == (COUNTED, "hello", "stop")
    metered = OpenAiChat().meter_response(body)
    shown = msgspec.json.decode(metered.body)
    assert (shown["object"], shown["choices"][0]["message"]["content"]) == ("chat.completion", "hello")
    assert (shown["model"], metered.usage) == ("m", COUNTED)


def test_events_without_an_answer_are_unreadable() -> None:
    with pytest.raises(UnreadableResponse):
        read(b"data: [DONE]\n\n")


def test_one_piece_in_place_of_a_stream_is_a_stream() -> None:
    body = completion({"role": "assistant", "content": "hello", "tool_calls": [EMPTY_CALL], "extra": 1}, None)
    events = OpenAiChat().events_of_response(encoded(body))
    reader, choice = streamed(*(event.data for event in events))
    assert (reader.usage, reader.is_ended, choice.message.content) == (COUNTED, True, "hello")
    assert [call.function.name for call in choice.message.tool_calls or []] == ["f"]
    first = msgspec.json.decode(events[0].data)
    assert (first["object"], first["choices"][0]["delta"]["extra"]) == ("chat.completion.chunk", 1)


def test_an_error_in_place_of_a_stream_fails() -> None:
    (event,) = OpenAiChat().events_of_response(b'{"error":{"message":"no","code":429}}')
    with pytest.raises(StreamFailed, match="no"):
        OpenAiChatReader().take(event)


# --- to clients ---

THOUGHTS = [ReasoningBlock(text="hm", signature="s"), ReasoningBlock(data="d")]
CALL = ToolCall(id="c1", function=FunctionCall(name="f", arguments=""), extra_content={"google": {"a": 1}})


def response(**members: Any) -> ChatResponse:
    message = AnswerMessage(**({"content": "a"} | members))
    finish: Any = "tool_calls" if message.tool_calls else "stop"
    return ChatResponse(
        id="x",
        model="mine",
        provider="p",
        choices=[Choice(index=0, message=message, finish_reason=finish)],
        usage=answer_usage(COUNTED),
    )


def options(echo: ToolEcho | None = None) -> RenderOptions:
    return RenderOptions(created_s=7, echo=encoded(echo) if echo is not None else None)


def whole(given: ChatResponse, echo: ToolEcho | None = None) -> Any:
    return msgspec.json.decode(OpenAiChat().render_response(encoded(given), COUNTED, options(echo)))["choices"][0]


def pieces(given: ChatResponse, echo: ToolEcho | None = None) -> list[Any]:
    writer = OpenAiChat().stream_writer(options(echo))
    written = b"".join(writer.write(one) for one in replay_chat(given))
    written += writer.end(StreamSummary(usage=COUNTED, cost_usd=None, latency_ms=1))
    events = [msgspec.json.decode(event.data) for event in SseParser().feed(written) if event.data != b"[DONE]"]
    return [choice for event in events for choice in event["choices"]]


def test_thinking_reaches_openais_clients_in_both_forms() -> None:
    message = whole(response(reasoning=THOUGHTS))["message"]
    assert message["reasoning_content"] == "hm"
    assert [detail["type"] for detail in message["reasoning_details"]] == ["reasoning.text", "reasoning.encrypted"]
    assert message["reasoning_details"][0]["signature"] == "s"
    deltas = [choice["delta"] for choice in pieces(response(reasoning=THOUGHTS))]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm"
    details = [detail for delta in deltas for detail in delta.get("reasoning_details", [])]
    assert [detail.get("signature") for detail in details if detail["index"] == 0] == [None, "s"]
    assert details[-1]["data"] == "d"


def test_thinking_that_comes_back_is_what_was_sent() -> None:
    given = response(reasoning=THOUGHTS)
    parsed = OpenAiChat().parse_request(
        encoded({"model": "m", "messages": [whole(given)["message"], {"role": "user", "content": "go on"}]})
    )
    assert parsed.request.messages[0].reasoning == THOUGHTS  # type: ignore[union-attr]
    deltas = [choice["delta"] for choice in pieces(given)]
    kept = [detail for delta in deltas for detail in delta.get("reasoning_details", [])]
    message = {"role": "assistant", "content": "a", "reasoning_details": kept}
    again = OpenAiChat().parse_request(encoded({"model": "m", "messages": [message]}))
    assert again.request.messages[0].reasoning == THOUGHTS  # type: ignore[union-attr]


def test_a_stream_begins_with_the_role_and_a_call_with_its_name_and_ends_with_arguments() -> None:
    choices = pieces(response(content=None, tool_calls=[CALL]))
    assert choices[0]["delta"]["role"] == "assistant"
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert calls[0]["id"] == "c1"
    assert calls[0]["function"] == {"name": "f", "arguments": ""}
    assert calls[0]["extra_content"] == {"google": {"a": 1}}
    assert [call["function"]["arguments"] for call in calls] == ["", "{}"]
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_custom_tool_is_called_with_its_text() -> None:
    custom = ToolCall(id="c1", function=FunctionCall(name="patch", arguments='{"input":"*** Begin"}'))
    given, echo = response(content=None, tool_calls=[custom]), ToolEcho(custom=("patch",))
    expected = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}}
    assert whole(given, echo)["message"]["tool_calls"] == [expected]
    calls = [call for choice in pieces(given, echo) for call in choice["delta"].get("tool_calls", [])]
    assert calls == [{"index": 0, **expected}]


def test_a_client_of_functions_reads_a_function_call() -> None:
    call = ToolCall(id="c1", function=FunctionCall(name="f", arguments='{"a":1}'))
    given, echo = response(content=None, tool_calls=[call]), ToolEcho(are_functions=True)
    choice = whole(given, echo)
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert (choice["finish_reason"], "tool_calls" in choice["message"]) == ("function_call", False)
    choices = pieces(given, echo)
    functions = [one["delta"]["function_call"] for one in choices if "function_call" in one["delta"]]
    assert functions == [{"name": "f", "arguments": '{"a":1}'}]
    assert choices[-1]["finish_reason"] == "function_call"
