"""A key is checked when the headers of a request arrive, and again when its body is complete."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.waiting import eventually

CALLS = {
    "/api/v1/completions/chat": {"model": "echo", "messages": [{"role": "user", "content": "late"}]},
    "/api/v1/completions/embeddings": {"model": "echo", "input": "late"},
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "late"}]},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "late"},
    "/v1/messages": {"model": "claude-3-haiku", "max_tokens": 9, "messages": [{"role": "user", "content": "late"}]},
    "/api/v1/projects/api-keys": {"name": "issued late", "role": "admin"},
    "/api/v1/projects/providers": {"name": "late", "kind": "openai", "baseUrl": "https://a.example", "apiKey": "k" * 9},
}


class LateRequest:
    """A request whose headers and all but one byte of its body have been sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._last = last

    async def finish(self) -> int:
        """Send the last byte. Return the status of the response."""
        self._writer.write(self._last)
        await self._writer.drain()
        line = await asyncio.wait_for(self._reader.readline(), 30)
        return int(line.split()[1])


@asynccontextmanager
async def late_request(
    gateway: Gateway, method: str, path: str, key: str | None, body: Mapping[str, Any]
) -> AsyncIterator[LateRequest]:
    address = urlsplit(gateway.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    content = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"anthropic-version: 2023-06-01\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content[:-1])
    await writer.drain()
    await asyncio.sleep(0.2)  # the headers are checked meanwhile: nothing outside shows when
    try:
        yield LateRequest(reader, writer, content[-1:])
    finally:
        writer.close()


async def issued(client: Client, **settings: Any) -> tuple[str, str]:
    status, answer, _ = await client.call("POST", "/projects/api-keys", {"name": "a key", "role": "admin"} | settings)
    assert status == 201, answer
    return answer["data"]["id"], answer["data"]["apiKey"]


@pytest.mark.parametrize("path", CALLS)
async def test_a_key_revoked_before_the_last_byte_is_refused(
    path: str, gateway: Gateway, client: Client, session: aiohttp.ClientSession
) -> None:
    key_id, key = await issued(client)
    bystander = Client(session, gateway.address, (await issued(client))[1])
    async with late_request(gateway, "POST", path, key, CALLS[path]) as late:
        assert (await client.call("DELETE", f"/projects/api-keys/{key_id}"))[0] == 200
        assert await late.finish() == 401
    assert (await bystander.chat("hello", model="echo"))[0] == 200
    _, listed, _ = await client.call("GET", "/projects/api-keys")
    assert "issued late" not in [one["name"] for one in listed["data"]]


async def test_demoted_key_may_not_administer(gateway: Gateway, client: Client) -> None:
    key_id, key = await issued(client)
    path = "/api/v1/projects/api-keys"
    async with late_request(gateway, "POST", path, key, CALLS[path]) as late:
        assert (await client.call("PATCH", f"/projects/api-keys/{key_id}", {"role": "member"}))[0] == 200
        assert await late.finish() == 403


async def test_model_removed_from_a_key_is_refused(gateway: Gateway, client: Client) -> None:
    key_id, key = await issued(client)
    path = "/api/v1/completions/chat"
    async with late_request(gateway, "POST", path, key, CALLS[path]) as late:
        await client.call("PATCH", f"/projects/api-keys/{key_id}", {"models": ["gpt-4o-mini"]})
        assert await late.finish() == 403


async def test_late_body_under_a_valid_key_is_answered(gateway: Gateway, client: Client) -> None:
    _, key = await issued(client)
    path = "/api/v1/completions/chat"
    async with late_request(gateway, "POST", path, key, CALLS[path]) as late:
        await asyncio.sleep(1.2)  # longer than a process caches a key
        assert await late.finish() == 200


async def test_key_revoked_in_the_admission_queue_is_refused(
    gateway: Gateway, client: Client, session: aiohttp.ClientSession, upstream: RunningProvider
) -> None:
    key_id, key = await issued(client, concurrencyLimit=1, budgetWaitMs=30_000)
    caller = Client(session, gateway.address, key)
    first = asyncio.create_task(caller.chat("[[delay=3000]] first", maxTokens=5))
    await eventually(lambda: upstream.state()["inFlight"] == 1)
    waiting = asyncio.create_task(caller.chat("second", maxTokens=5))
    await asyncio.sleep(0.5)  # it joins the queue meanwhile: nothing outside shows when
    await client.call("DELETE", f"/projects/api-keys/{key_id}")
    assert (await waiting)[0] == 401
    assert (await first)[0] == 200  # it was admitted before
    _, listed, _ = await client.call("GET", f"/requests?keyId={key_id}")
    assert [one["status"] for one in listed["data"]["requests"]] == ["completed"]
