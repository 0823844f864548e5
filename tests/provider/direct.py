"""The vendors' SDKs, connected directly to a test provider, and the charges for their calls."""

from contextlib import AsyncExitStack
from functools import cached_property
from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Usage as AnthropicUsage
from openai import AsyncOpenAI, OpenAI
from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

from tests.provider.running import RunningProvider

TIMEOUT_S = 10.0
_OPTIONS: dict[str, Any] = {
    "api_key": "sk-canary",
    "max_retries": 0,
    "timeout": TIMEOUT_S,
    "_strict_response_validation": True,  # a value of another type than the SDK declares fails
}


class Direct:
    """SDK clients that do not retry and check every type, with their part of the provider's bill."""

    def __init__(self, provider: RunningProvider) -> None:
        self.provider = provider
        self._already_billed = len(provider.bill())
        self._opened = AsyncExitStack()

    @cached_property
    def openai(self) -> OpenAI:
        """OpenAI's SDK."""
        return self._opened.enter_context(OpenAI(base_url=self.provider.openai_base_url, **_OPTIONS))

    @cached_property
    def anthropic(self) -> Anthropic:
        """Anthropic's SDK."""
        return self._opened.enter_context(Anthropic(base_url=self.provider.anthropic_base_url, **_OPTIONS))

    @cached_property
    def async_openai(self) -> AsyncOpenAI:
        """OpenAI's asynchronous SDK."""
        client = AsyncOpenAI(base_url=self.provider.openai_base_url, **_OPTIONS)
        self._opened.push_async_exit(client)
        return client

    @cached_property
    def async_anthropic(self) -> AsyncAnthropic:
        """Anthropic's asynchronous SDK."""
        client = AsyncAnthropic(base_url=self.provider.anthropic_base_url, **_OPTIONS)
        self._opened.push_async_exit(client)
        return client

    async def close(self) -> None:
        """Close every connection."""
        await self._opened.aclose()

    def billed(self) -> list[dict[str, Any]]:
        """Return the rows of the bill since this object was created."""
        return self.provider.bill()[self._already_billed :]

    def billed_tokens(self) -> tuple[int, int, int, int]:
        """Return the tokens of the only charge: input, output, cache reads, cache writes."""
        (row,) = self.billed()
        return row["in"], row["out"], row["cached"], row["written"]


def reported_tokens(usage: CompletionUsage | ResponseUsage | AnthropicUsage | None) -> tuple[int, int, int, int]:
    """Return the tokens that a response reports, as the bill counts them: input with cache, output, reads, writes."""
    match usage:
        case CompletionUsage(prompt_tokens_details=prompt):
            assert prompt is not None
            written = prompt.cache_write_tokens or 0
            return usage.prompt_tokens, usage.completion_tokens, prompt.cached_tokens or 0, written
        case ResponseUsage(input_tokens_details=prompt):
            return usage.input_tokens, usage.output_tokens, prompt.cached_tokens, prompt.cache_write_tokens
        case AnthropicUsage():
            read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
            return usage.input_tokens + read + written, usage.output_tokens, read, written
        case None:
            raise AssertionError("the response reports no usage")
