"""The cost of a response: a price for each class of token and a fee for each use of a hosted tool, rounded once.

Prices come from `infra/price_book.py`; `domain/holds.py` bounds the cost of a request. What has no known
price is never counted as free: the breakdown names it, and the cost is a lower bound.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from domain.extras import NO_EXTRAS, Extras, OtherUsage
from domain.money import NanoUsd, divide_half_even
from domain.tokens import TokenUsage

TOKENS_PER_PRICE = 1_000_000
MAX_CACHED_PRICES = 1_024
"""Rows of prices whose highest one is remembered."""


class ClassPrices(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nano-dollars per million tokens, by class. None: the class costs what `FALLBACKS` says, or has no price.

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


class Fee(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The price of one use of a hosted tool, beside its tokens."""

    tool: str
    """As `Extras.uses` and `domain/hosted_tools.py` name it."""
    nano_usd: NanoUsd
    """The least that a use costs."""
    most_nano_usd: NanoUsd | None = None
    """The most, if the answer does not say how much it was (a container's time); None: `nano_usd`."""
    source: str
    """The price list, with its date."""
    is_of_each_request: bool = False
    """Every answer of the model has one use: it always searches."""


class Variant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model's prices on other terms than the standard ones."""

    term: str
    """Such as `service_tier=priority`."""
    source: str
    prices: ClassPrices | None = None
    """None: the standard prices, times `percent`."""
    tiers: tuple[ContextTier, ...] = ()
    percent: int = 100


class OtherModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The prices of another model, which the provider may ask for an answer."""

    use: str
    """As `OtherUsage` names it."""
    model: str
    source: str
    """The price list."""
    prices: dict[str, int]
    """Nano-dollars per million tokens, by class."""


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the price book, as CostIncurred keeps it."""

    provider: str
    model: str
    """The name of the row, which may stand for several models."""
    source: str
    """`override`, `specification`, `builtin`, the price library's name and version, or `provider`: there is no row, and
    the cost is the one that the provider's answer states.
    """
    prices: ClassPrices
    tiers: tuple[ContextTier, ...] = ()
    """In ascending order."""
    effective_from: str | None = None
    """The ISO date from which the row is valid, if its source has one."""
    terms: tuple[str, ...] = ()
    """The terms that these prices are for, if they are not the standard ones."""
    fees: tuple[Fee, ...] = ()
    variants: tuple[Variant, ...] = ()
    others: tuple[OtherModel, ...] = ()
    """`fees`, `variants` and `others` are in no event: the breakdown has those that applied."""


class PriceOverride(Struct, frozen=True, kw_only=True):
    """A price that the operator has set: for a model as callers or its provider name it, from a moment on."""

    provider: str
    model: str
    effective_from: datetime
    prices: ClassPrices


class CostItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a cost: `tokens` × `nano_usd_per_million`, in millionths of nano-dollars."""

    token_class: str
    """Or the hosted tool, or `answer` for a cost that the provider states."""
    tokens: int
    """Or the number of uses."""
    nano_usd_per_million: int
    unit: Literal["token", "use"] = "token"
    source: str | None = None
    """The price list of a fee, or of another model; None: the row's own source."""
    model: str | None = None
    """Of tokens of another model; None: they are the answering model's."""


class CostBreakdown(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cost and its reasons: the items' exact sum, rounded half-even once, is the total."""

    items: tuple[CostItem, ...]
    total_nano_usd: NanoUsd
    unpriced: tuple[str, ...] = ()
    """What was used and has no known price. The total is without it: a lower bound."""


TEXT_CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h")
AUDIO_CLASSES = ("input_audio", "cache_audio_read")
INPUT_CLASSES = TEXT_CLASSES + AUDIO_CLASSES
OUTPUT_CLASSES = ("output", "output_audio")
_CLASSES = INPUT_CLASSES + OUTPUT_CLASSES
_counts = attrgetter(*_CLASSES)

PROVIDER = "provider"
"""The source of a cost that the provider's answer states."""
_WHOLE_ANSWER = "answer"

FALLBACKS: dict[str, str] = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "cache_audio_read": "input_audio",
}
"""The class whose price holds for one that has none of its own: never a cheaper one. Audio costs many times what text
does, so that without a price of its own it has none.
"""


