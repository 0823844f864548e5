"""`/projects/providers` and `/providers`: providers by configuration, of a project and of the installation."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, Struct, UnsetType

from api.native.envelope import Described, Description, success
from api.provider_settings import check_no_builtin_names
from api.requests import HttpRequest, admin_of, body_for, check_operator, services_of
from domain.canonical.chat import Name
from domain.events import INSTALLATION
from domain.routing import NamedKind, NamedProvider, ProviderName
from projections.providers import ProviderRecord

MAX_LISTED_MODELS = 1_024
BaseUrl = Annotated[str, Meta(max_length=2_000, pattern=r"^https?://[\x21-\x7e]+$")]
EndpointKey = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=r"^[\x21-\x7e]+$")]
ListedModels = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_LISTED_MODELS)]
Owner = Callable[[HttpRequest], Awaitable[str]]


class NewProvider(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A provider to be asked by its name: any endpoint that speaks as OpenAI's or Anthropic's does."""

    name: ProviderName
    kind: NamedKind
    base_url: BaseUrl
    """What the vendor's own SDK would be given: of the kind `openai` up to and with `/v1`."""
    api_key: EndpointKey
    """Any text where the endpoint wants none."""
    models: ListedModels | None = None
    """What may be asked of it, by its own names. Null: anything."""
    replaces_builtin: bool | None = None
    """Requests for those of `models` that are built-in names (`gpt-4o`) go to it without its name in front too (true),
    or to the built-in provider (false). There is no default: with such names among `models` it has to be said.
    """

    def provider(self) -> NamedProvider:
        """The provider, without its key.

        Raises:
            InvalidRequest: `models` has built-in names, and `replacesBuiltin` does not say whose they are.

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


class ProviderChange(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Only the fields that are there change. Another `baseUrl` needs an `apiKey` with it."""

    base_url: BaseUrl | UnsetType = UNSET
    api_key: EndpointKey | UnsetType = UNSET
    models: ListedModels | None | UnsetType = UNSET
    replaces_builtin: bool | UnsetType = UNSET


class ShownProvider(Struct, kw_only=True, rename="camel"):
    """A provider; its key is shown as its last four characters."""

    name: str
    kind: NamedKind
    base_url: str
    api_key: str
    models: tuple[str, ...] | None
    replaces_builtin: bool
    configured_at: datetime


class Removed(Struct, kw_only=True):
    """What was removed."""

    name: str


_new_decoder = msgspec.json.Decoder(NewProvider)
_change_decoder = msgspec.json.Decoder(ProviderChange)


def routes(described: Described) -> list[HTTPRouteHandler]:
    """The routes of both owners."""
    return [
        *_routes(described, "/projects/providers", "the key's project", _project_of_admin),
        *_routes(described, "/providers", "the installation", _installation, is_operators=True),
    ]


async def _project_of_admin(request: HttpRequest) -> str:
    return (await admin_of(request)).project_id


async def _installation(request: HttpRequest) -> str:
    await check_operator(request)
    return INSTALLATION


def _routes(
    described: Described, path: str, whose: str, owner_of: Owner, *, is_operators: bool = False
) -> list[HTTPRouteHandler]:
    @post(
        path,
        summary=f"Configure a provider of {whose}",
        operation_class=described.operation(
            Description(body=NewProvider, answer=ShownProvider, status=201, is_operators=is_operators)
        ),
    )
    async def add(request: HttpRequest) -> Response[bytes]:
        """Configure a provider; it can be asked as soon as the answer has come."""
        owner, call = await body_for(request, _new_decoder, owner_of)
        added = await services_of(request).provider_settings.add(owner, call.provider(), call.api_key)
        return success(_shown(added), status=201)

    @get(
        path,
        summary=f"The providers of {whose}",
        operation_class=described.operation(Description(answer=list[ShownProvider], is_operators=is_operators)),
    )
    async def every(request: HttpRequest) -> Response[bytes]:
        """List them, by name."""
        owner = await owner_of(request)
        return success([_shown(record) for record in await services_of(request).provider_settings.every(owner)])

    @patch(
        f"{path}/{{name:str}}",
        summary=f"Change a provider of {whose}",
        operation_class=described.operation(
            Description(body=ProviderChange, answer=ShownProvider, is_operators=is_operators)
        ),
    )
    async def change(request: HttpRequest, name: str) -> Response[bytes]:
        """Give it another address, key, or list of models."""
        owner, call = await body_for(request, _change_decoder, owner_of)
        changed = await services_of(request).provider_settings.change(
            owner,
            name,
            base_url=call.base_url.rstrip("/") if call.base_url is not UNSET else None,
            key=call.api_key if call.api_key is not UNSET else None,
            models=call.models,
            replaces_builtin=call.replaces_builtin,
        )
        return success(_shown(changed))

    @delete(
        f"{path}/{{name:str}}",
        summary=f"Remove a provider of {whose}",
        operation_class=described.operation(Description(answer=Removed, is_operators=is_operators)),
        status_code=200,
    )
    async def remove(request: HttpRequest, name: str) -> Response[bytes]:
        """Ask it no longer. What it cost stays in the books."""
        await services_of(request).provider_settings.remove(await owner_of(request), name)
        return success(Removed(name=name))

    return [add, every, change, remove]


def _shown(record: ProviderRecord) -> ShownProvider:
    provider = record.provider
    return ShownProvider(
        name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url,
        api_key=f"…{record.hint}",
        models=provider.models,
        replaces_builtin=provider.replaces_builtin,
        configured_at=record.configured_at,
    )
