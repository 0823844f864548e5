"""Calls through the vendors' SDKs: returns the SDKs' objects as plain values, and the errors that they raise."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.support.surfaces import CHAT, MESSAGES, RESPONSES
from tests.support.tls_context import TLS

_OWN = {  # the arguments that each SDK requires; other fields are sent as `extra_body`
    CHAT: ("model", "messages"),
    RESPONSES: ("model", "input"),
    MESSAGES: ("model", "max_tokens", "messages"),
}
_OPTIONS: dict[str, Any] = {"max_retries": 0, "timeout": 30.0}


class Sdks:
    """Both SDKs, connected to one address."""

    def __init__(self, address: str, key: str) -> None:
        openai_http = openai.DefaultAsyncHttpxClient(verify=TLS)
        anthropic_http = anthropic.DefaultAsyncHttpxClient(verify=TLS)
        self.openai = AsyncOpenAI(base_url=f"{address}/v1", api_key=key, http_client=openai_http, **_OPTIONS)
        self.anthropic = AsyncAnthropic(base_url=address, api_key=key, http_client=anthropic_http, **_OPTIONS)

    async def __aenter__(self) -> "Sdks":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.openai.close()
        await self.anthropic.close()

    async def whole(self, path: str, body: dict[str, Any]) -> Any:
        """Return the response in one piece."""
        return _plain(await self._create(path, body))

    async def streamed(self, path: str, body: dict[str, Any]) -> list[Any]:
        """Return every event of a stream, and the error at its end, if there is one."""
        return await _all(await self._create(path, body | {"stream": True}))

    async def helped(self, path: str, body: dict[str, Any]) -> list[Any]:
        """Return every event of the SDK's stream helper, with the snapshot that it has assembled by then."""
        own, others = _split(path, body)
        call = {CHAT: self.openai.chat.completions, RESPONSES: self.openai.responses, MESSAGES: self.anthropic.messages}
        async with call[path].stream(**own, extra_body=others) as events:  # type: ignore[attr-defined]
            return await _all(events)

    async def _create(self, path: str, body: dict[str, Any]) -> Any:
        own, others = _split(path, body)
        stream = others.pop("stream", False)
        match path:
            case "/v1/chat/completions":
                return await self.openai.chat.completions.create(**own, stream=stream, extra_body=others)
            case "/v1/responses":
                return await self.openai.responses.create(**own, stream=stream, extra_body=others)
            case _:
                return await self.anthropic.messages.create(**own, stream=stream, extra_body=others)


def _split(path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {name: body[name] for name in _OWN[path]}
    return own, {name: value for name, value in body.items() if name not in own}


async def _all(events: AsyncIterator[Any]) -> list[Any]:
    seen: list[Any] = []
    try:
        seen.extend([_plain(event) async for event in events])
    except (openai.APIError, anthropic.APIError) as error:
        seen.append((type(error).__name__, error.message, error.body))
    return seen


def _plain(seen: Any) -> Any:
    return _without_cost(seen.model_dump(mode="json", exclude_unset=True, warnings=False))


def _without_cost(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_cost(member) for name, member in value.items() if name != "cost"}
    return [_without_cost(member) for member in value] if isinstance(value, list) else value
