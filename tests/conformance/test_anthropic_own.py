"""Features that only Anthropic has pass through unchanged; and the other calls of Anthropic's surface."""

import json
from typing import Any

import pytest
from anthropic import BadRequestError, PaymentRequiredError

from tests.provider.running import RunningProvider
from tests.support.samples import ANTHROPIC_TOOLS
from tests.support.sdk_clients import (
    CLAUDE,
    GPT,
    UPSTREAM_CLAUDE,
    Project,
    SdkClients,
    collected,
    entering,
    resolved,
    user,
)

THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


async def test_passthrough_changes_only_the_model_name(anthropic: Any, upstream: RunningProvider) -> None:
    lasting = {"type": "ephemeral", "ttl": "1h"}
    raw = await resolved(
        anthropic.messages.with_raw_response.create(
            model=CLAUDE,
            max_tokens=100,
            system=[{"type": "text", "text": "hé", "cache_control": lasting}],
            messages=user([{"type": "text", "text": "[[say=x]]", "cache_control": {"type": "ephemeral"}}]),
            tools=[*ANTHROPIC_TOOLS, {"type": "web_search_20250305", "name": "web_search", "cache_control": lasting}],
            metadata={"user_id": "u"},
            extra_body={"top_k": 5, "a_field_of_tomorrow": {"z": 1, "a": [None, 1.50]}},
        )
    )
    sent, received = raw.http_request.content, upstream.requests(last=1)[0].body
    assert json.loads(received) == json.loads(sent) | {"model": UPSTREAM_CLAUDE}
    assert list(json.loads(received)) == list(json.loads(sent))
    assert b'"a_field_of_tomorrow":{"z":1,"a":[null,1.5]}' in received


async def test_cache_writes_are_split_by_lifetime(anthropic: Any) -> None:
    found = await resolved(
        anthropic.messages.create(
            model=CLAUDE, max_tokens=100, messages=user("[[tokens=70/30]] [[cached=20]] [[cachewrite=9/4]]")
        )
    )
    usage = found.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (37, 20, 13)
    assert usage.cache_creation.ephemeral_5m_input_tokens == 9
    assert usage.cache_creation.ephemeral_1h_input_tokens == 4


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_thinking_comes_signed_and_goes_back_as_it_came(
    anthropic: Any, upstream: RunningProvider, streamed: bool
) -> None:
    messages = user("think [[calls=1]]")
    request: Any = {
        "model": CLAUDE,
        "max_tokens": 2048,
        "thinking": THINKING,
        "messages": messages,
        "tools": ANTHROPIC_TOOLS,
    }
    if streamed:
        async with entering(anthropic.messages.stream(**request)) as stream:
            first = await resolved(stream.get_final_message())
    else:
        first = await resolved(anthropic.messages.create(**request))
    thought, _, call = first.content
    assert thought.type == "thinking"
    assert thought.thinking.startswith("thinking about")
    assert len(thought.signature) > 20
    messages.append({"role": "assistant", "content": first.content})
    messages.append(
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "raining"}]}
    )
    second = await resolved(anthropic.messages.create(**request))
    assert "raining" in second.content[-1].text
    back = json.loads(upstream.requests(last=1)[0].body)["messages"][1]["content"][0]
    assert back == {"type": "thinking", "thinking": thought.thinking, "signature": thought.signature}


async def test_versions_and_betas_reach_the_provider(anthropic: Any, upstream: RunningProvider) -> None:
    raw = await resolved(
        anthropic.beta.messages.with_raw_response.create(
            model=CLAUDE,
            max_tokens=100,
            messages=user("hello"),
            betas=["context-1m-2025-08-07", "a-beta-of-tomorrow"],
            extra_headers={"x-of-the-callers": "nobody's business"},
        )
    )
    received = upstream.requests(last=1)[0]
    assert received.header("anthropic-beta") == "context-1m-2025-08-07,a-beta-of-tomorrow"
    assert received.header("anthropic-version") == raw.http_request.headers["anthropic-version"]
    assert received.header("x-of-the-callers") is None
    assert "sk-test-anthropic-canary" in str(received.headers)
    assert "gw_live" not in str(received.headers)


