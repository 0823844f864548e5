"""The test provider answers the SDKs like the vendors do, and it reports the usage that it charges."""

import base64
import json
import struct
from typing import Any, Literal

import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel

from tests.provider.direct import Direct, reported_tokens

GPT = "gpt-4o-mini"
CLAUDE = "claude-3-haiku-20240307"
COUNTED = "[[tokens=70/30]] [[cached=20]] [[cachewrite=9]] [[reasoning=7]]"


class Item(BaseModel):
    name: str
    parent: "Item | None"


class Order(BaseModel):
    """An order, with every feature of a schema."""

    kind: Literal["small", "large"]
    count: int
    weight: float
    paid: bool
    note: str | None
    items: list[Item]


class Lookup(BaseModel):
    city: str
    days: int


LOOKUP = {"name": "Lookup", "parameters": Lookup.model_json_schema()}
OPENAI_TOOLS: Any = [{"type": "function", "function": LOOKUP}]
RESPONSES_TOOLS: Any = [{"type": "function", "strict": False, **LOOKUP}]
ANTHROPIC_TOOLS: Any = [{"name": "Lookup", "input_schema": Lookup.model_json_schema()}]


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


# Chat completions


def test_chat_completion_usage_equals_the_charge(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(model=GPT, messages=user(COUNTED))
    assert found.choices[0].finish_reason == "stop"
    assert direct.billed_tokens() == reported_tokens(found.usage) == (70, 30, 20, 9)


def test_chat_stream_equals_the_response(direct: Direct) -> None:
    request_body: Any = {"model": GPT, "messages": user("the same [[chunks=40]]")}
    whole = direct.openai.chat.completions.create(**request_body)
    chunks = list(direct.openai.chat.completions.create(**request_body, stream=True))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(said) == 40
    assert "".join(said) == whole.choices[0].message.content
    assert {chunk.id for chunk in chunks} == {whole.id}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [row["out"] for row in direct.billed()] == [40, 40]


def test_chat_stream_has_usage_only_on_request(direct: Direct) -> None:
    chunks = list(direct.openai.chat.completions.create(model=GPT, messages=user("plain"), stream=True))
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_chat_stream_ends_with_requested_usage(direct: Direct) -> None:
    *chunks, last = direct.openai.chat.completions.create(
        model=GPT, messages=user(COUNTED), stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert {chunk.usage for chunk in chunks} == {None}
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    assert direct.billed_tokens() == reported_tokens(last.usage) == (70, 30, 20, 9)
    assert last.usage is not None
    assert last.usage.completion_tokens_details is not None
    assert last.usage.completion_tokens_details.reasoning_tokens == 7


async def test_the_asynchronous_sdk_streams_chat(direct: Direct) -> None:
    stream = await direct.async_openai.chat.completions.create(
        model=GPT, messages=user("[[say=h%C3%A9llo]]"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "héllo"
    assert direct.billed_tokens() == reported_tokens(chunks[-1].usage)
    assert direct.billed_tokens()[1] == 5


async def test_the_chat_stream_helper_puts_parallel_calls_together(direct: Direct) -> None:
    async with direct.async_openai.chat.completions.stream(
        model=GPT,
        messages=user("weather [[calls=2]]"),
        tools=[pydantic_function_tool(Lookup)],
        stream_options={"include_usage": True},
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert final.choices[0].finish_reason == "tool_calls"
    assert [call.id for call in calls] == ["call_1", "call_2"]
    assert all(isinstance(call.function.parsed_arguments, Lookup) for call in calls)
    assert direct.billed_tokens() == reported_tokens(final.usage)


def test_chat_parse_gets_an_answer_of_its_schema(direct: Direct) -> None:
    found = direct.openai.chat.completions.parse(model=GPT, messages=user("order"), response_format=Order)
    order = found.choices[0].message.parsed
    assert order is not None
    assert order.kind == "small"
    assert order.items[0].parent is not None


def test_a_streamed_answer_keeps_to_its_schema(direct: Direct) -> None:
    with direct.openai.chat.completions.stream(model=GPT, messages=user("order"), response_format=Order) as stream:
        assert stream.get_final_completion().choices[0].message.parsed is not None


def test_json_mode_answers_an_object(direct: Direct) -> None:
    wanted: Any = {"type": "json_object"}
    found = direct.openai.chat.completions.create(model=GPT, messages=user("order"), response_format=wanted)
    assert set(json.loads(found.choices[0].message.content or "")) == {"answer"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "Lookup"}}])
def test_a_forced_tool_is_called_with_arguments_of_its_schema(direct: Direct, choice: Any) -> None:
    found = direct.openai.chat.completions.create(
        model=GPT, messages=user("weather"), tools=OPENAI_TOOLS, tool_choice=choice
    )
    (call,) = found.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert Lookup.model_validate_json(call.function.arguments)
    assert found.choices[0].message.content is None


def test_a_tool_is_called_only_on_request(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(model=GPT, messages=user("weather"), tools=OPENAI_TOOLS)
    assert found.choices[0].message.tool_calls is None


def test_the_word_that_names_a_tool_has_it_called(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(model=GPT, messages=user("[[tool=other]]"))
    (call,) = found.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("other", '{"a": 1}')


def test_a_tool_is_called_with_the_arguments_that_are_given(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(
        model=GPT, messages=user('[[arguments={"city": "京都"}]]'), tools=OPENAI_TOOLS, tool_choice="required"
    )
    (call,) = found.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("Lookup", '{"city": "京都"}')


def test_the_users_name_steers_as_the_prompt_does(direct: Direct) -> None:
    steered = "[[say=as told]]"
    chat = direct.openai.chat.completions.create(model=GPT, messages=user("hello"), user=steered)
    response = direct.openai.responses.create(model=GPT, input="hello", user=steered)
    message = direct.anthropic.messages.create(
        model=CLAUDE, max_tokens=9, messages=user("hello"), metadata={"user_id": steered}
    )
    assert (chat.choices[0].message.content, response.output_text) == ("as told", "as told")
    assert [block.text for block in message.content if block.type == "text"] == ["as told"]


def test_calls_are_not_parallel_where_that_is_forbidden(direct: Direct) -> None:
    found = direct.openai.chat.completions.create(
        model=GPT, messages=user("[[calls=3]]"), tools=OPENAI_TOOLS, parallel_tool_calls=False
    )
    assert len(found.choices[0].message.tool_calls or []) == 1


def test_after_a_tool_has_spoken_the_answer_quotes_it(direct: Direct) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "Lookup", "arguments": "{}"}}
    found = direct.openai.chat.completions.create(
        model=GPT,
        messages=[
            *user("weather [[tool=Lookup]]"),
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "raining"},
        ],
        tools=OPENAI_TOOLS,
        tool_choice="required",
    )
    assert "raining" in (found.choices[0].message.content or "")


@pytest.mark.parametrize(("given", "count"), [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1], [2]], 2)])
async def test_every_text_has_its_vector(direct: Direct, given: Any, count: int) -> None:
    found = await direct.async_openai.embeddings.create(
        model="text-embedding-3-small", input=given, dimensions=4, encoding_format="float"
    )
    assert [one.embedding for one in found.data] == [[0.125 * n] * 4 for n in range(1, count + 1)]
    assert direct.billed_tokens()[:2] == (found.usage.prompt_tokens, 0)