def class_price(prices: ClassPrices, token_class: str) -> int | None:
    """Nano-dollars per million tokens of a class; None if it has no price."""
    price: int | None = getattr(prices, token_class)
    while price is None and token_class in FALLBACKS:
        token_class = FALLBACKS[token_class]
        price = getattr(prices, token_class)
    return price


def cost(usage: TokenUsage, price: Price, extras: Extras = NO_EXTRAS) -> CostBreakdown:
    """Return the cost of an answer at the prices of `price`, item by item. `on_terms` gives those of other terms."""
    items: list[CostItem] = []
    unpriced = list(extras.unpriced)
    for prices, part in _by_tier(usage, price, extras.readings):
        for name, tokens in zip(_CLASSES, _counts(part), strict=True):
            if not tokens:
                continue
            per_million = class_price(prices, name)
            if per_million is not None:
                items.append(CostItem(token_class=name, tokens=tokens, nano_usd_per_million=per_million))
            elif name not in unpriced:
                unpriced.append(name)
    _add_fees(price, extras.uses, items, unpriced)
    _add_others(price, extras.others, items, unpriced)
    exact = sum([item.tokens * item.nano_usd_per_million for item in items])
    return CostBreakdown(
        items=tuple(items),
        total_nano_usd=NanoUsd(divide_half_even(exact, TOKENS_PER_PRICE)),
        unpriced=tuple(unpriced),
    )


def _by_tier(
    usage: TokenUsage, price: Price, readings: tuple[TokenUsage, ...]
) -> Iterable[tuple[ClassPrices, TokenUsage]]:
    """The tokens by the prices that their prompt's length has: of each reading, if their sum is all that was used."""
    if not price.tiers:
        return ((price.prices, usage),)
    parts = readings if _is_sum(usage, readings) else (usage,)
    by_tier: dict[int, TokenUsage] = {}
    for part in parts:
        tier = sum(part.prompt_tokens > tier.above_tokens for tier in price.tiers)
        by_tier[tier] = by_tier.get(tier, TokenUsage()) + part
    rows = (price.prices, *(tier.prices for tier in price.tiers))
    return ((rows[tier], part) for tier, part in sorted(by_tier.items(), key=lambda entry: entry[0]))


def _is_sum(usage: TokenUsage, parts: tuple[TokenUsage, ...]) -> bool:
    return bool(parts) and all(sum(getattr(part, name) for part in parts) == getattr(usage, name) for name in _CLASSES)


def _add_fees(price: Price, uses: Mapping[str, int], items: list[CostItem], unpriced: list[str]) -> None:
    of_each_request = {fee.tool: 1 for fee in price.fees if fee.is_of_each_request}
    counted = {**of_each_request, **uses, **of_each_request} if of_each_request else uses
    if not counted:
        return
    fees = {fee.tool: fee for fee in price.fees}
    for tool, count in counted.items():
        fee = fees.get(tool)
        if fee is None:
            unpriced.append(tool)
            continue
        if fee.most_nano_usd is not None:
            unpriced.append(f"{tool}: its time")
        per_million = fee.nano_usd * TOKENS_PER_PRICE
        items.append(
            CostItem(token_class=tool, tokens=count, nano_usd_per_million=per_million, unit="use", source=fee.source)
        )


def _add_others(price: Price, others: tuple[OtherUsage, ...], items: list[CostItem], unpriced: list[str]) -> None:
    known = {other.use: other for other in price.others} if others else {}
    for usage in others:
        other = known.get(usage.use)
        prices = other.prices if other is not None else {}
        if other is None or any(tokens and name not in prices for name, tokens in usage.tokens.items()):
            unpriced.append(usage.use)
        items += (
            CostItem(
                token_class=name,
                tokens=tokens,
                nano_usd_per_million=prices[name],
                source=other.source,
                model=other.model,
            )
            for name, tokens in usage.tokens.items()
            if other is not None and tokens and name in prices
        )


