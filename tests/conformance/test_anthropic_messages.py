"""Anthropic's SDK creates messages with Anthropic's models (passed through), OpenAI's (translated) and `echo`."""

from typing import Any

import pytest
from anthropic import beta_async_tool, beta_tool

from tests.support.samples import ANTHROPIC_TOOLS, COUNTED, PIXEL, Lookup, Order
from tests.support.sdk_clients import CLAUDE, ECHO, GPT, MODELS, collected, entering, resolved, user

BOTH = (CLAUDE, GPT)
SAID = {
    GPT: "gruß an alle",
    CLAUDE: "gruß an alle",
    ECHO: "echo: [[say=gru%C3%9F%20an%20alle]]",
}
EVENTS = ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_answers_a_message(anthropic: Any, model: str) -> None:
    found = await resolved(
        anthropic.messages.create(
            model=model, max_tokens=100, system="be kind", messages=user("[[say=gru%C3%9F%20an%20alle]]")
        )
    )
    (block,) = found.content
    assert (found.type, found.role) == ("message", "assistant")
    assert (found.stop_reason, found.stop_sequence) == ("end_turn", None)
    assert (block.type, block.text) == ("text", SAID[model])
    assert found.usage.input_tokens > 0
    assert found.usage.output_tokens > 0
    assert found.usage.cost > 0


@pytest.mark.parametrize("model", MODELS)
async def test_stream_equals_the_response(anthropic: Any, model: str) -> None:
    request: Any = {"model": model, "max_tokens": 100, "messages": user(f"one two three {COUNTED} [[chunks=20]]")}
    whole = await resolved(anthropic.messages.create(**request))
    events = await collected(anthropic.messages.create(**request, stream=True))
    deltas = [event for event in events if event.type == "content_block_delta"]
    others = [event for event in events if event.type != "content_block_delta"]
    assert [event.type for event in others] == EVENTS
    assert len(deltas) > 3
    assert "".join(event.delta.text for event in deltas) == whole.content[0].text
    assert (others[0].message.id, others[0].message.model) == (whole.id, whole.model)
    assert others[3].delta.stop_reason == whole.stop_reason
    counted = others[3].usage
    assert (counted.input_tokens, counted.output_tokens) == (whole.usage.input_tokens, whole.usage.output_tokens)
    assert counted.cache_read_input_tokens == whole.usage.cache_read_input_tokens
    assert counted.cost == whole.usage.cost > 0


@pytest.mark.parametrize("model", MODELS)
async def test_the_stream_helper_puts_the_message_together(anthropic: Any, model: str) -> None:
    request: Any = {"model": model, "max_tokens": 100, "messages": user(f"one two three {COUNTED}")}
    whole = await resolved(anthropic.messages.create(**request))
    async with entering(anthropic.messages.stream(**request)) as stream:
        texts = await collected(stream.text_stream)
        final = await resolved(stream.get_final_message())
        final_text = await resolved(stream.get_final_text())
    assert len(texts) > 3
    assert "".join(texts) == final_text == whole.content[0].text
    assert (final.id, final.stop_reason) == (whole.id, whole.stop_reason)
    counted, told = final.usage, whole.usage
    assert (counted.input_tokens, counted.output_tokens) == (told.input_tokens, told.output_tokens)
    assert counted.cache_read_input_tokens == told.cache_read_input_tokens
    assert counted.output_tokens_details == told.output_tokens_details
    assert stream.request_id.startswith("req_")


@pytest.mark.parametrize("model", BOTH)
async def test_parse_gets_an_answer_of_its_schema(anthropic: Any, model: str) -> None:
    found = await resolved(
        anthropic.messages.parse(model=model, max_tokens=100, messages=user("order"), output_format=Order)
    )
    assert isinstance(found.parsed_output, Order)


@pytest.mark.parametrize("model", BOTH)
async def test_a_parsed_answer_goes_back_into_the_conversation(anthropic: Any, model: str) -> None:
    messages = user("order")
    request: Any = {"model": model, "max_tokens": 100, "messages": messages, "output_format": Order}
    first = await resolved(anthropic.messages.parse(**request))
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "user", "content": "another"})
    second = await resolved(anthropic.messages.parse(**request))
    assert isinstance(second.parsed_output, Order)


@pytest.mark.parametrize("model", BOTH)
async def test_a_streamed_answer_is_parsed_by_its_schema(anthropic: Any, model: str) -> None:
    manager = anthropic.messages.stream(model=model, max_tokens=100, messages=user("order"), output_format=Order)
    async with entering(manager) as stream:
        final = await resolved(stream.get_final_message())
    assert isinstance(final.parsed_output, Order)


