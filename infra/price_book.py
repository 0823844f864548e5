"""The price book: the prices of a model's tokens at a moment. The operator's prices come first, then the
specification's rows, then the price library.

Uses the data that the library (genai-prices) ships with; the library never updates itself.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock
from typing import Any

from genai_prices.types import ModelInfo
from msgspec import Struct
from msgspec.structs import replace

from domain.models import ModelTraits, model_traits
from domain.money import NANO_PER_USD
from domain.pricing import ClassPrices, Fee, OtherModel, Price, PriceOverride, Variant, scaled
from domain.routing import (
    ANTHROPIC,
    BUILT_IN,
    ECHO,
    OPENAI,
    UPSTREAM_MODELS,
    Kind,
    NamedProvider,
    Target,
    resolve_target,
)
from infra.newest import Newest
from infra.price_library import (
    SOURCE,
    class_prices,
    context_tiers,
    model_of,
    other_model_prices,
    price_of,
    provider_of,
    vendor_at,
    with_image_prices,
    with_long_cache,
)
from infra.price_terms import factors_of, fees_of, in_ratio, library_terms

MAX_CACHED_PRICES = 4_096
ECHO_CONTEXT_WINDOW = 128_000

_SPECIFICATION: dict[str, tuple[Kind, str, str, int]] = {
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
SPECIFIED_MODELS = frozenset(_SPECIFICATION)
"""They are listed whatever their vendors say of them: an operator may have other models answer these names."""

_ECHO = Price(
    provider=ECHO,
    model="echo",
    source="builtin",
    prices=ClassPrices(input=NANO_PER_USD, output=2 * NANO_PER_USD),
)

_OWN_PRICES: dict[Kind, Price] = {ECHO: _ECHO}
"""Prices of the providers that are the gateway's own."""
_FREE = re.compile(r"(omni|text)-moderation-.*")
_FREE_SOURCE = "https://platform.openai.com/docs/guides/moderation, 2025-11: the moderation endpoint is free to use"
"""OpenAI's models that cost nothing, which the library does not have."""
_OWN_CONTEXT_WINDOWS: dict[Kind, int] = {ECHO: ECHO_CONTEXT_WINDOW}

_ALWAYS_SEARCHES = re.compile(r".*(sonar|-online|deep-research|gpt-[^/]*-search).*|.*:online", re.IGNORECASE)
"""Models that search the web without a tool. The search costs extra, beside the tokens. OpenAI's have a fee."""


class _Entry(Struct, frozen=True, kw_only=True):
    """What is known of a target at a moment, but for the operator's price."""

    price: Price | None
    context_window: int | None
    fees: tuple[Fee, ...] = ()
    variants: tuple[Variant, ...] = ()
    """Of the library's price, and those that are a factor of any."""
    library: ClassPrices | None = None


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model as `GET /models` shows it."""

    name: str
    price: Price | None
    provider: str
    context_window: int | None
    traits: ModelTraits


class ComparedPrice(Struct, frozen=True, kw_only=True):
    """A model's price by source; None if that source has no price."""

    name: str
    provider: str
    override: Price | None
    specification: Price | None
    library: Price | None
    applied: Price | None = None
    """The price that applies, with its fees and its variants; None: the provider's address says nothing of them."""

    @property
    def used(self) -> Price | None:
        """Return the price that applies: the operator's, else the specification's, else the library's."""
        return self.override or self.specification or self.library

    @property
    def differs(self) -> bool:
        """Return whether the sources have different prices for plain input or output."""
        sources = (self.override, self.specification, self.library)
        return len({(price.prices.input, price.prices.output) for price in sources if price is not None}) > 1


