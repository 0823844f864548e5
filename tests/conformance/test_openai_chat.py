"""OpenAI's SDK creates chat completions with OpenAI's models (passed through), Anthropic's (translated) and `echo`."""

import json
from typing import Any

import pytest
from openai import pydantic_function_tool

from tests.provider.running import RunningProvider
from tests.support.samples import COUNTED, OPENAI_TOOLS, PIXEL, Lookup, Order
from tests.support.sdk_clients import CLAUDE, ECHO, GPT, MODELS, collected, entering, resolved, user

BOTH = (GPT, CLAUDE)
SAID = {
    GPT: "gruß an alle",
    CLAUDE: "gruß an alle",
    ECHO: "echo: [[say=gru%C3%9F%20an%20alle]]",
}


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_answers_a_chat_completion(openai: Any, model: str) -> None:
    found = await resolved(
        openai.chat.completions.create(model=model, messages=user("[[say=gru%C3%9F%20an%20alle]]"), max_tokens=100)
    )
    (choice,) = found.choices
    assert (found.object, choice.index, choice.message.role, choice.finish_reason) == (
        "chat.completion",
        0,
        "assistant",
        "stop",
    )
    assert choice.message.content == SAID[model]
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.usage.cost > 0


@pytest.mark.parametrize("model", MODELS)
async def test_stream_equals_the_response(openai: Any, model: str) -> None:
    request: Any = {"model": model, "messages": user("one two three [[chunks=20]]")}
    whole = await resolved(openai.chat.completions.create(**request))
    chunks = await collected(openai.chat.completions.create(**request, stream=True))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(said) > 3
    assert "".join(said) == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {whole.model}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]


