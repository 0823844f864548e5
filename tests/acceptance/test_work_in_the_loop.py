"""Bodies that take long to parse do not delay other requests: they are refused unread, or parsed in a thread."""

import asyncio

import aiohttp
import msgspec
import pytest

from tests.provider.running import RunningProvider
from tests.support.bystander import Bystander
from tests.support.gateway import Client, Gateway, new_project
from tests.support.waiting import eventually_so

MAX_WAIT_S = 2.5
"""The limit for a bystander's request on a busy machine. In the event loop, one such body would take five seconds."""
MAX_BODY_BYTES = 33_554_432
MAX_GROWTH_BYTES = 700 * 1024 * 1024
"""The limit for the memory of both workers beside ten responses of 25 MB; each could take six times its size."""
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
    """Return a caller of another project."""
    return await new_project(gateway, session)


@pytest.mark.parametrize("path", HEADS)
async def test_bodies_of_many_values_delay_no_bystander(
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


async def test_rate_limited_key_is_refused_before_its_body(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client
) -> None:
    _, answer, _ = await client.call("POST", "/projects/api-keys", {"name": "slow", "rateLimit": 1})
    caller = Client(session, gateway.address, answer["data"]["apiKey"])
    assert caller.key is not None
    assert [(await caller.chat("hello", model="echo"))[0] for _ in range(3)] == [200, 429, 429]

    async def is_refused() -> bool:
        await asyncio.gather(
            *(caller.chat("hello", model="echo") for _ in range(8))
        )  # until both processes have cached the refusal
        return await status_of_unfinished(gateway, caller.key) == b"429"

    await eventually_so(is_refused, within_s=40)


async def status_of_unfinished(gateway: Gateway, key: str | None) -> bytes | None:
    """Send a request without its body. Return the status; None if the gateway waits for the body."""
    path = "/v1/chat/completions"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.address.rpartition(":")[2]))
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {MAX_BODY_BYTES}\r\n\r\n".encode()
        + HEADS[path]
    )
    try:
        return (await asyncio.wait_for(reader.readline(), 3)).split()[1]
    except TimeoutError:
        return None
    finally:
        writer.close()


async def test_a_large_text_is_answered(gateway: Gateway, session: aiohttp.ClientSession, client: Client) -> None:
    assert client.key is not None
    prompt = b"one, two, [three], {four}; " * 400_000
    content = b'{"model":"gpt-4o-mini","max_tokens":5,"messages":[{"role":"user","content":"' + prompt + b'"}]}'
    assert await post(session, gateway, "/v1/chat/completions", client.key, content) == 200


def resident_bytes(gateway: Gateway) -> int:
    return sum(process.memory_info().rss for process in gateway.processes("worker"))


async def test_echo_stops_no_worker(client: Client, other: Client, upstream: RunningProvider) -> None:
    bystander, before = Bystander(), upstream.calls

    async def ask(number: int) -> int:
        return (await other.chat(f"hello {number}", maxTokens=5, cache=False))[0]

    attacks = [
        {"model": "echo", "input": ["x"] * 2_000, "dimensions": 3_072},
        {"model": "echo", "input": ["x"] * 2_048, "dimensions": 7_000},
        {"model": "echo", "input": ["x" * 1_000] * 2_048},
    ]
    async with bystander.asking(ask):
        answers = await asyncio.gather(
            *(client.call("POST", "/completions/embeddings", attack) for attack in attacks for _ in range(4))
        )
    assert {status for status, _, _ in answers} <= {200, 400}
    assert [status for status, _, _ in answers[:8]] == [400] * 8
    assert set(bystander.statuses) == {200}
    assert bystander.longest_s < MAX_WAIT_S
    assert upstream.calls - before == len(bystander.statuses), "each request is called once"


async def test_large_answers_take_turns_in_a_workers_memory(
    gateway: Gateway, session: aiohttp.ClientSession, client: Client, other: Client
) -> None:
    assert client.key is not None
    body = msgspec.json.encode(
        {"model": "text-embedding-3-small", "input": ["x"] * 2_048, "dimensions": 1_536}
    )  # an answer of 25 MB
    bystander, before = Bystander(), resident_bytes(gateway)
    peak = before

    async def ask(number: int) -> int:
        nonlocal peak
        peak = max(peak, resident_bytes(gateway))
        return (await other.chat(f"hello {number}", model="echo"))[0]

    async with bystander.asking(ask):
        statuses = await asyncio.gather(
            *(post(session, gateway, "/v1/embeddings", client.key, body) for _ in range(10))
        )
    assert set(statuses) <= {200, 503}, statuses
    assert statuses.count(200) >= 5
    assert set(bystander.statuses) == {200}
    assert peak - before < MAX_GROWTH_BYTES
