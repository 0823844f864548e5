"""What a dialect reads from a provider's answer."""

from msgspec import Struct

from domain.canonical.chat import AnswerUsage, ChatResponse
from domain.canonical.embeddings import EmbeddingsResponse
from domain.tokens import TokenUsage

FAILED = "failed"
"""The finish reason of what came with status 200, is charged, and is no answer."""


class UnreadableResponse(Exception):
    """A provider said 200 and sent something that is no answer, or one that cannot be costed."""


class ProviderResponse(Struct, frozen=True, kw_only=True):
    """An answer and what it takes to account for it."""

    answer: ChatResponse | EmbeddingsResponse | bytes
    """bytes: its JSON, as the provider wrote it to a request in its own dialect, or canonical."""
    usage: TokenUsage
    answered_by: str
    """The model that the provider says it used."""
    response_id: str
    finish_reason: str | None = None


def answer_usage(usage: TokenUsage) -> AnswerUsage:
    """Tokens as the caller sees them."""
    return AnswerUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
    )


def part_of(whole: int, counted: int | None) -> tuple[int, int]:
    """Of tokens that were counted together: those that are left, and those of a part with a price of its own."""
    part = min(counted or 0, whole)
    return whole - part, part
