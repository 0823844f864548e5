"""A request of OpenAI's SDK is translated for Anthropic's models, and the response back for the SDK."""

import json
from typing import Any

import pytest
from openai import pydantic_function_tool

from tests.provider.running import RunningProvider
from tests.support.samples import COUNTED, OPENAI_TOOLS, PIXEL, SCHEMA, Lookup, Order
from tests.support.sdk_clients import CLAUDE, UPSTREAM_CLAUDE, SdkClients, collected, resolved, user

HELLO = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
THINKER = "claude-opus-4-8"


@pytest.fixture
def translate(sync_sdks: SdkClients, upstream: RunningProvider) -> Any:
    """Return a function that sends a request through the SDK and returns the request that the provider received."""

    def ask(**fields: Any) -> Any:
        sync_sdks.openai.chat.completions.create(**({"model": CLAUDE, "messages": user("hello")} | fields))
        received = upstream.requests(last=1)[0]
        assert received.path == "/v1/messages"
        return json.loads(received.body)

    return ask


def test_plain_request_stays_plain(translate: Any) -> None:
    assert translate() == {"model": UPSTREAM_CLAUDE, "max_tokens": 8192, "messages": HELLO}


def test_every_setting_has_its_word(translate: Any) -> None:
    assert translate(
        model=THINKER, max_completion_tokens=77, stop=["END", "STOP"], user="u-1", reasoning_effort="low"
    ) == {
        "model": THINKER,
        "max_tokens": 77,
        "messages": HELLO,
        "stop_sequences": ["END", "STOP"],
        "metadata": {"user_id": "u-1"},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
    }


def test_sampling_is_carried_to_models_that_take_it(translate: Any) -> None:
    sampled = translate(temperature=0.5, top_p=0.9)
    assert (sampled["temperature"], sampled["top_p"]) == (0.5, 0.9)
    assert translate(model=THINKER, temperature=0.5, top_p=0.9).keys() == {"model", "max_tokens", "messages"}


def test_one_stop_is_a_list_of_one(translate: Any) -> None:
    assert translate(stop="END")["stop_sequences"] == ["END"]


def test_empty_change_changes_nothing(translate: Any) -> None:
    said = translate(
        n=1, logprobs=False, store=False, presence_penalty=0, frequency_penalty=0, prompt_cache_key="k", logit_bias={}
    )
    assert said == {"model": UPSTREAM_CLAUDE, "max_tokens": 8192, "messages": HELLO}


def test_instructions_become_the_system_prompt_in_their_order(translate: Any) -> None:
    found = translate(
        messages=[
            {"role": "system", "content": "be kind"},
            {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
            *user("hello"),
        ]
    )
    assert found["system"] == "be kind\n\nbe brief"
    assert found["messages"] == HELLO


def test_turns_alternate(translate: Any) -> None:
    found = translate(
        messages=[
            *user("one"),
            *user("two"),
            {"role": "assistant", "content": "three"},
            *user([{"type": "text", "text": "four"}, {"type": "text", "text": "five"}]),
        ]
    )
    assert [
        (turn["role"], [(block["type"], block["text"]) for block in turn["content"]]) for turn in found["messages"]
    ] == [
        ("user", [("text", "one"), ("text", "two")]),
        ("assistant", [("text", "three")]),
        ("user", [("text", "four"), ("text", "five")]),
    ]


def test_images_are_shown_in_their_place(translate: Any) -> None:
    found = translate(
        messages=user(
            [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "high"}},
                {"type": "text", "text": "and"},
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ]
        )
    )
    assert found["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "text", "text": "and"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
    ]


