"""A request of Anthropic's SDK is translated for OpenAI's models, and the response back for the SDK."""

import json
from typing import Any

import pytest

from tests.provider.running import RunningProvider
from tests.support.samples import ANTHROPIC_TOOLS, COUNTED, PIXEL, SCHEMA, Order
from tests.support.sdk_clients import GPT, SdkClients, collected, resolved, user

HELLO = user("hello")
TOOL = {"name": "Lookup", "description": "Looks it up.", "parameters": SCHEMA}


@pytest.fixture
def translate(sync_sdks: SdkClients, upstream: RunningProvider) -> Any:
    """Return a function that sends a request through the SDK and returns the request that the provider received."""

    def ask(**fields: Any) -> Any:
        sync_sdks.anthropic.messages.create(**({"model": GPT, "max_tokens": 50, "messages": user("hello")} | fields))
        received = upstream.requests(last=1)[0]
        assert received.path == "/v1/chat/completions"
        return json.loads(received.body)

    return ask


def test_plain_request_stays_plain(translate: Any) -> None:
    assert translate() == {"model": GPT, "max_tokens": 50, "messages": HELLO}


def test_every_setting_has_its_word(translate: Any) -> None:
    assert translate(
        stop_sequences=["END", "STOP"],
        metadata={"user_id": "u-1"},
        extra_body={"temperature": 0.5, "top_p": 0.9},
    ) == {
        "model": GPT,
        "max_tokens": 50,
        "messages": HELLO,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END", "STOP"],
        "user": "u-1",
    }


def test_a_reasoning_model_has_its_own_word_for_the_cap(translate: Any) -> None:
    assert translate(model="gpt-5-mini") == {"model": "gpt-5-mini", "max_completion_tokens": 50, "messages": HELLO}


CLAUDE_CODE: dict[str, Any] = {
    "max_tokens": 32_000,
    "system": [
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
    ],
    "metadata": {"user_id": "user_" + "a" * 145},
    "tools": [{"name": "now", "description": "the time", "input_schema": {"type": "object"}}],
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "a clock:"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    ],
                }
            ],
        },
    ],
}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_coding_agents_request_is_one_that_gpt_4o_takes(
    session: Any, gateway: Any, client: Any, upstream: RunningProvider, is_stream: bool
) -> None:
    body = CLAUDE_CODE | {"model": "gpt-4o", "stream": is_stream}
    headers = {
        "x-api-key": client.key,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "context-management-2025-06-27",
    }
    async with session.post(f"{gateway.address}/v1/messages?beta=true", json=body, headers=headers) as response:
        text = await response.text()
        assert response.status == 200, text
        dropped = set(response.headers["x-gateway-dropped"].split(", "))
        assert response.headers["x-gateway-max-tokens"] == "16384"
    assert {"context_management", "effort"} <= dropped
    received = upstream.requests(last=1)[0]
    sent = json.loads(received.body)
    assert "beta" not in received.path
    assert not [name for name, _ in received.headers if name.lower().startswith("anthropic")]
    assert (sent["max_tokens"], len(sent["user"]), "reasoning_effort" in sent) == (16_384, 64, False)
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert [part["type"] for part in sent["messages"][-1]["content"]] == ["text", "image_url"]


def test_an_effort_reaches_a_model_that_takes_one(translate: Any) -> None:
    found = translate(model="gpt-5", output_config={"effort": "max"}, stop_sequences=["END"])
    assert (found["reasoning_effort"], "stop" in found) == ("high", False)


def test_a_schema_with_an_optional_member_is_not_strict(translate: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "string"}, "a": {"type": "string"}},
        "required": ["b"],
        "additionalProperties": False,
    }
    found = translate(output_config={"format": {"type": "json_schema", "schema": schema}})
    wanted = found["response_format"]["json_schema"]
    assert (wanted.get("strict") or False, list(wanted["schema"]["properties"])) == (False, ["b", "a"])


async def test_a_tool_with_a_long_name_is_called_by_it(anthropic: Any) -> None:
    name = "mcp__a_server_whose_name_is_long__and_a_tool_whose_name_is_long_as_well"
    tools = [{"name": name, "input_schema": {"type": "object", "properties": {"days": {"type": "integer"}}}}]
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": user("[[calls=1]]"), "tools": tools}
    whole = await resolved(anthropic.messages.create(**asked))
    events = await collected(anthropic.messages.create(**asked, stream=True))
    begun = [event.content_block for event in events if event.type == "content_block_start"]
    assert [block.name for block in whole.content if block.type == "tool_use"] == [name]
    assert [block.name for block in begun if block.type == "tool_use"] == [name]


