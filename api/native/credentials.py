"""`…/providers/{provider}/credentials`: further credentials of a project's providers and of the installation's."""

from typing import Annotated

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, RequestBody
from msgspec import UNSET, Meta, Struct, UnsetType

from api.native.envelope import Success
from api.native.provider_owners import routers_of_owners
from api.requests import id_in_path
from api.services import Services
from domain.credentials import CredentialName, CredentialWeight
from domain.names import TOKEN_PATTERN
from infra.provider_keys import StoredCredential

CredentialKey = Annotated[str, Meta(min_length=8, max_length=1_000, pattern=TOKEN_PATTERN)]


class NewCredentialBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A further credential of a provider."""

    name: CredentialName
    api_key: CredentialKey
    weight: CredentialWeight = 1
    """Its share of the provider's calls, among its credentials. 0: only if a route names it, or the others fail."""


class CredentialChangeBody(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change."""

    api_key: CredentialKey | UnsetType = UNSET
    weight: CredentialWeight | UnsetType = UNSET


class CredentialOut(Struct, kw_only=True, rename="camel"):
    """A credential; its key is shown as its last four characters."""

    provider: str
    name: str
    api_key: str
    weight: int


class RemovedCredentialOut(Struct, kw_only=True):
    """A removed credential."""

    provider: str
    name: str


async def add_credential(
    provider: FromPath[str],
    data: RequestBody[NewCredentialBody],
    owner: NamedDependency[str],
    services: NamedDependency[Services],
) -> Success[CredentialOut]:
    """Add a credential; the provider's next calls are spread over it too."""
    added = await services.credential_admin.add(owner, id_in_path(provider), data.name, data.api_key, data.weight)
    return Success(data=_credential_out(provider, added))


async def list_credentials(
    provider: FromPath[str], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[list[CredentialOut]]:
    """List the credentials, by name."""
    credentials = await services.credential_admin.list_all(owner, id_in_path(provider))
    return Success(data=[_credential_out(provider, one) for one in credentials])


async def change_credential(
    provider: FromPath[str],
    name: FromPath[str],
    data: RequestBody[CredentialChangeBody],
    owner: NamedDependency[str],
    services: NamedDependency[Services],
) -> Success[CredentialOut]:
    """Replace its key, or change its weight."""
    changed = await services.credential_admin.change(
        owner,
        id_in_path(provider),
        id_in_path(name),
        key=data.api_key if data.api_key is not UNSET else None,
        weight=data.weight if data.weight is not UNSET else None,
    )
    return Success(data=_credential_out(provider, changed))


async def remove_credential(
    provider: FromPath[str], name: FromPath[str], owner: NamedDependency[str], services: NamedDependency[Services]
) -> Success[RemovedCredentialOut]:
    """Remove it. Routes that name it have one target less."""
    await services.credential_admin.remove(owner, id_in_path(provider), id_in_path(name))
    return Success(data=RemovedCredentialOut(provider=provider, name=name))


def _handlers(whose: str, operations: str) -> list[HTTPRouteHandler]:
    """The calls for one owner: a project, or the installation."""
    return [
        post(
            "/{provider:str}/credentials",
            summary=f"Add a credential of a provider of {whose}",
            operation_id=f"{operations}ProviderCredentialsAdd",
        )(add_credential),
        get(
            "/{provider:str}/credentials",
            summary=f"The credentials of a provider of {whose}",
            operation_id=f"{operations}ProviderCredentialsEvery",
        )(list_credentials),
        patch(
            "/{provider:str}/credentials/{name:str}",
            summary=f"Change a credential of a provider of {whose}",
            operation_id=f"{operations}ProviderCredentialsNameChange",
        )(change_credential),
        delete(
            "/{provider:str}/credentials/{name:str}",
            summary=f"Remove a credential of a provider of {whose}",
            operation_id=f"{operations}ProviderCredentialsNameRemove",
            status_code=200,
        )(remove_credential),
    ]


ROUTERS = routers_of_owners(_handlers)


def _credential_out(provider: str, credential: StoredCredential) -> CredentialOut:
    return CredentialOut(
        provider=provider, name=credential.name, api_key=f"…{credential.hint}", weight=credential.weight
    )