def charge(usage: TokenUsage, price: Price | None, extras: Extras) -> tuple[Price | None, CostBreakdown | None]:
    """Return the cost of an answer, and the price that it is computed at, as the log keeps both.

    If there is no price, it is the cost that the provider's answer states; None if it states none.
    """
    if price is not None:
        applied, unknown = on_terms(price, extras.terms)
        breakdown = cost(usage, applied, extras)
        return in_log(applied), replace(breakdown, unpriced=(*breakdown.unpriced, *unknown)) if unknown else breakdown
    stated = extras.provider_cost_nano_usd
    if stated is None:
        return None, None
    item = CostItem(
        token_class=_WHOLE_ANSWER, tokens=1, nano_usd_per_million=stated * TOKENS_PER_PRICE, unit="use", source=PROVIDER
    )
    return None, CostBreakdown(items=(item,), total_nano_usd=stated)


def on_terms(price: Price, terms: Mapping[str, str]) -> tuple[Price, tuple[str, ...]]:
    """Return the price on these terms, and the terms for which no price is known: there the others' price stays.

    Rows for a term replace the prices (a service tier), a percentage multiplies whatever they are (a region).
    """
    if not terms:
        return price, ()
    known = {variant.term: variant for variant in price.variants}
    asked = [f"{name}={value}" for name, value in sorted(terms.items())]
    found = [known[term] for term in asked if term in known]
    for variant in sorted(found, key=lambda variant: variant.prices is None):
        if variant.prices is not None:
            price = replace(price, prices=variant.prices, tiers=variant.tiers)
        price = replace(price, prices=_times(price.prices, variant.percent), tiers=_tiers_times(price, variant.percent))
    unknown = tuple(term for term in asked if term not in known)
    return replace(price, terms=tuple(variant.term for variant in found)), unknown


def _tiers_times(price: Price, percent: int) -> tuple[ContextTier, ...]:
    return tuple(replace(tier, prices=_times(tier.prices, percent)) for tier in price.tiers)


def _times(prices: ClassPrices, percent: int) -> ClassPrices:
    """Multiply, rounding up."""
    if percent == 100:
        return prices
    values = {name: getattr(prices, name) for name in _CLASSES}
    return ClassPrices(**{name: -(-value * percent // 100) for name, value in values.items() if value is not None})


def in_log(price: Price) -> Price:
    """Return the price as an event keeps it."""
    return replace(price, fees=(), variants=(), others=()) if price.fees or price.variants or price.others else price


def reachable(price: Price, prompt_tokens: int, *, writes_5m: bool = True, writes_1h: bool = True) -> Price:
    """The prices that a prompt of so many tokens at most can be charged at, for its bound.

    `writes_5m`, `writes_1h`: it may be written to the provider's cache, for that long.
    """
    if writes_5m and writes_1h and not price.tiers:
        return price
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


def dearest(price: Price, classes: tuple[str, ...]) -> int | None:
    """The highest price of these classes over every context tier; None if one of them has none in some tier."""
    highest = _highest(price.prices, classes)
    for tier in price.tiers:
        in_tier = _highest(tier.prices, classes)
        highest = max(highest, in_tier) if highest is not None and in_tier is not None else None
    return highest


@lru_cache(maxsize=MAX_CACHED_PRICES)
def _highest(prices: ClassPrices, classes: tuple[str, ...]) -> int | None:
    """The highest price of these classes; None if one of them has none."""
    values = [class_price(prices, name) for name in classes]
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


@lru_cache(maxsize=MAX_CACHED_PRICES)
def dearest_class(prices: ClassPrices, classes: tuple[str, ...]) -> str:
    """The class with the highest price; of several the first."""
    return max(classes, key=lambda name: class_price(prices, name) or 0)


def scaled(prices: ClassPrices, library: ClassPrices, names: tuple[str, ...] = INPUT_CLASSES[1:]) -> ClassPrices:
    """Give `prices`, which name input and output only, the other classes in the ratio that `library` has to its input.

    The specification's rows name no cached price; the provider's discount is the library's.
    """
    ratios = {
        name: -(-prices.input * value // library.input)
        for name in names
        if (value := getattr(library, name)) is not None and library.input
    }
    return replace(prices, **ratios)
