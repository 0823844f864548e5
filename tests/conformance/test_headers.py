"""The headers of responses, with the vendor's names, as the SDKs show them."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.support.sdk_clients import (
    CLAUDE,
    ECHO,
    EMBEDDER,
    GPT,
    UPSTREAM_CLAUDE,
    Project,
    collected,
    entering,
    resolved,
    user,
)

ROUTES = [(GPT, "openai", GPT), (CLAUDE, "anthropic", UPSTREAM_CLAUDE), (ECHO, "echo", ECHO)]
DURATION = re.compile(r"(\d+m)?\d+(\.\d+)?s|\d+ms")


@pytest.fixture(scope="module")
def limited(project: Project) -> str:
    """Return a key with every kind of limit."""
    return str(project.issue(rateLimit=1000, tokenLimit=500_000, dailyBudget=5, monthlyBudget=50)["apiKey"])


@pytest.mark.parametrize(("model", "provider", "upstream_model"), ROUTES)
async def test_chat_completion_has_provider_and_cost(
    openai: Any, model: str, provider: str, upstream_model: str
) -> None:
    raw = await resolved(openai.chat.completions.with_raw_response.create(model=model, messages=user("hello")))
    found = await resolved(raw.parse())
    assert found._request_id == raw.headers["x-request-id"]
    assert found._request_id.startswith("req_")
    assert (raw.headers["x-gateway-provider"], raw.headers["x-gateway-model"]) == (provider, upstream_model)
    assert raw.headers["x-gateway-cache"] == "BYPASS"
    assert float(raw.headers["x-gateway-cost-usd"]) == found.usage.cost > 0
    assert raw.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(("model", "provider", "upstream_model"), ROUTES)
async def test_message_has_provider_and_cost(anthropic: Any, model: str, provider: str, upstream_model: str) -> None:
    raw = await resolved(
        anthropic.messages.with_raw_response.create(model=model, max_tokens=100, messages=user("hello"))
    )
    found = await resolved(raw.parse())
    assert found._request_id == raw.headers["request-id"] == raw.headers["x-request-id"]
    assert found._request_id.startswith("req_")
    assert (raw.headers["x-gateway-provider"], raw.headers["x-gateway-model"]) == (provider, upstream_model)
    assert raw.headers["x-gateway-cache"] == "BYPASS"
    assert float(raw.headers["x-gateway-cost-usd"]) == found.usage.cost > 0


async def test_embeddings_and_responses_say_the_same(openai: Any) -> None:
    vectors = await resolved(openai.embeddings.with_raw_response.create(model=EMBEDDER, input="x"))
    response = await resolved(openai.responses.with_raw_response.create(model=GPT, input="x"))
    assert (vectors.headers["x-gateway-provider"], vectors.headers["x-gateway-model"]) == ("openai", EMBEDDER)
    assert (response.headers["x-gateway-provider"], response.headers["x-gateway-model"]) == ("openai", GPT)
    assert float(vectors.headers["x-gateway-cost-usd"]) == vectors.http_response.json()["usage"]["cost"] > 0
    assert float(response.headers["x-gateway-cost-usd"]) == response.http_response.json()["usage"]["cost"] > 0


@pytest.mark.parametrize("model", [GPT, CLAUDE, ECHO])
async def test_chunked_reading_gives_the_same_events(openai: Any, anthropic: Any, model: str) -> None:
    chat = openai.chat.completions.with_streaming_response
    messages = anthropic.messages.with_streaming_response
    async with entering(chat.create(model=model, messages=user("hello"))) as answer:
        (line,) = await collected(answer.iter_lines())
        assert float(answer.headers["x-gateway-cost-usd"]) == json.loads(line)["usage"]["cost"]
    async with entering(messages.create(model=model, max_tokens=50, messages=user("hello"))) as answer:
        assert answer.request_id.startswith("req_")
        assert (await resolved(answer.parse())).content


async def test_list_response_has_a_request_id(openai: Any, anthropic: Any) -> None:
    assert (await resolved(openai.models.retrieve(GPT)))._request_id.startswith("req_")
    assert (await resolved(anthropic.models.retrieve(CLAUDE)))._request_id.startswith("req_")
    page = await resolved(anthropic.models.with_raw_response.list())
    assert page.headers["request-id"] == page.headers["x-request-id"]


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_openai_responses_have_limit_headers(openai: Any, limited: str, model: str) -> None:
    client = openai.with_options(api_key=limited)
    request: Any = {"model": model, "messages": user("hello"), "max_tokens": 50}
    told = (await resolved(client.chat.completions.with_raw_response.create(**request))).headers
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-limit-tokens"]) == ("1000", "500000")
    assert 0 < int(told["x-ratelimit-remaining-requests"]) < 1000
    assert 0 < int(told["x-ratelimit-remaining-tokens"]) < 500_000
    assert DURATION.fullmatch(told["x-ratelimit-reset-requests"])
    assert DURATION.fullmatch(told["x-ratelimit-reset-tokens"])
    assert 0 < Decimal(told["x-gateway-budget-remaining-usd"]) < 5


@pytest.mark.parametrize("model", [CLAUDE, GPT])
async def test_anthropic_responses_have_limit_headers(anthropic: Any, limited: str, model: str) -> None:
    client = anthropic.with_options(api_key=limited)
    raw = await resolved(client.messages.with_raw_response.create(model=model, max_tokens=50, messages=user("hello")))
    told = {name: raw.headers[f"anthropic-ratelimit-{name}"] for name in ("requests-limit", "tokens-limit")}
    assert told == {"requests-limit": "1000", "tokens-limit": "500000"}
    assert 0 < int(raw.headers["anthropic-ratelimit-requests-remaining"]) < 1000
    assert 0 < int(raw.headers["anthropic-ratelimit-tokens-remaining"]) < 500_000
    reset = datetime.fromisoformat(raw.headers["anthropic-ratelimit-requests-reset"])
    assert timedelta(seconds=-5) < reset - datetime.now(UTC) < timedelta(minutes=1)
    assert 0 < Decimal(raw.headers["x-gateway-budget-remaining-usd"]) < 5
    assert "x-ratelimit-limit-requests" not in raw.headers


async def test_unlimited_key_has_no_limit_headers(openai: Any, anthropic: Any) -> None:
    chat = await resolved(openai.chat.completions.with_raw_response.create(model=ECHO, messages=user("hello")))
    message = await resolved(
        anthropic.messages.with_raw_response.create(model=ECHO, max_tokens=9, messages=user("hello"))
    )
    names = " ".join([*chat.headers, *message.headers])
    assert "ratelimit" not in names
    assert "budget" not in names


@pytest.mark.parametrize("model", [GPT, CLAUDE, ECHO])
async def test_stream_headers_have_everything_but_the_cost(
    openai: Any, anthropic: Any, limited: str, model: str
) -> None:
    chat = openai.with_options(api_key=limited).chat.completions
    messages = anthropic.with_options(api_key=limited).messages
    chunks = await resolved(chat.create(model=model, messages=user("hello"), stream=True))
    events = await resolved(messages.create(model=model, max_tokens=50, messages=user("hello"), stream=True))
    told_openai, told_anthropic = chunks.response.headers, events.response.headers
    assert await collected(chunks)
    assert await collected(events)
    assert told_openai["content-type"].startswith("text/event-stream")
    assert told_openai["x-request-id"].startswith("req_")
    assert told_openai["x-ratelimit-limit-requests"] == "1000"
    assert told_anthropic["request-id"] == told_anthropic["x-request-id"]
    assert told_anthropic["anthropic-ratelimit-requests-limit"] == "1000"
    assert told_openai["x-gateway-provider"] == told_anthropic["x-gateway-provider"]
    assert "x-gateway-cost-usd" not in told_openai


@pytest.mark.parametrize("model", [GPT, CLAUDE, ECHO])
async def test_cached_chat_completion_costs_nothing(openai: Any, model: str) -> None:
    prompt = f"kept by {type(openai).__name__} {model} [[tokens=70/30]] [[cached=20]]"
    request: Any = {"model": model, "messages": user(prompt), "extra_headers": {"x-gateway-cache": "on"}}
    raw = await resolved(openai.chat.completions.with_raw_response.create(**request))
    first = await resolved(raw.parse())
    again = await resolved(openai.chat.completions.with_raw_response.create(**request))
    second = await resolved(again.parse())
    streamed = request | {"stream": True, "stream_options": {"include_usage": True}}
    await collected(openai.chat.completions.create(**streamed))  # a passed-through stream has its own cache entry
    *chunks, last = await collected(openai.chat.completions.create(**streamed))
    assert (raw.headers["x-gateway-cache"], again.headers["x-gateway-cache"]) == ("MISS", "HIT")
    assert Decimal(again.headers["x-gateway-cost-usd"]) == second.usage.cost == last.usage.cost == 0
    assert second.choices == first.choices
    said = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(said) == first.choices[0].message.content
    assert last.usage.prompt_tokens == second.usage.prompt_tokens == first.usage.prompt_tokens
    assert last.usage.prompt_tokens_details == first.usage.prompt_tokens_details


@pytest.mark.parametrize("model", [GPT, ECHO])
async def test_translated_stream_is_cached_for_messages_in_one_piece(anthropic: Any, model: str) -> None:
    prompt = f"streamed to {type(anthropic).__name__} {model} [[tokens=70/30]] [[cached=20]]"
    request: Any = {
        "model": model,
        "max_tokens": 100,
        "messages": user(prompt),
        "extra_headers": {"x-gateway-cache": "on"},
    }
    async with entering(anthropic.messages.stream(**request)) as stream:
        first = await resolved(stream.get_final_message())
    raw = await resolved(anthropic.messages.with_raw_response.create(**request))
    second = await resolved(raw.parse())
    assert (raw.headers["x-gateway-cache"], raw.headers["x-gateway-cost-usd"]) == ("HIT", "0")
    assert second.content[0].text == first.content[0].text
    assert (second.id, second.stop_reason) == (first.id, first.stop_reason)
    counted = (second.usage.input_tokens, second.usage.cache_read_input_tokens, second.usage.output_tokens)
    assert counted == (first.usage.input_tokens, first.usage.cache_read_input_tokens, first.usage.output_tokens)


async def test_passed_through_stream_is_cached_apart(anthropic: Any) -> None:
    prompt = f"apart for {type(anthropic).__name__} [[tokens=70/30]]"
    request: Any = {
        "model": CLAUDE,
        "max_tokens": 100,
        "messages": user(prompt),
        "extra_headers": {"x-gateway-cache": "on"},
    }
    async with entering(anthropic.messages.stream(**request)) as stream:
        await resolved(stream.get_final_message())
    raws = [await resolved(anthropic.messages.with_raw_response.create(**request)) for _ in range(2)]
    assert [raw.headers["x-gateway-cache"] for raw in raws] == ["MISS", "HIT"]
    assert raws[1].headers["x-gateway-cost-usd"] == "0"


async def test_costs_are_grouped_by_header_metadata(openai: Any, anthropic: Any, project: Project) -> None:
    team = f"team of {type(openai).__name__} and {type(anthropic).__name__}"
    headers = {"x-gateway-metadata": f'{{"team": "{team}"}}'}
    chat = await resolved(
        openai.with_options(default_headers=headers).chat.completions.create(model=GPT, messages=user("hello"))
    )
    message = await resolved(
        anthropic.with_options(default_headers=headers).messages.create(
            model=CLAUDE, max_tokens=50, messages=user("hello")
        )
    )
    (line,) = [line for line in project.costs("metadata.team") if line["metadata"] == team]
    assert line["requests"] == 2
    assert line["cost"] == pytest.approx(chat.usage.cost + message.usage.cost)
