"""Providers: how they answer, their addresses and credentials; adding, changing and removing them.

An admin sees its project's own, and of the installation's the names that its requests may use. Keys are shown by their
last four characters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from msgspec import UNSET, Struct

from api.dashboard.csv_files import CsvTable
from api.dashboard.forms import FieldKinds, filters_of, form_of, form_values, is_outdated, mark_of
from api.dashboard.navigation import ADMINS, NavigationEntry
from api.dashboard.owners import OwnerPage, owner_choices, requested_owner, visible_owner
from api.dashboard.pages.provider_health import away_for
from api.dashboard.rendering import page, see
from api.dashboard.viewer import Viewer
from api.native.credentials import CredentialChangeBody, NewCredentialBody
from api.native.providers import NewProviderBody, ProviderChangeBody
from api.requests import HttpRequest, id_in_path
from api.services import Services
from domain.errors import InvalidRequest, NotFound
from domain.events import INSTALLATION
from domain.routing import BUILT_IN, KEYLESS_KINDS, NamedProvider
from infra.provider_keys import StoredCredential, credentials_by_provider
from projections.providers import ProviderRecord

NAVIGATION = NavigationEntry(path="/providers", label="Providers", roles=ADMINS)
WITH_A_KEY = tuple(sorted(set(BUILT_IN) - KEYLESS_KINDS))
"""The built-in providers that are called with a credential."""
_NEW_FIELDS = FieldKinds(lists=("models",), besides=("owner",))
_FIELDS = FieldKinds(lists=("models",), nullable=("models",))


class _SavedProvider(Struct, frozen=True):
    """A provider of the list as a file: one by configuration, or a built-in one."""

    name: str
    credentials: Sequence[StoredCredential]
    record: ProviderRecord | None = None
    """None: it is built in."""

    @property
    def provider(self) -> NamedProvider | None:
        return self.record.provider if self.record is not None else None


_SAVED = CsvTable[_SavedProvider](
    "providers.csv",
    {
        "provider": lambda one: one.name,
        "speaks": lambda one: one.provider.kind if one.provider is not None else one.name,
        "address": lambda one: one.provider.base_url if one.provider is not None else None,
        "credentials": lambda one: ", ".join(f"{key.name} …{key.hint}" for key in one.credentials),
        "models": lambda one: _models_in_words(one.provider),
        "built-in names too": lambda one: "yes" if one.provider is not None and one.provider.replaces_builtin else "no",
        "set": lambda one: one.record.configured_at if one.record is not None else None,
    },
)
_SAVED_SHARED = CsvTable[ProviderRecord](
    "shared-providers.csv",
    {
        "provider": lambda one: one.provider.name,
        "speaks": lambda one: one.provider.kind,
        "models": lambda one: _models_in_words(one.provider),
    },
)
_SAVED_CREDENTIALS = CsvTable[StoredCredential](
    "credentials.csv",
    {"name": lambda one: one.name, "ends in": lambda one: one.hint, "weight": lambda one: one.weight},
)


@get(NAVIGATION.path)
async def show_providers(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Template:
    """List the providers of an owner, with their credentials."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner)
    return await _list(request, services, viewer, owner, {}, None)


