"""Without its servers, the gateway sends errors that make the SDKs retry: the last row of the contract's table."""

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
    """Run a gateway that does not restart its servers."""
    gateway = Gateway.start(tmp_path / "data")
    gateway.process.send_signal(signal.SIGSTOP)
    yield gateway
    gateway.process.send_signal(signal.SIGCONT)
    gateway.stop()


async def failures(clients: SdkClients) -> list[Any]:
    """Send a chat completion, a stream and a message at once. Return their errors."""
    create = clients.openai.chat.completions.create
    return await asyncio.gather(
        asyncio.to_thread(create, **CONTENT_FIELDS),
        asyncio.to_thread(create, **CONTENT_FIELDS, stream=True),
        asyncio.to_thread(clients.anthropic.messages.create, **CONTENT_FIELDS),
        return_exceptions=True,
    )


def check_errors_ask_to_retry(chat: Any, stream: Any, message: Any) -> None:
    """Check the errors of all calls while a server is away."""
    assert [type(chat), type(stream)] == [openai_sdk.InternalServerError] * 2
    assert [chat.status_code, stream.status_code] == [503, 503]
    assert (chat.type, stream.type) == ("api_error", "api_error")
    assert (type(message), message.status_code) == (anthropic_sdk.OverloadedError, 529)
    assert (message.type, message.request_id) == ("overloaded_error", message.body["request_id"])
    assert all(int(error.response.headers["retry-after"]) >= 1 for error in (chat, stream, message))


async def test_errors_ask_to_retry_while_servers_are_away(alone: Gateway) -> None:
    assert alone.first_key is not None
    clients, stranger = SdkClients(alone, alone.first_key), SdkClients(alone, UNKNOWN_KEY)
    assert clients.openai.chat.completions.create(**CONTENT_FIELDS).choices
    assert clients.anthropic.messages.create(**CONTENT_FIELDS).content
    for server in ("nats-server", "postgres"):
        next(child for child in alone.tree() if child.name() == server).kill()
        check_errors_ask_to_retry(*await failures(clients))
    check_errors_ask_to_retry(*await failures(stranger))
