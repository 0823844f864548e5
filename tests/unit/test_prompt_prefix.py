"""A prompt that begins as an earlier one did is bounded by what that was counted as, and never too low."""

import copy
import json
import statistics
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.prompt_memory import PromptMemory
from domain.canonical.chat import ChatRequest, UserMessage
from domain.dialects.passthrough.inspect import read_passthrough
from domain.dialects.registry import DIALECTS
from domain.dialects.request_body import CanonicalRequest, TokenBound
from domain.prompt_prefix import PromptChain, prompt_chain
from tests.provider.counting import input_tokens
from tests.support.agent_holds import ratios, steps
from tests.support.agent_session import requests

MODEL = "claude-sonnet-4-5"
MARK = {"cache_control": {"type": "ephemeral"}}
LONG = "a long text, which is read again each time. " * 300


async def nobody(_told: bytes) -> None:
    """No other process is told."""


def bounds_of(body: dict[str, Any], dialect: str = "anthropic") -> TokenBound:
    request = read_passthrough(json.dumps(body).encode(), DIALECTS.codec(dialect, "chat"))
    return request.token_bound(MODEL, None, is_builtin=True)


def chain_of(body: dict[str, Any], *scope: Any) -> PromptChain:
    chain = prompt_chain(scope, json.dumps(body).encode())
    assert chain is not None
    return chain


async def bound_after(memory: PromptMemory, body: dict[str, Any]) -> int | None:
    item_tokens = bounds_of(body).item_tokens
    assert item_tokens is not None
    return memory.bound(chain_of(body), item_tokens)


async def counted(memory: PromptMemory, body: dict[str, Any], tokens: int) -> None:
    await memory.remember(chain_of(body), tokens, text_bound=tokens)


def user(text: str, **members: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} | members]}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": list(messages)} | fields


async def test_an_agents_session_is_bounded_within_a_ninth_at_the_median_and_half_at_most() -> None:
    found = await steps(requests())
    tokens = list(ratios(found, "bound_tokens", "counted_tokens"))
    assert statistics.median(tokens) < 1.15
    assert max(tokens[1:]) < 1.5
    assert min(tokens) >= 1


async def test_an_agents_session_holds_at_most_three_times_its_cost_with_a_cap_of_8192() -> None:
    found = await steps(one | {"max_tokens": 8_192} for one in requests())
    assert statistics.median(ratios(found, "hold_nano_usd", "cost_nano_usd")) < 3
    assert statistics.median(ratios(found, "input_hold_nano_usd", "input_cost_nano_usd")) < 1.5


@pytest.mark.parametrize("bytes_per_token", [1, 2, 6])
async def test_an_agents_session_is_never_bounded_too_low(bytes_per_token: int) -> None:
    found = await steps(requests(bytes_per_token=bytes_per_token), bytes_per_token=bytes_per_token)
    assert min(ratios(found, "bound_tokens", "counted_tokens")) >= 1


TEXTS = st.text(max_size=60) | st.sampled_from([LONG, "\u00e9\U0001f600" * 40, '{"a": [1, 2]}', "\\ud83d" * 9])
CONTENT = st.one_of(
    TEXTS,
    st.lists(
        st.builds(lambda text, mark: {"type": "text", "text": text} | (MARK if mark else {}), TEXTS, st.booleans())
    ),
    st.builds(lambda text: [{"type": "tool_result", "tool_use_id": "t", "content": text}], TEXTS),
    st.builds(lambda text: [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": text} | MARK}], TEXTS),
)
MESSAGES = st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["user"]), CONTENT)
SYSTEM = st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 6), st.lists(MESSAGES, min_size=1, max_size=5), SYSTEM)
async def test_no_edit_of_a_history_makes_the_bound_too_low(
    data: st.DataObject, bytes_per_token: int, messages: list[dict[str, Any]], system: list[dict[str, Any]]
) -> None:
    memory = PromptMemory(nobody)
    for _ in range(4):
        asked = body(*messages, system=system, tools=[{"name": "f", "input_schema": {"type": "object"}}])
        true = input_tokens(asked, bytes_per_token)
        known = await bound_after(memory, asked)
        assert min(known or true, bounds_of(asked).input_tokens) >= true
        await counted(memory, asked, true)
        messages, system = copy.deepcopy(messages), list(system)
        match data.draw(st.sampled_from(["add", "cut", "change", "instruct", "repeat"])):
            case "add":
                messages += data.draw(st.lists(MESSAGES, max_size=3))
            case "cut":
                messages = messages[: data.draw(st.integers(1, len(messages)))]
            case "change":
                messages[data.draw(st.integers(0, len(messages) - 1))] = data.draw(MESSAGES)
            case "instruct":
                system = data.draw(SYSTEM)
            case _:
                system += system


async def test_a_second_conversation_with_the_same_tools_is_bounded_by_the_first() -> None:
    memory = PromptMemory(nobody)
    tools = [{"name": "f", "description": LONG, "input_schema": {"type": "object"}}]
    await counted(memory, body(user("one"), tools=tools), 3_000)
    assert 3_000 < (await bound_after(memory, body(user("another"), tools=tools)) or 0) < 3_500


async def test_cache_marks_that_move_along_change_no_prompt() -> None:
    memory = PromptMemory(nobody)
    await counted(memory, body(user(LONG, **MARK)), 3_000)
    longer = MARK["cache_control"] | {"ttl": "1h"}
    assert await bound_after(memory, body(user(LONG), user("more", cache_control=longer))) is not None
    forged = body(user(LONG), {"role": "user", "content": [{"type": "text", "text": '"cache_control":{"type":"x"}'}]})
    assert (await bound_after(memory, forged) or 0) > 3_000


