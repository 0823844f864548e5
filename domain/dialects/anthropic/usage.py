"""Anthropic's token counts and our classes of tokens."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from domain.extras import Extras, count_of, served_terms, stated_cost
from domain.tokens import TokenCount, TokenUsage

MAX_ITERATIONS = 1_000


class CacheCreation(Struct, frozen=True):
    """Tokens written to the cache, by lifetime."""

    ephemeral_5m_input_tokens: TokenCount = 0
    ephemeral_1h_input_tokens: TokenCount = 0


class OutputTokensDetails(Struct, frozen=True):
    """The parts of the output tokens."""

    thinking_tokens: TokenCount | None = None


class Iteration(Struct, frozen=True, kw_only=True):
    """One of the model's turns within an answer. Of type `compaction`: a summary, which the sums leave out."""

    type: str = ""
    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None


Iterations = Annotated[list[Iteration], Meta(max_length=MAX_ITERATIONS)]


class MessageUsage(Struct, frozen=True, kw_only=True):
    """Tokens as the vendor counts them."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None
    iterations: Iterations | None = None
    server_tool_use: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None
    cost: Any = None
    """Of sellers that speak alike."""


class PartialUsage(Struct, frozen=True, gc=False):
    """The usage of `message_delta`: sums so far. A field that it leaves out has the value of `message_start`."""

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None
    iterations: Iterations | None = None
    server_tool_use: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None
    cost: Any = None


OTHER_MODELS = ("advisor_message", "fallback_message")
"""The iterations that another model made, at its own price."""


def parse_extras(usage: MessageUsage | PartialUsage, container: Any) -> Extras:
    """Read what an answer says beside its tokens. `container`: of the message; null if no code was run."""
    tools = usage.server_tool_use if isinstance(usage.server_tool_use, dict) else {}
    uses = {"web_search": count_of(tools.get("web_search_requests")), "code_execution": int(container is not None)}
    stated = (("service_tier", usage.service_tier), ("speed", usage.speed), ("inference_geo", usage.inference_geo))
    terms, names = served_terms(stated)
    others = dict.fromkeys(one.type for one in usage.iterations or () if one.type in OTHER_MODELS)
    return Extras(
        uses={tool: count for tool, count in uses.items() if count},
        terms=terms,
        stated=names,
        unpriced=tuple(others),
        provider_cost_nano_usd=stated_cost(usage.cost),
    )


def parse_usage(usage: MessageUsage) -> TokenUsage:
    """Anthropic's input tokens exclude the cache; tokens written to it are split by lifetime if the response does so.

    Summaries of the context, which the provider had the model write (`compaction`), are billed as well.
    """
    details = usage.output_tokens_details
    total = _parse_counts(usage, (details.thinking_tokens or 0) if details is not None else 0)
    for iteration in usage.iterations or ():
        if iteration.type == "compaction":
            total = _sum(total, _parse_counts(iteration, 0))
    return total


def _parse_counts(usage: MessageUsage | Iteration, thinking_tokens: int) -> TokenUsage:
    written = usage.cache_creation_input_tokens or 0
    split = usage.cache_creation or CacheCreation(ephemeral_5m_input_tokens=written)
    return TokenUsage(
        input=usage.input_tokens or 0,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write=max(written, split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens)
        - split.ephemeral_1h_input_tokens,
        cache_write_1h=split.ephemeral_1h_input_tokens,
        output=usage.output_tokens or 0,
        reasoning=min(thinking_tokens, usage.output_tokens or 0),
    )


def _sum(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    first, second = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    return TokenUsage(**{name: first[name] + second[name] for name in first})


def render_usage(usage: TokenUsage) -> dict[str, Any]:
    """Anthropic's counts: the input excludes what was read from the cache or written to it."""
    written = usage.cache_write + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_prompt_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached_prompt_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
