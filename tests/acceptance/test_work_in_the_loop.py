"""Bodies that are much work to read stop nobody else: refused without being read, or read in a thread."""

import asyncio

import aiohttp
import pytest

from tests.acceptance.bystander import Bystander
from tests.acceptance.gateway import Client, Gateway, new_project

MAX_WAIT_S = 4.0
"""Of a bystander on a busy machine; one such body alone stopped everything for five seconds."""
MAX_BODY_BYTES = 33_554_432
FILLINGS = {"objects": b'{"a":1},', "numbers": b"1,", "texts": b'"",'}
HEADS = {
    "/v1/chat/completions": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}],"x":[',
    "/v1/messages": b'{"model":"claude-3-haiku","max_tokens":5,"messages":[{"role":"user","content":"x"}],"x":[',
    "/v1/embeddings": b'{"model":"text-embedding-3-small","input":[',
    "/api/v1/completions/chat": b'{"model":"echo","messages":[{"role":"user","content":"x"}],"tools":[',
}


def body(path: str, filling: bytes, size: int = MAX_BODY_BYTES - 1_000) -> bytes:
    return HEADS[path] + filling * ((size - 200) // len(filling)) + b"0]}"


async def post(session: aiohttp.ClientSession, gateway: Gateway, path: str, key: str, content: bytes) -> int:
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "anthropic-version": "2023-06-01",
        "Connection": "close",
    }
    async with session.post(gateway.address + path, data=content, headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.fixture
async def other(gateway: Gateway, session: aiohttp.ClientSession) -> Client:
    """Another project's caller."""
    return await new_project(gateway, session)


@pytest.mark.parametrize("path", HEADS)
async def test_bodies_of_many_values_delay_nobody(
    path: str, gateway: Gateway, session: aiohttp.ClientSession, client: Client, other: Client
) -> None:
    assert client.key is not None
    bystander = Bystander()

    async def ask(number: int) -> int:
        return (await other.chat(f"hello {number}", model="echo"))[0]

    async with bystander.asking(ask):
        statuses = await asyncio.gather(
            *(post(session, gateway, path, client.key, body(path, filling)) for filling in FILLINGS.values()),
            *(post(session, gateway, path, client.key, body(path, b'{"a":1},', 1_500_000)) for _ in range(4)),
        )
    assert set(statuses[:3]) <= {400, 413}, statuses
    assert set(bystander.statuses) == {200}
    assert bystander.longest_s < MAX_WAIT_S


async def test_a_key_over_its_rate_limit_is_refused_before_its_body_is_read(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client
) -> None:
    _, answer, _ = await client.call("POST", "/projects/api-keys", {"name": "slow", "rateLimit": 1})
    caller = Client(session, gateway.address, answer["data"]["apiKey"])
    assert caller.key is not None
    statuses = [(await caller.chat("hello", model="echo"))[0] for _ in range(12)]  # every process has refused once
    assert statuses == [200] + [429] * 11
    path = "/v1/chat/completions"
    unfinished = HEADS[path] + b" " * 100
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.address.rpartition(":")[2]))
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.key}\r\n"
        f"Content-Length: {MAX_BODY_BYTES}\r\n\r\n".encode()
        + unfinished
    )
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    assert line.split()[1] == b"429"


async def test_a_large_text_is_answered(gateway: Gateway, session: aiohttp.ClientSession, client: Client) -> None:
    assert client.key is not None
    prompt = b"one, two, [three], {four}; " * 400_000
    content = b'{"model":"gpt-4o-mini","max_tokens":5,"messages":[{"role":"user","content":"' + prompt + b'"}]}'
    assert await post(session, gateway, "/v1/chat/completions", client.key, content) == 200
