"""Lists of keys, with when each was last used. Read by the lists of the API and by the dashboard."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from domain.events import KeySettings
from infra.database import Pool, database_errors
from projections.scope import Scope

KeyState = Literal["working", "revoked", "all"]
MAX_LISTED = 200

_decode_settings = msgspec.json.Decoder(KeySettings).decode
_LAST_USED = "(SELECT r.at FROM requests r WHERE r.key_id = k.key_id ORDER BY r.request_id DESC LIMIT 1)"
_LISTED = (
    "SELECT k.key_id, k.project_id, p.name AS project_name, k.hint, k.settings::text AS settings, k.created_at, "  # noqa: S608 - a constant
    f"k.revoked_at, {_LAST_USED} AS last_used_at FROM api_keys k JOIN projects p USING (project_id) "
    "WHERE ($1::text IS NULL OR k.project_id = $1) AND ($2::text IS NULL OR k.key_id = $2) "
    "AND ($3::text IS NULL OR strpos(lower(k.settings ->> 'name'), lower($3)) > 0 OR k.hint = $3 OR k.key_id = $3) "
    "AND ($4::boolean IS NULL OR (k.revoked_at IS NOT NULL OR coalesce(k.expires_at <= now(), false)) = $4) "
    "AND ($5::text IS NULL OR k.key_id < $5) ORDER BY k.key_id DESC LIMIT $6"
)
_STATES: dict[KeyState, bool | None] = {"working": False, "revoked": True, "all": None}


class ListedKey(Struct, frozen=True, kw_only=True):
    """A key in a list."""

    key_id: str
    project_id: str
    project_name: str
    hint: str
    settings: KeySettings
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When its newest request came; None: it has none."""


class KeyFilter(Struct, frozen=True, kw_only=True):
    """Which keys are listed."""

    search: str | None = None
    """A part of the name, the last four characters of the key, or its id."""
    state: KeyState = "working"
    """`revoked`: expired ones too."""
    before: str | None = None
    """The id of the last key of the page before; None: the first page."""


async def listed_keys(pool: Pool, scope: Scope, wanted: KeyFilter, *, limit: int) -> list[ListedKey]:
    """Return the keys of a scope, newest first, at most `limit`.

    Raises:
        Unavailable: the database is away.

    """
    async with database_errors():
        rows = await pool.fetch(
            _LISTED,
            scope.project_id,
            scope.key_id,
            wanted.search,
            _STATES[wanted.state],
            wanted.before,
            min(limit, MAX_LISTED),
        )
    return [ListedKey(**{**row, "settings": _decode_settings(row["settings"])}) for row in rows]


async def last_uses(pool: Pool, key_ids: Sequence[str]) -> dict[str, datetime]:
    """Return when each of these keys was last used; a key without requests is left out. Raises as `listed_keys`."""
    async with database_errors():
        rows = await pool.fetch(
            f"SELECT k.key_id, {_LAST_USED} AS at FROM unnest($1::text[]) AS k (key_id)",  # noqa: S608 - a constant
            key_ids,
        )
    return {row["key_id"]: row["at"] for row in rows if row["at"] is not None}
