"""Connecting a client, and the playground: a first call right there, whose cost and latency are shown."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Template
from msgspec import Struct

from api.askable_models import ROUTES_PROVIDER, askable_models
from api.authentication import Caller
from api.dashboard.chosen_keys import caller_with, keys_to_choose, likely_key
from api.dashboard.field_words import in_words
from api.dashboard.forms import filters_of, form_of, form_values
from api.dashboard.navigation import NavigationEntry
from api.dashboard.playground import Link, Trial, TrialAnswer, answer_trial, links_of, stream_trial
from api.dashboard.rendering import PAGE_HEADERS, page
from api.dashboard.snippets import KEY_VARIABLE, MODEL, address_of_request, snippets
from api.dashboard.viewer import Viewer
from api.delivery import EVENT_STREAM
from api.native.envelope import NativeResponse
from api.native.errors import status_of
from api.request_facts import facts_of
from api.requests import HttpRequest, request_id_of
from api.services import Services
from domain.errors import GatewayError, InvalidRequest, NotFound

NAVIGATION = NavigationEntry(path="/connect", label="Connect")
FIRST_WORDS = "Say hello in one sentence."
MAX_MODELS_SHOWN = 1_000


class ConnectPage(Struct, frozen=True, kw_only=True):
    """The key and the model that the playground begins with."""

    key: str | None = None
    model: str = MODEL


@get(NAVIGATION.path)
async def show_connect(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show what to copy, and the playground."""
    asked = filters_of(request, ConnectPage)
    values = {"model": asked.model, "prompt": FIRST_WORDS} | ({"keyId": asked.key} if asked.key else {})
    return await _connect(request, services, viewer, values)


@post(NAVIGATION.path, status_code=200)
async def try_model(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template | Response[Any]:
    """Call a model. A script that accepts events gets the answer as it is written, any other browser a page."""
    wants_stream = EVENT_STREAM in request.headers.get("accept", "")
    values = await form_values(request)
    caller: Caller | None = None
    try:
        trial = await form_of(request, Trial)
        caller = await _caller(services, viewer, trial)
        if wants_stream:
            return await stream_trial(request, caller, trial)
        answer = await answer_trial(request, caller, trial)
    except GatewayError as error:
        facts_of(request.scope).failed(error)
        links = links_of(error, viewer, caller, request_id_of(request.scope))
        if wants_stream:
            return _error(request, error, links)
        return await _connect(request, services, viewer, values, error=error, links=links)
    return await _connect(request, services, viewer, values, answer=answer)


HANDLERS = (show_connect, try_model)


async def _caller(services: Services, viewer: Viewer, trial: Trial) -> Caller:
    """The key that the call is charged to: the viewer's own, or the one that the operator chose.

    Raises:
        InvalidRequest: the operator chose none.
        NotFound: there is none, or it works no longer.

    """
    if viewer.caller is not None:
        return viewer.caller
    if trial.key_id is None:
        raise InvalidRequest("`keyId`: choose the key that the call is charged to", field="keyId")
    return await caller_with(services, trial.key_id)


def _error(request: HttpRequest, error: GatewayError, links: Sequence[Link]) -> Response[Any]:
    shown = {
        "code": error.code,
        "message": in_words(error.message),
        "requestId": request_id_of(request.scope),
        "links": links,
    }
    return NativeResponse({"error": shown}, status_code=status_of(error), headers=dict(PAGE_HEADERS))


async def _connect(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    values: dict[str, str],
    *,
    answer: TrialAnswer | None = None,
    error: GatewayError | None = None,
    links: Sequence[Link] = (),
) -> Template:
    choices, is_guess = [], False
    if viewer.role == "operator" and viewer.may_change:
        choices = await keys_to_choose(services, viewer, values.get("keyId"))
        is_guess = bool(choices) and not values.get("keyId")
        values = {"keyId": likely_key(choices).key_id if choices else ""} | values
    return page(
        request,
        "connect.html",
        title="Connect",
        status=200 if error is None else status_of(error),
        snippets=snippets(address_of_request(request.headers, request.scope["scheme"])),
        key_variable=KEY_VARIABLE,
        choices=choices,
        is_guess=is_guess,
        chosen=next((key for key in choices if key.key_id == values.get("keyId")), None),
        models=await _models(services, viewer, values.get("keyId")),
        values=values,
        answer=answer,
        error=error,
        links=links,
    )


async def _models(services: Services, viewer: Viewer, key_id: str | None) -> list[str]:
    """The chat models that the key can ask: the viewer's, or the one that the operator chose."""
    caller = viewer.caller
    if caller is None and key_id:
        with suppress(NotFound):
            caller = await caller_with(services, key_id)
    if caller is None:
        return [MODEL]
    listed = askable_models(services, caller)
    chat = {one.name for one in listed if one.provider == ROUTES_PROVIDER or one.traits.serves == "chat"}
    return [MODEL, *sorted(chat - {MODEL})][:MAX_MODELS_SHOWN]