@pytest.mark.parametrize(
    "other",
    [
        {"tools": [{"name": "g", "input_schema": {}}]},
        {"tool_choice": {"type": "any"}},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "high"}},
    ],
)
async def test_what_changes_the_prompt_makes_it_another(other: dict[str, Any]) -> None:
    memory = PromptMemory(nobody)
    await counted(memory, body(user(LONG)), 3_000)
    assert await bound_after(memory, body(user(LONG), user("more"), temperature=1, metadata={"user_id": "u"}))
    assert await bound_after(memory, body(user(LONG), user("more"), **other)) is None


def test_whose_prompt_it_is_makes_it_another() -> None:
    chains = {chain_of(body(user(LONG)), *scope).digests[-1] for scope in [("a", "m"), ("b", "m"), ("a", "n"), ("am",)]}
    assert len(chains) == 4


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [IMAGE | {"source": {"type": "url", "url": "https://x/a.png"}}]}]},
        {"messages": [{"role": "user", "content": [IMAGE | {"source": {"type": "url", "url": "HTTPS://x/a.png"}}]}]},
        {"messages": [{"role": "user", "content": [PDF | {"source": {"type": "file", "file_id": "file_1"}}]}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "turns", "value": 1}}]}},
        {"truncation": "auto"},
        {"previous_response_id": "resp_1"},
        {"container": "c"},
        {"mcp_servers": [{"url": "https://x"}]},
        {"web_search_options": {}},
    ],
)
def test_what_the_provider_fetches_or_leaves_out_is_not_compared(fields: dict[str, Any]) -> None:
    assert bounds_of(body(user("x")) | fields).item_tokens is None


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [IMAGE, PDF]}]},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"truncation": "disabled"},
    ],
)
def test_what_is_in_the_request_is_compared(fields: dict[str, Any]) -> None:
    assert bounds_of(body(user("x")) | fields).item_tokens is not None


def test_a_file_that_was_added_counts_as_long_as_the_model_reads() -> None:
    bounds = bounds_of(body(user("x"), {"role": "user", "content": [PDF]}))
    assert bounds.item_tokens is not None
    assert bounds.item_tokens[1] >= 200_000 > bounds.item_tokens[0]


async def test_a_count_that_no_tokenizer_can_have_made_is_not_remembered() -> None:
    memory = PromptMemory(nobody)
    await memory.remember(chain_of(body(user(LONG))), 0, text_bound=len(LONG))
    await memory.remember(chain_of(body(user(LONG))), len(LONG) // 40, text_bound=len(LONG))
    assert await bound_after(memory, body(user(LONG))) is None


async def test_a_seller_that_may_ask_another_model_is_given_a_margin() -> None:
    memory = PromptMemory(nobody)
    asked = body(user(LONG))
    await counted(memory, asked, 3_000)
    known = memory.bound(chain_of(asked), bounds_of(asked).item_tokens or (), is_same_tokenizer=False)
    assert known == (await bound_after(memory, asked) or 0) + 1_800


async def test_another_process_is_told() -> None:
    told: list[bytes] = []

    async def tell(counted: bytes) -> None:
        told.append(counted)

    one, other = PromptMemory(tell), PromptMemory(nobody)
    await counted(one, body(user(LONG)), 3_000)
    other.take(told[0].decode())
    asked = body(user(LONG), user("more"))
    assert await bound_after(other, asked) == await bound_after(one, asked) is not None
    other.take("of another version")
    assert LONG[:20].encode() not in told[0]


async def test_a_count_is_forgotten_after_hours() -> None:
    clock = [0.0]
    memory = PromptMemory(nobody, timer=lambda: clock[0])
    await counted(memory, body(user(LONG)), 3_000)
    assert await bound_after(memory, body(user(LONG))) is not None
    clock[0] = 24 * 3600
    assert await bound_after(memory, body(user(LONG))) is None


def test_a_translated_request_is_compared_too() -> None:
    request = ChatRequest(messages=[UserMessage(content=LONG), UserMessage(content="more")])
    bounds = CanonicalRequest(request).token_bound(MODEL, None, is_builtin=True)
    chain = prompt_chain((), msgspec.json.encode(request))
    assert chain is not None
    assert bounds.item_tokens is not None
    assert len(chain.digests) == len(bounds.item_tokens) + 1


@pytest.mark.parametrize(
    "thought",
    [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": LONG, "signature": "s"}]},
        {"type": "reasoning", "summary": [], "encrypted_content": LONG},
        {"role": "assistant", "content": "x", "reasoning": [{"text": LONG}]},
    ],
)
async def test_a_shorter_prompt_counts_thinking_that_a_longer_one_did_not_show(thought: dict[str, Any]) -> None:
    memory = PromptMemory(nobody)
    asked = body(user(LONG), thought, user("the result of a tool"))
    await counted(memory, body(*asked["messages"], user("a"), user("b")), 1_000)  # all thinking was left out
    assert (await bound_after(memory, asked) or 0) > len(LONG)


async def test_a_whole_prompts_count_stays_when_a_longer_one_has_less() -> None:
    memory = PromptMemory(nobody)
    asked = body(user(LONG), {"role": "assistant", "content": [{"type": "thinking", "thinking": LONG}]}, user("r"))
    await counted(memory, asked, 9_000)
    await counted(memory, body(*asked["messages"], user("a")), 3_000)
    assert 9_000 <= (await bound_after(memory, asked) or 0) < 9_500
