"""Models that OpenAI has on its Responses API answer chat clients of both vendors, with tools and over turns."""

import json
from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.provider.responses_rules import SEAL
from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway
from tests.support.samples import ANTHROPIC_TOOLS, OPENAI_TOOLS, PIXEL, Lookup, Order
from tests.support.sdk_clients import Project, SdkClients, collected, entering, resolved, user

CHAT_MODELS = ("gpt-5-pro", "gpt-6-astra")
"""One that OpenAI has on the Responses API alone, and one whose tools it has there alone."""
PROMPT = "weather [[calls=2]] [[tokens=1000/500]] [[reasoning=400]]"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def sent(upstream: RunningProvider) -> tuple[str, Any]:
    """Return the path and the JSON that the provider was sent last."""
    (request,) = upstream.requests(last=1)
    return request.path, json.loads(request.body)


def seals(upstream: RunningProvider) -> list[str]:
    """Return the types of the items that the provider was sent last, and check that thinking is its own."""
    path, body = sent(upstream)
    assert (path, body["store"], body["include"]) == ("/v1/responses", False, ["reasoning.encrypted_content"])
    thoughts = [item for item in body["input"] if item.get("type") == "reasoning"]
    assert all(thought["encrypted_content"].startswith(SEAL) and thought["id"] for thought in thoughts)
    return [item.get("type", item.get("role")) for item in body["input"]]


SECOND_TURN = ["user", "reasoning", "function_call", "function_call", "function_call_output", "function_call_output"]


@pytest.mark.parametrize("model", CHAT_MODELS)
async def test_chat_completions_go_on_over_tool_turns(openai: Any, upstream: RunningProvider, model: str) -> None:
    messages: list[Any] = user(PROMPT)
    request: Any = {"model": model, "messages": messages, "tools": OPENAI_TOOLS, "reasoning_effort": "high"}
    first = await resolved(openai.chat.completions.create(**request))
    assert (first.choices[0].finish_reason, first.model) == ("tool_calls", model)
    assert first.usage.completion_tokens_details.reasoning_tokens == 400
    calls = first.choices[0].message.tool_calls
    assert [Lookup.model_validate_json(call.function.arguments).days for call in calls] == [1, 1]
    messages.append(first.choices[0].message.model_dump(exclude_none=True))
    messages.extend({"role": "tool", "tool_call_id": call.id, "content": "raining"} for call in calls)
    second = await resolved(openai.chat.completions.create(**request))
    assert "the tools said raining; raining" in second.choices[0].message.content
    assert seals(upstream) == SECOND_TURN
    assert sent(upstream)[1]["reasoning"] == {"effort": "high"}


@pytest.mark.parametrize("model", CHAT_MODELS)
async def test_a_chat_stream_equals_the_answer_in_one_piece(openai: Any, model: str) -> None:
    request: Any = {"model": model, "messages": user(PROMPT), "tools": OPENAI_TOOLS}
    whole = await resolved(openai.chat.completions.create(**request))
    async with entering(openai.chat.completions.stream(**request, stream_options={"include_usage": True})) as stream:
        await collected(stream)
        final = await resolved(stream.get_final_completion())
    assert final.choices[0].finish_reason == "tool_calls"
    assert [call.function.arguments for call in final.choices[0].message.tool_calls] == [
        call.function.arguments for call in whole.choices[0].message.tool_calls
    ]
    assert final.usage.total_tokens == whole.usage.total_tokens == 1_500
    assert final.usage.cost == whole.usage.cost > 0


@pytest.mark.parametrize("model", CHAT_MODELS)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_messages_go_on_over_tool_turns(
    anthropic: Any, upstream: RunningProvider, model: str, is_stream: bool
) -> None:
    messages: list[Any] = user(PROMPT)
    request: Any = {
        "model": model,
        "messages": messages,
        "tools": ANTHROPIC_TOOLS,
        "max_tokens": 9_000,
        "thinking": {"type": "enabled", "budget_tokens": 5_000},
    }

    async def ask() -> Any:
        if not is_stream:
            return await resolved(anthropic.messages.create(**request))
        async with entering(anthropic.messages.stream(**request)) as stream:
            await collected(stream)
            return await resolved(stream.get_final_message())

    first = await ask()
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    assert first.content[0].thinking.startswith("thinking about")
    assert (first.stop_reason, first.usage.output_tokens) == ("tool_use", 500)
    messages.append({"role": "assistant", "content": [block.model_dump() for block in first.content]})
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": [IMAGE]} for call in calls]
    messages.append({"role": "user", "content": results})
    second = await ask()
    assert second.content[-1].text.startswith("answer to")
    assert seals(upstream) == SECOND_TURN
    outputs = [item["output"] for item in sent(upstream)[1]["input"] if item.get("type") == "function_call_output"]
    assert [[part["type"] for part in output] for output in outputs] == [["input_image"], ["input_image"]]