def test_vectors_are_base64_on_request(direct: Direct) -> None:
    """The SDK requests base64 by default, but it only decodes the vectors without strict validation."""
    found = direct.openai.embeddings.with_raw_response.create(
        model="text-embedding-3-small", input="one", dimensions=2, encoding_format="base64"
    )
    assert json.loads(found.text)["data"][0]["embedding"] == base64.b64encode(struct.pack("<2f", 0.125, 0.125)).decode()


# Responses


def test_response_usage_equals_the_charge(direct: Direct) -> None:
    found = direct.openai.responses.create(model=GPT, input=COUNTED, previous_response_id="resp_before")
    assert (found.status, found.previous_response_id) == ("completed", "resp_before")
    assert found.output_text.startswith("answer to ")
    assert direct.billed_tokens() == reported_tokens(found.usage) == (70, 30, 20, 9)


async def test_response_events_are_numbered_and_end_with_the_whole_response(direct: Direct) -> None:
    stream = await direct.async_openai.responses.create(model=GPT, input=user("[[chunks=20]]"), stream=True)
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds.count("response.output_text.delta") == 20
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == said
    assert direct.billed_tokens() == reported_tokens(last.response.usage)


def test_the_responses_stream_helper_puts_calls_together(direct: Direct) -> None:
    with direct.openai.responses.stream(
        model=GPT, input="weather [[calls=2]]", tools=RESPONSES_TOOLS, tool_choice="required"
    ) as stream:
        found = stream.get_final_response()
    calls = [item for item in found.output if item.type == "function_call"]
    assert [call.call_id for call in calls] == ["call_1", "call_2"]
    assert all(Lookup.model_validate_json(call.arguments) for call in calls)
    assert direct.billed_tokens() == reported_tokens(found.usage)


async def test_responses_parse_gets_an_answer_of_its_schema(direct: Direct) -> None:
    found = await direct.async_openai.responses.parse(model=GPT, input="order", text_format=Order)
    assert found.output_parsed is not None


def test_a_response_quotes_the_function_outputs(direct: Direct) -> None:
    found = direct.openai.responses.create(
        model=GPT,
        input=[
            *user("weather"),
            {"type": "function_call", "call_id": "call_1", "name": "Lookup", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "raining"},
        ],
        tools=RESPONSES_TOOLS,
    )
    assert "raining" in found.output_text


