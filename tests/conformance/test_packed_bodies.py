"""A request body may come packed, or with a mark in front of its JSON, on every surface."""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import brotli
import pytest
import zstandard

from tests.support.gateway import Client, Gateway

ASKED = {"messages": [{"role": "user", "content": "packed"}]}
CALLS: dict[str, dict[str, Any]] = {
    "/api/v1/completions/chat": {"model": "echo", **ASKED},
    "/api/v1/projects/api-keys": {"name": "packed"},
    "/v1/chat/completions": {"model": "gpt-4o-mini", **ASKED},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "packed"},
    "/v1/messages": {"model": "claude-3-haiku", "max_tokens": 9, **ASKED},
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "br": brotli.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "identity": lambda data: data,
}


class Sender:
    """Sends bytes as they are."""

    def __init__(self, session: aiohttp.ClientSession, client: Client, gateway: Gateway) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {client.key}", "content-type": "application/json"}
        self._address = gateway.address

    async def send(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Return the status and the JSON."""
        url, headers = f"{self._address}{path}", self._headers | dict(headers or {})
        async with self._session.post(url, data=content, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
def sender(session: aiohttp.ClientSession, client: Client, gateway: Gateway) -> Sender:
    return Sender(session, client, gateway)


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("encoding", PACK)
async def test_a_packed_body_is_answered_as_one_that_is_not(sender: Sender, path: str, encoding: str) -> None:
    content = PACK[encoding](json.dumps(CALLS[path]).encode())
    status, answer = await sender.send(path, content, {"content-encoding": encoding})
    assert status in (200, 201), answer


async def test_a_large_packed_body_is_answered(sender: Sender) -> None:
    large = {"model": "echo", "messages": [{"role": "user", "content": "so-long " * 100_000}]}
    content = gzip.compress(json.dumps(large).encode())
    status, answer = await sender.send("/api/v1/completions/chat", content, {"content-encoding": "gzip"})
    assert status == 200, answer
    assert answer["data"]["usage"]["promptTokens"] > 90_000


@pytest.mark.parametrize("path", CALLS)
async def test_a_bomb_is_too_large_and_hurts_nobody(sender: Sender, path: str) -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024), 6)  # packed, it is small enough for every call
    status, answer = await sender.send(path, bomb, {"content-encoding": "gzip"})
    assert (status, "bytes when it is unpacked" in answer["error"]["message"]) == (413, True), answer
    status, answer = await sender.send(
        "/api/v1/completions/chat", json.dumps(CALLS["/api/v1/completions/chat"]).encode()
    )
    assert status == 200, answer


@pytest.mark.parametrize("path", CALLS)
async def test_an_encoding_that_is_not_read_is_refused_by_name(sender: Sender, path: str) -> None:
    status, answer = await sender.send(path, b"{}", {"content-encoding": "compress"})
    assert (status, "'compress'" in answer["error"]["message"]) == (415, True), answer


async def test_a_body_that_does_not_fit_its_encoding_is_refused(sender: Sender) -> None:
    status, answer = await sender.send("/v1/chat/completions", b"{}", {"content-encoding": "zstd"})
    assert (status, "not valid zstd" in answer["error"]["message"]) == (400, True), answer


@pytest.mark.parametrize("path", CALLS)
async def test_a_mark_in_front_of_json_is_no_part_of_it(sender: Sender, path: str) -> None:
    status, answer = await sender.send(path, json.dumps(CALLS[path]).encode("utf-8-sig"))
    assert status in (200, 201), answer


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("path", CALLS)
async def test_json_in_another_encoding_than_utf_8_is_told_so(sender: Sender, path: str, encoding: str) -> None:
    status, answer = await sender.send(path, json.dumps(CALLS[path]).encode(encoding))
    assert (status, "not UTF-8" in answer["error"]["message"]) == (400, True), answer