async def test_thinking_that_is_not_asked_for_is_not_in_the_way(anthropic: Any) -> None:
    request: Any = {"model": "gpt-5-pro", "messages": user("[[say=hi]]"), "max_tokens": 1}
    whole = await resolved(anthropic.messages.create(**request))
    async with entering(anthropic.messages.stream(**request)) as stream:
        await collected(stream)
        streamed = await resolved(stream.get_final_message())
    for message in (whole, streamed):
        assert [(block.type, block.text) for block in message.content] == [("text", "hi")]


async def test_a_cap_below_the_least_is_raised_and_told(anthropic: Any, upstream: RunningProvider) -> None:
    raw = await resolved(
        anthropic.messages.with_raw_response.create(model="gpt-5-pro", messages=user("quota"), max_tokens=1)
    )
    assert raw.headers["x-gateway-max-tokens"] == "16"
    assert sent(upstream)[1]["max_output_tokens"] == 16


async def test_an_answer_keeps_to_its_schema(openai: Any) -> None:
    found = await resolved(
        openai.chat.completions.parse(model="gpt-5-pro", messages=user("order"), response_format=Order)
    )
    assert isinstance(found.choices[0].message.parsed, Order)


@pytest.mark.parametrize(
    ("model", "effort", "path"),
    [
        ("gpt-6-sol", None, "/v1/responses"),
        ("gpt-6-sol", "high", "/v1/responses"),
        ("gpt-6-sol", "none", "/v1/chat/completions"),
        ("gpt-5.4", None, "/v1/chat/completions"),
        ("gpt-5.4", "high", "/v1/responses"),
        ("gpt-5", "high", "/v1/chat/completions"),
    ],
)
async def test_tools_keep_their_effort(
    openai: Any, anthropic: Any, upstream: RunningProvider, model: str, effort: str | None, path: str
) -> None:
    asked: Any = {"reasoning_effort": effort} if effort else {}
    raw = await resolved(
        openai.chat.completions.with_raw_response.create(model=model, messages=user("hi"), tools=OPENAI_TOOLS, **asked)
    )
    assert "x-gateway-dropped" not in raw.headers
    assert sent(upstream)[0] == path
    asked = {"none": {"thinking": {"type": "disabled"}}, None: {}}.get(effort, {"output_config": {"effort": effort}})
    raw = await resolved(
        anthropic.messages.with_raw_response.create(
            model=model, messages=user("hi"), tools=ANTHROPIC_TOOLS, max_tokens=99, **asked
        )
    )
    assert "x-gateway-dropped" not in raw.headers
    assert sent(upstream)[0] == path


@pytest.mark.parametrize("is_stream", [False, True])
async def test_thinking_that_openai_cannot_decrypt_stops_nobody(
    openai: Any, upstream: RunningProvider, is_stream: bool
) -> None:
    foreign = {"type": "reasoning.encrypted", "data": "another's", "id": "rs_9", "format": "openai-responses-v1"}
    said = {"role": "assistant", "content": "well", "reasoning_details": [foreign]}
    request: Any = {"model": "gpt-5-pro", "messages": [*user("hi"), said, *user("and now?")]}
    if is_stream:
        assert await collected(openai.chat.completions.create(**request, stream=True))
    else:
        assert (await resolved(openai.chat.completions.create(**request))).choices[0].message.content
    assert [item["role"] for item in sent(upstream)[1]["input"]] == ["user", "assistant", "user"]


async def test_a_conversation_goes_on_where_chat_completions_suffice(openai: Any, upstream: RunningProvider) -> None:
    messages: list[Any] = user("[[reasoning=9]] hi")
    first = await resolved(openai.chat.completions.create(model="gpt-6-sol", messages=messages, tools=OPENAI_TOOLS))
    said = first.choices[0].message.model_dump(exclude_none=True)
    assert said["reasoning_details"][-1]["data"].startswith(SEAL)
    messages += [said, *user("and now?")]
    second = await resolved(openai.chat.completions.create(model="gpt-6-sol", messages=messages))
    assert second.choices[0].message.content
    path, body = sent(upstream)
    assert path == "/v1/chat/completions"
    assert body["messages"][1] == {"role": "assistant", "content": said["content"]}