@pytest.mark.parametrize("model", BOTH)
async def test_the_beta_parses_too(anthropic: Any, model: str) -> None:
    request: Any = {"model": model, "max_tokens": 100, "messages": user("order"), "output_format": Order}
    whole = await resolved(anthropic.beta.messages.parse(**request))
    async with entering(anthropic.beta.messages.stream(**request)) as stream:
        final = await resolved(stream.get_final_message())
    assert whole.parsed_output == final.parsed_output
    assert isinstance(final.parsed_output, Order)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "stop_sequences": [], "system": []},
        {"system": ""},
        {"messages": [*user("a"), {"role": "assistant", "content": []}, *user("b")]},
    ],
    ids=["empty lists", "empty system", "empty turn"],
)
async def test_empty_values_are_accepted(anthropic: Any, model: str, fields: Any) -> None:
    request: Any = {"model": model, "max_tokens": 100, "messages": user("hello")} | fields
    found = await resolved(anthropic.messages.create(**request))
    assert found.content


@pytest.mark.parametrize("model", BOTH)
async def test_a_tool_is_called_when_it_must_be(anthropic: Any, model: str) -> None:
    found = await resolved(
        anthropic.messages.create(
            model=model,
            max_tokens=100,
            messages=user("weather"),
            tools=ANTHROPIC_TOOLS,
            tool_choice={"type": "tool", "name": "Lookup"},
        )
    )
    call = found.content[-1]
    assert (call.type, call.name, found.stop_reason) == ("tool_use", "Lookup", "tool_use")
    assert Lookup.model_validate(call.input)


@pytest.mark.parametrize("model", BOTH)
async def test_conversation_continues_with_the_sdks_blocks_and_tool_results(anthropic: Any, model: str) -> None:
    messages = user("weather [[calls=2]]")
    request: Any = {"model": model, "max_tokens": 100, "messages": messages, "tools": ANTHROPIC_TOOLS}
    first = await resolved(anthropic.messages.create(**request))
    one, other = [block for block in first.content if block.type == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": one.id, "content": "raining"},
        {"type": "tool_result", "tool_use_id": other.id, "content": [{"type": "text", "text": "snowing"}]},
    ]
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "user", "content": results})
    second = await resolved(anthropic.messages.create(**request))
    assert "the tools said raining; snowing" in second.content[0].text
    messages.append({"role": "assistant", "content": second.content})
    messages.append({"role": "user", "content": "thanks [[say=welcome]] [[calls=0]]"})
    third = await resolved(anthropic.messages.create(**request))
    assert [block.text for block in third.content] == ["welcome"]


@pytest.mark.parametrize("model", BOTH)
async def test_parallel_calls_stream_and_go_back(anthropic: Any, model: str) -> None:
    messages = user("weather [[calls=2]]")
    request: Any = {"model": model, "max_tokens": 100, "messages": messages, "tools": ANTHROPIC_TOOLS}
    async with entering(anthropic.messages.stream(**request)) as stream:
        events = await collected(stream)
        final = await resolved(stream.get_final_message())
    calls = [block for block in final.content if block.type == "tool_use"]
    assert [Lookup.model_validate(call.input).days for call in calls] == [1, 1]
    assert sum(event.type == "input_json" for event in events) > 2
    messages.append({"role": "assistant", "content": final.content})
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "raining"} for call in calls]
    messages.append({"role": "user", "content": results})
    found = await resolved(anthropic.messages.create(**request))
    assert "the tools said raining; raining" in found.content[0].text


@pytest.mark.parametrize("model", BOTH)
async def test_parallel_calls_can_be_disabled(anthropic: Any, model: str) -> None:
    found = await resolved(
        anthropic.messages.create(
            model=model,
            max_tokens=100,
            messages=user("[[calls=3]]"),
            tools=ANTHROPIC_TOOLS,
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        )
    )
    assert [block.type for block in found.content].count("tool_use") == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "https://example.com/cat.png"},
        {"type": "base64", "media_type": "image/png", "data": PIXEL},
    ],
    ids=["url", "base64"],
)
async def test_images_are_shown_to_every_model(anthropic: Any, model: str, source: Any) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image", "source": source}]
    found = await resolved(anthropic.messages.create(model=model, max_tokens=100, messages=user(parts)))
    assert found.content[0].text


@beta_tool
def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where
    """
    return f"sunny, {len(city)} letters"


@beta_async_tool
async def weather_later(city: str) -> str:
    """Tell the weather.

    Args:
        city: where
    """
    return f"sunny, {len(city)} letters"


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_tool_runner_runs_tools_to_the_last_answer(anthropic: Any, model: str, stream: bool) -> None:
    tools = {"Anthropic": weather, "AsyncAnthropic": weather_later}
    runner = anthropic.beta.messages.tool_runner(
        model=model,
        max_tokens=100,
        messages=user("weather [[calls=2]]"),
        tools=[tools[type(anthropic).__name__]],
        stream=stream,
    )
    last = await resolved(runner.until_done())
    assert "the tools said sunny, 27 letters; sunny, 27 letters" in last.content[0].text