class PriceBook:
    """Looks prices up by target and moment, and caches them for the hot path."""

    def __init__(self) -> None:
        self._cached: Newest[tuple[Target, int], _Entry] = Newest(MAX_CACHED_PRICES)
        """By target and hour."""
        self._others: Newest[tuple[str, Target, int], OtherModel | None] = Newest(MAX_CACHED_PRICES)
        self._overrides: dict[tuple[str, str], list[PriceOverride]] = {}
        self._lock = Lock()
        """Large requests are planned in threads."""

    def set_overrides(self, overrides: Sequence[PriceOverride]) -> None:
        """Replace the operator's prices by `overrides`."""
        by_model: dict[tuple[str, str], list[PriceOverride]] = {}
        for override in sorted(overrides, key=lambda override: override.effective_from):
            by_model.setdefault((override.provider, override.model), []).append(override)
        self._overrides = by_model

    def look_up(self, target: Target, at: datetime) -> tuple[Price | None, int | None]:
        """Return the price of a target's model at a moment, and its context window in tokens.

        The price is None if no source has one, the window if the library has none. The specification's rows are looked
        up by the model name in the request, the library's by the name that the provider is called with. For a provider
        by configuration, its address selects the vendor in the library.
        """
        key = (target, int(at.timestamp()) // 3600)
        with self._lock:
            entry = self._cached.get(key)
            if entry is None:
                entry = self._cached[key] = self._entry(target, at)
        override = self.override(target, at) if self._overrides else None
        if override is None:
            return entry.price, entry.context_window
        return _with_terms(override, entry), entry.context_window

    def other_model(self, use: str, target: Target, at: datetime) -> OtherModel | None:
        """Return the prices of a model that a hosted tool asks, for what the answer names `use`.

        None if there are none, or if they go by the length of the prompt.
        """
        override = self.override(target, at) if self._overrides else None
        if override is not None:
            return OtherModel(
                use=use, model=override.model, source=override.source, prices=with_image_prices(override.prices)
            )
        key = (use, target, int(at.timestamp()) // 3600)
        with self._lock:
            if key not in self._others:
                model = _library_model(target)
                prices = other_model_prices(target, model, at) if model is not None else None
                self._others[key] = (
                    OtherModel(use=use, model=target.upstream_model, source=SOURCE, prices=prices) if prices else None
                )
            return self._others[key]

    def _entry(self, target: Target, at: datetime) -> _Entry:
        model, vendor = _library_model(target), _library_vendor(target)
        moment, source = at.astimezone(UTC), SOURCE
        price = self._book_price(target, at)
        listed = model.get_prices(moment) if model is not None else None
        variants: list[Variant] = []
        for term, prices in library_terms(model, moment).items() if model is not None else ():
            classes = class_prices(prices, target.kind, above_tokens=0)
            if classes is not None:
                tiers = context_tiers(prices, target.kind)
                variants.append(Variant(term=term, source=source, prices=classes, tiers=tiers))
        entry = _Entry(
            price=None,
            context_window=model.context_window if model is not None else None,
            fees=fees_of(vendor.id, target.upstream_model, listed, source) if vendor is not None else (),
            variants=(*variants, *factors_of(vendor.id, target.upstream_model)) if vendor is not None else (),
            library=class_prices(listed, target.kind, above_tokens=0) if listed is not None else None,
        )
        return replace(entry, price=_with_terms(price, entry) if price is not None else None)

    def override(self, target: Target, at: datetime) -> Price | None:
        """Return the operator's price at a moment; None if there is none."""
        names = dict.fromkeys((target.model.removeprefix(f"{target.provider}/"), target.upstream_model))
        prices = (self._override(target.provider, name, at) for name in names)
        price = next((price for price in prices if price is not None), None)
        return replace(price, prices=with_long_cache(price.prices, target.kind)) if price is not None else None

    def listed(self, at: datetime, named: Sequence[NamedProvider] = ()) -> list[ListedModel]:
        """List the models that a caller with these providers by configuration can use.

        Built-in providers: every model with a price, in the order specification, library, operator. Providers by
        configuration: the models that the provider lists, priced or not, as `provider/model` and by each plain name
        that is routed to the provider. If the provider lists none: the library's models of the vendor at its address,
        as `provider/model`.
        """
        names = [(provider, name) for name, (provider, _, _, _) in _SPECIFICATION.items()]
        names.append((ECHO, "echo"))
        for kind in (OPENAI, ANTHROPIC):
            names += [(kind, model.id) for model in provider_of(kind).models]
        names += [(BUILT_IN[provider], name) for provider, name in self._overrides if provider in BUILT_IN]
        models = [self.listing(_built_in(kind, name), at) for kind, name in dict.fromkeys(names)]
        by_name = {model.name: model for model in models if model.price is not None}
        for provider in reversed(named):
            for name in _names_at(provider):
                by_name[f"{provider.name}/{name}"] = self.listing(_at(provider, name), at)
            for name in provider.models or ():
                target = resolve_target(name, {}, named)
                if target.base_url is not None:
                    by_name[name] = self.listing(target, at)
        return list(by_name.values())

    def library_price(self, target: Target, at: datetime) -> Price | None:
        """Return the library's price alone; None if it has none that we can use."""
        model, vendor = _library_model(target), _library_vendor(target)
        if model is None or vendor is None:
            return None
        names = (model.id, target.upstream_model)
        if vendor.id != OPENAI and any(_ALWAYS_SEARCHES.fullmatch(name) for name in names):
            return None
        return price_of(target, model, at)

    def compared(self, at: datetime) -> list[ComparedPrice]:
        """List every model with a price, with the price of each source."""
        built_in = [self._compare(_built_in(BUILT_IN[model.provider], model.name), at) for model in self.listed(at)]
        return built_in + [
            ComparedPrice(
                name=name,
                provider=provider,
                override=self._override(provider, name, at),
                specification=None,
                library=None,
            )
            for provider, name in self._overrides
            if provider not in BUILT_IN
        ]

    def _override(self, provider: str, name: str, at: datetime) -> Price | None:
        effective = [
            override for override in self._overrides.get((provider, name), ()) if override.effective_from <= at
        ]
        if not effective:
            return None
        return Price(
            provider=provider,
            model=name,
            source="override",
            prices=effective[-1].prices,
            effective_from=effective[-1].effective_from.isoformat(),
        )

    def listing(self, target: Target, at: datetime) -> ListedModel:
        """Return the entry of a model in `GET /models`."""
        price, window = self.look_up(target, at)
        row = _SPECIFICATION.get(target.model) if target.base_url is None else None
        if row is not None and row[0] == target.provider:
            window = row[3]
        traits = model_traits(target.upstream_model, target.kind)
        return ListedModel(
            name=target.model,
            provider=target.provider,
            context_window=_shown_window(traits, _OWN_CONTEXT_WINDOWS.get(target.kind, window)),
            traits=traits,
            price=price,
        )

    def _compare(self, target: Target, at: datetime) -> ComparedPrice:
        book, library = self._book_price(target, at), self.library_price(target, at)
        return ComparedPrice(
            name=target.model,
            provider=target.provider,
            override=self.override(target, at),
            specification=book if book is not None and book != library else None,
            library=library,
            applied=self.look_up(target, at)[0],
        )

    def _book_price(self, target: Target, at: datetime) -> Price | None:
        """Return the price without the operator's overrides: the specification's row, else the library's."""
        own = _OWN_PRICES.get(target.kind)
        if own is not None:
            return own
        if target.base_url is None and target.kind == OPENAI and _FREE.fullmatch(target.upstream_model):
            model = target.upstream_model
            return Price(provider=OPENAI, model=model, source=_FREE_SOURCE, prices=ClassPrices(input=0, output=0))
        library = self.library_price(target, at)
        name = target.model.removeprefix(f"{target.provider}/")
        row = _SPECIFICATION.get(name)
        if row is None or target.base_url is not None or row[0] != target.provider:
            return library
        prices = ClassPrices(input=_per_million(row[1]), output=_per_million(row[2]))
        if library is not None:
            prices = scaled(prices, library.prices)
        prices = with_long_cache(prices, target.kind)
        return Price(provider=target.provider, model=name, source="specification", prices=prices)


def _shown_window(traits: ModelTraits, window: int | None) -> int | None:
    """The operator's number, else the specification's or the library's, else the table's."""
    return traits.context_window if traits.is_operators or window is None else window


def _built_in(kind: Kind, name: str) -> Target:
    return Target(model=name, provider=kind, kind=kind, upstream_model=UPSTREAM_MODELS.get(name, name))


def _at(provider: NamedProvider, name: str) -> Target:
    return Target(
        model=f"{provider.name}/{name}",
        provider=provider.name,
        kind=provider.kind,
        upstream_model=name,
        base_url=provider.base_url,
    )


def _names_at(provider: NamedProvider) -> Sequence[str]:
    if provider.models is not None:
        return provider.models
    vendor = vendor_at(provider.base_url)
    return [model.id for model in vendor.models] if vendor is not None else ()


def _per_million(dollars_per_thousand: str) -> int:
    return int(Decimal(dollars_per_thousand) * 1_000 * NANO_PER_USD)


def _library_vendor(target: Target) -> Any:
    """Return the library's provider that a target leads to; None if it has none."""
    if target.kind in _OWN_PRICES:
        return None
    return provider_of(target.kind) if target.base_url is None else vendor_at(target.base_url)


def _with_terms(price: Price, entry: _Entry) -> Price:
    """Return the price with its fees and its variants: those of a price that is not the library's in the same ratio."""
    if entry.library is None or price.source.startswith("genai-prices"):
        return replace(price, fees=entry.fees, variants=entry.variants)
    variants = tuple(
        variant
        if variant.prices is None
        else replace(variant, prices=in_ratio(price.prices, entry.library, variant.prices), tiers=())
        for variant in entry.variants
    )
    return replace(price, fees=entry.fees, variants=variants)


def _library_model(target: Target) -> ModelInfo | None:
    vendor = _library_vendor(target)
    return model_of(vendor, target.upstream_model) if vendor is not None else None
