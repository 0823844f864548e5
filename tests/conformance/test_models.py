"""What is known of models, as the vendors' SDKs and the provider see it."""

import json
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
