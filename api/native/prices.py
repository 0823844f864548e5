"""`/prices`: each model's price by source; the operator may set one."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import RequestBody
from msgspec import Meta, Struct

from api.guards import requires_key, requires_operator
from api.native.envelope import Success
from api.native.openapi import NEEDS_MASTER_KEY
from api.native.validation import declared_query
from api.requests import in_utc
from api.services import Services
from domain.errors import InvalidRequest
from domain.events import PriceSet
from domain.money import NANO_PER_USD, NanoUsd, to_usd
from domain.names import Name
from domain.pricing import ClassPrices, Price, Variant, on_terms
from domain.routing import resolve_target
from infra.database import Pool
from infra.price_book import ComparedPrice
from projections.providers import is_configured

TOKENS_PER_SHOWN_PRICE = 1_000
MAX_USD_PER_1K = 1_000
Moment = Annotated[datetime, Meta(tz=True)]


DollarsPer1K = Annotated[
    Decimal,
    Meta(
        description=f"US dollars, 0 to {MAX_USD_PER_1K}, at most twelve decimals; or as a text",
        extra_json_schema={
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": MAX_USD_PER_1K,
            "pattern": r"^[0-9]{1,3}(\.[0-9]{1,12})?$",
        },
    ),
]


class NewPriceBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A price in US dollars per 1,000 tokens; of text, what is not given costs what plain input costs."""

    model: Annotated[Name, Meta(examples=["gpt-4o-mini"])]
    """A model of a provider by configuration has the provider's name in front: `groq/llama-3.3-70b-versatile`."""
    input_per_1k: DollarsPer1K
    output_per_1k: DollarsPer1K
    cached_input_per_1k: DollarsPer1K | None = None
    cache_write_per_1k: DollarsPer1K | None = None
    audio_input_per_1k: DollarsPer1K | None = None
    """If neither is given, audio has no price."""
    audio_output_per_1k: DollarsPer1K | None = None
    from_: Moment | None = msgspec.field(default=None, name="from")
    """From now on, if not given. What was admitted before keeps its price."""


class PriceOut(Struct, kw_only=True, rename="camel"):
    """A price in US dollars per 1,000 tokens."""

    input_per_1k: Decimal
    output_per_1k: Decimal
    cached_input_per_1k: Decimal | None
    audio_input_per_1k: Decimal | None
    """Null: audio has no price."""
    audio_output_per_1k: Decimal | None
    source: str
    since: str | None


class FeeOut(Struct, kw_only=True):
    """The price of one use of a hosted tool, in US dollars."""

    tool: str
    cost: Decimal
    source: str


class TermOut(Struct, kw_only=True, rename="camel"):
    """A model's price on other terms than the standard ones."""

    term: str
    """Such as `service_tier=priority`."""
    input_per_1k: Decimal
    output_per_1k: Decimal
    source: str


class PriceComparisonOut(Struct, kw_only=True):
    """A model's price in each source; null if the source has none. Requests are costed at `used`."""

    model: str
    provider: str
    used: PriceOut | None
    override: PriceOut | None
    specification: PriceOut | None
    library: PriceOut | None
    differs: bool
    fees: list[FeeOut]
    terms: list[TermOut]


@get(
    "/prices",
    summary="Prices by source",
    operation_id="ApiV1PricesEvery",
    guards=[requires_key, declared_query],
)
async def list_prices(services: NamedDependency[Services]) -> Success[list[PriceComparisonOut]]:
    """Show what the operator, the specification and the library say of every priced model."""
    return Success(data=[_comparison_out(one) for one in services.prices.compared(datetime.now(UTC))])


