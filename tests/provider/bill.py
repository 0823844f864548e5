"""The test provider's own bill.

Its prices are written here a second time by hand, in dollars per million tokens, so that the gateway's costs are
compared with an independent bill.
"""

import hashlib
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tests.provider.steering import Steering

PRICES_PER_MILLION = {  # dollars for input, output, cache reads, cache writes for 5 minutes, cache writes for an hour
    "gpt-4o": ("5", "15", "2.5", "5", "5"),
    "gpt-4o-mini": ("0.15", "0.6", "0.075", "0.15", "0.15"),
    "gpt-4-turbo": ("10", "30", "10", "10", "10"),
    "gpt-3.5-turbo": ("0.5", "1.5", "0.5", "0.5", "0.5"),
    "claude-3-5-sonnet-20241022": ("3", "15", "0.3", "3.75", "6"),
    "claude-3-opus-20240229": ("15", "75", "1.5", "18.75", "30"),
    "claude-3-haiku-20240307": ("0.25", "1.25", "0.03", "0.3", "0.5"),
    "gpt-3.5-turbo-instruct": ("1.5", "2", "1.5", "1.5", "1.5"),
    "text-embedding-3-small": ("0.02", "0", "0.02", "0.02", "0.02"),
}
MORE_PRICES_PER_MILLION = {  # of models that the provider serves and does not list
    "gpt-5": ("1.25", "10", "0.125", "1.25", "1.25"),
    "claude-opus-4-8": ("5", "25", "0.5", "6.25", "10"),
}
FACTORS = {  # of what tokens cost, by model and terms; any other is free here
    ("gpt-4o", "priority"): "1.7",
    ("gpt-5", "priority"): "2",
    ("gpt-5", "flex"): "0.5",
    ("claude-opus-4-8", "fast"): "2",
    ("claude-opus-4-8", "us"): "1.1",
}
FEES = {"search": "10", "preview": "25", "file": "2.5", "container": "30"}  # dollars per thousand uses
_UNPRICED = ("0", "0", "0", "0", "0")
_WRONG_BY_TOKENS = 10
_HUGE_TOKENS = 2**62

End = Literal["whole", "left", "cut", "error"]
"""The end of a response: complete, its client disconnected, the provider broke the connection, or an error event."""


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts. `tokens_in` includes cache reads and writes, `tokens_out` includes reasoning."""

    tokens_in: int
    tokens_out: int
    cached: int = 0
    written_5m: int = 0
    written_1h: int = 0
    reasoning: int = 0
    searches: int = 0
    is_preview: bool = False
    """The searches are those of the dearer preview."""
    file_searches: int = 0
    containers: int = 0
    terms: tuple[str, ...] = ()
    """The service tier, speed and region that served it, other than the standard ones."""

    @property
    def written(self) -> int:
        """Return the tokens written to the cache, for any lifetime."""
        return self.written_5m + self.written_1h

    def nano_usd(self, model: str) -> Decimal:
        """Return the cost of these tokens at the model's prices, and of the tools that were used."""
        prices = (PRICES_PER_MILLION | MORE_PRICES_PER_MILLION).get(model, _UNPRICED)
        price_in, price_out, price_cached, price_5m, price_1h = map(Decimal, prices)
        dollars_per_million = (
            (self.tokens_in - self.cached - self.written) * price_in
            + self.tokens_out * price_out
            + self.cached * price_cached
            + self.written_5m * price_5m
            + self.written_1h * price_1h
        )
        for term in self.terms:
            dollars_per_million *= Decimal(FACTORS.get((model, term), "1"))
        dollars_per_thousand = (
            self.searches * Decimal(FEES["preview" if self.is_preview else "search"])
            + self.file_searches * Decimal(FEES["file"])
            + self.containers * Decimal(FEES["container"])
        )
        return dollars_per_million * 1000 + dollars_per_thousand * 1_000_000


def usage_of(prompt: str, words: Steering, deltas: int) -> Usage:
    """Return the usage of a complete response with `deltas` deltas. Steering words in the prompt override it."""
    counted = f"{len(prompt) // 4 + 8}/{deltas + words.reasoning}"
    tokens_in, tokens_out = map(int, (words.tokens or counted).split("/"))
    written_5m, _, written_1h = words.cachewrite.partition("/")
    return Usage(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cached=words.cached,
        written_5m=int(written_5m),
        written_1h=int(written_1h or "0"),
        reasoning=words.reasoning,
        searches=words.searches,
        is_preview=words.preview,
        file_searches=words.files,
        containers=words.containers,
        terms=tuple(term for term in (words.tier, words.speed, words.geo) if term),
    )


def sent_so_far(whole: Usage, sent: int, deltas: int) -> Usage:
    """Return the usage that is charged after `sent` of `deltas` deltas. Reasoning comes before the first delta."""
    if sent >= deltas:
        return whole
    visible = whole.tokens_out - whole.reasoning
    return replace(whole, tokens_out=whole.reasoning + visible * sent // deltas)


def reported(usage: Usage, words: Steering) -> Usage:
    """Return the usage that the response reports: the true one, unless the prompt sets another."""
    match words.usage:
        case "wrong":
            return replace(usage, tokens_out=usage.tokens_out + _WRONG_BY_TOKENS)
        case "huge":
            return replace(usage, tokens_out=_HUGE_TOKENS)
        case _:
            return usage


def row(
    *,
    number: int,
    model: str,
    prompt: str,
    usage: Usage,
    stream: bool,
    end: End = "whole",
    noticed_after_ms: float | None = None,
) -> dict[str, Any]:
    """Return a row of the bill.

    `number` is the request's number in the recordings. `noticed_after_ms` is the time from the last successful write
    until the provider noticed that its client had disconnected.
    """
    return {
        "model": model,
        "in": usage.tokens_in,
        "out": usage.tokens_out,
        "cached": usage.cached,
        "nano_usd": str(usage.nano_usd(model)),
        "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
        "written": usage.written,
        "reasoning": usage.reasoning,
        "request": number,
        "stream": stream,
        "cut": end != "whole",
        "end": end,
        "noticed_after_ms": noticed_after_ms,
    }
