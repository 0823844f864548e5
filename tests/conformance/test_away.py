"""The last row of the table: without its servers the gateway says so, in words that make the SDKs try again."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.support.gateway import Gateway
from tests.support.sdk_clients import ECHO, UNKNOWN_KEY, SdkClients, user

CONTENT_FIELDS: Any = {"model": ECHO, "max_tokens": 16, "messages": user("hello")}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that starts no server again."""
    gateway = Gateway.start(tmp_path / "data")
    gateway.process.send_signal(signal.SIGSTOP)
    yield gateway
    gateway.process.send_signal(signal.SIGCONT)
    gateway.stop()


async def failures(clients: SdkClients) -> list[Any]:
    """What a chat completion, a stream of one and a message raise, all asked at once."""
    create = clients.openai.chat.completions.create
    return await asyncio.gather(
        asyncio.to_thread(create, **CONTENT_FIELDS),
        asyncio.to_thread(create, **CONTENT_FIELDS, stream=True),
        asyncio.to_thread(clients.anthropic.messages.create, **CONTENT_FIELDS),
        return_exceptions=True,
    )


def are_told_to_come_back(chat: Any, stream: Any, message: Any) -> None:
    """What everybody is told while a server is away."""
    assert [type(chat), type(stream)] == [openai_sdk.InternalServerError] * 2
    assert [chat.status_code, stream.status_code] == [503, 503]
    assert (chat.type, stream.type) == ("api_error", "api_error")
    assert (type(message), message.status_code) == (anthropic_sdk.OverloadedError, 529)
    assert (message.type, message.request_id) == ("overloaded_error", message.body["request_id"])
    assert all(int(error.response.headers["retry-after"]) >= 1 for error in (chat, stream, message))


async def test_callers_are_asked_to_retry_while_servers_are_away(alone: Gateway) -> None:
    assert alone.first_key is not None
    clients, stranger = SdkClients(alone, alone.first_key), SdkClients(alone, UNKNOWN_KEY)
    assert clients.openai.chat.completions.create(**CONTENT_FIELDS).choices
    assert clients.anthropic.messages.create(**CONTENT_FIELDS).content
    for server in ("nats-server", "postgres"):
        next(child for child in alone.tree() if child.name() == server).kill()
        are_told_to_come_back(*await failures(clients))
    are_told_to_come_back(*await failures(stranger))