async def test_what_chat_completions_take_goes_there_byte_for_byte(openai: Any, upstream: RunningProvider) -> None:
    await resolved(openai.chat.completions.create(model="gpt-6-astra", messages=user("hi"), seed=7))
    assert sent(upstream) == ("/v1/chat/completions", {"model": "gpt-6-astra", "messages": user("hi"), "seed": 7})


async def test_what_the_other_api_lacks_is_told(openai: Any) -> None:
    raw = await resolved(
        openai.chat.completions.with_raw_response.create(
            model="gpt-5-pro", messages=[{"role": "user", "name": "ann", "content": "hi"}], seed=7, stop="END"
        )
    )
    assert set(raw.headers["x-gateway-dropped"].split(", ")) == {"name", "seed", "stop"}


@pytest.mark.parametrize(
    ("words", "reason", "stop_reason"),
    [
        ("[[finish=max_output_tokens]]", "length", "max_tokens"),
        ("[[finish=content_filter]]", "content_filter", "refusal"),
        ("[[refuse]]", "stop", "refusal"),
    ],
)
async def test_an_answer_ends_as_its_client_says_it(
    openai: Any, anthropic: Any, words: str, reason: str, stop_reason: str
) -> None:
    found = await resolved(openai.chat.completions.create(model="gpt-5-pro", messages=user(words)))
    said = found.choices[0].message
    assert (found.choices[0].finish_reason, (said.content or said.refusal)[:9]) == (reason, "answer to")
    assert (said.refusal is None) == ("refuse" not in words)
    message = await resolved(anthropic.messages.create(model="gpt-5-pro", messages=user(words), max_tokens=99))
    assert (message.stop_reason, message.content[0].text[:9]) == (stop_reason, "answer to")


@pytest.mark.parametrize("words", ["[[nousage]] [[tomorrow]]", "[[tomorrow]] [[split=utf8]]"])
async def test_what_a_vendor_adds_or_leaves_out_stops_nobody(openai: Any, words: str) -> None:
    chunks = await collected(
        openai.chat.completions.create(
            model="gpt-5-pro", messages=user(words), stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("answer to")
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.parametrize("words", ["[[cut=5]]", "[[streamerror=3]]", "[[finish=failed]]"])
async def test_a_stream_that_breaks_is_an_error(openai: Any, anthropic: Any, words: str) -> None:
    with pytest.raises(openai_sdk.APIError):
        await collected(openai.chat.completions.create(model="gpt-5-pro", messages=user(words), stream=True))
    with pytest.raises(anthropic_sdk.APIError):
        await collected(anthropic.messages.create(model="gpt-5-pro", messages=user(words), max_tokens=99, stream=True))


async def test_a_failed_response_is_an_error(openai: Any) -> None:
    with pytest.raises(openai_sdk.APIStatusError) as failed:
        await resolved(openai.chat.completions.create(model="gpt-5-pro", messages=user("[[finish=failed]]")))
    assert failed.value.status_code == 502


async def test_tokens_are_counted_with_the_thinking_that_is_sent(anthropic: Any, upstream: RunningProvider) -> None:
    request: Any = {"model": "gpt-6-astra", "messages": user(PROMPT), "tools": ANTHROPIC_TOOLS}
    first = await resolved(anthropic.messages.create(**request, max_tokens=99))
    blocks = [block.model_dump() for block in first.content]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "x"} for block in blocks if "input" in block
    ]
    request["messages"] += [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
    counted = await resolved(anthropic.messages.count_tokens(**request))
    assert counted.input_tokens > 0
    path, body = sent(upstream)
    assert path == "/v1/responses/input_tokens"
    assert [item.get("type", "user") for item in body["input"]] == SECOND_TURN


async def test_what_is_held_covers_what_is_charged(gateway: Gateway, project: Project) -> None:
    poor = project.issue(dailyBudget=0.5)["apiKey"]
    async with SdkClients(gateway, poor).async_openai as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-6-astra", messages=user("[[count=1]] look it up"), tools=OPENAI_TOOLS
        )
    cost = float(raw.headers["x-gateway-cost-usd"])
    assert 0 < cost < 0.5
    assert float(raw.headers["x-gateway-budget-remaining-usd"]) == pytest.approx(0.5 - cost)
    assert int(raw.parse().usage.prompt_tokens) >= 256  # type: ignore[union-attr]
