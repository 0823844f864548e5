"""The credentials of a provider: of a project, or of the installation. Used by the calls and by the shell commands.

The key that a provider was configured with, or that a project was given for a built-in one, is the credential
`default`: it is replaced and removed where it was set. Each call is one append, in the stream of the provider, with the
sealed key in one transaction; then every process is notified.
"""

from collections.abc import Awaitable, Callable

from api.inline_append import OwnedStreams
from domain.api_key import hint
from domain.credentials import DEFAULT_CREDENTIAL, MAX_CREDENTIALS
from domain.errors import InvalidRequest, NotFound
from domain.events import INSTALLATION, CredentialRemoved, CredentialSet, provider_stream
from domain.routing import BUILT_IN, KEYLESS_KINDS
from infra.database import Connection, Pool
from infra.event_log import EventLog
from infra.provider_keys import StoredCredential, credentials_of, store_provider_key, weigh_provider_key
from infra.vault import Vault
from projections.providers import Providers, providers_of


class CredentialAdmin:
    """Adds, changes and removes credentials. `owner` is a project's id, or `INSTALLATION`."""

    def __init__(
        self, pool: Pool, log: EventLog, vault: Vault, announce: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        """`announce` tells every process that an owner's credentials are different."""
        self._pool = pool
        self._vault = vault
        self._streams = OwnedStreams(log, Providers(), announce)

    async def add(self, owner: str, provider: str, name: str, key: str, weight: int) -> StoredCredential:
        """Add a further credential.

        Raises:
            NotFound: the owner has no such provider.
            InvalidRequest: its name is taken, or there are too many.

        """
        version = await self._version(owner, provider)  # before what is decided on
        current = await self.list_all(owner, provider)
        if name == DEFAULT_CREDENTIAL or any(one.name == name for one in current):
            raise InvalidRequest(f"`name` {name!r} is taken: change that credential, or remove it", field="name")
        if len(current) >= MAX_CREDENTIALS:
            raise InvalidRequest(f"there may be {MAX_CREDENTIALS} credentials: remove one first", field="name")
        event = CredentialSet(provider=provider, name=name, hint=hint(key), weight=weight)
        return await self._set(owner, version, event, key)

    async def change(
        self, owner: str, provider: str, name: str, *, key: str | None, weight: int | None
    ) -> StoredCredential:
        """Replace a credential's key, or its weight. None leaves what it has.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: the key of the `default` one is replaced where it was set.

        """
        version = await self._version(owner, provider)
        current = await self._get(owner, provider, name)
        if key is not None and name == DEFAULT_CREDENTIAL:
            raise InvalidRequest(f"`apiKey`: {_where_default_is_set(provider)}", field="apiKey")
        event = CredentialSet(
            provider=provider,
            name=name,
            hint=hint(key) if key is not None else current.hint,
            weight=weight if weight is not None else current.weight,
        )
        return await self._set(owner, version, event, key)

    async def remove(self, owner: str, provider: str, name: str) -> None:
        """Remove a credential.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: the `default` one is removed where it was set.

        """
        version = await self._version(owner, provider)
        await self._get(owner, provider, name)
        if name == DEFAULT_CREDENTIAL:
            raise InvalidRequest(_where_default_is_set(provider), field="name")

        async def store(connection: Connection) -> None:
            await store_provider_key(
                connection, self._vault, project_id=owner, provider=provider, key=None, hint=None, name=name
            )

        event = CredentialRemoved(provider=provider, name=name)
        await self._streams.append(owner, provider_stream(owner, provider), version, event, store)

    async def list_all(self, owner: str, provider: str) -> list[StoredCredential]:
        """The credentials of one of the owner's providers, the default one first.

        Raises:
            NotFound: the owner has no such provider; the installation's keys of a built-in one are settings; `echo` has
                none.

        """
        if provider in KEYLESS_KINDS:
            raise NotFound(f"{provider} is called without a credential")
        if provider in BUILT_IN and owner == INSTALLATION:
            raise NotFound(f"the installation's keys for {provider} are settings: GATEWAY_{provider.upper()}_API_KEYS")
        if provider not in BUILT_IN:
            configured = {record.provider.name for record in await providers_of(self._pool, owner)}
            if provider not in configured:
                raise NotFound(f"there is no provider {provider!r} here")
        return await credentials_of(self._pool, owner, provider)

    async def _get(self, owner: str, provider: str, name: str) -> StoredCredential:
        found = next((one for one in await self.list_all(owner, provider) if one.name == name), None)
        if found is None:
            raise NotFound(f"{provider} has no credential {name!r} here")
        return found

    async def _version(self, owner: str, provider: str) -> int:
        return await self._streams.version(provider_stream(owner, provider))

    async def _set(self, owner: str, version: int, event: CredentialSet, key: str | None) -> StoredCredential:
        async def store(connection: Connection) -> None:
            if key is None:
                await weigh_provider_key(connection, owner, event.provider, event.name, event.weight)
            else:
                await store_provider_key(
                    connection,
                    self._vault,
                    project_id=owner,
                    provider=event.provider,
                    key=key,
                    hint=event.hint,
                    name=event.name,
                    weight=event.weight,
                )

        await self._streams.append(owner, provider_stream(owner, event.provider), version, event, store)
        return await self._get(owner, event.provider, event.name)


def _where_default_is_set(provider: str) -> str:
    if provider in BUILT_IN:
        return f"the key {DEFAULT_CREDENTIAL!r} is the project's own: PATCH /api/v1/projects/me replaces and removes it"
    return f"the key {DEFAULT_CREDENTIAL!r} is the provider's own: change the provider to replace it"
