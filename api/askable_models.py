"""The models and routes that a key can ask, for every surface that lists them. A name that is not here is refused, or
its provider would refuse it.
"""

import re
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace

from api.authentication import Caller
from api.services import Services
from domain.errors import Forbidden, UnknownModel
from domain.models import Serves
from domain.routing import KEYLESS_KINDS, Target
from infra.price_book import SPECIFIED_MODELS, ListedModel

ROUTES_PROVIDER = "route"
"""Stands in lists for the provider of a route."""
_SERVED: frozenset[Serves] = frozenset({"chat", "embeddings", "completions", "moderation"})
"""The kinds of models that the gateway has a call for."""
_PLACEHOLDER = re.compile(r".*-|.*:.*")
"""Names of the price library's that no call is made with: it prices every fine-tune of a model by one name
(`ft:gpt-3.5-turbo-`), and a seller's variants by another (`gpt-4o:extended`).
"""


def askable_models(services: Services, caller: Caller) -> list[ListedModel]:
    """The models that a caller can ask, each by the names that calls are made with.

    Beside the price book's there are the names that the operator gave to other models (GATEWAY_UPSTREAM_MODELS), and
    those that the key is held to.
    """
    now = datetime.now(UTC)
    listed = {model.name: model for model in services.prices.listed(now, caller.providers)}
    for name in (*services.settings.upstream_models, *(caller.settings.models or ())):
        target = _target(services, caller, name)
        if target is not None and (name not in listed or target.base_url is None):
            listed[name] = services.prices.listing(target, now)
    is_askable = _filter(services, caller, now)
    routes = _routes(services, caller, now)
    return [*routes.values(), *(model for model in listed.values() if model.name not in routes and is_askable(model))]


def askable_model(services: Services, caller: Caller, name: str) -> ListedModel:
    """One model by a name that calls are made with, or one route. There are more of them than are listed: dated names,
    and all of a provider by configuration.

    Raises:
        UnknownModel: the caller cannot ask it.

    """
    now = datetime.now(UTC)
    if caller.route(name) is not None:
        route = _routes(services, caller, now).get(name)
        if route is None:
            raise UnknownModel(name)
        return route
    target = services.planner.target(caller, name)
    model = services.prices.listing(target, now)
    is_known = target.base_url is not None or model.price is not None or model.traits.is_listed
    if not is_known or not _filter(services, caller, now)(model):
        raise UnknownModel(name)
    return model


def _routes(services: Services, caller: Caller, now: datetime) -> dict[str, ListedModel]:
    """The routes of which the caller can ask a target, each with what all of those take, by name."""
    with_credential = _with_credential(services, caller)
    routes: dict[str, ListedModel] = {}
    for name, settings in caller.routes.items():
        with suppress(UnknownModel, Forbidden):
            asked = [target for group in settings.groups for target in group]
            plan = services.planner.plan_route(caller, name, settings)
            targets = [one.target for one in sorted(plan.targets, key=lambda one: asked.index(one.asked))]
            models = [services.prices.listing(one, now) for one in targets if one.provider in with_credential]
            if models:
                routes[name] = _in_common(name, models)
    return routes


def _in_common(name: str, models: Sequence[ListedModel]) -> ListedModel:
    """A route as a model. It has no price of its own: an answer costs what its model's does."""
    windows = [model.context_window for model in models]
    longest = [model.traits.max_output for model in models]
    return ListedModel(
        name=name,
        price=None,
        provider=ROUTES_PROVIDER,
        context_window=min((window for window in windows if window is not None), default=None),
        traits=replace(
            models[0].traits, max_output=min((output for output in longest if output is not None), default=None)
        ),
    )


def _with_credential(services: Services, caller: Caller) -> Set[str]:
    """The providers that the caller's requests have a credential for."""
    built_in = KEYLESS_KINDS | caller.own_credentials | services.settings.provider_keys.keys()
    return built_in | {provider.name for provider in caller.providers}


def _filter(services: Services, caller: Caller, now: datetime) -> Callable[[ListedModel], bool]:
    allowed, today = caller.settings.models, now.date().isoformat()
    with_credential = _with_credential(services, caller)
    by_configuration = {provider.name for provider in caller.providers}

    def is_askable(model: ListedModel) -> bool:
        if allowed is not None and model.name not in allowed:
            return False
        if model.provider in by_configuration:
            return True
        if model.provider not in with_credential or _PLACEHOLDER.fullmatch(model.name):
            return False
        if model.name in SPECIFIED_MODELS:
            return True
        is_routed = _target(services, caller, model.name) is not None
        return is_routed and model.traits.serves in _SERVED and not _is_retired(model, today)

    return is_askable


def _target(services: Services, caller: Caller, name: str) -> Target | None:
    try:
        return services.planner.target(caller, name)
    except UnknownModel:
        return None


def _is_retired(model: ListedModel, today: str) -> bool:
    """True if its vendor no longer serves it. `today` is an ISO date, as those of the table are."""
    retires_on = model.traits.retires_on
    return retires_on is not None and retires_on <= today
