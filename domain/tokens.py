"""Token usage: as a provider counts it, one number for each class with a price of its own, and as callers see it."""

from typing import Annotated

from msgspec import Meta, Struct

MAX_TOKENS = 100_000_000
"""The most tokens that a provider may count of one class: a hundred of today's longest prompts. At the highest price
that can be set, the cost of so many of every class still fits into PostgreSQL's bigint."""

TokenCount = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
"""A number of tokens in a provider's response."""


class TokenUsage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one answer. The classes do not overlap, except that `reasoning` is a part of `output`.

    Vendors differ: OpenAI's `prompt_tokens` includes cached ones, Anthropic's `input_tokens` does not. The provider
    adapters bring both to this shape.
    """

    input: int = 0
    """Text and image tokens read at the full price."""
    cache_read: int = 0
    cache_write: int = 0
    """Written to the provider's prompt cache for five minutes (or its only lifetime)."""
    cache_write_1h: int = 0
    input_audio: int = 0
    cache_audio_read: int = 0
    output: int = 0
    output_audio: int = 0
    reasoning: int = 0
    """The part of `output` that was thinking. Priced as output."""

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        """The tokens of two answers together, class by class."""
        return TokenUsage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    @property
    def prompt_tokens(self) -> int:
        """Every token that went in, whatever its price."""
        return (
            self.input
            + self.cache_read
            + self.cache_write
            + self.cache_write_1h
            + self.input_audio
            + self.cache_audio_read
        )

    @property
    def completion_tokens(self) -> int:
        """Every token that came out."""
        return self.output + self.output_audio

    @property
    def cached_prompt_tokens(self) -> int:
        """The part of `prompt_tokens` that the provider read from its own cache."""
        return self.cache_read + self.cache_audio_read

    @property
    def total_tokens(self) -> int:
        """In and out together."""
        return self.prompt_tokens + self.completion_tokens


class AnswerUsage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens as the caller sees them; `prompt_tokens` includes the cached ones."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_prompt_tokens: int = 0


def answer_usage(usage: TokenUsage) -> AnswerUsage:
    """The sums over the classes that have a price each."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return AnswerUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_prompt_tokens=usage.cached_prompt_tokens,
    )
