"""The vendors' SDKs see the same through the gateway as directly from the provider, except for the cost."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Client, Gateway
from tests.support.prompts import EVERY
from tests.support.seen_by_sdks import Sdks
from tests.support.surfaces import CHAT, MESSAGES, RESPONSES, chat, message, response

CHATS_WITH_USAGE = {
    f"{name}-with-usage": (path, body | {"stream_options": {"include_usage": True}})
    for name, (path, body) in EVERY.items()
    if path == CHAT
}
STREAMED = EVERY | CHATS_WITH_USAGE
HELPED = [name for name in STREAMED if name != "messages-no-usage"]
"""Anthropic's helper needs the usage at the end of a stream: without it, it raises an AttributeError."""


@pytest.fixture
async def straight(upstream: RunningProvider) -> AsyncIterator[Sdks]:
    async with Sdks(upstream.address, "sk-test-canary") as sdks:
        yield sdks


@pytest.fixture
async def through(gateway: Gateway, client: Client) -> AsyncIterator[Sdks]:
    async with Sdks(gateway.address, client.key or "") as sdks:
        yield sdks


@pytest.mark.parametrize("name", EVERY)
async def test_the_answer_in_one_piece_is_the_same(straight: Sdks, through: Sdks, name: str) -> None:
    assert await through.whole(*EVERY[name]) == await straight.whole(*EVERY[name])


@pytest.mark.parametrize("name", STREAMED)
async def test_the_events_are_the_same(straight: Sdks, through: Sdks, name: str) -> None:
    events = await straight.streamed(*STREAMED[name])
    assert len(events) > 1
    assert await through.streamed(*STREAMED[name]) == events


@pytest.mark.parametrize("name", HELPED)
async def test_stream_helpers_assemble_the_same_response(straight: Sdks, through: Sdks, name: str) -> None:
    events = await straight.helped(*STREAMED[name])
    assert len(events) > 1
    assert await through.helped(*STREAMED[name]) == events


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat("[[streamerror=7]]")),
        (RESPONSES, response("[[streamerror=7]]")),
        (MESSAGES, message("[[streamerror=7]]")),
    ],
)
async def test_the_failure_inside_a_stream_is_the_same(
    straight: Sdks, through: Sdks, path: str, body: dict[str, Any]
) -> None:
    events = await straight.streamed(path, body)
    assert "error" in str(events[-1])
    assert await through.streamed(path, body) == events
