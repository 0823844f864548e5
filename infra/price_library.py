"""The price library's data (genai-prices) as the price book needs it: providers by address, models, prices by class.

The library never updates itself.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import genai_prices.data  # noqa: F401 - the library imports it when the first price is looked up: 40 ms of the first request
from genai_prices import __version__ as library_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices
from msgspec.structs import replace

from domain.money import NANO_PER_USD
from domain.pricing import TEXT_CLASSES, ClassPrices, ContextTier, Price, class_price
from domain.routing import ANTHROPIC, Kind, Target

SOURCE = f"genai-prices {library_version}"
_LONG_CACHE_FACTORS: dict[Kind, int] = {ANTHROPIC: 2}
"""The price of writing to the one-hour prompt cache, as a multiple of the input price, if the row has none."""

_CLASS_OF_KEY = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_audio_read",
    "output_audio_mtok": "output_audio",
}
"""The library's keys that price a class of tokens, each with our name of the class."""
_IMAGE_CLASS_OF_KEY = {
    "input_image_mtok": ("input_image", "input"),
    "cache_image_read_mtok": ("cache_image_read", "input_image"),
    "output_image_mtok": ("output_image", "output"),
}
"""Of models that draw: the library's key, our name of the class, and the class whose price holds if it has none."""
_KEYS_OF_TOOLS = frozenset({"web_searches_kcount", "storage_searches_kcount"})
"""The library's keys for tools, which `infra/price_terms.py` reads. A row with any other key prices something that we
do not count (requests, citations, thinking, images, pages, hours), so we do not use the row.
"""
_OPENROUTER = "openrouter"
_MOONSHOT = re.compile(r"https://api\.moonshot\.(ai|cn)(/|$)")
"""The library's own pattern for Moonshot ends before the end of the host."""


def provider_of(provider: str) -> Any:
    """Return the library's provider of this id; None if it has none: the models have no price then."""
    return next((vendor for vendor in get_snapshot().providers if vendor.id == provider), None)


def vendor_at(base_url: str) -> Any:
    """Return the library's provider for an address; None if it has none.

    The library's patterns match the beginning of an address. Here a pattern must match at least the whole host.
    """
    try:
        address = urlsplit(base_url)
        host, port = address.hostname or "", address.port
    except ValueError:
        return None
    if port not in (None, 443):
        return None
    origin = f"{address.scheme}://{host}"
    text = origin + address.path.replace(".", "_")  # a dot in the path must not look like a part of the host
    for vendor in get_snapshot().providers:
        match = re.match(vendor.api_pattern, text)
        if match is not None and (match.end() >= len(origin) or _MOONSHOT.match(text)):
            return vendor
    return None


def model_of(vendor: Any, name: str) -> ModelInfo | None:
    """Return a provider's model of this name; None if the library has none."""
    model: ModelInfo | None = vendor.find_model(name, all_providers=get_snapshot().providers)
    if model is not None and vendor.id == _OPENROUTER and not _has_same_variant(model.id, name):
        return None
    return model


def _has_same_variant(model: str, requested: str) -> bool:
    """Compare the variants of two of OpenRouter's names: `:online` and the like have a price of their own."""
    return model.partition(":")[2] == requested.partition(":")[2]


def price_of(target: Target, model: ModelInfo, at: datetime) -> Price | None:
    """Return the price of a model at a moment; None if it prices something that we do not count."""
    moment = at.astimezone(UTC)
    listed = model.get_prices(moment)
    keys = {key for key, value in vars(listed).items() if value is not None}
    prices = class_prices(listed, target.kind, above_tokens=0)
    if prices is None or not keys <= _CLASS_OF_KEY.keys() | _KEYS_OF_TOOLS:
        return None
    return Price(
        provider=target.provider,
        model=model.id,
        source=SOURCE,
        prices=prices,
        tiers=context_tiers(listed, target.kind),
        effective_from=_effective_from(model, moment),
    )


def other_model_prices(target: Target, model: ModelInfo, at: datetime) -> dict[str, int] | None:
    """Return a model's prices by class, those of images among them; None if they go by the length of the prompt."""
    listed = model.get_prices(at.astimezone(UTC))
    prices = class_prices(listed, target.kind, above_tokens=0)
    if prices is None or context_tiers(listed, target.kind):
        return None
    return with_image_prices(prices, listed)


def with_image_prices(prices: ClassPrices, listed: ModelPrice | None = None) -> dict[str, int]:
    """Return prices by class, with those of images. A class without a price has that of the class in its place."""
    known = {name: price for name in TEXT_CLASSES if (price := class_price(prices, name)) is not None}
    known["output"] = prices.output
    for key, (name, substitute) in _IMAGE_CLASS_OF_KEY.items():
        price = getattr(listed, key, None)
        known[name] = -int(-(price * NANO_PER_USD) // 1) if isinstance(price, Decimal) else known[substitute]
    return known


def context_tiers(listed: ModelPrice, kind: Kind) -> tuple[ContextTier, ...]:
    """Return the prices of longer prompts."""
    return tuple(
        ContextTier(above_tokens=start, prices=tier)
        for start in _tier_starts(listed)
        if (tier := class_prices(listed, kind, above_tokens=start)) is not None
    )


def class_prices(listed: ModelPrice, kind: Kind, *, above_tokens: int) -> ClassPrices | None:
    """Return the prices for prompts longer than `above_tokens`; None if there is no price for plain input."""
    values: dict[str, int] = {}
    for key, name in _CLASS_OF_KEY.items():
        price = getattr(listed, key)
        if isinstance(price, TieredPrices):
            reached = [tier.price for tier in price.tiers if tier.start <= above_tokens and above_tokens]
            price = reached[-1] if reached else price.base
        if price is not None:
            values[name] = -int(-(price * NANO_PER_USD) // 1)
    return with_long_cache(ClassPrices(**values), kind) if "input" in values else None


def with_long_cache(prices: ClassPrices, kind: Kind) -> ClassPrices:
    """Return the prices with one for the one-hour cache, if the provider has that."""
    factor = _LONG_CACHE_FACTORS.get(kind)
    if factor is None or prices.cache_write_1h is not None:
        return prices
    return replace(prices, cache_write_1h=max(prices.cache_write or 0, factor * prices.input))


def _tier_starts(listed: ModelPrice) -> list[int]:
    starts = {
        tier.start
        for key in _CLASS_OF_KEY
        if isinstance(price := getattr(listed, key), TieredPrices)
        for tier in price.tiers
    }
    return sorted(starts - {0})


def _effective_from(model: ModelInfo, at: datetime) -> str | None:
    if isinstance(model.prices, ModelPrice):
        return None
    for row in reversed(model.prices):
        if row.constraint is None or row.constraint.active(at):
            return row.constraint.start_date.isoformat() if isinstance(row.constraint, StartDateConstraint) else None
    return None