def test_hints_about_the_price_change_nothing(translate: Any) -> None:
    lasting = {"type": "ephemeral", "ttl": "1h"}
    found = translate(
        system=[{"type": "text", "text": "be kind", "cache_control": lasting}],
        messages=user([{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]),
        tools=[ANTHROPIC_TOOLS[0] | {"cache_control": lasting}],
        service_tier="auto",
        thinking={"type": "disabled"},
    )
    assert found["messages"] == [{"role": "system", "content": "be kind"}, *HELLO]
    assert found["tools"] == [{"type": "function", "function": TOOL}]
    assert set(found) == {"model", "max_tokens", "messages", "tools"}


@pytest.mark.parametrize(
    ("system", "content"),
    [
        ("be kind", "be kind"),
        ([{"type": "text", "text": "be kind"}], "be kind"),
        (
            [{"type": "text", "text": "be kind"}, {"type": "text", "text": "be brief"}],
            [{"type": "text", "text": "be kind"}, {"type": "text", "text": "be brief"}],
        ),
    ],
)
def test_the_system_prompt_comes_first(translate: Any, system: Any, content: Any) -> None:
    assert translate(system=system)["messages"] == [{"role": "system", "content": content}, *HELLO]


def test_a_conversation_keeps_its_turns(translate: Any) -> None:
    found = translate(
        messages=[
            *user("one"),
            {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
            *user([{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]),
        ]
    )
    assert found["messages"] == [
        *user("one"),
        {"role": "assistant", "content": "two"},
        *user([{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]),
    ]


def test_images_are_shown_in_their_place(translate: Any) -> None:
    found = translate(
        messages=user(
            [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "text", "text": "and"},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
            ]
        )
    )
    assert found["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "text", "text": "and"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    ]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "Lookup"},
            {"tool_choice": {"type": "function", "function": {"name": "Lookup"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": False},
            {"tool_choice": "auto", "parallel_tool_calls": True},
        ),
    ],
)
def test_the_choice_of_a_tool_has_its_word(translate: Any, choice: Any, fields: Any) -> None:
    found = translate(tools=ANTHROPIC_TOOLS, tool_choice=choice)
    assert found["tools"] == [{"type": "function", "function": TOOL}]
    assert {name: found.get(name) for name in fields} == fields
    assert set(found) == {"model", "max_tokens", "messages", "tools"} | set(fields)


def test_calls_and_their_results_stand_where_openai_has_them(translate: Any) -> None:
    found = translate(
        tools=ANTHROPIC_TOOLS,
        messages=[
            *user("weather"),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Lookup", "input": {"city": "Köln"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "Lookup", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "raining"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "content": [{"type": "text", "text": "no such city"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "so?"},
                ],
            },
        ],
    )
    said, first, second, asked = found["messages"][1:]
    assert (said["role"], said["content"]) == ("assistant", "I look.")
    assert [(call["id"], call["type"], call["function"]["name"]) for call in said["tool_calls"]] == [
        ("toolu_1", "function", "Lookup"),
        ("toolu_2", "function", "Lookup"),
    ]
    assert [json.loads(call["function"]["arguments"]) for call in said["tool_calls"]] == [{"city": "Köln"}, {}]
    assert first == {"role": "tool", "tool_call_id": "toolu_1", "content": "raining"}
    assert (second["role"], second["tool_call_id"]) == ("tool", "toolu_2")
    assert second["content"] == "Error: the tool call failed.\nno such city"
    assert asked == {"role": "user", "content": "so?"}


def test_the_sdks_schema_reaches_the_provider(sync_sdks: SdkClients, upstream: RunningProvider) -> None:
    sync_sdks.anthropic.messages.parse(model=GPT, max_tokens=50, messages=user("order"), output_format=Order)
    wanted = json.loads(upstream.requests(last=1)[0].body)["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    assert set(wanted["json_schema"]["schema"]["properties"]) == {"kind", "note", "items"}


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "tool_use")],
)
async def test_why_it_ended_has_anthropics_word(anthropic: Any, finish_reason: str, reason: str) -> None:
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": user(f"[[finish={finish_reason}]]")}
    whole = await resolved(anthropic.messages.create(**asked))
    events = await collected(anthropic.messages.create(**asked, stream=True))
    assert whole.stop_reason == events[-2].delta.stop_reason == reason


async def test_tokens_are_counted_as_anthropic_counts_them(anthropic: Any) -> None:
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": user(f"{COUNTED} hello")}
    whole = await resolved(anthropic.messages.create(**asked))
    events = await collected(anthropic.messages.create(**asked, stream=True))
    for usage in (whole.usage, events[-2].usage):
        assert (usage.input_tokens, usage.cache_read_input_tokens) == (41, 20)
        assert (usage.cache_creation_input_tokens, usage.output_tokens) == (9, 30)
        assert usage.output_tokens_details.thinking_tokens == 7
        assert usage.cost == pytest.approx((50 * 0.15 + 20 * 0.075 + 30 * 0.6) / 1_000_000)


async def test_calls_come_as_blocks(anthropic: Any) -> None:
    asked: Any = {"model": GPT, "max_tokens": 50, "messages": user("[[calls=2]]"), "tools": ANTHROPIC_TOOLS}
    found = await resolved(anthropic.messages.create(**asked))
    assert [(block.type, block.id, block.input["days"]) for block in found.content] == [
        ("tool_use", "call_1", 1),
        ("tool_use", "call_2", 1),
    ]
