"""Signing in: a key is exchanged for a session, whose token only the browser has, in a cookie.

A session lasts as long as its key works: each page looks the key up as a call of the API does. An operator's ends
when the gateway has another master key. Keys are checked by the authenticator that the API has, so that unknown ones
cost no more here than there. Nor does an unknown token cost a look: it is sealed, and the seal is checked first.
"""

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal, TypeAlias

from api.authentication import Authenticator
from api.dashboard.guesses import Guesses
from api.dashboard.viewer import Viewer
from api.operator import Peer, is_this_machine
from domain.errors import Unauthorized
from infra.dashboard_sessions import DashboardSessions, SessionRecord
from infra.ids import new_id
from infra.vault import Vault

TOKEN_BYTES = 32
TOKEN_CHARS = 43 + 32
"""Of `TOKEN_BYTES` in base64, and of their seal."""
_SEAL_CHARS = 32
_OPEN_VIEW = b"open view"

_NOT_SIGNED_IN = "sign in first"
_BAD_KEY = "this is neither the master key nor an API key that works"

EndReason: TypeAlias = Literal["expired", "ended", "key", "master"]
END_REASONS: Mapping[str, str] = {
    "expired": "Your session was over after twelve hours. Sign in again to go on.",
    "ended": "Your session was ended, on the page Sessions or because its twelve hours are over.",
    "key": "The key that you signed in with was revoked, or has expired. Sign in with another one.",
    "master": "The gateway has another master key than when you signed in. Sign in with the one that it has now.",
}
"""Why somebody who was signed in no longer is, as the sign-in page says it, by `EndReason`."""


class SessionEnded(Unauthorized):
    """A session of this gateway that is open no longer."""

    def __init__(self, reason: EndReason) -> None:
        self.reason = reason
        super().__init__(END_REASONS[reason])


class SignIns:
    """Opens and ends sessions, and finds who looks at a page."""

    def __init__(
        self,
        sessions: DashboardSessions,
        authenticator: Authenticator,
        vault: Vault,
        *,
        master_key: str | None,
        keyless: bool,
    ) -> None:
        """`keyless`: this machine itself may create projects without a key."""
        self._sessions = sessions
        self._authenticator = authenticator
        self._vault = vault
        self._master_key = master_key
        self._guesses = Guesses()
        self._is_open = keyless and master_key is None

    @property
    def is_open(self) -> bool:
        """True if the operator's pages are open to this machine itself without a key."""
        return self._is_open

    async def sign_in(self, key: str, *, client: str, address: str) -> str:
        """Open a session with a key, or the master key. Return its token. `client`: what the browser calls itself.

        Raises:
            Unauthorized: the key does not work.
            RateLimited: too many that do not were tried from this address.
            Unavailable, Overloaded: as `Authenticator.authenticate`.

        """
        self._guesses.take(address)
        session = secrets.token_urlsafe(TOKEN_BYTES)
        token = session + self._vault.session_seal(session)
        project_id = key_id = None
        if self._master_key is not None and hmac.compare_digest(key.encode(), self._master_key.encode()):
            credential_hash = self._vault.api_key_hash(self._master_key)
        else:
            try:
                caller = await self._authenticator.authenticate({"x-api-key": key})
            except Unauthorized:
                raise Unauthorized(_BAD_KEY) from None
            project_id, key_id, credential_hash = caller.project_id, caller.key_id, caller.secret_hash
        self._guesses.give_back(address)
        await self._sessions.open(
            token_hash=_hash(token),
            session_id=new_id("session"),
            project_id=project_id,
            key_id=key_id,
            credential_hash=credential_hash,
            client=client,
        )
        return token

    async def viewer(self, token: str | None, peer: Peer, *, known: Viewer | None = None) -> Viewer:
        """Who looks: who has the session with this token, or on a gateway without a master key this machine itself.

        `known`: who it was a moment ago; the key is looked up again.

        Raises:
            Unauthorized: nobody.
            SessionEnded: nobody any longer: the session has ended, or the key that it was opened with works no more.
            Unavailable, Overloaded: as `Authenticator.authenticate`.

        """
        try:
            return await self._of_session(token, known)
        except Unauthorized:
            if self._is_open and is_this_machine(peer):
                return self._open_view()
            raise

    async def _of_session(self, token: str | None, known: Viewer | None) -> Viewer:
        if token is None or not self._is_ours(token):
            raise Unauthorized(_NOT_SIGNED_IN)
        session = await self._sessions.find(_hash(token))
        if session is None:
            raise SessionEnded("ended")
        csrf_token = self._vault.form_token(_hash(token))
        if session.project_id is None:
            if self._master_key is None or not hmac.compare_digest(
                session.credential_hash, self._vault.api_key_hash(self._master_key)
            ):
                raise SessionEnded("master")
            return Viewer(
                role="operator", project_id=None, key_id=None, csrf_token=csrf_token, session_id=session.session_id
            )
        try:
            if known is not None and known.caller is not None:
                caller = await self._authenticator.reload(known.caller)
            else:
                caller = await self._authenticator.caller_with(session.credential_hash)
        except Unauthorized:
            raise SessionEnded("key") from None
        return Viewer(
            role=caller.settings.role,
            project_id=caller.project_id,
            key_id=caller.key_id,
            csrf_token=csrf_token,
            session_id=session.session_id,
            caller=caller,
        )

    def _is_ours(self, token: str) -> bool:
        """True if this installation made a token. Whoever makes one up has not been at the database."""
        if len(token) != TOKEN_CHARS or not token.isascii():
            return False
        session, seal = token[:-_SEAL_CHARS], token[-_SEAL_CHARS:]
        return hmac.compare_digest(seal.encode(), self._vault.session_seal(session).encode())

    def _open_view(self) -> Viewer:
        return Viewer(role="operator", project_id=None, key_id=None, csrf_token=self._vault.form_token(_OPEN_VIEW))

    async def list_open(self, viewer: Viewer) -> list[SessionRecord]:
        """The open sessions that the viewer may see, newest first."""
        return await self._sessions.list_open(**_share(viewer))

    async def end(self, viewer: Viewer, session_id: str) -> bool:
        """End a session that the viewer may see. False: there is none."""
        return await self._sessions.end(session_id, **_share(viewer))


def _share(viewer: Viewer) -> Mapping[str, str | None]:
    scope = viewer.scope()
    return {"project_id": scope.project_id, "key_id": scope.key_id}


def _hash(token: str) -> bytes:
    """Hash a token. Plain SHA-256 is enough: a token has 256 random bits, so nobody can guess it."""
    return sha256(token.encode()).digest()
