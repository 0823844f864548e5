"""Anthropic's token counts and our classes of tokens."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from domain.extras import Extras, OtherUsage, count_of, served_terms, stated_cost
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


class PartialUsage(Struct, frozen=True, gc=False):
    """The usage of `message_delta`: sums so far. A field that it leaves out has the value of `message_start`."""

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None
    iterations: Iterations | None = None


ADVISOR = "advisor_message"
OTHER_MODELS = (ADVISOR, "fallback_message")
"""The iterations that another model made, at its own price."""
_CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h", "output")


def parse_extras(said: Any, container: Any) -> Extras:
    """Read what an answer says beside its tokens. `said`: its usage; `container`: null if no code was run.

    Some sellers that speak alike state the cost in the usage.
    """
    usage = said if isinstance(said, dict) else {}
    tools = usage.get("server_tool_use")
    searches = count_of(tools.get("web_search_requests")) if isinstance(tools, dict) else 0
    uses = {"web_search": searches, "code_execution": int(container is not None)}
    terms, names = served_terms((name, usage.get(name)) for name in ("service_tier", "speed", "inference_geo"))
    turns = usage.get("iterations")
    kinds = [turn.get("type") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    advice = _advice(turns) if ADVISOR in kinds else ()
    return Extras(
        uses={tool: count for tool, count in uses.items() if count},
        terms=terms,
        stated=names,
        unpriced=tuple(kind for kind in OTHER_MODELS if kind in kinds and (kind != ADVISOR or not advice)),
        others=advice,
        provider_cost_nano_usd=stated_cost(usage.get("cost")),
        readings=_readings(turns) if len(kinds) > 1 else (),
    )


def _advice(turns: Any) -> tuple[OtherUsage, ...]:
    """The tokens of the advisor; empty if they cannot be read."""
    try:
        read = [turn for turn in msgspec.convert(turns, Iterations) if turn.type == ADVISOR]
    except msgspec.ValidationError:
        return ()
    if any(turn.input_tokens is None or turn.output_tokens is None for turn in read):
        return ()
    counts = [_parse_counts(turn, 0) for turn in read]
    return (OtherUsage(use=ADVISOR, tokens={name: sum(getattr(one, name) for one in counts) for name in _CLASSES}),)


def _readings(turns: Any) -> tuple[TokenUsage, ...]:
    """The tokens of each of the model's turns. Whoever prices them checks that they are all that was used."""
    try:
        return tuple(_parse_counts(turn, 0) for turn in msgspec.convert(turns, Iterations))
    except msgspec.ValidationError:
        return ()


def read_usage(said: Any) -> tuple[TokenUsage | None, TokenUsage | None]:
    """The tokens of a response; or those of its input alone, if no more was said. None: not said, or not readable."""
    try:
        usage = msgspec.convert(said, PartialUsage | None)
    except msgspec.ValidationError:
        return None, None
    return counted_usage(msgspec.structs.asdict(usage)) if usage is not None else (None, None)


def counted_usage(counts: dict[str, Any]) -> tuple[TokenUsage | None, TokenUsage | None]:
    """As `read_usage`, of the fields of `PartialUsage`."""
    if counts.get("input_tokens") is None:
        return None, None
    if counts.get("output_tokens") is None:
        return None, parse_usage(MessageUsage(**{**counts, "output_tokens": 0, "output_tokens_details": None}))
    return parse_usage(MessageUsage(**counts)), None


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
