"""A key that may use some models has no other answer it, whatever field of a request names one."""

from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway

MODELS = ["gpt-4o-mini", "gpt-5", "claude-opus-4-8", "claude-haiku-4-5", "mine/gpt-4o-mini"]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "gpt-5", "input": "hi"},
    "messages": {"model": "claude-opus-4-8", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}


async def ask(
    gateway: Gateway, session: aiohttp.ClientSession, key: str | None, path: str, **fields: Any
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{gateway.address}/v1/{path}"
    async with session.post(url, json=BODIES[path] | fields, headers=headers) as answer:
        return answer.status, await answer.json()


async def held_to_some(client: Client) -> str:
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "held", "models": MODELS})
    key: str = issued["data"]["apiKey"]
    return key


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("chat/completions", {"models": ["gpt-5-pro"]}, "models[0]"),
        ("chat/completions", {"model": "mine/gpt-4o-mini", "models": ["gpt-5-pro"]}, "models[0]"),
        ("chat/completions", {"model": "mine/gpt-4o-mini", "extra_body": {"models": ["gpt-5-pro"]}}, "extra_body"),
        ("chat/completions", {"model": "mine/gpt-4o-mini", "provider": {"order": ["x"]}}, "provider"),
        ("chat/completions", {"web_search_options": {"model": "gpt-5-pro"}}, "web_search_options.model"),
        ("responses", {"tools": [{"type": "image_generation", "model": "gpt-image-1"}]}, "tools[0].model"),
        ("responses", {"tools": [{"type": "image_generation"}]}, "tools[0] (image_generation)"),
        ("responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
        ("messages", {"fallbacks": [{"model": "claude-opus-5-5"}]}, "fallbacks[0].model"),
        (
            "messages",
            {"tools": [{"type": "advisor_20260301", "name": "a", "model": "claude-opus-5-5"}]},
            "tools[0].model",
        ),
    ],
)
async def test_a_field_that_names_another_model_is_refused_by_name_and_the_provider_is_not_called(
    client: Client,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    upstream: RunningProvider,
    path: str,
    fields: dict[str, Any],
    field: str,
) -> None:
    provider = {"name": "mine", "kind": "openai", "baseUrl": upstream.openai_base_url, "apiKey": "sk-mine"}
    status, answer, _ = await client.call("POST", "/projects/providers", provider)
    assert status == 201, answer
    key, before = await held_to_some(client), len(upstream.bill())
    status, answer = await ask(gateway, session, key, path, **fields)
    assert (status, answer["error"]["type"]) == (403, "permission_error")
    assert f"`{field}`" in answer["error"]["message"]
    assert answer["error"].get("param", field) == field
    assert len(upstream.bill()) == before
    status, _ = await ask(
        gateway, session, client.key, path, **{name: value for name, value in fields.items() if name != "prompt"}
    )
    assert status == 200, "a key that may use every model names what it likes"


async def test_a_field_that_names_a_model_of_the_keys_own_passes(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    key = await held_to_some(client)
    for path, fields in (
        ("messages", {"fallbacks": [{"model": "claude-haiku-4-5"}]}),
        ("chat/completions", {"models": ["gpt-5"]}),
        ("chat/completions", {"top_k": 5, "metadata": {"model": "gpt-5-pro"}}),
    ):
        status, answer = await ask(gateway, session, key, path, **fields)
        assert status == 200, answer


async def test_a_routes_name_is_no_leave_to_name_the_model_that_it_stands_before(
    client: Client, gateway: Gateway, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    route = {"name": "gpt-4.1", "targets": ["openai/gpt-4o-mini"]}
    assert (await client.call("POST", "/routes", route))[0] == 201
    _, issued, _ = await client.call("POST", "/projects/api-keys", {"name": "held", "models": ["gpt-4.1"]})
    key, before = issued["data"]["apiKey"], len(upstream.bill())
    status, answer = await ask(gateway, session, key, "chat/completions", model="gpt-4.1", models=["gpt-4.1"])
    assert (status, answer["error"]["param"]) == (403, "models[0]")
    assert len(upstream.bill()) == before
    status, _ = await ask(gateway, session, key, "chat/completions", model="gpt-4.1")
    assert status == 200
