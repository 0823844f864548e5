"""The vendors' own SDKs, pointed at a gateway by their one setting, and the project whose keys they carry.

Both SDKs call over httpx2. They believe nothing here: what does not have the type that the SDK declares fails.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from domain.api_key import SECRET_BYTES, format_api_key
from tests.support.gateway import Gateway

GPT = "gpt-4o-mini"
CLAUDE = "claude-3.5-sonnet"
ECHO = "echo"
MODELS = (GPT, CLAUDE, ECHO)
"""One of each vendor's, and the built-in one."""
UPSTREAM_CLAUDE = "claude-3-5-sonnet-20241022"
EMBEDDER = "text-embedding-3-small"

UNKNOWN_KEY = format_api_key(bytes(SECRET_BYTES))
"""A key that could be one, so that it has to be looked up."""

TIMEOUT_S = 20.0


class Project:
    """A project's admin."""

    def __init__(self, gateway: Gateway, **fields: str) -> None:
        self._client = httpx2.Client(base_url=f"{gateway.address}/api/v1", timeout=TIMEOUT_S)
        self._client.headers["authorization"] = f"Bearer {gateway.master_key}"
        created = self._call("POST", "/projects", {"name": "conformance"} | fields)
        self.key: str = created["apiKey"]
        self._client.headers["authorization"] = f"Bearer {self.key}"

    def issue(self, **limits: Any) -> dict[str, Any]:
        """A key: `id`, `apiKey` and the rest."""
        return self._call("POST", "/projects/api-keys", {"name": "a key"} | limits)

    def revoke(self, key_id: str) -> None:
        """Take a key back."""
        self._call("DELETE", f"/projects/api-keys/{key_id}", None)

    def models(self) -> list[dict[str, Any]]:
        """The models that the native surface lists."""
        found: Any = self._call("GET", "/models", None)
        return list(found)

    def costs(self, group_by: str) -> list[dict[str, Any]]:
        """Where the money went."""
        lines: list[dict[str, Any]] = self._call("GET", f"/usage/costs?groupBy={group_by}", None)["breakdown"]
        return lines

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _call(self, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found


class SdkClients:
    """The SDKs with one key. They try once, unless `max_retries` says otherwise."""

    def __init__(self, gateway: Gateway, key: str, *, max_retries: int = 0) -> None:
        self._address = gateway.address
        self._options: dict[str, Any] = {
            "api_key": key,
            "max_retries": max_retries,
            "timeout": TIMEOUT_S,
            "_strict_response_validation": True,
        }
        self.statuses: list[int] = []
        """Of every answer to the SDKs that wait, those included that they do not show because they try again."""
        self.retry_counts: list[str | None] = []
        """What each of those requests said of the tries before it."""

    @cached_property
    def openai(self) -> OpenAI:
        """OpenAI's SDK."""
        client = httpx2.Client(event_hooks={"response": [self._note]})
        return OpenAI(base_url=f"{self._address}/v1", http_client=client, **self._options)

    @cached_property
    def anthropic(self) -> Anthropic:
        """Anthropic's SDK."""
        client = httpx2.Client(event_hooks={"response": [self._note]})
        return Anthropic(base_url=self._address, http_client=client, **self._options)

    @cached_property
    def async_openai(self) -> AsyncOpenAI:
        """OpenAI's asynchronous SDK."""
        return AsyncOpenAI(base_url=f"{self._address}/v1", **self._options)

    @cached_property
    def async_anthropic(self) -> AsyncAnthropic:
        """Anthropic's asynchronous SDK."""
        return AsyncAnthropic(base_url=self._address, **self._options)

    def _note(self, response: httpx2.Response) -> None:
        self.statuses.append(response.status_code)
        self.retry_counts.append(response.request.headers.get("x-stainless-retry-count"))


async def resolved(answer: Any) -> Any:
    """What an SDK of either kind answers."""
    return await answer if inspect.isawaitable(answer) else answer


async def collected(stream: Any) -> list[Any]:
    """All that a stream of either kind brings."""
    opened = await resolved(stream)
    if hasattr(opened, "__aiter__"):
        return [one async for one in opened]
    return list(opened)


@asynccontextmanager
async def entering(manager: Any) -> AsyncIterator[Any]:
    """What a context manager of either kind gives."""
    if hasattr(manager, "__aenter__"):
        async with manager as opened:
            yield opened
        return
    with manager as opened:
        yield opened


def user(content: Any) -> Any:
    """A conversation of one question."""
    return [{"role": "user", "content": content}]
