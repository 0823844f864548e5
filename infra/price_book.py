"""The price book: what a model's tokens cost on a day. The specification's rows first, the price library for the rest.

The library (genai-prices) is used as data that came with the package: it is never asked to update itself.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices import __version__ as library_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices
from msgspec import Struct

from domain.money import NANO_PER_USD
from domain.pricing import ClassPrices, ContextTier, Price, scaled
from domain.routing import ANTHROPIC, ECHO, OPENAI, UPSTREAM_MODELS

MAX_CACHED_PRICES = 4_096

_SPECIFICATION: dict[str, tuple[str, str, str, int]] = {
    # name: provider, $ per 1K in, $ per 1K out, context window
    "gpt-4o": (OPENAI, "0.005", "0.015", 128_000),
    "gpt-4o-mini": (OPENAI, "0.00015", "0.0006", 128_000),
    "gpt-4-turbo": (OPENAI, "0.01", "0.03", 128_000),
    "gpt-3.5-turbo": (OPENAI, "0.0005", "0.0015", 16_385),
    "claude-3.5-sonnet": (ANTHROPIC, "0.003", "0.015", 200_000),
    "claude-3-opus": (ANTHROPIC, "0.015", "0.075", 200_000),
    "claude-3-haiku": (ANTHROPIC, "0.00025", "0.00125", 200_000),
}
"""The product specification's table."""

_ECHO = Price(
    provider=ECHO,
    model="echo",
    source="builtin",
    prices=ClassPrices(input=NANO_PER_USD, output=2 * NANO_PER_USD),
)

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
"""The library's keys that price a class of token that we count. Its others price what no call of ours can use."""


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model as `GET /models` shows it."""

    name: str
    price: Price | None
    provider: str
    context_window: int | None


class PriceBook:
    """Prices by provider, model and day, remembered for the hot path."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[tuple[str, str, str, int], Price | None] = OrderedDict()
        self._windows: OrderedDict[tuple[str, str], int | None] = OrderedDict()

    def price(self, *, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        """The price of a model at a moment; None where nobody can price it.

        `model` is the name that the caller wrote, by which the specification's rows are found; `upstream_model` the one
        that the provider is called with, by which the library is searched.
        """
        key = (provider, model, upstream_model, int(at.timestamp()) // 3600)
        if key in self._remembered:
            return self._remembered[key]
        found = self._find(provider, model, upstream_model, at)
        self._remembered[key] = found
        if len(self._remembered) > MAX_CACHED_PRICES:
            self._remembered.popitem(last=False)
        return found

    def context_window(self, *, provider: str, upstream_model: str) -> int | None:
        """How many tokens a model reads at most, where the library says so."""
        key = (provider, upstream_model)
        if key not in self._windows:
            model = _library_model(provider, upstream_model)
            self._windows[key] = model.context_window if model is not None else None
            if len(self._windows) > MAX_CACHED_PRICES:
                self._windows.popitem(last=False)
        return self._windows[key]

    def listed(self, at: datetime) -> list[ListedModel]:
        """Every model with a price, the specification's first."""
        models = [
            ListedModel(
                name=name,
                provider=provider,
                context_window=window,
                price=self.price(provider=provider, model=name, upstream_model=UPSTREAM_MODELS.get(name, name), at=at),
            )
            for name, (provider, _, _, window) in _SPECIFICATION.items()
        ]
        models.append(ListedModel(name="echo", provider=ECHO, context_window=128_000, price=_ECHO))
        for provider in (OPENAI, ANTHROPIC):
            for model in _library_provider(provider).models:
                price = _library_price(provider, model, at)
                if model.id not in _SPECIFICATION and price is not None:
                    models.append(
                        ListedModel(name=model.id, provider=provider, context_window=model.context_window, price=price)
                    )
        return models

    def _find(self, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        if provider == ECHO:
            return _ECHO
        found = _library_model(provider, upstream_model)
        library = _library_price(provider, found, at) if found is not None else None
        name = model.removeprefix(f"{provider}/")
        row = _SPECIFICATION.get(name)
        if row is None or row[0] != provider:
            return library
        prices = ClassPrices(input=_per_million(row[1]), output=_per_million(row[2]))
        if library is not None:
            prices = scaled(prices, library.prices)
        return Price(provider=provider, model=name, source="specification", prices=prices)


def _per_million(dollars_per_thousand: str) -> int:
    return int(Decimal(dollars_per_thousand) * 1_000 * NANO_PER_USD)


def _library_provider(provider: str) -> Any:
    return next(one for one in get_snapshot().providers if one.id == provider)


def _library_model(provider: str, upstream_model: str) -> ModelInfo | None:
    if provider not in (OPENAI, ANTHROPIC):
        return None
    model: ModelInfo | None = _library_provider(provider).find_model(upstream_model)
    return model


def _library_price(provider: str, model: ModelInfo, at: datetime) -> Price | None:
    moment = at.astimezone(UTC)
    listed = model.get_prices(moment)
    prices = _class_prices(listed, above_tokens=0)
    if prices is None:
        return None
    return Price(
        provider=provider,
        model=model.id,
        source=f"genai-prices {library_version}",
        prices=prices,
        tiers=tuple(
            ContextTier(above_tokens=start, prices=tier)
            for start in _tier_starts(listed)
            if (tier := _class_prices(listed, above_tokens=start)) is not None
        ),
        effective_from=_effective_from(model, moment),
    )


def _class_prices(listed: ModelPrice, *, above_tokens: int) -> ClassPrices | None:
    """The library's row for prompts longer than `above_tokens`; None where it has no price for plain input."""
    values: dict[str, int] = {}
    for key, name in _CLASS_OF_KEY.items():
        price = getattr(listed, key)
        if isinstance(price, TieredPrices):
            reached = [tier.price for tier in price.tiers if tier.start <= above_tokens and above_tokens]
            price = reached[-1] if reached else price.base
        if price is not None:
            values[name] = -int(-(price * NANO_PER_USD) // 1)
    return ClassPrices(**values) if "input" in values else None


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
