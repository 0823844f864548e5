"""From a request's headers to who is calling. Knows nothing of what the caller may do.

Look-ups are cached for less than a second, whether the key is valid or not. So a revoked key stops working everywhere
within that time, even if the notification is lost. If the database is away, the error does not blame the key. All that
wait for a look-up share one statement, and texts that are no key are remembered apart: a flood of them costs the
database a few statements a second, and drives out no caller.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from domain.api_key import PREFIX, is_well_formed
from domain.errors import Unauthorized
from domain.events import INSTALLATION, KeySettings
from domain.routes import RouteSettings
from domain.routing import NamedProvider
from infra.batching import Batcher
from infra.database import Pool, rehearsing
from infra.newest import Newest
from infra.vault import Vault
from projections.keys import KeyRecord, key_of_project, keys_by_hash

MAX_REMEMBERED = 50_000
MAX_UNKNOWN = 10_000
"""The most texts that are remembered as no key."""
MAX_LOOK_UPS_PER_STATEMENT = 512
MAX_LOOK_UPS_WAITING = 10_000
MAX_AGE_S = 0.9
"""Counted from when the look-up began, so that a revocation during it is not remembered longer."""

KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
"""The headers that may have a key, in the order in which they are tried: `Authorization: Bearer` (OpenAI's clients),
Anthropic's, Azure's and Google's. None of them is forwarded to a provider.
"""

_BAD_KEY = "the API key is missing, unknown, expired or revoked: send it as 'Authorization: Bearer gw_live_…'"


class Caller(Struct, frozen=True, kw_only=True):
    """The caller: an API key that was valid at the moment of the request."""

    key_id: str
    key_version: int
    """Of the key's stream: the settings below are those that it had then."""
    secret_hash: bytes
    project_id: str
    project_name: str
    is_limited: bool
    """The key or its project has a limit that admission checks: a rate, a budget."""
    cancel_on_disconnect: bool
    """The project's setting for requests that are not streamed."""
    settings: KeySettings
    providers: tuple[NamedProvider, ...]
    """The providers by configuration that it may use: the project's own, then the installation's."""
    routes: Mapping[str, RouteSettings] = {}
    """The routes that it may ask for, by name: the project's own before the installation's."""
    own_credentials: frozenset[str]
    """The providers for which its project has its own key, which is then used."""

    def route(self, name: str) -> RouteSettings | None:
        """The route that it means by a name; None: the name is a model's."""
        return self.routes.get(name)


class _Remembered(Struct, frozen=True):
    read_at: float
    caller: Caller | None
    project_id: str | None


class Authenticator:
    """Looks up API keys for one process."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault
        self._remembered: Newest[bytes, _Remembered] = Newest(MAX_REMEMBERED)
        self._unknown: Newest[bytes, _Remembered] = Newest(MAX_UNKNOWN)
        self._looking_up: dict[bytes, asyncio.Task[_Remembered]] = {}
        """The look-ups that are under way. One is taken out, and not remembered, if it may be older than a change."""
        self._look_ups: Batcher[bytes, _Remembered] = Batcher(
            self._read_batch,
            name="look-ups of keys",
            max_batch=MAX_LOOK_UPS_PER_STATEMENT,
            max_waiting=MAX_LOOK_UPS_WAITING,
        )

    async def prepare(self) -> None:
        """Look up what there is not, so that the database is ready for the first caller. A failure is only logged."""
        with rehearsing():
            await keys_by_hash(self._pool, ())

    async def close(self) -> None:
        """Make the look-ups that wait, then stop."""
        await self._look_ups.close()

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller whose key the headers have: of several the first that works.

        A client that is logged in at its vendor sends that login beside the key that was configured for the gateway.
        A text that is not in the format of our keys is never looked up, each other at most once.

        Raises:
            Unauthorized: no key, or none that works.
            Unavailable: the database is away, so that the key cannot be looked up.
            Overloaded: too many look-ups wait.

        """
        for text in presented_keys(headers):
            secret_hash = self._secret_hash(text)
            if secret_hash is None:
                continue
            try:
                return await self.caller_with(secret_hash)
            except Unauthorized:
                continue
        raise Unauthorized(_BAD_KEY)

    async def caller_with(self, secret_hash: bytes) -> Caller:
        """The caller whose key has this hash, as the database had it no longer ago than `MAX_AGE_S`.

        Raises:
            Unauthorized, Unavailable: as `authenticate`.

        """
        remembered = self._remembered.get(secret_hash) or self._unknown.get(secret_hash)
        if remembered is None or time.monotonic() - remembered.read_at > MAX_AGE_S:
            remembered = await self._look_up(secret_hash)
        return _working(remembered.caller)

    async def caller_of(self, project_id: str, key_id: str) -> Caller | None:
        """The caller with a key of a project, as the database has it now; None: the key works no longer.

        Raises:
            Unavailable: the database is away.

        """
        caller = _caller(await key_of_project(self._pool, project_id, key_id))
        return None if caller is None or _has_expired(caller) else caller

    def forget_key(self, headers: Mapping[str, str]) -> None:
        """Drop what is remembered of the keys that the headers carry: the next look is at the database."""
        for text in presented_keys(headers):
            secret_hash = self._secret_hash(text)
            if secret_hash is not None:
                self._remembered.pop(secret_hash, None)
                self._unknown.pop(secret_hash, None)
                self._looking_up.pop(secret_hash, None)

    async def reload(self, caller: Caller) -> Caller:
        """Return the caller as the database has its key, whatever is remembered.

        Raises:
            Unauthorized, Unavailable: as `authenticate`.

        """
        self._looking_up.pop(caller.secret_hash, None)
        return _working((await self._look_up(caller.secret_hash)).caller)

    def forget(self, project_id: str) -> None:
        """Drop what is remembered of a project's keys, and of texts that were no key; all for `INSTALLATION`."""
        self._unknown.clear()
        self._looking_up.clear()
        if project_id == INSTALLATION:
            self._remembered.clear()
        for secret_hash, remembered in list(self._remembered.items()):
            if remembered.project_id == project_id:
                del self._remembered[secret_hash]

    def _secret_hash(self, text: str) -> bytes | None:
        """The hash of a key; None: the text is no key of ours."""
        if not text.startswith(PREFIX):
            return None
        secret_hash = self._vault.api_key_hash(text)
        return secret_hash if secret_hash in self._remembered or is_well_formed(text) else None

    async def _look_up(self, secret_hash: bytes) -> _Remembered:
        """Ask the database, once for all who ask at the same time."""
        task = self._looking_up.get(secret_hash)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_ups.submit(secret_hash))
            self._looking_up[secret_hash] = task
            task.add_done_callback(lambda ended: self._remember(secret_hash, ended))
        return await asyncio.shield(task)

    def _remember(self, secret_hash: bytes, ended: asyncio.Task[_Remembered]) -> None:
        """Remember what a look-up has found, unless what it saw was to be forgotten meanwhile."""
        if self._looking_up.get(secret_hash) is not ended:
            return
        del self._looking_up[secret_hash]
        if ended.cancelled() or ended.exception() is not None:
            return
        remembered = ended.result()
        known = self._unknown if remembered.project_id is None else self._remembered
        known[secret_hash] = remembered

    async def _read_batch(self, secret_hashes: Sequence[bytes]) -> list[_Remembered]:
        read_at = time.monotonic()
        records = await keys_by_hash(self._pool, secret_hashes)
        found = [records.get(secret_hash) for secret_hash in secret_hashes]
        return [_Remembered(read_at, _caller(one), one.project_id if one is not None else None) for one in found]


