"""`GET /models`: what the key may use, and what it costs."""

from datetime import UTC, datetime
from decimal import Decimal

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from api.native.envelope import Described, Description, success
from api.native.usage import NoQuery
from api.requests import AnyRequest, caller_of, query_of, services_of
from domain.money import NanoUsd, to_usd
from infra.price_book import ListedModel

TOKENS_PER_LISTED_PRICE = 1_000


class ShownModel(Struct, kw_only=True, rename="camel"):
    """A model; prices in US dollars per 1,000 tokens."""

    name: str
    provider: str
    input_price_per_1k: Decimal
    output_price_per_1k: Decimal
    context_window: int | None
    price_source: str


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The route of models."""

    @get(
        "/models",
        summary="Models and their prices",
        operation_class=described.operation(Description(query=NoQuery, answer=list[ShownModel])),
    )
    async def every(request: AnyRequest) -> Response[bytes]:
        """List every priced model that the key may use."""
        caller = await caller_of(request)
        query_of(request, NoQuery)
        allowed = caller.settings.models
        listed = services_of(request).prices.listed(datetime.now(UTC))
        return success([_shown(model) for model in listed if allowed is None or model.name in allowed])

    return [every]


def _shown(model: ListedModel) -> ShownModel:
    assert model.price is not None, "the book lists priced models"
    prices = model.price.prices
    return ShownModel(
        name=model.name,
        provider=model.provider,
        input_price_per_1k=to_usd(NanoUsd(prices.input)) / TOKENS_PER_LISTED_PRICE,
        output_price_per_1k=to_usd(NanoUsd(prices.output)) / TOKENS_PER_LISTED_PRICE,
        context_window=model.context_window,
        price_source=model.price.source,
    )
