"""`GET /models`: what the key may use, and what it costs."""

from datetime import UTC, datetime
from decimal import Decimal

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from api.authentication import Caller
from api.native.envelope import Described, Description, success
from api.native.prices import per_1k
from api.native.usage import NoQuery
from api.requests import HttpRequest, caller_of, query_of, services_of
from infra.price_book import ListedModel, PriceBook


class ShownModel(Struct, kw_only=True, rename="camel"):
    """A model; prices in US dollars per 1,000 tokens, null where nobody can price it."""

    name: str
    provider: str
    input_price_per_1k: Decimal | None
    output_price_per_1k: Decimal | None
    context_window: int | None
    price_source: str | None


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The route of models."""

    @get(
        "/models",
        summary="Models and their prices",
        operation_class=described.operation(Description(query=NoQuery, answer=list[ShownModel])),
    )
    async def every(request: HttpRequest) -> Response[bytes]:
        """List the models that the key may use."""
        caller = await caller_of(request)
        query_of(request, NoQuery)
        return success([_shown(model) for model in usable_models(services_of(request).prices, caller)])

    return [every]


def usable_models(prices: PriceBook, caller: Caller) -> list[ListedModel]:
    """The models that are known of those that a caller may use."""
    allowed = caller.settings.models
    listed = prices.listed(datetime.now(UTC), caller.providers)
    return [model for model in listed if allowed is None or model.name in allowed]


def _shown(model: ListedModel) -> ShownModel:
    price = model.price
    return ShownModel(
        name=model.name,
        provider=model.provider,
        input_price_per_1k=per_1k(price.prices.input) if price is not None else None,
        output_price_per_1k=per_1k(price.prices.output) if price is not None else None,
        context_window=model.context_window,
        price_source=price.source if price is not None else None,
    )
