"""The test provider's own bill.

Its prices are written here a second time, in dollars per million tokens and by hand, so that the gateway's books are
compared with somebody else's.
"""

import hashlib
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tests.provider.steering import Steering

PRICES_PER_MILLION = {  # dollars in, out, read from the cache, written to it for 5 minutes, written to it for an hour
    "gpt-4o": ("5", "15", "2.5", "5", "5"),
    "gpt-4o-mini": ("0.15", "0.6", "0.075", "0.15", "0.15"),
    "gpt-4-turbo": ("10", "30", "10", "10", "10"),
    "gpt-3.5-turbo": ("0.5", "1.5", "0.5", "0.5", "0.5"),
    "claude-3-5-sonnet-20241022": ("3", "15", "0.3", "3.75", "6"),
    "claude-3-opus-20240229": ("15", "75", "1.5", "18.75", "30"),
    "claude-3-haiku-20240307": ("0.25", "1.25", "0.03", "0.3", "0.5"),
    "text-embedding-3-small": ("0.02", "0", "0.02", "0.02", "0.02"),
}
_UNPRICED = ("0", "0", "0", "0", "0")
_WRONG_BY_TOKENS = 10
_HUGE_TOKENS = 2**62

End = Literal["whole", "left", "cut", "error"]
"""How an answer ended: whole, its client left, the provider broke the connection, or sent an error into the stream."""


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens. `tokens_in` includes what was read from and written to the cache, `tokens_out` the reasoning."""

    tokens_in: int
    tokens_out: int
    cached: int = 0
    written_5m: int = 0
    written_1h: int = 0
    reasoning: int = 0

    @property
    def written(self) -> int:
        """All that was written to the cache."""
        return self.written_5m + self.written_1h

    def nano_usd(self, model: str) -> Decimal:
        """What so many tokens of this model cost."""
        price_in, price_out, price_cached, price_5m, price_1h = map(Decimal, PRICES_PER_MILLION.get(model, _UNPRICED))
        dollars_per_million = (
            (self.tokens_in - self.cached - self.written) * price_in
            + self.tokens_out * price_out
            + self.cached * price_cached
            + self.written_5m * price_5m
            + self.written_1h * price_1h
        )
        return dollars_per_million * 1000


def usage_of(prompt: str, words: Steering, deltas: int) -> Usage:
    """What a whole answer of so many deltas counts, unless the prompt has words on it."""
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
    )


def sent_so_far(whole: Usage, sent: int, deltas: int) -> Usage:
    """What is charged once so many of all deltas have been sent: the reasoning came before the first of them."""
    if sent >= deltas:
        return whole
    visible = whole.tokens_out - whole.reasoning
    return replace(whole, tokens_out=whole.reasoning + visible * sent // deltas)


def reported(usage: Usage, words: Steering) -> Usage:
    """What the answer says of its usage: the truth, unless the prompt asks for something else."""
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
    """A row of the bill. `number` is the request's, as in the recordings; `noticed_after_ms` says how long after the
    last successful write the provider noticed that its client had left.
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