def presented_keys(headers: Mapping[str, str]) -> list[str]:
    """The keys that a request presents, each once, in the order of `KEY_HEADERS`."""
    keys: list[str] = []
    for name in KEY_HEADERS:
        if name not in headers:
            continue
        text = headers[name]
        if name == "authorization":
            scheme, _, text = text.partition(" ")
            if scheme.lower() != "bearer":
                continue
        text = text.strip()
        if text and text not in keys:
            keys.append(text)
    return keys


def _working(caller: Caller | None) -> Caller:
    """Return the caller if its key works. Raises as `authenticate`."""
    if caller is None or (caller.settings.expires_at is not None and _has_expired(caller)):
        raise Unauthorized(_BAD_KEY)
    return caller


def _has_expired(caller: Caller) -> bool:
    expires_at = caller.settings.expires_at
    return expires_at is not None and expires_at <= datetime.now(UTC)


def _caller(record: KeyRecord | None) -> Caller | None:
    if record is None or record.revoked_at is not None:
        return None
    return Caller(
        key_id=record.key_id,
        key_version=record.version,
        secret_hash=record.secret_hash,
        project_id=record.project_id,
        project_name=record.project_name,
        is_limited=record.project_has_budget or any(limit is not None for limit in record.settings.limits()),
        cancel_on_disconnect=record.cancel_on_disconnect,
        settings=record.settings,
        providers=record.providers,
        routes=record.routes,
        own_credentials=record.own_credentials,
    )
