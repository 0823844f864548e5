"""What is known of models, as the vendors' SDKs and the provider see it."""

import json
from typing import Any
from urllib.parse import quote

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.provider.running import RunningProvider
from tests.support.sdk_clients import Project, SdkClients, user


@pytest.mark.parametrize(
    ("model", "cap"), [("claude-opus-4-8", 128_000), ("claude-haiku-4-5", 64_000), ("claude-3-haiku", 4_096)]
)
def test_an_answer_that_nobody_capped_may_be_as_long_as_the_model_writes(
    sync_sdks: SdkClients, upstream: RunningProvider, model: str, cap: int
) -> None:
    sync_sdks.openai.chat.completions.create(model=model, messages=user("hello"))
    assert json.loads(upstream.requests(last=1)[0].body)["max_tokens"] == cap


def test_models_show_their_window_and_their_longest_answer(project: Project, sync_sdks: SdkClients) -> None:
    shown = {model["name"]: model for model in project.models()}
    assert (shown["claude-opus-4-8"]["contextWindow"], shown["claude-opus-4-8"]["maxOutput"]) == (1_000_000, 128_000)
    assert (shown["gpt-4o"]["contextWindow"], shown["gpt-4o"]["maxOutput"]) == (128_000, 16_384)
    listed = sync_sdks.anthropic.models.retrieve("claude-opus-4-8")
    assert (listed.max_input_tokens, listed.max_tokens) == (1_000_000, 128_000)


GONE = "model: claude-3-opus-20240229"
"""Anthropic's answer about a model that it retired."""
WAY_OUT = (
    "model: claude-3-opus-20240229. `claude-3-opus-20240229` is retired by its vendor (2026-01-05): ask for "
    "`claude-opus-5-5` instead, or have it answer the name: GATEWAY_UPSTREAM_MODELS=claude-3-opus=claude-opus-5-5"
)


def test_a_retired_model_is_asked_for_and_the_vendors_no_names_another(
    sync_sdks: SdkClients, upstream: RunningProvider
) -> None:
    messages = user(f"[[status=404]] [[message={quote(GONE)}]]")
    with pytest.raises(anthropic_sdk.NotFoundError, match="claude-opus-5-5") as passed_through:
        sync_sdks.anthropic.messages.create(model="claude-3-opus", max_tokens=9, messages=messages)
    assert json.loads(upstream.requests(last=1)[0].body)["model"] == "claude-3-opus-20240229"
    assert passed_through.value.body["error"]["message"] == WAY_OUT
    with pytest.raises(openai_sdk.NotFoundError, match="claude-opus-5-5") as translated:
        sync_sdks.openai.chat.completions.create(model="claude-3-opus", messages=messages)
    assert translated.value.body["message"] == WAY_OUT


def test_another_thing_that_is_not_found_is_told_as_the_vendor_tells_it(sync_sdks: SdkClients) -> None:
    messages = user("[[status=404]] [[message=no%20such%20file]]")
    with pytest.raises(anthropic_sdk.NotFoundError) as refused:
        sync_sdks.anthropic.messages.create(model="claude-3-opus", max_tokens=9, messages=messages)
    assert refused.value.body["error"]["message"] == "no such file"


@pytest.mark.parametrize(
    ("asked", "sent", "not_sent"),
    [
        ({"model": "claude-3-haiku", "max_completion_tokens": 100_000}, {"max_tokens": 4_096}, ()),
        ({"model": "claude-opus-4-8", "temperature": 0.2}, {"max_tokens": 128_000}, ("temperature",)),
        ({"model": "claude-sonnet-4-5", "temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7}, ("top_p",)),
        ({"model": "claude-haiku-4-5", "temperature": 1.5}, {"temperature": 1.0}, ()),
        ({"model": "claude-opus-4-8", "reasoning_effort": "high"}, {"output_config": {"effort": "high"}}, ()),
        ({"model": "claude-opus-4-5", "reasoning_effort": "xhigh"}, {"output_config": {"effort": "high"}}, ()),
    ],
)
def test_claude_is_sent_what_the_very_model_takes(
    sync_sdks: SdkClients, upstream: RunningProvider, asked: dict[str, Any], sent: dict[str, Any], not_sent: tuple[str]
) -> None:
    sync_sdks.openai.chat.completions.create(messages=user("hello"), **asked)
    body = json.loads(upstream.requests(last=1)[0].body)
    assert {name: body.get(name) for name in sent} == sent
    assert not body.keys() & set(not_sent)


def test_an_effort_is_a_budget_of_thinking_for_a_model_that_knows_no_effort(
    sync_sdks: SdkClients, upstream: RunningProvider
) -> None:
    sync_sdks.openai.chat.completions.create(
        model="claude-haiku-4-5", reasoning_effort="low", temperature=0.7, messages=user("hello")
    )
    body = json.loads(upstream.requests(last=1)[0].body)
    assert body["thinking"]["type"] == "enabled"
    assert 1_024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]
    assert "output_config" not in body
    assert body.get("temperature", 1) == 1  # the only one beside thinking


@pytest.mark.parametrize(
    ("asked", "sent", "not_sent"),
    [
        ({"model": "gpt-4o", "max_tokens": 32_000}, {"max_tokens": 16_384}, ()),
        ({"model": "gpt-4o", "max_tokens": 9, "output_config": {"effort": "high"}}, {}, ("reasoning_effort",)),
        ({"model": "gpt-5", "max_tokens": 9, "stop_sequences": ["END"]}, {"max_completion_tokens": 9}, ("stop",)),
        ({"model": "gpt-5", "max_tokens": 9, "temperature": 0.2}, {}, ("temperature", "max_tokens")),
        ({"model": "gpt-5.2", "max_tokens": 9, "output_config": {"effort": "max"}}, {"reasoning_effort": "xhigh"}, ()),
        ({"model": "gpt-4o", "max_tokens": 9, "top_k": 5}, {}, ("top_k",)),
    ],
)
def test_gpt_is_sent_what_the_very_model_takes(
    sync_sdks: SdkClients, upstream: RunningProvider, asked: dict[str, Any], sent: dict[str, Any], not_sent: tuple[str]
) -> None:
    fields = dict(asked)
    sync_sdks.anthropic.messages.create(
        model=fields.pop("model"),
        max_tokens=fields.pop("max_tokens"),
        messages=user("hello"),
        timeout=60,  # or the SDK refuses long answers in one piece
        extra_body=fields,  # it has no temperature any more
    )
    body = json.loads(upstream.requests(last=1)[0].body)
    assert {name: body.get(name) for name in sent} == sent
    assert not body.keys() & set(not_sent)
