"""The cost of a response: one price for each class of token, integers throughout, rounded once.

Prices come from `infra/price_book.py`; `domain/estimate.py` bounds the cost of a request.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from domain.money import NanoUsd, divide_half_even
from domain.tokens import TokenUsage

TOKENS_PER_PRICE = 1_000_000


class ClassPrices(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-dollars per million tokens, by class. None: the class costs what `FALLBACKS` says.

    $1 per million tokens is 1 000 000 000.
    """

    input: int
    output: int = 0
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    input_audio: int | None = None
    cache_audio_read: int | None = None
    output_audio: int | None = None


class ContextTier(Struct, frozen=True, kw_only=True):
    """Prices for a request whose prompt, cached tokens included, is longer than `above_tokens`: for all of it."""

    above_tokens: int
    prices: ClassPrices


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the price book, as CostIncurred keeps it."""

    provider: str
    model: str
    """The name of the row, which may stand for several models."""
    source: str
    """`override`, `specification`, `builtin`, or the price library's name and version."""
    prices: ClassPrices
    tiers: tuple[ContextTier, ...] = ()
    """In ascending order."""
    effective_from: str | None = None
    """The ISO date from which the row is valid, if its source has one."""


class PriceOverride(Struct, frozen=True, kw_only=True):
    """A price that the operator has set: for a model as callers or its provider name it, from a moment on."""

    provider: str
    model: str
    effective_from: datetime
    prices: ClassPrices


class CostItem(Struct, frozen=True, kw_only=True):
    """One class's part of a cost: `tokens` × `nano_usd_per_million`, in millionths of nano-dollars."""

    token_class: str
    tokens: int
    nano_usd_per_million: int


class CostBreakdown(Struct, frozen=True, kw_only=True):
    """A cost and its reasons: the items' exact sum, rounded half-even once, is the total."""

    items: tuple[CostItem, ...]
    total_nano_usd: NanoUsd


INPUT_CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h", "input_audio", "cache_audio_read")
OUTPUT_CLASSES = ("output", "output_audio")

FALLBACKS: dict[str, str] = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "input_audio": "input",
    "cache_audio_read": "input_audio",
    "output_audio": "output",
}
"""The class whose price holds for one that has none of its own: never a cheaper one."""


def class_price(prices: ClassPrices, token_class: str) -> int:
    """Nano-dollars per million tokens of a class."""
    price: int | None = getattr(prices, token_class)
    return price if price is not None else class_price(prices, FALLBACKS[token_class])


def cost(usage: TokenUsage, price: Price) -> CostBreakdown:
    """Return the cost of `usage` at `price`, item by item."""
    prices, prompt_tokens = price.prices, usage.prompt_tokens
    for tier in price.tiers:
        if prompt_tokens > tier.above_tokens:
            prices = tier.prices
    items = tuple(
        CostItem(token_class=name, tokens=tokens, nano_usd_per_million=class_price(prices, name))
        for name in (*INPUT_CLASSES, *OUTPUT_CLASSES)
        if (tokens := getattr(usage, name))
    )
    exact = sum(item.tokens * item.nano_usd_per_million for item in items)
    return CostBreakdown(items=items, total_nano_usd=NanoUsd(divide_half_even(exact, TOKENS_PER_PRICE)))


def reachable(price: Price, prompt_tokens: int, *, writes_5m: bool = True, writes_1h: bool = True) -> Price:
    """The prices that a prompt of so many tokens at most can be charged at, for its bound.

    `writes_5m`, `writes_1h`: it may be written to the provider's cache, for that long.
    """
    tiers = tuple(
        replace(tier, prices=_without_writes(tier.prices, writes_5m=writes_5m, writes_1h=writes_1h))
        for tier in price.tiers
        if tier.above_tokens < prompt_tokens
    )
    return replace(price, prices=_without_writes(price.prices, writes_5m=writes_5m, writes_1h=writes_1h), tiers=tiers)


def _without_writes(prices: ClassPrices, *, writes_5m: bool, writes_1h: bool) -> ClassPrices:
    """The prices, with that of the input for what is not written."""
    if not writes_5m:
        prices = replace(prices, cache_write=prices.input)
    return prices if writes_1h else replace(prices, cache_write_1h=prices.cache_write)


def dearest(price: Price, classes: tuple[str, ...]) -> int:
    """The highest price of these classes over every context tier."""
    rows = (price.prices, *(tier.prices for tier in price.tiers))
    return max(class_price(row, name) for row in rows for name in classes)


def scaled(prices: ClassPrices, library: ClassPrices) -> ClassPrices:
    """Give `prices`, which name input and output only, the other classes in the ratio that `library` has to its input.

    The specification's rows name no cached price; the provider's discount is the library's.
    """
    ratios = {
        name: -(-prices.input * value // library.input)
        for name in INPUT_CLASSES[1:]
        if (value := getattr(library, name)) is not None and library.input
    }
    return replace(prices, **ratios)
