"""The calls that stream, on every surface, and readers of their events."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any

import aiohttp
from msgspec import Struct

from tests.support.gateway import Client, exact_json


class StreamCall(Struct, frozen=True, kw_only=True):
    """A call that can stream, with a model of the surface's own vendor or of the other one."""

    name: str
    path: str
    model: str

    def body(self, prompt: str, cap: int = 100, *, stream: bool = True) -> dict[str, Any]:
        """Return the request body."""
        messages = [{"role": "user", "content": prompt}]
        match self.path:
            case "/api/v1/completions/chat":
                fields: dict[str, Any] = {"messages": messages, "maxTokens": cap}
            case "/v1/responses":
                fields = {"input": prompt, "max_output_tokens": cap}
            case "/v1/chat/completions" if stream:
                fields = {"messages": messages, "max_tokens": cap, "stream_options": {"include_usage": True}}
            case _:
                fields = {"messages": messages, "max_tokens": cap}
        return {"model": self.model, "stream": stream} | fields


NATIVE, CHAT, RESPONSES, MESSAGES = "/api/v1/completions/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"
GPT, CLAUDE = "gpt-4o-mini", "claude-3-haiku"

NATIVE_GPT = StreamCall(name="native gpt", path=NATIVE, model=GPT)
NATIVE_CLAUDE = StreamCall(name="native claude", path=NATIVE, model=CLAUDE)
CHAT_GPT = StreamCall(name="chat, passed on", path=CHAT, model=GPT)
CHAT_CLAUDE = StreamCall(name="chat, translated", path=CHAT, model=CLAUDE)
RESPONSES_GPT = StreamCall(name="responses, passed on", path=RESPONSES, model=GPT)
MESSAGES_CLAUDE = StreamCall(name="messages, passed on", path=MESSAGES, model=CLAUDE)
MESSAGES_GPT = StreamCall(name="messages, translated", path=MESSAGES, model=GPT)
ALL_CALLS = (NATIVE_GPT, NATIVE_CLAUDE, CHAT_GPT, CHAT_CLAUDE, RESPONSES_GPT, MESSAGES_CLAUDE, MESSAGES_GPT)


class Streamer:
    """A caller with a key, on every surface."""

    def __init__(self, session: aiohttp.ClientSession, address: str, key: str) -> None:
        self.native = Client(session, address, key)
        self.key = key
        self._session = session
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}

    def opened(
        self, call: StreamCall, body: Any, **headers: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request; the response is open once it begins. The cache is off unless a header turns it on."""
        wanted = self._headers | {"x-gateway-cache": "off"} | headers
        return self._session.post(self._address + call.path, json=body, headers=wanted)

    async def read(self, call: StreamCall, body: Any, **headers: str) -> tuple[int, bytes]:
        """Send a request, and read the response to its end."""
        async with self.opened(call, body, **headers) as answer:
            return answer.status, await answer.read()


async def deltas(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Yield the pieces of text as they arrive."""
    async for line in answer.content:
        for event in events_in(line):
            if piece := _piece(event):
                yield piece


async def first_delta(answer: aiohttp.ClientResponse) -> str:
    """Wait for the first piece of text, and return it."""
    return await anext(deltas(answer))


def events_in(stream: bytes) -> list[Any]:
    """Return the decoded data of the events in a stream or in a line of it, without OpenAI's `[DONE]`."""
    data = [line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: ")]
    return [exact_json(line.decode()) for line in data if line != b"[DONE]"]


def text_in(stream: bytes) -> str:
    """Return the whole text of a stream."""
    return "".join(_piece(event) for event in events_in(stream))


def text_of(call: StreamCall, answer: bytes) -> str:
    """Return the text of a response in one piece."""
    body = json.loads(answer)
    match call.path:
        case "/api/v1/completions/chat":
            return str(body["data"]["choices"][0]["message"]["content"])
        case "/v1/responses":
            return str(body["output"][0]["content"][0]["text"])
        case "/v1/messages":
            return str(body["content"][0]["text"])
        case _:
            return str(body["choices"][0]["message"]["content"])


def digest_of(prompt: str) -> str:
    """Return the SHA-256 that stands for a prompt on the provider's bill."""
    return hashlib.sha256(prompt.encode()).hexdigest()


def answer_to(prompt: str) -> str:
    """Return the provider's text for a prompt without `[[say=…]]`."""
    return f"answer to {digest_of(prompt)[:16]}"


def cost_in(stream: bytes) -> Decimal:
    """Return the cost in US dollars from the last event of a stream that has one."""
    costs = [cost for event in events_in(stream) if (cost := _cost(event)) is not None]
    return Decimal(costs[-1])


def cost_of(answer: bytes) -> Decimal:
    """Return the cost in US dollars from a response in one piece."""
    cost = _cost(exact_json(answer.decode()))
    assert cost is not None, answer
    return cost


def error_in(stream: bytes) -> Any:
    """Return the error inside a stream, in the shape of any vendor; None if there is none."""
    return next(
        (event for event in events_in(stream) if "error" in (event, event.get("type")) or "error" in event), None
    )


def _piece(event: Any) -> str:
    match event:
        case {"choices": [{"delta": {"content": str(text)}}]}:
            return text
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return text
        case {"type": "content_block_delta", "delta": {"text": str(text)}}:
            return text
        case _:
            return ""


def _cost(event: Any) -> Decimal | None:
    match event:
        case (
            {"cost": cost}
            | {"data": {"cost": cost}}
            | {"usage": {"cost": cost}}
            | {"response": {"usage": {"cost": cost}}}
        ):
            return Decimal(cost)
        case _:
            return None