async def test_tokens_are_counted_by_the_provider(anthropic: Any) -> None:
    found = await resolved(
        anthropic.messages.count_tokens(
            model=CLAUDE, system="be kind", messages=user("[[tokens=123/1]]"), tools=ANTHROPIC_TOOLS
        )
    )
    assert found.input_tokens == 123


async def test_counting_tokens_costs_nothing(anthropic: Any) -> None:
    raw = await resolved(
        anthropic.messages.with_raw_response.count_tokens(model=CLAUDE, messages=user("[[tokens=123/1]]"))
    )
    assert float(raw.headers["x-gateway-cost-usd"]) == 0


async def test_models_are_listed_page_by_page(anthropic: Any, project: Project) -> None:
    listed = [model["name"] for model in project.models()]
    assert len(listed) > 20
    page = await resolved(anthropic.models.list(limit=10))
    assert [model.id for model in page.data] == listed[:10]
    assert (page.has_more, page.first_id, page.last_id) == (True, listed[0], listed[9])
    following = await resolved(page.get_next_page())
    assert [model.id for model in following.data] == listed[10:20]
    before = await resolved(anthropic.models.list(limit=5, before_id=listed[20]))
    assert [model.id for model in before.data] == listed[15:20]
    assert before.has_more


def test_the_pages_go_on_to_the_last_model(sync_sdks: SdkClients, project: Project) -> None:
    listed = [model["name"] for model in project.models()]
    assert [model.id for model in sync_sdks.anthropic.models.list(limit=100)] == listed
    last = sync_sdks.anthropic.models.list(after_id=listed[-2])
    assert [model.id for model in last.data] == listed[-1:]
    assert not last.has_more


async def test_model_pages_reach_the_last_model(anthropic: Any, project: Project) -> None:
    assert len(await collected(anthropic.models.list(limit=100))) == len(project.models())


async def test_the_betas_calls_are_the_same_calls(anthropic: Any) -> None:
    page = await resolved(anthropic.beta.models.list(limit=3))
    found = await resolved(anthropic.beta.models.retrieve(CLAUDE))
    counted = await resolved(anthropic.beta.messages.count_tokens(model=CLAUDE, messages=user("[[tokens=123/1]]")))
    assert (len(page.data), found.id, counted.input_tokens) == (3, CLAUDE, 123)


@pytest.mark.parametrize("model", [CLAUDE, GPT])
async def test_a_model_is_described(anthropic: Any, model: str) -> None:
    found = await resolved(anthropic.models.retrieve(model))
    assert (found.id, found.type, found.lifecycle) == (model, "model", "active")
    assert found.display_name


async def test_refusal_has_a_code_that_the_sdk_knows(anthropic: Any) -> None:
    with pytest.raises(BadRequestError) as refused:
        await resolved(
            anthropic.beta.messages.create(
                model=CLAUDE, max_tokens=100, messages=user("hello"), thread={"type": "create"}
            )
        )
    assert refused.value.error_code == "thread_unsupported_request"
    assert "`thread`" in refused.value.api_message


@pytest.mark.parametrize("fallbacks", ["default", [{"model": "claude-3-opus-20240229"}]], ids=["default", "dearer"])
async def test_no_fallback_model_answers_at_another_price_than_a_budget_holds(
    anthropic: Any, upstream: RunningProvider, project: Project, fallbacks: Any
) -> None:
    before = upstream.calls
    held = anthropic.with_options(api_key=project.issue(dailyBudget=100)["apiKey"])
    with pytest.raises(PaymentRequiredError, match="fallbacks"):
        await resolved(
            held.beta.messages.create(model=CLAUDE, max_tokens=100, messages=user("hello"), fallbacks=fallbacks)
        )
    assert upstream.calls == before
