"""`GET /models`: what the key can ask, and what it costs."""

from decimal import Decimal

from litestar import get
from litestar.di import NamedDependency
from msgspec import Struct

from api.askable_models import askable_models
from api.authentication import Caller
from api.guards import requires_key
from api.native.envelope import Success
from api.native.prices import per_1k
from api.native.validation import declared_query
from api.services import Services
from infra.price_book import ListedModel


class ModelOut(Struct, kw_only=True, rename="camel"):
    """A model; prices in US dollars per 1,000 tokens, null if it has no price. Window and longest answer in tokens."""

    name: str
    provider: str
    input_price_per_1k: Decimal | None
    output_price_per_1k: Decimal | None
    context_window: int | None
    max_output: int | None
    price_source: str | None


@get(
    "/models",
    summary="Models and their prices",
    operation_id="ApiV1ModelsEvery",
    guards=[requires_key, declared_query],
)
async def list_models(caller: NamedDependency[Caller], services: NamedDependency[Services]) -> Success[list[ModelOut]]:
    """List the models that the key can ask."""
    return Success(data=[_model_out(model) for model in askable_models(services, caller)])


HANDLERS = (list_models,)


def _model_out(model: ListedModel) -> ModelOut:
    price = model.price
    return ModelOut(
        name=model.name,
        provider=model.provider,
        input_price_per_1k=per_1k(price.prices.input) if price is not None else None,
        output_price_per_1k=per_1k(price.prices.output) if price is not None else None,
        context_window=model.context_window,
        max_output=model.traits.max_output,
        price_source=price.source if price is not None else None,
    )
