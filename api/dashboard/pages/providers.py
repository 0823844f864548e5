"""Providers: how they answer, their addresses and credentials; adding, changing and removing them.

An admin sees its project's own, and of the installation's the names that its requests may use. Keys are shown by their
last four characters.
"""

from typing import Any
from urllib.parse import quote

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import UNSET, Struct

from api.dashboard.csv_files import CSV, csv_text
from api.dashboard.forms import FieldKinds, filters_of, form_of, form_values
from api.dashboard.navigation import ADMINS, NavigationEntry
from api.dashboard.provider_owners import owner_choices, requested_owner, visible_owner
from api.dashboard.rendering import download, page, see
from api.dashboard.viewer import Viewer
from api.native.credentials import CredentialChangeBody, NewCredentialBody
from api.native.provider_health import ProviderHealthOut, health_out
from api.native.providers import NewProviderBody, ProviderChangeBody
from api.overview import Away, providers_away, targets_away
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.errors import InvalidRequest, NotFound
from domain.events import INSTALLATION
from domain.routing import BUILT_IN, KEYLESS_KINDS
from infra.provider_keys import credentials_by_provider
from projections.providers import ProviderRecord

NAVIGATION = NavigationEntry(path="/providers", label="Providers", roles=ADMINS)
WITH_A_KEY = tuple(sorted(set(BUILT_IN) - KEYLESS_KINDS))
"""The built-in providers that are called with a credential."""
_NEW_FIELDS = FieldKinds(lists=("models",), besides=("owner",))
_FIELDS = FieldKinds(lists=("models",), nullable=("models",))
_HEALTH_HEADER = (
    "provider",
    "model",
    "whose",
    "credential",
    "last calls",
    "circuit",
    "reason",
    "since",
    "calls",
    "failures",
    "p50 ms",
    "p95 ms",
    "last error",
    "last error at",
)


class ProvidersPage(Struct, frozen=True, kw_only=True):
    """Whose providers: a project's id or `installation`. The operator's filter."""

    owner: str | None = None


