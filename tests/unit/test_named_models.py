"""A request's every place for the name of a model is found, so that a key may be held to some models."""

from typing import Any

import pytest

from domain.dialects.anthropic.fields import MESSAGES_FIELDS
from domain.dialects.openai.fields import CHAT_FIELDS, RESPONSES_FIELDS
from domain.dialects.passthrough.named_models import named_models

KNOWN = CHAT_FIELDS | RESPONSES_FIELDS | MESSAGES_FIELDS


def found(**fields: Any) -> list[tuple[str, str | None]]:
    return [(named.field, named.name) for named in named_models({"model": "gpt-4o"} | fields, KNOWN)]


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({"models": ["a", "b"]}, [("models[0]", "a"), ("models[1]", "b")]),
        ({"fallbacks": [{"model": "a", "max_tokens": 9}]}, [("fallbacks[0].model", "a")]),
        ({"fallbacks": "default"}, [("fallbacks", "default")]),
        ({"fallbacks": [{"model": "a", "to": "b"}]}, [("fallbacks[0]", None)]),
        ({"fallbacks": {"a": 1}}, [("fallbacks", None)]),
        ({"plugins": [{"id": "web"}]}, [("plugins[0]", None)]),
        ({"provider": {"order": ["x"]}}, [("provider", None)]),
        ({"providerOptions": {"gateway": {"order": ["x"]}}}, [("providerOptions", None)]),
        ({"route": "fallback"}, [("route", "fallback")]),
        ({"routing": True}, [("routing", None)]),
        ({"draft_model": "a"}, [("draft_model", "a")]),
        ({"MODELS": ["a"]}, [("MODELS[0]", "a")]),
        ({"moderation": {"model": "m"}}, [("moderation.model", "m")]),
        ({"web_search_options": {"model": "a"}}, [("web_search_options.model", "a")]),
        (
            {"context_management": {"edits": [{"type": "x", "model": "a"}]}},
            [("context_management.edits[0].model", "a")],
        ),
        ({"messages": [{"role": "user", "content": "x", "model": "a"}]}, [("messages[0].model", "a")]),
        ({"reasoning": {"model": "a"}}, [("reasoning.model", "a")]),
    ],
)
def test_a_member_that_says_model_names_one_wherever_it_stands(
    fields: dict[str, Any], places: list[tuple[str, str | None]]
) -> None:
    assert found(**fields) == places


@pytest.mark.parametrize("value", ["x", ["x"], {"x": 1}, [{"x": 1}], [[["x"]]]])
def test_a_field_that_the_vendor_does_not_have_may_name_a_model_if_it_holds_a_text(value: Any) -> None:
    assert found(compound=value) == [("compound", None)]


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 40, "min_p": 0.1, "enable_thinking": True, "stop_token_ids": [1, 2], "x": None, "y": [], "z": {}},
        {
            "reasoning": {"effort": "high"},
            "chat_template_kwargs": {"enable_thinking": False},
            "thinking": {"type": "x"},
        },
        {"models": [], "fallbacks": None, "provider": {}, "route": "", "plugins": False},
    ],
)
def test_numbers_and_known_fields_of_other_sellers_name_none(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


@pytest.mark.parametrize(
    ("tool", "places"),
    [
        ({"type": "image_generation"}, [("tools[0] (image_generation)", None)]),
        ({"type": "image_generation", "model": "gpt-image-1"}, [("tools[0].model", "gpt-image-1")]),
        ({"type": "advisor_20260301", "name": "advisor", "model": "a"}, [("tools[0].model", "a")]),
        ({"type": "of_tomorrow"}, [("tools[0] (of_tomorrow)", None)]),
        (
            {"type": "image_generation", "model": "a", "svg": {"model": "b"}},
            [("tools[0].model", "a"), ("tools[0].svg.model", "b")],
        ),
    ],
)
def test_a_tool_that_another_model_may_run_names_one(
    tool: dict[str, Any], places: list[tuple[str, str | None]]
) -> None:
    assert found(tools=[tool]) == places


def test_a_tool_among_the_messages_is_found_as_well() -> None:
    items = [{"type": "tool_search_output", "tools": [{"type": "image_generation"}]}]
    assert found(input=items) == [("input[0].tools[0] (image_generation)", None)]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "code_interpreter", "container": "cntr_1"},
        {"type": "mcp", "server_label": "s", "headers": {"x-model": "a"}},
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "f", "input_schema": {"type": "object", "properties": {"model": {"type": "string", "enum": ["a"]}}}},
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"models": {"type": "array"}}}}},
        {"type": "custom", "name": "f", "input_schema": {}, "input_examples": [{"model": "a"}]},
    ],
)
def test_tools_that_are_known_and_their_schemas_name_none(tool: dict[str, Any]) -> None:
    assert found(tools=[tool]) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"model": "a", "models": ["a"]}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"properties": {"model": {}}}},
            }
        },
        {"messages": [{"role": "user", "content": 'Use {"models": ["a"]}'}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"model": "a"}}],
                }
            ]
        },
        {
            "messages": [
                {"role": "assistant", "content": [{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}]}
            ]
        },
        {"input": [{"type": "file_search_call", "results": [{"attributes": {"model": "a"}}]}]},
        {"fallback_credit_token": {"token": "t", "mode": "strict"}},
        {"user": "models"},
    ],
)
def test_what_the_model_is_shown_and_the_callers_own_data_name_none(fields: dict[str, Any]) -> None:
    assert found(**fields) == []


def test_a_stored_prompt_may_name_a_model_and_a_text_may_not() -> None:
    assert (found(prompt={"id": "pmpt_1"}), found(prompt="write")) == ([("prompt", None)], [])
