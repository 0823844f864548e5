"""The Responses API works for every chat model, as OpenAI's SDK knows it."""

import json
from typing import Any

import openai as openai_sdk
import pytest

from tests.provider.running import RunningProvider
from tests.support.samples import RESPONSES_TOOLS, Lookup, Order
from tests.support.sdk_clients import CLAUDE, ECHO, UPSTREAM_CLAUDE, collected, entering, resolved, user

PROMPT = "[[say=Grüß Gott]] [[tokens=1000/500]]"


def sent(upstream: RunningProvider) -> Any:
    """Return the JSON that the provider was sent last."""
    return json.loads(upstream.requests(last=1)[0].body)


@pytest.mark.parametrize(("model", "text"), [(CLAUDE, "Grüß Gott"), (ECHO, f"echo: {PROMPT}")])
async def test_a_response_is_made_by_any_model(openai: Any, model: str, text: str) -> None:
    found = await resolved(openai.responses.create(model=model, instructions="be kind", input=PROMPT))
    assert (found.object, found.status, found.output_text) == ("response", "completed", text)
    assert (found.model, found.instructions, found.store, found.error) == (model, "be kind", False, None)
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens > 0
    assert found.usage.cost > 0


@pytest.mark.parametrize("model", [CLAUDE, ECHO])
async def test_a_stream_of_any_model_equals_its_response(openai: Any, model: str) -> None:
    request: Any = {"model": model, "input": user(PROMPT)}
    whole = await resolved(openai.responses.create(**request))
    events = await collected(openai.responses.create(**request, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    final = events[-1].response
    assert [item.content for item in final.output] == [item.content for item in whole.output]
    assert final.usage == whole.usage
    assert final.usage.cost > 0


async def test_the_model_is_sent_the_whole_conversation(openai: Any, upstream: RunningProvider) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    pdf = "data:application/pdf;base64,JVBERi0xLjQK"
    parts = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": pixel, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
    ]
    await resolved(openai.responses.create(model=CLAUDE, input=user(parts), max_output_tokens=77, temperature=0.5))
    body = sent(upstream)
    assert (body["model"], body["max_tokens"], body["temperature"]) == (UPSTREAM_CLAUDE, 77, 0.5)
    assert [block["type"] for block in body["messages"][0]["content"]] == ["text", "image", "document"]


async def test_a_conversation_goes_on_with_its_items_and_tool_results(openai: Any) -> None:
    items: list[Any] = user("weather [[calls=2]]")
    request: Any = {"model": CLAUDE, "input": items, "tools": RESPONSES_TOOLS}
    first = await resolved(openai.responses.create(**request))
    calls = [item for item in first.output if item.type == "function_call"]
    assert [Lookup.model_validate_json(call.arguments).days for call in calls] == [1, 1]
    items.extend(first.output)
    items.extend({"type": "function_call_output", "call_id": call.call_id, "output": "raining"} for call in calls)
    second = await resolved(openai.responses.create(**request))
    assert "the tools said raining; raining" in second.output_text


async def test_streamed_calls_have_their_arguments(openai: Any) -> None:
    request: Any = {"model": CLAUDE, "input": user("weather [[calls=2]]"), "tools": RESPONSES_TOOLS}
    async with entering(openai.responses.stream(**request)) as stream:
        await collected(stream)
        final = await resolved(stream.get_final_response())
    calls = [item for item in final.output if item.type == "function_call"]
    assert [Lookup.model_validate_json(call.arguments).days for call in calls] == [1, 1]


async def test_an_answer_is_parsed_by_its_schema(openai: Any) -> None:
    found = await resolved(openai.responses.parse(model=CLAUDE, input="order", text_format=Order))
    assert isinstance(found.output_parsed, Order)


async def test_a_custom_tool_is_called_with_its_text(openai: Any, upstream: RunningProvider) -> None:
    tool = {
        "type": "custom",
        "name": "apply_patch",
        "description": "Edits files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'},
    }
    arguments = json.dumps({"input": "*** Begin Patch\n"}).replace("]", "%5D")
    request: Any = {"model": CLAUDE, "input": f"[[calls=1]] [[arguments={arguments}]]", "tools": [tool]}
    found = await resolved(openai.responses.create(**request))
    (call,) = (item for item in found.output if item.type == "custom_tool_call")
    assert (call.name, call.input) == ("apply_patch", "*** Begin Patch\n")
    assert 'start: "*** Begin Patch"' in sent(upstream)["tools"][0]["description"]
    events = await collected(openai.responses.create(**request, stream=True))
    assert [event.input for event in events if event.type == "response.custom_tool_call_input.done"] == [call.input]


async def test_what_is_left_out_is_told(openai: Any) -> None:
    raw = await resolved(
        openai.responses.with_raw_response.create(
            model=CLAUDE, input="x", store=True, tools=[{"type": "web_search"}], text={"verbosity": "low"}
        )
    )
    assert raw.headers["x-gateway-dropped"] == "store, verbosity, web_search"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0] (item_reference)"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
            "input[0].content[0].file_id",
        ),
    ],
)
async def test_what_needs_state_is_refused_by_name(
    openai: Any, upstream: RunningProvider, fields: Any, named: str
) -> None:
    before = upstream.calls
    with pytest.raises(openai_sdk.BadRequestError) as refused:
        await resolved(openai.responses.create(**({"model": CLAUDE, "input": "x"} | fields)))
    assert f"`{named}`" in refused.value.message
    assert upstream.calls == before


@pytest.mark.parametrize("word", ["[[streamerror=3]]", "[[cut=3]]"])
async def test_a_stream_that_breaks_ends_with_both_errors(openai: Any, word: str) -> None:
    events = await collected(openai.responses.create(model=CLAUDE, input=f"{word} [[pace=80]]", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.error.code == "server_error"


async def test_an_answer_that_is_cut_short_is_incomplete(openai: Any) -> None:
    request: Any = {"model": CLAUDE, "input": "[[finish=max_tokens]]"}
    found = await resolved(openai.responses.create(**request))
    events = await collected(openai.responses.create(**request, stream=True))
    for response in (found, events[-1].response):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert events[-1].type == "response.incomplete"


async def test_a_cached_answer_is_streamed_again(openai: Any) -> None:
    request: Any = {"model": ECHO, "input": f"again {type(openai).__name__}"}
    cached = openai.with_options(default_headers={"x-gateway-cache": "on"})
    first = await resolved(cached.responses.create(**request))
    events = await collected(cached.responses.create(**request, stream=True))
    final = events[-1].response
    assert (final.id, final.output_text, final.usage.cost) == (first.id, first.output_text, 0)


async def test_thinking_goes_round_with_its_signature(openai: Any, upstream: RunningProvider) -> None:
    request: Any = {
        "model": "claude-sonnet-4-5",
        "input": user("think [[calls=1]]"),
        "tools": RESPONSES_TOOLS,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }
    first = await resolved(openai.responses.create(**request))
    thought, *_ = first.output
    assert thought.type == "reasoning"
    assert thought.summary[0].text.startswith("thinking about")
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "raining"}
    items = [item.model_dump(exclude_none=True) for item in first.output]
    await resolved(openai.responses.create(**request | {"input": [*request["input"], *items, result]}))
    said = next(turn for turn in sent(upstream)["messages"] if turn["role"] == "assistant")
    assert said["content"][0]["type"] == "thinking"
    assert said["content"][0]["signature"]
