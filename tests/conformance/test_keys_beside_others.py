"""A good key counts beside a credential of somebody else's, in the header of any vendor, and goes no further."""

from typing import Any

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway

LOGIN = "Bearer sk-ant-oat01-a-login-at-the-vendor"
CALLS: dict[str, dict[str, Any]] = {
    "/api/v1/completions/chat": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"model": "claude-3-haiku", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}
HEADERS = {
    "x-api-key": {},
    "x-api-key beside a login": {"Authorization": LOGIN},
    "x-api-key beside a user's name": {"Authorization": "Basic dXNlcjpwYXNz"},
    "api-key": {},
    "api-key beside a login": {"Authorization": LOGIN},
    "x-goog-api-key": {},
    "Authorization beside another key": {"x-api-key": "sk-ant-api03-of-the-vendor"},
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("how", HEADERS)
async def test_a_good_key_counts_wherever_it_stands(
    gateway: Gateway, client: Client, session: aiohttp.ClientSession, upstream: RunningProvider, path: str, how: str
) -> None:
    name = how.partition(" ")[0]
    mine = {name: f"bearer {client.key}" if name == "Authorization" else str(client.key)}
    async with session.post(f"{gateway.address}{path}", json=CALLS[path], headers=HEADERS[how] | mine) as answer:
        assert answer.status == 200, await answer.text()
    async with session.get(f"{gateway.address}/v1/models", headers=HEADERS[how] | mine) as answer:
        assert answer.status == 200, await answer.text()
    sent = "\n".join(f"{name}: {value}" for one in upstream.requests() for name, value in one.headers)
    assert str(client.key) not in sent
    assert "a-login-at-the-vendor" not in sent
    assert "sk-ant-api03-of-the-vendor" not in sent


async def test_two_credentials_of_which_none_is_ours_are_refused(
    gateway: Gateway, session: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": LOGIN, "x-api-key": "sk-ant-api03-of-the-vendor", "anthropic-version": "2023-06-01"}
    async with session.get(f"{gateway.address}/v1/models", headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["type"] == "authentication_error"
