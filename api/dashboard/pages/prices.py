"""Prices by source, and where the sources differ; the operator sets one."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect, Template
from msgspec import Meta, Struct

from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import FieldKinds, filters_of, form_of, form_values
from api.dashboard.navigation import ADMINS
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.native.prices import NewPriceBody, per_1k, price_set
from api.requests import HttpRequest
from api.services import Services
from domain.errors import GatewayError, InvalidRequest, UnknownModel
from domain.pricing import Price
from infra.price_book import ComparedPrice

PATH = "/providers/prices"
SOURCES = ("override", "specification", "library")
MAX_SHOWN = 300
_FIELDS = FieldKinds(moments=("from",))


class PricesPage(Struct, frozen=True, kw_only=True):
    """The filters of the list."""

    model: Annotated[str, Meta(max_length=200)] | None = None
    """A part of the name."""
    differing: bool = False
    """Only models whose sources have different prices."""


@get(PATH)
async def show_prices(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Compare the prices of models by source."""
    viewer.require_role(*ADMINS)
    return _list(request, services, viewer, filters_of(request, PricesPage), {}, None)


@get(f"{PATH}.csv")
async def save_prices(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The same as CSV."""
    viewer.require_role(*ADMINS)
    return _SAVED.download(_compared(services, filters_of(request, PricesPage)))


@post(PATH)
async def set_price(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template | Redirect:
    """Set a model's price for the whole installation."""
    viewer.require_role("operator")
    try:
        event = await price_set(services.caller_pool, await form_of(request, NewPriceBody, _FIELDS))
    except (InvalidRequest, UnknownModel) as error:
        return _list(request, services, viewer, PricesPage(), await form_values(request), error)
    await services.price_admin.set_price(event)
    return see(PATH, {"model": event.model, "saved": "yes"})


HANDLERS = (show_prices, save_prices, set_price)


def _compared(services: Services, asked: PricesPage) -> list[ComparedPrice]:
    return [
        one
        for one in services.prices.compared(datetime.now(UTC))
        if (asked.model is None or asked.model in f"{one.provider}/{one.name}") and (one.differs or not asked.differing)
    ]


def _list(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    asked: PricesPage,
    values: dict[str, str],
    error: GatewayError | None,
) -> Template:
    found = _compared(services, asked)
    filters = {
        name: value
        for name, value in (("model", asked.model), ("differing", "true" if asked.differing else None))
        if value
    }
    return page(
        request,
        "prices.html",
        title="Prices",
        status=200 if error is None else 400,
        prices=[(one, [(name, _shown(getattr(one, name))) for name in SOURCES]) for one in found[:MAX_SHOWN]],
        more=len(found) - MAX_SHOWN,
        asked=asked,
        csv=f"{PATH}.csv?{urlencode(filters)}",
        may_set=viewer.may_change and viewer.role == "operator",
        saved="saved" in request.query_params,
        values=values,
        error=error,
    )


def _shown(price: Price | None) -> dict[str, Any] | None:
    """A price as the table has it, in US dollars per 1,000 tokens; None: the source has none."""
    if price is None:
        return None
    return {
        "input": per_1k(price.prices.input),
        "output": per_1k(price.prices.output),
        "source": price.source,
        "since": price.effective_from,
    }


def _price(source: str, kind: str, one: ComparedPrice) -> Any:
    """The price of a source for a kind of tokens; None: it has none."""
    price = _shown(getattr(one, source))
    return price[kind] if price is not None else None


_SAVED = CsvTable[ComparedPrice](
    "prices.csv",
    {
        "provider": lambda one: one.provider,
        "model": lambda one: one.name,
        "used": lambda one: one.used.source if one.used is not None else None,
        **{
            f"{source} {kind} USD per 1K": partial(_price, source, kind)
            for source in SOURCES
            for kind in ("input", "output")
        },
        "differs": lambda one: "yes" if one.differs else "no",
    },
)