def test_a_response_that_ends_early_is_incomplete(direct: Direct) -> None:
    found = direct.openai.responses.create(model=GPT, input="[[finish=max_output_tokens]]")
    assert found.status == "incomplete"
    assert found.incomplete_details is not None
    assert found.incomplete_details.reason == "max_output_tokens"


# Messages


def test_message_usage_equals_the_charge(direct: Direct) -> None:
    found = direct.anthropic.messages.create(model=CLAUDE, max_tokens=100, messages=user(COUNTED))
    assert found.stop_reason == "end_turn"
    assert found.usage.input_tokens == 70 - 20 - 9
    assert direct.billed_tokens() == reported_tokens(found.usage) == (70, 30, 20, 9)


def test_cache_write_price_depends_on_its_lifetime(direct: Direct) -> None:
    found = direct.anthropic.messages.create(
        model=CLAUDE, max_tokens=9, messages=user("[[tokens=20/0]] [[cachewrite=9/4]]")
    )
    assert found.usage.cache_creation is not None
    assert found.usage.cache_creation.ephemeral_5m_input_tokens == 9
    assert found.usage.cache_creation.ephemeral_1h_input_tokens == 4
    (row,) = direct.billed()
    assert row["nano_usd"] == "6450.00"  # 7 at $0.25, 9 at $0.30 and 4 at $0.50 a million


def test_message_stream_has_the_vendors_event_order(direct: Direct) -> None:
    stream = direct.anthropic.messages.create(
        model=CLAUDE, max_tokens=100, messages=user("[[say=ab]]" + COUNTED), stream=True
    )
    events = list(stream)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].type == "message_start"
    assert events[0].message.usage.cache_read_input_tokens == 20


async def test_message_stream_helper_usage_equals_the_charge(direct: Direct) -> None:
    async with direct.async_anthropic.messages.stream(
        model=CLAUDE, max_tokens=100, messages=user("[[chunks=30]] [[cached=2]]")
    ) as stream:
        said = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert len(said) == 30
    assert direct.billed_tokens() == reported_tokens(final.usage)
    assert direct.billed_tokens()[1:3] == (30, 2)


def test_a_message_stream_thinks_first_and_signs_it(direct: Direct) -> None:
    with direct.anthropic.messages.stream(
        model=CLAUDE,
        max_tokens=3000,
        messages=user("weather [[calls=2]]"),
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=ANTHROPIC_TOOLS,
    ) as stream:
        final = stream.get_final_message()
    thinking, _, *calls = final.content
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert thinking.type == "thinking"
    assert thinking.thinking.startswith("thinking about ")
    assert thinking.signature
    assert all(Lookup.model_validate(call.input) for call in calls if call.type == "tool_use")
    assert final.stop_reason == "tool_use"
    assert direct.billed_tokens() == reported_tokens(final.usage)


async def test_messages_parse_gets_an_answer_of_its_schema(direct: Direct) -> None:
    found = await direct.async_anthropic.messages.parse(
        model=CLAUDE, max_tokens=100, messages=user("order"), output_format=Order
    )
    assert found.parsed_output is not None
    assert found.parsed_output.kind == "small"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "Lookup"}])
def test_a_forced_tool_is_used(direct: Direct, choice: Any) -> None:
    found = direct.anthropic.messages.create(
        model=CLAUDE, max_tokens=100, messages=user("weather"), tools=ANTHROPIC_TOOLS, tool_choice=choice
    )
    assert [block.type for block in found.content] == ["tool_use"]


def test_a_message_quotes_the_tool_result(direct: Direct) -> None:
    used: Any = {"type": "tool_use", "id": "toolu_1", "name": "Lookup", "input": {}}
    given: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "raining"}]}
    found = direct.anthropic.messages.create(
        model=CLAUDE,
        max_tokens=100,
        messages=[*user("weather"), {"role": "assistant", "content": [used]}, {"role": "user", "content": [given]}],
        tools=ANTHROPIC_TOOLS,
    )
    (block,) = found.content
    assert block.type == "text"
    assert "raining" in block.text


async def test_counting_tokens_is_free_and_true(direct: Direct) -> None:
    counted = await direct.async_anthropic.messages.count_tokens(model=CLAUDE, messages=user("how long is this?"))
    assert direct.billed() == []
    found = await direct.async_anthropic.messages.create(model=CLAUDE, max_tokens=9, messages=user("how long is this?"))
    assert counted.input_tokens == found.usage.input_tokens


# Models


def test_each_vendor_lists_its_own_models(direct: Direct) -> None:
    of_openai = [model.id for model in direct.openai.models.list()]
    of_anthropic = [model.id for model in direct.anthropic.models.list(limit=2)]
    assert {GPT, "text-embedding-3-small"} <= set(of_openai)
    assert len(of_anthropic) == 3
    assert set(of_openai).isdisjoint(of_anthropic)
    assert direct.openai.models.retrieve(GPT).id == GPT
    assert direct.anthropic.models.retrieve(CLAUDE).display_name == "Claude 3 Haiku 20240307"