@get(f"{NAVIGATION.path}.csv")
async def save_providers(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The list as CSV."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner)
    credentials = await credentials_by_provider(services.pool, owner)
    configured = await services.provider_settings.list_all(owner)
    return _SAVED.download(
        [
            *(_SavedProvider(one.provider.name, credentials.get(one.provider.name, []), one) for one in configured),
            *(_SavedProvider(name, credentials.get(name, [])) for name in WITH_A_KEY),
        ]
    )


@get(f"{NAVIGATION.path}/shared.csv")
async def save_shared(
    request: HttpRequest, viewer: NamedDependency[Viewer], services: NamedDependency[Services]
) -> Response[bytes]:
    """The installation's providers that a project's requests may name, as CSV, without their addresses."""
    owner = await requested_owner(services, viewer, filters_of(request, OwnerPage).owner)
    return _SAVED_SHARED.download(await _shared(services, owner))


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
    return await _one(request, services, viewer, await visible_owner(services, viewer, owner), provider)


@get(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/credentials.csv")
async def save_credentials(
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Response[bytes]:
    """The credentials of a provider as CSV."""
    owner = await visible_owner(services, viewer, owner)
    await _configured(services, owner, provider)
    return _SAVED_CREDENTIALS.download(await _credentials(services, owner, provider))


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
    if is_outdated(await form_values(request), _shown(await _configured(services, owner, provider))):
        return await _one(request, services, viewer, owner, provider, was_changed="provider")
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
        values = await form_values(request)
        return await _one(request, services, viewer, owner, provider, values=values, error=error)
    return see(address_of(owner, provider), {"saved": "yes"})


@post(f"{NAVIGATION.path}/{{owner:str}}/{{provider:str}}/remove")
async def remove_provider(
    request: HttpRequest,
    owner: FromPath[str],
    provider: FromPath[str],
    viewer: NamedDependency[Viewer],
    services: NamedDependency[Services],
) -> Template | Redirect:
    """Remove a provider. Its costs stay in the log."""
    owner = await visible_owner(services, viewer, owner)
    if is_outdated(await form_values(request), _shown(await _configured(services, owner, provider))):
        return await _one(request, services, viewer, owner, provider, was_changed="provider")
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
        return await _one(request, services, viewer, owner, provider, error=error)
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
    if await _is_credential_outdated(request, services, owner, provider, name):
        return await _one(request, services, viewer, owner, provider, was_changed="credential")
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
        return await _one(request, services, viewer, owner, provider, error=error)
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
    if await _is_credential_outdated(request, services, owner, provider, name):
        return await _one(request, services, viewer, owner, provider, was_changed="credential")
    try:
        await services.credential_admin.remove(owner, id_in_path(provider), id_in_path(name))
    except InvalidRequest as error:
        return await _one(request, services, viewer, owner, provider, error=error)
    return see(address_of(owner, provider), {"saved": "yes"})


HANDLERS = (
    show_providers,
    save_providers,
    save_shared,
    add_provider,
    show_provider,
    save_credentials,
    change_provider,
    remove_provider,
    add_credential,
    change_credential,
    remove_credential,
)


def address_of(owner: str, provider: str) -> str:
    """The address of a provider's page."""
    return f"{NAVIGATION.path}/{quote(owner, safe='')}/{quote(provider, safe='')}"


async def _list(
    request: HttpRequest,
    services: Services,
    viewer: Viewer,
    owner: str,
    values: dict[str, str],
    error: InvalidRequest | None,
) -> Template:
    return page(
        request,
        "providers.html",
        title="Providers",
        status=200 if error is None else 400,
        owner=owner,
        owners=await owner_choices(services, viewer, owner),
        providers=await services.provider_settings.list_all(owner),
        shared=await _shared(services, owner),
        credentials=await credentials_by_provider(services.pool, owner),
        built_in=WITH_A_KEY,
        settings_have=services.settings.installation_credentials,
        away=away_for(services, viewer, owner),
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
    *,
    values: Mapping[str, str] | None = None,
    error: InvalidRequest | None = None,
    was_changed: Literal["provider", "credential"] | None = None,
) -> Template:
    """The page of a provider. `was_changed`: what another form has changed, so that this one's is not saved.

    Raises:
        NotFound: the owner has none of this name.

    """
    record = await _configured(services, owner, provider)
    return page(
        request,
        "provider.html",
        title=provider,
        status=409 if was_changed else 200 if error is None else 400,
        was_changed=was_changed,
        seen=mark_of(_shown(record)),
        owner=owner,
        provider=provider,
        record=record,
        credentials=[(one, mark_of(_credential_shown(one))) for one in await _credentials(services, owner, provider)],
        values={**_values(record), **(values or {})},
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


async def _shared(services: Services, owner: str) -> list[ProviderRecord]:
    """The installation's providers that an owner's requests may name beside its own."""
    return [] if owner == INSTALLATION else await services.provider_settings.list_all(INSTALLATION)


async def _credentials(services: Services, owner: str, provider: str) -> list[StoredCredential]:
    return (await credentials_by_provider(services.pool, owner)).get(provider, [])


async def _is_credential_outdated(
    request: HttpRequest, services: Services, owner: str, provider: str, name: str
) -> bool:
    """Return True if a credential has changed since its form was loaded; False also if there is none of this name."""
    found = (one for one in await _credentials(services, owner, provider) if one.name == name)
    now = next(found, None)
    return now is not None and is_outdated(await form_values(request), _credential_shown(now))


def _shown(record: ProviderRecord | None) -> dict[str, str]:
    """What the page shows of a provider, for the mark of its forms."""
    return {**_values(record), "set": record.configured_at.isoformat() if record is not None else ""}


def _credential_shown(credential: StoredCredential) -> dict[str, str]:
    return {"name": credential.name, "hint": credential.hint, "weight": str(credential.weight)}


def _models_in_words(provider: NamedProvider | None) -> str:
    return "any" if provider is None or provider.models is None else ", ".join(provider.models)


def _values(record: ProviderRecord | None) -> dict[str, str]:
    """The fields of the form as they are now."""
    if record is None:
        return {}
    return {"baseUrl": record.provider.base_url, "models": "\n".join(record.provider.models or ())}