def test_tools_are_tools(translate: Any) -> None:
    strict: Any = {"type": "function", "function": {"name": "now", "strict": True, "parameters": SCHEMA}}
    bare: Any = {"type": "function", "function": {"name": "bare"}}
    found = translate(tools=[*OPENAI_TOOLS, strict, bare])
    assert found["tools"] == [
        {"name": "Lookup", "description": "Looks it up.", "input_schema": SCHEMA},
        {"name": "now", "input_schema": SCHEMA},
        {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert "tool_choice" not in found


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "Lookup"}}},
            {"type": "tool", "name": "Lookup"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, {"type": "auto", "disable_parallel_tool_use": False}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_the_choice_of_a_tool_has_its_word(translate: Any, given: Any, choice: Any) -> None:
    assert translate(tools=OPENAI_TOOLS, **given)["tool_choice"] == choice


def test_calls_and_their_results_stand_where_anthropic_has_them(translate: Any) -> None:
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "Lookup", "arguments": '{"city": "Köln"}'}}
    other: Any = {"id": "call_2", "type": "function", "function": {"name": "Lookup", "arguments": ""}}
    found = translate(
        tools=OPENAI_TOOLS,
        messages=[
            *user("weather"),
            {"role": "assistant", "content": "I look.", "tool_calls": [call, other]},
            {"role": "tool", "tool_call_id": "call_1", "content": "raining"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "snowing"}]},
            *user("so?"),
        ],
    )
    assert found["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "call_1", "name": "Lookup", "input": {"city": "Köln"}},
                {"type": "tool_use", "id": "call_2", "name": "Lookup", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "raining"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "snowing"},
                {"type": "text", "text": "so?"},
            ],
        },
    ]


def test_the_sdks_schemas_reach_the_provider(sync_sdks: SdkClients, upstream: RunningProvider) -> None:
    sync_sdks.openai.chat.completions.parse(
        model=THINKER, messages=user("order"), response_format=Order, tools=[pydantic_function_tool(Lookup)]
    )
    received = json.loads(upstream.requests(last=1)[0].body)
    wanted = received["output_config"]["format"]
    assert (wanted["type"], wanted["schema"]["additionalProperties"]) == ("json_schema", False)
    assert set(wanted["schema"]["properties"]) == {"kind", "note", "items"}
    assert received["tools"][0]["strict"] is True
    assert set(received["tools"][0]["input_schema"]["properties"]) == {"city", "days"}


def test_a_model_without_structured_output_gives_the_sdks_object_all_the_same(sync_sdks: SdkClients) -> None:
    answer = sync_sdks.openai.chat.completions.parse(model=CLAUDE, messages=user("order"), response_format=Order)
    (choice,) = answer.choices
    assert isinstance(choice.message.parsed, Order)
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    with sync_sdks.openai.chat.completions.stream(
        model=CLAUDE, messages=user("order"), response_format=Order
    ) as events:
        assert events.get_final_completion().choices[0].message.parsed == choice.message.parsed


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("model_context_window_exceeded", "length"),
    ],
)
async def test_why_it_ended_has_openais_word(openai: Any, reason: str, finish_reason: str) -> None:
    asked: Any = {"model": CLAUDE, "messages": user(f"[[finish={reason}]]")}
    whole = await resolved(openai.chat.completions.create(**asked))
    chunks = await collected(openai.chat.completions.create(**asked, stream=True))
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == finish_reason


async def test_tokens_are_counted_as_openai_counts_them(openai: Any) -> None:
    asked: Any = {"model": CLAUDE, "messages": user(f"{COUNTED} hello")}
    whole = await resolved(openai.chat.completions.create(**asked))
    *_, last = await collected(
        openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (70, 30, 100)
    assert usage.prompt_tokens_details.cached_tokens == 20
    assert usage.prompt_tokens_details.cache_write_tokens == 9
    assert usage.completion_tokens_details.reasoning_tokens == 7
    assert usage.cost == pytest.approx((41 * 3 + 20 * 0.3 + 9 * 3.75 + 30 * 15) / 1_000_000)
    assert last.usage == usage


async def test_text_and_calls_come_in_one_response(openai: Any) -> None:
    asked: Any = {"model": CLAUDE, "messages": user("[[say=looking]] [[calls=2]]"), "tools": OPENAI_TOOLS}
    message = (await resolved(openai.chat.completions.create(**asked))).choices[0].message
    assert message.content == "looking"
    assert [call.id for call in message.tool_calls] == ["toolu_1", "toolu_2"]
    assert [json.loads(call.function.arguments)["days"] for call in message.tool_calls] == [1, 1]
