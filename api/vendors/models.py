"""`GET /v1/models`, which both vendors have: Anthropic's clients send the header `anthropic-version`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Meta, Struct

from api.askable_models import askable_model, askable_models
from api.authentication import Caller
from api.delivery import JSON
from api.guards import requires_key
from api.requests import HttpRequest, query_of, request_id_of
from api.services import Services
from api.vendors.errors import REQUEST_ID_HEADER
from infra.price_book import ListedModel

DEFAULT_PAGE = 20
MAX_PAGE = 1_000
CREATED_AT = datetime(2020, 1, 1, tzinfo=UTC)
"""Both forms have a time of creation, which no source of prices has."""

_encode = msgspec.json.Encoder().encode


class _Page(Struct, frozen=True):
    """Anthropic's paging."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    after_id: str | None = None
    before_id: str | None = None


def is_anthropics(request: HttpRequest) -> bool:
    """True for a client of Anthropic's."""
    return "anthropic-version" in request.headers


@get("/models", guards=[requires_key])
async def list_models(
    request: HttpRequest, caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Response[bytes]:
    """List the models that the key can ask."""
    models = askable_models(services, caller)
    if is_anthropics(request):
        return _for_anthropics(request, _anthropic_page(models, query_of(request, _Page)))
    return _response({"object": "list", "data": [_for_openai(model) for model in models]})


@get("/models/{model:path}", guards=[requires_key])
async def get_model(
    request: HttpRequest, model: FromPath[str], caller: NamedDependency[Caller], services: NamedDependency[Services]
) -> Response[bytes]:
    """Show one model."""
    listed = askable_model(services, caller, model.removeprefix("/"))
    if is_anthropics(request):
        return _for_anthropics(request, _for_anthropic(listed))
    return _response(_for_openai(listed))


HANDLERS = (list_models, get_model)


def _anthropic_page(models: list[ListedModel], page: _Page) -> dict[str, Any]:
    names = [model.name for model in models]
    start, end = 0, len(models)
    if page.after_id in names:
        start = names.index(page.after_id) + 1
    if page.before_id in names:
        end = names.index(page.before_id)
        start = max(start, end - page.limit)
    shown = models[start : min(end, start + page.limit)]
    has_more = start > 0 if page.before_id is not None else start + len(shown) < len(models)
    return {
        "data": [_for_anthropic(model) for model in shown],
        "has_more": has_more,
        "first_id": shown[0].name if shown else None,
        "last_id": shown[-1].name if shown else None,
    }


def _for_openai(model: ListedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": int(CREATED_AT.timestamp()),
        "owned_by": model.provider,
    }


def _for_anthropic(model: ListedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": CREATED_AT,
        "lifecycle": "active",
        "max_input_tokens": model.context_window,
        "max_tokens": model.traits.max_output,
    }


def _for_anthropics(request: HttpRequest, content: dict[str, Any]) -> Response[bytes]:
    return _response(content, {REQUEST_ID_HEADER: request_id_of(request.scope)})


def _response(content: dict[str, Any], headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(_encode(content), media_type=JSON, headers=headers)
