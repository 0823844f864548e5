"""The vendors' SDKs, connected to a gateway by their base URL, and the project whose keys they use.

Both SDKs use httpx2. Strict validation is on: a value of another type than the SDK declares fails.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic
from anthropic import DefaultAsyncHttpxClient as AnthropicHttpClient
from openai import AsyncOpenAI, OpenAI
from openai import DefaultAsyncHttpxClient as OpenAiHttpClient

from domain.api_key import SECRET_BYTES, format_api_key
from tests.support.gateway import Gateway
from tests.support.tls_context import TLS

GPT = "gpt-4o-mini"
CLAUDE = "claude-3.5-sonnet"
ECHO = "echo"
MODELS = (GPT, CLAUDE, ECHO)
"""A model of each vendor, and the built-in model."""
UPSTREAM_CLAUDE = "claude-3-5-sonnet-20241022"
EMBEDDER = "text-embedding-3-small"

UNKNOWN_KEY = format_api_key(bytes(SECRET_BYTES))
"""A well-formed key that does not exist, so that the gateway has to look it up."""

TIMEOUT_S = 20.0


class Project:
    """A new project, with calls as its admin."""

    def __init__(self, gateway: Gateway, **fields: str) -> None:
        self._client = httpx2.Client(base_url=f"{gateway.address}/api/v1", timeout=TIMEOUT_S, verify=TLS)
        self._client.headers["authorization"] = f"Bearer {gateway.master_key}"
        created = self._call("POST", "/projects", {"name": "conformance"} | fields)
        self.key: str = created["apiKey"]
        self._client.headers["authorization"] = f"Bearer {self.key}"

    def issue(self, **limits: Any) -> dict[str, Any]:
        """Create a key. Return it with `id`, `apiKey` and its settings."""
        return self._call("POST", "/projects/api-keys", {"name": "a key"} | limits)

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._call("DELETE", f"/projects/api-keys/{key_id}", None)

    def set_route(self, name: str, model: str) -> None:
        """Create a route with one target."""
        self._call("POST", "/routes", {"name": name, "targets": [model]})

    def models(self) -> list[dict[str, Any]]:
        """Return the models that the native API lists."""
        models: Any = self._call("GET", "/models", None)
        return list(models)

    def costs(self, group_by: str) -> list[dict[str, Any]]:
        """Return the project's costs, grouped."""
        lines: list[dict[str, Any]] = self._call("GET", f"/usage/costs?groupBy={group_by}", None)["breakdown"]
        return lines

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _call(self, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


class SdkClients:
    """The SDKs with one key. They do not retry, unless `max_retries` is set."""

    def __init__(self, gateway: Gateway, key: str, *, max_retries: int = 0) -> None:
        self._address = gateway.address
        self._options: dict[str, Any] = {
            "api_key": key,
            "max_retries": max_retries,
            "timeout": TIMEOUT_S,
            "_strict_response_validation": True,
        }
        self.statuses: list[int] = []
        """The status of every response to the synchronous SDKs, including responses that they retried."""
        self.retry_counts: list[str | None] = []
        """The retry count that each of those requests sent."""

    @cached_property
    def openai(self) -> OpenAI:
        """OpenAI's SDK."""
        client = httpx2.Client(event_hooks={"response": [self._note]}, verify=TLS)
        return OpenAI(base_url=f"{self._address}/v1", http_client=client, **self._options)

    @cached_property
    def anthropic(self) -> Anthropic:
        """Anthropic's SDK."""
        client = httpx2.Client(event_hooks={"response": [self._note]}, verify=TLS)
        return Anthropic(base_url=self._address, http_client=client, **self._options)

    @cached_property
    def async_openai(self) -> AsyncOpenAI:
        """OpenAI's asynchronous SDK."""
        client = OpenAiHttpClient(verify=TLS)
        return AsyncOpenAI(base_url=f"{self._address}/v1", http_client=client, **self._options)

    @cached_property
    def async_anthropic(self) -> AsyncAnthropic:
        """Anthropic's asynchronous SDK."""
        client = AnthropicHttpClient(verify=TLS)
        return AsyncAnthropic(base_url=self._address, http_client=client, **self._options)

    def _note(self, response: httpx2.Response) -> None:
        self.statuses.append(response.status_code)
        self.retry_counts.append(response.request.headers.get("x-stainless-retry-count"))


async def resolved(answer: Any) -> Any:
    """Return the result of a synchronous or asynchronous SDK call."""
    return await answer if inspect.isawaitable(answer) else answer


async def collected(stream: Any) -> list[Any]:
    """Return all items of a synchronous or asynchronous stream."""
    opened = await resolved(stream)
    if hasattr(opened, "__aiter__"):
        return [item async for item in opened]
    return list(opened)


@asynccontextmanager
async def entering(manager: Any) -> AsyncIterator[Any]:
    """Enter a synchronous or asynchronous context manager."""
    if hasattr(manager, "__aenter__"):
        async with manager as opened:
            yield opened
        return
    with manager as opened:
        yield opened


def user(content: Any) -> Any:
    """Return a conversation of one user message."""
    return [{"role": "user", "content": content}]
