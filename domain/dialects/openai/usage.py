"""OpenAI's token counts, of chat completions and embeddings and of the Responses API, and our classes of tokens."""

import math
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from domain.extras import Extras, served_terms, stated_cost
from domain.tokens import MAX_TOKENS, TokenUsage

MAX_DIGITS = 12
MAX_PARTS = 8
"""Of a sum, that an answer may name and the log keeps."""


class SaidUsage(Struct, frozen=True, kw_only=True):
    """Tokens, as far as a provider said."""

    usage: TokenUsage | None = None
    """None: what came in or what went out is missing."""
    input_usage: TokenUsage | None = None
    """What came in, if no more was said."""


NOTHING_SAID = SaidUsage()


_INPUT_PARTS = frozenset({"cached_tokens", "cache_write_tokens", "audio_tokens", "text_tokens", "image_tokens"})
"""Parts of the prompt that have a class of their own, or that vendors charge as text: images that are read."""
_OUTPUT_PARTS = frozenset(
    {"reasoning_tokens", "audio_tokens", "text_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"}
)
_PAID_SOURCES = "num_sources_used"
"""What xAI charges for beside the tokens."""

CITATION = b'"url_citation"'
"""Stands in the JSON of an answer that cites what it found on the web. In a text its quotes would be escaped."""


def parse_extras(usage: Any, service_tier: Any, *, has_citations: bool) -> Extras:
    """Read what a chat completion says beside its tokens: an answer that cites the web searched it once.

    Some sellers state the cost in the usage (OpenRouter, Perplexity).
    """
    terms, names = served_terms((("service_tier", service_tier),))
    return Extras(
        uses={"web_search": 1} if has_citations else {},
        terms=terms,
        stated=names,
        unpriced=unpriced_parts(usage, "prompt_tokens_details", "completion_tokens_details"),
        provider_cost_nano_usd=stated_cost(usage.get("cost")) if isinstance(usage, dict) else None,
    )


def unpriced_parts(usage: Any, input_details: str, output_details: str) -> tuple[str, ...]:
    """The parts of the sums that may cost more than the rest of them: a painted image many times what text does.

    They stay in the sum: the cost is a lower bound. `input_details`, `output_details`: the members that have the parts.
    """
    if not isinstance(usage, dict):
        return ()
    parts = [
        f"{side}_{part}"
        for side, details, known in (
            ("input", usage.get(input_details), _INPUT_PARTS),
            ("output", usage.get(output_details), _OUTPUT_PARTS),
        )
        if isinstance(details, dict)
        for part, count in details.items()
        if count and part not in known and part.endswith("_tokens") and _count(count)
    ]
    pays_sources = _PAID_SOURCES in usage and _count(usage[_PAID_SOURCES])
    return tuple(parts[:MAX_PARTS]) + ((_PAID_SOURCES,) if pays_sources else ())


def parse_usage(said: Any) -> SaidUsage:
    """Split OpenAI's sums: its prompt tokens include the cached and the audio ones, its completion tokens the audio.

    Some providers that speak alike (Gemini's endpoint, xAI) leave thinking out of the completion tokens: what the total
    has beyond the two sums was thinking. No part is counted as more than is left of its sum. Others say nothing, or
    say numbers that can be none: those are not said. A sum that is missing is the difference of the other two.
    """
    if not isinstance(said, dict):
        return NOTHING_SAID
    prompt, completion = _count(said.get("prompt_tokens")), _count(said.get("completion_tokens"))
    total = _count(said.get("total_tokens"))
    if prompt is None and completion is not None and total is not None:
        prompt = max(0, total - completion)
    if completion is None and total is not None:
        completion = 0  # Gemini's endpoint leaves out what is zero
    if prompt is None or not (prompt or completion):  # no request has an empty prompt
        return NOTHING_SAID
    details = _details(said, "prompt_tokens_details")
    cached_audio = _count(_details(details, "cached_tokens_details").get("audio_tokens")) if details else None
    came_in = _parse_input(prompt, details, cached_audio)
    if completion is None:
        return SaidUsage(input_usage=came_in)
    details = _details(said, "completion_tokens_details")
    unsaid = max(0, (total or 0) - prompt - completion)
    if not details and not unsaid:
        return SaidUsage(usage=replace(came_in, output=completion))
    output, audio_out = _split(min(completion + unsaid, MAX_TOKENS), _count(details.get("audio_tokens")))
    reasoning = min(max(_count(details.get("reasoning_tokens")) or 0, unsaid), output)
    return SaidUsage(usage=replace(came_in, output=output, output_audio=audio_out, reasoning=reasoning))


def parse_embeddings_usage(said: Any) -> SaidUsage:
    """Count the input only: the output of embeddings has no price, even if `total_tokens` is higher."""
    if not isinstance(said, dict):
        return NOTHING_SAID
    prompt = _count(said.get("prompt_tokens"))
    if prompt is None:
        prompt = _count(said.get("total_tokens"))
    return parse_usage({**said, "prompt_tokens": prompt, "completion_tokens": 0, "total_tokens": None})


def _parse_input(prompt: int, details: dict[str, Any], cached_audio: int | None = None) -> TokenUsage:
    """Split the prompt. Audio may be among the cached tokens: none of it is counted as text, which costs less."""
    if not details:
        return TokenUsage(input=prompt)
    rest, audio_in = _split(prompt, _count(details.get("audio_tokens")))
    audio_in, audio_read = _split(audio_in, cached_audio)
    rest, cached = _split(rest, max(0, (_count(details.get("cached_tokens")) or 0) - audio_read))
    rest, written = _split(rest, _count(details.get("cache_write_tokens")))
    return TokenUsage(
        input=rest, cache_read=cached, cache_write=written, input_audio=audio_in, cache_audio_read=audio_read
    )


def _details(said: dict[str, Any], name: str) -> dict[str, Any]:
    """The parts of a sum; empty if none is more than zero, as of most answers."""
    details = said.get(name)
    return details if isinstance(details, dict) and any(details.values()) else {}


def _count(value: Any) -> int | None:
    """A number of tokens; None if it can be none. Some providers write whole numbers as fractions or as texts."""
    match value:
        case None | bool():
            return None
        case int() if 0 <= value <= MAX_TOKENS:
            return value
        case float() if 0 <= value <= MAX_TOKENS:
            return math.ceil(value)
        case str() if value.isdecimal() and len(value) <= MAX_DIGITS:
            return _count(int(value))
        case _:
            return None


def parse_responses_usage(said: Any) -> TokenUsage | None:
    """Split the sums of the Responses API: the input tokens include those read from the cache and those written to it.
    None: the provider did not say, or not so that it can be read.
    """
    if not isinstance(said, dict):
        return None
    input_tokens, output_tokens = _count(said.get("input_tokens")), _count(said.get("output_tokens", 0))
    if input_tokens is None or output_tokens is None:
        return None
    came_in = _parse_input(input_tokens, _details(said, "input_tokens_details"))
    details = _details(said, "output_tokens_details")
    output, audio_out = _split(output_tokens, _count(details.get("audio_tokens")))
    reasoning = min(_count(details.get("reasoning_tokens")) or 0, output)
    return replace(came_in, output=output, output_audio=audio_out, reasoning=reasoning)


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