@get(NAVIGATION.path)
async def show_providers(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List the providers of an owner, with their credentials."""
    owner = await requested_owner(services, viewer, filters_of(request, ProvidersPage).owner)
    return await _list(request, services, viewer, owner, {}, None)


@get(f"{NAVIGATION.path}/health")
async def show_health(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """Show how providers answer: a page of its own, and a piece of the other. It waits for what the workers tell."""
    owner = await requested_owner(services, viewer, filters_of(request, ProvidersPage).owner)
    return page(
        request,
        "provider_health.html",
        title="How providers answer",
        owner=owner,
        health=await _health(services, viewer, owner),
        away=_away(services, viewer, owner),
    )


@get(f"{NAVIGATION.path}/health.csv")
async def save_health(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The same as CSV."""
    owner = await requested_owner(services, viewer, filters_of(request, ProvidersPage).owner)
    rows = [
        (
            one.provider,
            one.model,
            one.project_id or one.scope,
            one.credential,
            one.last_calls,
            one.state,
            one.reason,
            one.since,
            one.calls,
            one.failures,
            one.latency_ms.p50,
            one.latency_ms.p95,
            one.last_errors[0].code if one.last_errors else None,
            one.last_errors[0].at if one.last_errors else None,
        )
        for one in await _health(services, viewer, owner)
    ]
    return download(csv_text(_HEALTH_HEADER, rows), media_type=CSV, file_name="providers.csv")


@post(NAVIGATION.path)
async def add_provider(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template | Redirect:
    """Configure a provider."""
    values = await form_values(request)
    owner = await visible_owner(services, viewer, values.get("owner", ""))
    try:
        body = await form_of(request, NewProviderBody, _NEW_FIELDS)
        added = await services.provider_settings.add(owner, body.provider(), body.api_key)
    except InvalidRequest as error:
        return await _list(request, services, viewer, owner, values, error)
    return see(address_of(owner, added.provider.name), {"saved": "yes"})


@get(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}")
async def show_provider(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template:
    """Show a provider, with its credentials."""
    return await _one(request, services, viewer, await visible_owner(services, viewer, owner), provider, {}, None)


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}")
async def change_provider(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Change a provider's address, key or list of models."""
    owner = await visible_owner(services, viewer, owner)
    try:
        body = await form_of(request, ProviderChangeBody, _FIELDS)
        await services.provider_settings.change(
            owner,
            id_in_path(provider),
            base_url=body.base_url.rstrip("/") if body.base_url is not UNSET else None,
            key=body.api_key if body.api_key is not UNSET else None,
            models=body.models,
            replaces_builtin=body.replaces_builtin,
        )
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, provider, await form_values(request), error)
    return see(address_of(owner, provider), {"saved": "yes"})


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/remove")
async def remove_provider(
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Redirect:
    """Remove a provider. Its costs stay in the log."""
    owner = await visible_owner(services, viewer, owner)
    await services.provider_settings.remove(owner, id_in_path(provider))
    return see(NAVIGATION.path, {"owner": owner})


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/credentials")
async def add_credential(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Add a further credential."""
    owner = await visible_owner(services, viewer, owner)
    try:
        body = await form_of(request, NewCredentialBody)
        await services.credential_admin.add(owner, id_in_path(provider), body.name, body.api_key, body.weight)
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, provider, {}, error)
    return see(address_of(owner, provider), {"saved": "yes"})


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/credentials/{{name:str}}")
async def change_credential(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Change a credential's weight, or replace its key."""
    owner = await visible_owner(services, viewer, owner)
    try:
        body = await form_of(request, CredentialChangeBody)
        await services.credential_admin.change(
            owner,
            id_in_path(provider),
            id_in_path(name),
            key=body.api_key if body.api_key is not UNSET else None,
            weight=body.weight if body.weight is not UNSET else None,
        )
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, provider, {}, error)
    return see(address_of(owner, provider), {"saved": "yes"})


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/credentials/{{name:str}}/remove")
async def remove_credential(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    name: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Remove a further credential."""
    owner = await visible_owner(services, viewer, owner)
    try:
        await services.credential_admin.remove(owner, id_in_path(provider), id_in_path(name))
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, provider, {}, error)
    return see(address_of(owner, provider), {"saved": "yes"})


HANDLERS = (
    show_providers,
    show_health,
    save_health,
    add_provider,
    show_provider,
    change_provider,
    remove_provider,
    add_credential,
    change_credential,
    remove_credential,
)


def address_of(owner: str, provider: str) -> str:
    """The address of a provider's page."""
    return f"{NAVIGATION.path}/{quote(owner, safe='')}/{quote(provider, safe='')}"


async def _health(services: Services, viewer: Viewer, owner: str) -> list[ProviderHealthOut]:
    """What the workers tell of the owner's circuits: of all of them, if the operator asks for the installation's."""
    everybodys = viewer.role == "operator" and owner == INSTALLATION
    return [health_out(one) for one in await services.provider_health.of(None if everybodys else owner)]


def _away(services: Services, viewer: Viewer, owner: str) -> list[Away]:
    """The targets of the owner and of the installation that are not called at the moment, or fail. Which models others
    ask for under the installation's credentials is told to the operator alone.
    """
    health = services.provider_health
    own = targets_away(health, owner)
    if owner == INSTALLATION:
        return own
    return own + (targets_away(health) if viewer.role == "operator" else providers_away(health))


async def _list(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    owner: str,
    values: dict[str, str],
    error: InvalidRequest | None,
) -> Template:
    shared = [] if owner == INSTALLATION else await services.provider_settings.list_all(INSTALLATION)
    return page(
        request,
        "providers.html",
        title="Providers",
        status=200 if error is None else 400,
        owner=owner,
        owners=await owner_choices(services, viewer, owner),
        providers=await services.provider_settings.list_all(owner),
        shared=shared,
        credentials=await credentials_by_provider(services.pool, owner),
        built_in=WITH_A_KEY,
        away=_away(services, viewer, owner),
        address_of=address_of,
        may_change=viewer.may_change,
        values=values,
        error=error,
    )


async def _one(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    owner: str,
    provider: str,
    values: dict[str, str],
    error: InvalidRequest | None,
) -> Template:
    """The page of a provider. Raises NotFound: the owner has none of this name."""
    record = await _configured(services, owner, provider)
    return page(
        request,
        "provider.html",
        title=provider,
        status=200 if error is None else 400,
        owner=owner,
        provider=provider,
        record=record,
        credentials=(await credentials_by_provider(services.pool, owner)).get(provider, []),
        values={**_values(record), **values},
        address=address_of(owner, provider),
        may_change=viewer.may_change,
        saved="saved" in request.query_params,
        error=error,
    )


async def _configured(services: Services, owner: str, provider: str) -> ProviderRecord | None:
    """A provider by configuration; None: it is built in, with credentials of the project's.

    Raises:
        NotFound: it is neither.

    """
    if provider not in BUILT_IN:
        return await services.provider_settings.get(owner, id_in_path(provider))
    if provider not in WITH_A_KEY or owner == INSTALLATION:
        raise NotFound(f"nothing of {provider} is set here")
    return None


def _values(record: ProviderRecord | None) -> dict[str, Any]:
    """The fields of the form as they are now."""
    if record is None:
        return {}
    return {"baseUrl": record.provider.base_url, "models": "\n".join(record.provider.models or ())}
