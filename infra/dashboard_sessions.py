"""The sessions of the dashboard, as the database stores them: hashes of their tokens, and whose they are.

Every look is at the database, so that a session which was ended on one process has ended on all.
"""

from datetime import datetime

from msgspec import Struct

from infra.database import Pool, database_errors

LIFETIME_S = 12 * 3_600
MAX_OF_CREDENTIAL = 100
"""Sessions that one key, or the master key, has open. The oldest makes room for another one."""
MAX_LISTED = 500
MAX_CLIENT_CHARS = 200

_LISTED = (
    "SELECT session_id, project_id, key_id, credential_hash, client, opened_at, expires_at FROM dashboard_sessions "
)


class SessionRecord(Struct, frozen=True, kw_only=True):
    """An open session. `session_id` names it in lists, and opens nothing."""

    session_id: str
    project_id: str | None
    """None: the operator's."""
    key_id: str | None
    credential_hash: bytes
    """Of the key, or the master key, that it was opened with."""
    client: str
    """What the browser calls itself."""
    opened_at: datetime
    expires_at: datetime


class DashboardSessions:
    """Opens, finds and ends sessions."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(
        self,
        *,
        token_hash: bytes,
        session_id: str,
        project_id: str | None,
        key_id: str | None,
        credential_hash: bytes,
        client: str,
    ) -> None:
        """Open a session for `LIFETIME_S`.

        Raises:
            Unavailable: the database is away.

        """
        async with database_errors():
            await self._pool.execute(
                "SELECT open_dashboard_session($1, $2, $3, $4, $5, $6, $7, $8)",
                token_hash,
                session_id,
                project_id,
                key_id,
                credential_hash,
                client[:MAX_CLIENT_CHARS],
                LIFETIME_S,
                MAX_OF_CREDENTIAL,
            )

    async def find(self, token_hash: bytes) -> SessionRecord | None:
        """The open session with this token; None: there is none. Raises as `open`."""
        async with database_errors():
            row = await self._pool.fetchrow(_LISTED + "WHERE token_hash = $1 AND expires_at > now()", token_hash)
        return SessionRecord(**row) if row is not None else None

    async def list_open(self, *, project_id: str | None, key_id: str | None) -> list[SessionRecord]:
        """Open sessions, newest first, at most `MAX_LISTED`: of a project, of a key; None: of all. Raises as `open`."""
        async with database_errors():
            rows = await self._pool.fetch(
                _LISTED + "WHERE expires_at > now() AND ($1::text IS NULL OR project_id = $1) "
                "AND ($2::text IS NULL OR key_id = $2) ORDER BY opened_at DESC LIMIT $3",
                project_id,
                key_id,
                MAX_LISTED,
            )
        return [SessionRecord(**row) for row in rows]

    async def end(self, session_id: str, *, project_id: str | None, key_id: str | None) -> bool:
        """End a session of a project, of a key; None: of anybody. False: there is none. Raises as `open`."""
        async with database_errors():
            ended = await self._pool.fetchval(
                "SELECT end_dashboard_session($1, $2, $3)", session_id, project_id, key_id
            )
        return bool(ended)
