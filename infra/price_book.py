"""The price book: what a model's tokens cost on a day. What the operator has set first, then the specification's rows,
the price library for the rest.

The library (genai-prices) is used as data that came with the package: it is never asked to update itself.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices import __version__ as library_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices
from msgspec import Struct

from domain.money import NANO_PER_USD
from domain.pricing import ClassPrices, ContextTier, Price, PriceOverride, scaled
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


class ComparedPrice(Struct, frozen=True, kw_only=True):
    """What is known of a model's price, by source; None: that source has none."""

    name: str
    provider: str
    override: Price | None
    specification: Price | None
    library: Price | None

    @property
    def used(self) -> Price | None:
        """The one that holds: the operator's word goes first, then the specification's."""
        return self.override or self.specification or self.library

    @property
    def differs(self) -> bool:
        """Whether the sources name different prices for plain input or output."""
        known = (self.override, self.specification, self.library)
        return len({(price.prices.input, price.prices.output) for price in known if price is not None}) > 1


class PriceBook:
    """Prices by provider, model and day, remembered for the hot path."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[tuple[str, str, str, int], Price | None] = OrderedDict()
        self._windows: OrderedDict[tuple[str, str], int | None] = OrderedDict()
        self._overrides: dict[tuple[str, str], list[PriceOverride]] = {}

    def set_overrides(self, overrides: Sequence[PriceOverride]) -> None:
        """Take these, and no others, as the prices that the operator has set."""
        found: dict[tuple[str, str], list[PriceOverride]] = {}
        for override in sorted(overrides, key=lambda one: one.effective_from):
            found.setdefault((override.provider, override.model), []).append(override)
        self._overrides = found

    def price(self, *, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        """The price of a model at a moment; None where nobody can price it.

        `model` is the name that the caller wrote, by which the specification's rows are found; `upstream_model` the one
        that the provider is called with, by which the library is searched.
        """
        if self._overrides:
            override = self.override(provider=provider, model=model, upstream_model=upstream_model, at=at)
            if override is not None:
                return override
        return self.book_price(provider=provider, model=model, upstream_model=upstream_model, at=at)

    def override(self, *, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        """What the operator has set for that moment."""
        for name in dict.fromkeys((model.removeprefix(f"{provider}/"), upstream_model)):
            begun = [one for one in self._overrides.get((provider, name), ()) if one.effective_from <= at]
            if begun:
                return Price(
                    provider=provider,
                    model=name,
                    source="override",
                    prices=begun[-1].prices,
                    effective_from=begun[-1].effective_from.isoformat(),
                )
        return None

    def book_price(self, *, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        """The price without the operator's: the specification's row, else the library's."""
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
        """Every model with a price: the specification's, then the library's, then what only the operator prices."""
        windows: dict[tuple[str, str], int | None] = {
            (provider, name): window for name, (provider, _, _, window) in _SPECIFICATION.items()
        }
        windows[ECHO, "echo"] = 128_000
        for provider in (OPENAI, ANTHROPIC):
            for model in _library_provider(provider).models:
                windows.setdefault((provider, model.id), model.context_window)
        for provider, name in self._overrides:
            windows.setdefault((provider, name), self.context_window(provider=provider, upstream_model=name))
        models = [
            ListedModel(
                name=name,
                provider=provider,
                context_window=window,
                price=self.price(provider=provider, model=name, upstream_model=UPSTREAM_MODELS.get(name, name), at=at),
            )
            for (provider, name), window in windows.items()
        ]
        return [model for model in models if model.price is not None]

    def library_price(self, *, provider: str, upstream_model: str, at: datetime) -> Price | None:
        """The library's row alone."""
        found = _library_model(provider, upstream_model)
        return _library_price(provider, found, at) if found is not None else None

    def compared(self, at: datetime) -> list[ComparedPrice]:
        """Every model with a price, and what each source says of it."""
        models = [(model.name, model.provider) for model in self.listed(at)]
        return [self._compare(name, provider, at) for name, provider in models]

    def _compare(self, name: str, provider: str, at: datetime) -> ComparedPrice:
        upstream_model = UPSTREAM_MODELS.get(name, name)
        book = self.book_price(provider=provider, model=name, upstream_model=upstream_model, at=at)
        library = self.library_price(provider=provider, upstream_model=upstream_model, at=at)
        return ComparedPrice(
            name=name,
            provider=provider,
            override=self.override(provider=provider, model=name, upstream_model=upstream_model, at=at),
            specification=book if book is not None and book != library else None,
            library=library,
        )

    def _find(self, provider: str, model: str, upstream_model: str, at: datetime) -> Price | None:
        if provider == ECHO:
            return _ECHO
        library = self.library_price(provider=provider, upstream_model=upstream_model, at=at)
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