@post(
    "/prices",
    summary="Set a model's price",
    operation_id="ApiV1PricesSetOne",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def set_price(data: RequestBody[NewPriceBody], services: NamedDependency[Services]) -> Success[PriceOut]:
    """Set a price for the whole installation."""
    event = await price_set(services.caller_pool, data)
    await services.price_admin.set_price(event)
    price = Price(
        provider=event.provider,
        model=event.model,
        source="override",
        prices=event.prices,
        effective_from=event.effective_from.isoformat(),
    )
    return Success(data=_price_out(price))


HANDLERS = (list_prices, set_price)


async def price_set(pool: Pool, body: NewPriceBody) -> PriceSet:
    """The event that a request body asks for.

    Raises:
        UnknownModel: no rule routes the model, and no provider by configuration has the name in front of it.
        InvalidRequest: a price is none.

    """
    provider, _, model = body.model.partition("/")
    if not model or not await is_configured(pool, provider):
        provider = resolve_target(body.model, {}).provider
        model = body.model.removeprefix(f"{provider}/")
    return PriceSet(
        provider=provider,
        model=model,
        prices=ClassPrices(
            input=_per_million(body.input_per_1k, "inputPer1K"),
            output=_per_million(body.output_per_1k, "outputPer1K"),
            cache_read=_optional_per_million(body.cached_input_per_1k, "cachedInputPer1K"),
            cache_write=_optional_per_million(body.cache_write_per_1k, "cacheWritePer1K"),
            input_audio=_optional_per_million(body.audio_input_per_1k, "audioInputPer1K"),
            output_audio=_optional_per_million(body.audio_output_per_1k, "audioOutputPer1K"),
        ),
        effective_from=in_utc(body.from_, "from") if body.from_ is not None else datetime.now(UTC),
    )


def per_1k(nano_usd_per_million: int) -> Decimal:
    """A price per million tokens as it is shown."""
    return to_usd(NanoUsd(nano_usd_per_million)) / TOKENS_PER_SHOWN_PRICE


def _optional_per_1k(nano_usd_per_million: int | None) -> Decimal | None:
    return per_1k(nano_usd_per_million) if nano_usd_per_million is not None else None


def _optional_per_million(dollars: Decimal | None, field: str) -> int | None:
    return None if dollars is None else _per_million(dollars, field)


def _per_million(dollars: Decimal, field: str) -> int:
    exact = dollars * TOKENS_PER_SHOWN_PRICE * NANO_PER_USD if dollars.is_finite() else None
    if exact is None or not 0 <= dollars <= MAX_USD_PER_1K or exact != exact.to_integral_value():
        raise InvalidRequest(
            f"`{field}` must be US dollars per 1,000 tokens, 0 to {MAX_USD_PER_1K}, with at most twelve decimals",
            field=field,
        )
    return int(exact)


def _comparison_out(one: ComparedPrice) -> PriceComparisonOut:
    applied = one.applied
    return PriceComparisonOut(
        model=one.name,
        provider=one.provider,
        used=_optional_price_out(one.used),
        override=_optional_price_out(one.override),
        specification=_optional_price_out(one.specification),
        library=_optional_price_out(one.library),
        differs=one.differs,
        fees=[FeeOut(tool=fee.tool, cost=to_usd(fee.nano_usd), source=fee.source) for fee in applied.fees]
        if applied is not None
        else [],
        terms=[_term_out(applied, variant) for variant in applied.variants] if applied is not None else [],
    )


def _term_out(price: Price, variant: Variant) -> TermOut:
    name, _, value = variant.term.partition("=")
    prices = on_terms(price, {name: value})[0].prices
    return TermOut(
        term=variant.term,
        input_per_1k=per_1k(prices.input),
        output_per_1k=per_1k(prices.output),
        source=variant.source,
    )


def _optional_price_out(price: Price | None) -> PriceOut | None:
    return _price_out(price) if price is not None else None


def _price_out(price: Price) -> PriceOut:
    cached = price.prices.cache_read
    return PriceOut(
        input_per_1k=per_1k(price.prices.input),
        output_per_1k=per_1k(price.prices.output),
        cached_input_per_1k=per_1k(cached) if cached is not None else None,
        audio_input_per_1k=_optional_per_1k(price.prices.input_audio),
        audio_output_per_1k=_optional_per_1k(price.prices.output_audio),
        source=price.source,
        since=price.effective_from,
    )
