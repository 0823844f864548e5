"""Tokens as a caller of the native API sees them."""

from msgspec import Struct

from domain.tokens import TokenUsage


class AnswerUsage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens as the caller sees them; `prompt_tokens` includes the cached ones."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_prompt_tokens: int = 0


def answer_usage(usage: TokenUsage) -> AnswerUsage:
    """The sums over the classes that have a price each."""
    return AnswerUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
    )
