"""OpenAI's token counts, of chat completions and embeddings and of the Responses API, and our classes of tokens."""

from typing import Any

import msgspec
from msgspec import Struct

from domain.tokens import TokenCount, TokenUsage


class PromptTokensDetails(Struct, frozen=True):
    """Parts of `prompt_tokens`."""

    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None


class CompletionTokensDetails(Struct, frozen=True):
    """Parts of `completion_tokens`."""

    reasoning_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None


class CompletionUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the vendor counts them."""

    prompt_tokens: TokenCount
    completion_tokens: TokenCount = 0
    total_tokens: TokenCount | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class InputTokensDetails(Struct, frozen=True):
    """Parts of `input_tokens`."""

    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None


class OutputTokensDetails(Struct, frozen=True):
    """Parts of `output_tokens`."""

    reasoning_tokens: TokenCount | None = None


class ResponsesUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the Responses API counts them."""

    input_tokens: TokenCount
    output_tokens: TokenCount = 0
    input_tokens_details: InputTokensDetails | None = None
    output_tokens_details: OutputTokensDetails | None = None


def parse_usage(usage: CompletionUsage) -> TokenUsage:
    """Split OpenAI's sums: its prompt tokens include the cached and the audio ones, its completion tokens the audio.

    Some providers that speak alike (Gemini's endpoint, xAI) leave thinking out of the completion tokens: what the total
    has beyond the two sums was thinking. No part is counted as more than is left of its sum.
    """
    prompt = usage.prompt_tokens_details or PromptTokensDetails()
    completion = usage.completion_tokens_details or CompletionTokensDetails()
    rest, cached = _split(usage.prompt_tokens, prompt.cached_tokens)
    rest, written = _split(rest, prompt.cache_write_tokens)
    rest, audio_in = _split(rest, prompt.audio_tokens)
    unsaid = max(0, (usage.total_tokens or 0) - usage.prompt_tokens - usage.completion_tokens)
    output, audio_out = _split(usage.completion_tokens + unsaid, completion.audio_tokens)
    return TokenUsage(
        input=rest,
        cache_read=cached,
        cache_write=written,
        input_audio=audio_in,
        output=output,
        output_audio=audio_out,
        reasoning=min(max(completion.reasoning_tokens or 0, unsaid), output),
    )


def parse_embeddings_usage(usage: CompletionUsage) -> TokenUsage:
    """Count the input only: the output of embeddings has no price, even if `total_tokens` is higher."""
    return parse_usage(msgspec.structs.replace(usage, total_tokens=None))


def parse_responses_usage(usage: ResponsesUsage) -> TokenUsage:
    """Split the sums: the input tokens include those read from the cache and those written to it."""
    details = usage.input_tokens_details or InputTokensDetails()
    rest, cached = _split(usage.input_tokens, details.cached_tokens)
    rest, written = _split(rest, details.cache_write_tokens)
    spent = usage.output_tokens_details or OutputTokensDetails()
    return TokenUsage(
        input=rest,
        cache_read=cached,
        cache_write=written,
        output=usage.output_tokens,
        reasoning=min(spent.reasoning_tokens or 0, usage.output_tokens),
    )


def render_usage(usage: TokenUsage) -> dict[str, Any]:
    """OpenAI's sums: the prompt's include the cached tokens, the completion's the reasoning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_prompt_tokens,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.input_audio + usage.cache_audio_read,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.output_audio},
    }


def _split(total: int, part: int | None) -> tuple[int, int]:
    """Split off the part of a sum that has its own price: the remainder, and the part."""
    part = min(part or 0, total)
    return total - part, part