@pytest.mark.parametrize("model", MODELS)
async def test_stream_has_usage_only_on_request(openai: Any, model: str) -> None:
    chunks = await collected(openai.chat.completions.create(model=model, messages=user("plain"), stream=True))
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("model", MODELS)
async def test_stream_ends_with_requested_usage_and_cost(openai: Any, model: str) -> None:
    request: Any = {"model": model, "messages": user(f"hello {COUNTED}")}
    whole = await resolved(openai.chat.completions.create(**request))
    *chunks, last = await collected(
        openai.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    assert last.choices == []
    assert {chunk.usage for chunk in chunks} == {None}
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    assert last.usage == whole.usage
    assert last.usage.cost > 0


@pytest.mark.parametrize("model", MODELS)
async def test_the_stream_helper_puts_the_answer_together(openai: Any, model: str) -> None:
    request: Any = {"model": model, "messages": user("one two three")}
    whole = await resolved(openai.chat.completions.create(**request))
    async with entering(openai.chat.completions.stream(**request, stream_options={"include_usage": True})) as stream:
        events = await collected(stream)
        final = await resolved(stream.get_final_completion())
    content = whole.choices[0].message.content
    assert "".join(event.delta for event in events if event.type == "content.delta") == content
    assert [event.content for event in events if event.type == "content.done"] == [content]
    assert final.choices[0].message.content == content
    assert final.usage.cost > 0


@pytest.mark.parametrize("model", BOTH)
async def test_parse_gets_an_answer_of_its_schema(openai: Any, model: str) -> None:
    found = await resolved(
        openai.chat.completions.parse(model=model, messages=user("order"), response_format=Order, max_tokens=100)
    )
    assert isinstance(found.choices[0].message.parsed, Order)


@pytest.mark.parametrize("model", BOTH)
async def test_a_streamed_answer_is_parsed_by_its_schema(openai: Any, model: str) -> None:
    manager = openai.chat.completions.stream(model=model, messages=user("order"), response_format=Order)
    async with entering(manager) as stream:
        await collected(stream)
        final = await resolved(stream.get_final_completion())
    assert isinstance(final.choices[0].message.parsed, Order)


@pytest.mark.parametrize("model", BOTH)
async def test_a_tool_is_called_when_it_must_be(openai: Any, model: str) -> None:
    found = await resolved(
        openai.chat.completions.create(
            model=model, messages=user("weather"), tools=OPENAI_TOOLS, tool_choice="required"
        )
    )
    (call,) = found.choices[0].message.tool_calls
    assert (call.type, call.function.name, found.choices[0].finish_reason) == ("function", "Lookup", "tool_calls")
    assert Lookup.model_validate_json(call.function.arguments)


@pytest.mark.parametrize("model", BOTH)
async def test_conversation_continues_with_the_sdks_message_and_tool_results(openai: Any, model: str) -> None:
    messages = user("weather [[calls=2]]")
    request: Any = {"model": model, "messages": messages, "tools": OPENAI_TOOLS}
    first = await resolved(openai.chat.completions.create(**request))
    one, other = first.choices[0].message.tool_calls
    messages.append(first.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": one.id, "content": "raining"})
    messages.append({"role": "tool", "tool_call_id": other.id, "content": [{"type": "text", "text": "snowing"}]})
    second = await resolved(openai.chat.completions.create(**request))
    assert "the tools said raining; snowing" in second.choices[0].message.content
    messages.append(second.choices[0].message)
    messages.append({"role": "user", "content": "thanks [[say=welcome]] [[calls=0]]"})
    third = await resolved(openai.chat.completions.create(**request))
    assert third.choices[0].message.content == "welcome"


@pytest.mark.parametrize("model", BOTH)
async def test_parallel_calls_stream_and_go_back_as_parsed(openai: Any, model: str) -> None:
    messages = user("weather [[calls=2]]")
    request: Any = {"model": model, "messages": messages, "tools": [pydantic_function_tool(Lookup)]}
    async with entering(openai.chat.completions.stream(**request)) as stream:
        events = await collected(stream)
        final = await resolved(stream.get_final_completion())
    calls = final.choices[0].message.tool_calls
    assert [type(call.function.parsed_arguments) for call in calls] == [Lookup, Lookup]
    assert [event.index for event in events if event.type == "tool_calls.function.arguments.done"] == [0, 1]
    messages.append(final.choices[0].message)
    messages.extend({"role": "tool", "tool_call_id": call.id, "content": "raining"} for call in calls)
    found = await resolved(openai.chat.completions.parse(**request))
    assert "the tools said raining; raining" in found.choices[0].message.content


@pytest.mark.parametrize("model", BOTH)
async def test_parallel_calls_can_be_disabled(openai: Any, model: str) -> None:
    found = await resolved(
        openai.chat.completions.create(
            model=model, messages=user("[[calls=3]]"), tools=OPENAI_TOOLS, parallel_tool_calls=False
        )
    )
    assert len(found.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("url", ["https://example.com/cat.png", f"data:image/png;base64,{PIXEL}"])
async def test_images_are_shown_to_every_model(openai: Any, model: str, url: str) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    found = await resolved(openai.chat.completions.create(model=model, messages=user(parts)))
    assert found.choices[0].message.content


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fields",
    [
        {"stop": None, "tools": None, "extra_body": {"seed": None, "functions": None, "temperature": None}},
        {"n": 1, "service_tier": "default", "verbosity": "medium", "modalities": ["text"]},
        {"messages": [*user("a"), {"role": "assistant", "content": "", "refusal": None}, *user("b")]},
    ],
    ids=["nulls", "defaults", "empty turn"],
)
async def test_empty_or_default_values_are_accepted(openai: Any, model: str, fields: Any) -> None:
    found = await resolved(openai.chat.completions.create(**({"model": model, "messages": user("hello")} | fields)))
    assert found.choices[0].message.content


async def test_request_passes_through_byte_for_byte(openai: Any, upstream: RunningProvider) -> None:
    raw = await resolved(
        openai.chat.completions.with_raw_response.create(
            model=GPT,
            messages=user("hé [[say=x]]"),
            logit_bias={"50256": -100},
            store=True,
            metadata={"b": "1", "a": "2"},
            extra_body={"a_field_of_tomorrow": {"z": 1, "a": [None, 1.50]}},
        )
    )
    assert upstream.requests(last=1)[0].body == raw.http_request.content


async def test_unknown_response_fields_pass_through(openai: Any, upstream: RunningProvider) -> None:
    raw = await resolved(openai.chat.completions.with_raw_response.create(model=GPT, messages=user("x [[tokens=9/9]]")))
    told = json.loads(raw.text)
    sent = json.loads(upstream.answers(last=1)[0].body)
    assert told["usage"].pop("cost") == pytest.approx(9 * 15e-8 + 9 * 6e-7)
    assert list(told.items()) == list(sent.items())
    assert told["system_fingerprint"] == "fp_test"
