"""The cache's index: cache key to request and blob, with the time of expiry. The blobs contain the responses."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from domain.events import Event, RequestCompleted, StoredEvent
from infra.database import Connection, Pool
from projections.rows import RowType

MAX_EXPIRED_PER_SWEEP = 5_000
_ROW = RowType(
    "cache_entries_row",
    {
        "project_id": "text",
        "cache_key": "bytea",
        "request_id": "text",
        "blob_id": "text",
        "created_at": "timestamptz",
        "expires_at": "timestamptz",
    },
)


class Cache:
    """Folds completed requests that stored a copy of their response. For each cache key, the newest one wins."""

    name = "cache"
    tables = ("cache_entries",)
    reads: frozenset[type[Event]] = frozenset({RequestCompleted})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Point each cache key at its newest response."""
        entries: dict[tuple[str, bytes], tuple[Any, ...]] = {}
        for stored in events:
            match stored.event:
                case RequestCompleted(cached_copy=copy) as completed if copy is not None:
                    expires_at = stored.at + timedelta(seconds=copy.ttl_s)
                    slot = (stored.project_id, bytes.fromhex(copy.key))
                    entries[slot] = (*slot, completed.request_id, copy.blob_id, stored.at, expires_at)
                case _:
                    continue
        if entries:
            await connection.execute(
                f"INSERT INTO cache_entries{suffix} ({_ROW.names}) SELECT * FROM {_ROW.source} "  # noqa: S608 - constants
                "ON CONFLICT (project_id, cache_key) DO UPDATE SET request_id = excluded.request_id, "
                "blob_id = excluded.blob_id, created_at = excluded.created_at, expires_at = excluded.expires_at",
                sorted(entries.values()),
            )


async def remove_expired(pool: Pool) -> int:
    """Remove expired entries and blobs, at most `MAX_EXPIRED_PER_SWEEP` of each. Return the number of blobs removed."""
    await pool.execute(
        "DELETE FROM cache_entries WHERE (project_id, cache_key) IN "
        "(SELECT project_id, cache_key FROM cache_entries WHERE expires_at < now() LIMIT $1)",
        MAX_EXPIRED_PER_SWEEP,
    )
    removed = await pool.fetchval("SELECT remove_expired_blobs($1)", MAX_EXPIRED_PER_SWEEP)
    return int(removed)
