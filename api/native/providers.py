"""`/projects/providers` and `/providers`: providers by configuration, of a project and of the installation."""

from datetime import datetime
from typing import Annotated

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType

from api.native.envelope import Success
from api.native.provider_owners import routers_of_owners
from api.provider_settings import check_no_builtin_names
from api.requests import id_in_path
from api.services import Services
from domain.names import HTTP_URL_PATTERN, TOKEN_PATTERN, Name
from domain.routing import NamedKind, NamedProvider, ProviderName
from projections.providers import ProviderRecord

MAX_LISTED_MODELS = 1_024
BaseUrl = Annotated[str, Meta(max_length=2_000, pattern=HTTP_URL_PATTERN)]
EndpointKey = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=TOKEN_PATTERN)]
ListedModels = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_LISTED_MODELS)]


class NewProviderBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A provider that requests name: any endpoint that speaks OpenAI's or Anthropic's API."""

    name: ProviderName
    kind: NamedKind
    base_url: BaseUrl
    """The base URL that the vendor's SDK takes; for the kind `openai` it includes `/v1`."""
    api_key: EndpointKey
    """Any text if the endpoint needs no key."""
    models: ListedModels | None = None
    """Its models that requests may use, by its own names. Null: all."""
    replaces_builtin: bool | None = None
    """Requests for those of `models` that are built-in names (`gpt-4o`) go to it without its name in front too (true),
    or to the built-in provider (false). There is no default: it is required if `models` has such names.
    """

    def provider(self) -> NamedProvider:
        """The provider, without its key.

        Raises:
            InvalidRequest: `models` has built-in names, and `replacesBuiltin` is not set.

        """
        if self.replaces_builtin is None:
            check_no_builtin_names(self.name, self.models)
        return NamedProvider(
            name=self.name,
            kind=self.kind,
            base_url=self.base_url.rstrip("/"),
            models=self.models,
            replaces_builtin=self.replaces_builtin or False,
        )


class ProviderChangeBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change. Another `baseUrl` needs an `apiKey` with it."""

    base_url: BaseUrl | UnsetType = UNSET
    api_key: EndpointKey | UnsetType = UNSET
    models: ListedModels | None | UnsetType = UNSET
    replaces_builtin: bool | UnsetType = UNSET


class ProviderOut(Struct, kw_only=True, rename="camel"):
    """A provider; its key is shown as its last four characters."""

    name: str
    kind: NamedKind
    base_url: str
    api_key: str
    models: tuple[str, ...] | None
    replaces_builtin: bool
    configured_at: datetime


class RemovedProviderOut(Struct, kw_only=True):
    """A removed provider."""

    name: str


async def add_provider(
    data: RequestBody[NewProviderBody], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[ProviderOut]:
    """Configure a provider; requests can use it as soon as this call has returned."""
    return Success(data=_provider_out(await services.provider_settings.add(owner, data.provider(), data.api_key)))


async def list_providers(
    owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[list[ProviderOut]]:
    """List the providers, by name."""
    return Success(data=[_provider_out(record) for record in await services.provider_settings.list_all(owner)])


async def change_provider(
    name: FromPath[str],
    data: RequestBody[ProviderChangeBody],
    owner: NamedDependency[str],
    services: NamedDependency[Services],
) -> Success[ProviderOut]:
    """Change its address, key, or list of models."""
    changed = await services.provider_settings.change(
        owner,
        id_in_path(name),
        base_url=data.base_url.rstrip("/") if data.base_url is not UNSET else None,
        key=data.api_key if data.api_key is not UNSET else None,
        models=data.models,
        replaces_builtin=data.replaces_builtin,
    )
    return Success(data=_provider_out(changed))


async def remove_provider(
    name: FromPath[str], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[RemovedProviderOut]:
    """Remove it. Its costs stay in the log."""
    await services.provider_settings.remove(owner, id_in_path(name))
    return Success(data=RemovedProviderOut(name=name))


def _handlers(whose: str, operations: str) -> list[HTTPRouteHandler]:
    """The calls for one owner: a project, or the installation."""
    return [
        post(summary=f"Configure a provider of {whose}", operation_id=f"{operations}Add")(add_provider),
        get(summary=f"The providers of {whose}", operation_id=f"{operations}Every")(list_providers),
        patch("/{name:str}", summary=f"Change a provider of {whose}", operation_id=f"{operations}NameChange")(
            change_provider
        ),
        delete(
            "/{name:str}",
            summary=f"Remove a provider of {whose}",
            operation_id=f"{operations}NameRemove",
            status_code=200,
        )(remove_provider),
    ]


ROUTERS = routers_of_owners(_handlers)


def _provider_out(record: ProviderRecord) -> ProviderOut:
    provider = record.provider
    return ProviderOut(
        name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url,
        api_key=f"…{record.hint}",
        models=provider.models,
        replaces_builtin=provider.replaces_builtin,
        configured_at=record.configured_at,
    )
