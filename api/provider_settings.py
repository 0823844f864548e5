"""Providers by configuration: of a project, or of the installation. Used by the routes and by the shell commands.

Each call is one append, with its projection and the sealed key in one transaction; then every process is notified.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from api.inline_append import OwnedStreams
from domain.api_key import hint
from domain.credentials import DEFAULT_CREDENTIAL
from domain.errors import InvalidRequest, NotFound
from domain.events import ProviderConfigured, ProviderRemoved, provider_stream
from domain.routing import BUILT_IN, NamedProvider, built_in_kind
from infra.database import Connection, Pool
from infra.event_log import EventLog
from infra.outbound import check_url
from infra.provider_keys import credentials_of, remove_provider_keys, store_provider_key
from infra.vault import Vault
from projections.providers import ProviderRecord, Providers, providers_of

_NAMES_OF_CALLS = frozenset({"health"})
"""`/providers/NAME` is a call of its own for these."""
MAX_PROVIDERS = 64
"""The most providers of one project, or of the installation."""


class ProviderSettings:
    """Adds, changes and removes providers. `owner` is a project's id, or `INSTALLATION`."""

    def __init__(
        self,
        pool: Pool,
        log: EventLog,
        vault: Vault,
        announce: Callable[[str], Awaitable[None]] | None = None,
        *,
        allow_loopback: bool,
    ) -> None:
        """`announce` tells every process that an owner's providers are different."""
        self._pool = pool
        self._vault = vault
        self._streams = OwnedStreams(log, Providers(), announce)
        self._allow_loopback = allow_loopback

    async def add(self, owner: str, provider: NamedProvider, key: str) -> ProviderRecord:
        """Configure another provider.

        Raises:
            InvalidRequest: its name is taken, there are too many, or its address may not be called.

        """
        version = await self._version(owner, provider.name)  # before what is decided on
        current = await providers_of(self._pool, owner)
        if provider.name in BUILT_IN:
            raise InvalidRequest(
                f"`name` {provider.name!r} is that of a built-in provider: choose another", field="name"
            )
        if provider.name in _NAMES_OF_CALLS:
            raise InvalidRequest(f"`name` {provider.name!r} is that of a call: choose another", field="name")
        if any(one.provider.name == provider.name for one in current):
            raise InvalidRequest(f"`name` {provider.name!r} is taken: change that provider, or remove it", field="name")
        if len(current) >= MAX_PROVIDERS:
            raise InvalidRequest(f"there may be {MAX_PROVIDERS} providers: remove one first", field="name")
        return await self._configure(owner, version, provider, key, hint(key))

    async def change(
        self,
        owner: str,
        name: str,
        *,
        base_url: str | None,
        key: str | None,
        models: tuple[str, ...] | None | UnsetType,
        replaces_builtin: bool | UnsetType = UNSET,
    ) -> ProviderRecord:
        """Change a provider's base URL, key, models or `replaces_builtin`. None (of the URL, the key) and UNSET (of the
        others) leave the value as it is.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: its address may not be called, or is another one and no key comes with it: a key is not
                sent where its owner did not send it. Or `check_no_builtin_names` refuses its models.

        """
        version = await self._version(owner, name)
        current = await self.get(owner, name)
        if base_url is not None and base_url != current.provider.base_url:
            if key is None:
                raise InvalidRequest("`apiKey` must come with another `baseUrl`", field="apiKey")
            if any(one.name != DEFAULT_CREDENTIAL for one in await credentials_of(self._pool, owner, name)):
                raise InvalidRequest(
                    "the further credentials were given for the `baseUrl` as it is: remove them first", field="baseUrl"
                )
        provider = replace(
            current.provider,
            base_url=base_url or current.provider.base_url,
            models=current.provider.models if models is UNSET else models,
            replaces_builtin=current.provider.replaces_builtin if replaces_builtin is UNSET else replaces_builtin,
        )
        if models is not UNSET and replaces_builtin is UNSET and not provider.replaces_builtin:
            check_no_builtin_names(name, models)
        return await self._configure(owner, version, provider, key, hint(key) if key is not None else current.hint)

    async def remove(self, owner: str, name: str) -> None:
        """Remove a provider.

        Raises:
            NotFound: there is none of this name.

        """
        version = await self._version(owner, name)
        await self.get(owner, name)

        async def store(connection: Connection) -> None:
            await remove_provider_keys(connection, owner, name)

        await self._streams.append(owner, provider_stream(owner, name), version, ProviderRemoved(name=name), store)

    async def list_all(self, owner: str) -> list[ProviderRecord]:
        """The owner's providers, by name."""
        return await providers_of(self._pool, owner)

    async def get(self, owner: str, name: str) -> ProviderRecord:
        """A provider of the owner's.

        Raises:
            NotFound: there is none of this name.

        """
        record = next((one for one in await providers_of(self._pool, owner) if one.provider.name == name), None)
        if record is None:
            raise NotFound(f"there is no provider {name!r} here")
        return record

    async def _version(self, owner: str, name: str) -> int:
        return await self._streams.version(provider_stream(owner, name))

    async def _configure(
        self, owner: str, version: int, provider: NamedProvider, key: str | None, shown: str
    ) -> ProviderRecord:
        _check_address(provider.base_url, allow_loopback=self._allow_loopback)

        async def store(connection: Connection) -> None:
            if key is not None:
                await self._store_key(connection, owner, provider.name, key)

        event = ProviderConfigured(
            name=provider.name,
            kind=provider.kind,
            base_url=provider.base_url,
            models=provider.models,
            hint=shown,
            replaces_builtin=provider.replaces_builtin,
        )
        await self._streams.append(owner, provider_stream(owner, provider.name), version, event, store)
        return await self.get(owner, provider.name)

    async def _store_key(self, connection: Connection, owner: str, name: str, key: str) -> None:
        await store_provider_key(connection, self._vault, project_id=owner, provider=name, key=key, hint=hint(key))


def _check_address(base_url: str, *, allow_loopback: bool) -> None:
    """Refuse what may not be called, and what a path cannot be put behind."""
    check_url(base_url, field="baseUrl", allow_loopback=allow_loopback)
    parts = urlsplit(base_url)
    if parts.query or parts.fragment:
        raise InvalidRequest(
            "`baseUrl` must have no query and no fragment: a call's path is put behind it", field="baseUrl"
        )


def check_no_builtin_names(provider: str, models: tuple[str, ...] | None) -> None:
    """Refuse models whose names lead to a built-in provider.

    Raises:
        InvalidRequest: names the first of them, and both ways to say which provider its requests go to.

    """
    for model in models or ():
        kind = built_in_kind(model)
        if kind is not None:
            raise InvalidRequest(
                f"`models` has {model!r}, a name that leads to the built-in provider {kind}: say with "
                f"`replacesBuiltin` whether its requests go to {provider!r}, or only those for "
                f"{f'{provider}/{model}'!r} do",
                field="models",
            )
