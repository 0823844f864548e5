"""What retries find under their idempotency keys once their request is not in flight: its end, or that it goes on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from domain.events import (
    AttemptFailed,
    AttemptLost,
    CostIncurred,
    Event,
    RequestCompleted,
    RequestFailed,
    RequestServedFromCache,
    StoredEvent,
)
from domain.idempotency import Idempotency
from domain.request_decider import may_be_kept
from infra.database import Connection, Pool
from projections.rows import RowType

MAX_REMOVED_PER_SWEEP = 5_000

_ROW = RowType(
    "idempotency_entries_row",
    {
        "project_id": "text",
        "idempotency_key": "bytea",
        "fingerprint": "text",
        "request_id": "text",
        "received_at_ms": "bigint",
        "is_kept": "boolean",
        "blob_id": "text",
        "answer_bytes": "bigint",
        "expires_at": "timestamptz",
    },
)
_END = RowType(
    "idempotency_entries_end",
    {"project_id": "text", "idempotency_key": "bytea", "request_id": "text", "is_freed": "boolean"},
)
_MERGE = ", ".join(
    (
        "is_kept = excluded.is_kept OR (e.is_kept AND e.request_id = excluded.request_id)",
        "blob_id = coalesce(excluded.blob_id, CASE WHEN e.request_id = excluded.request_id THEN e.blob_id END)",
        "answer_bytes = greatest(excluded.answer_bytes, "
        "CASE WHEN e.request_id = excluded.request_id THEN e.answer_bytes END)",
        *(f"{name} = excluded.{name}" for name in ("fingerprint", "request_id", "received_at_ms", "expires_at")),
    )
)
"""The SQL that merges a later event into an entry: of the same request, or of a newer one."""
_KNOWN = (AttemptFailed, AttemptLost, CostIncurred, RequestCompleted, RequestServedFromCache)
"""The events after which a retry finds its request here: its attempts are not in flight for all of its life."""


class IdempotencyKeys:
    """Folds the events of requests that have an idempotency key. For each key, the newest request wins."""

    name = "idempotency"
    tables = ("idempotency_entries",)
    reads: frozenset[type[Event]] = frozenset({*_KNOWN, RequestFailed})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Store what is known of the requests, and remove those that ended without anything to keep."""
        rows: dict[str, dict[str, Any]] = {}
        freed: dict[tuple[str, bytes], list[tuple[str, bool]]] = {}
        for stored in events:
            known_by = getattr(stored.event, "idempotency", None)
            if known_by is None:
                continue
            slot = (stored.project_id, bytes.fromhex(known_by.key))
            if isinstance(stored.event, RequestFailed):
                freed.setdefault(slot, []).append((stored.event.request_id, not may_be_kept(stored.event)))
            elif isinstance(stored.event, _KNOWN) and not _adds_nothing(stored.event):
                if slot in freed:  # what was freed before goes before
                    await _write(connection, rows, freed, suffix)
                    rows, freed = {}, {}
                request_id = stored.event.request_id
                rows[request_id] = _merged(rows.get(request_id), _row(stored, known_by))
        await _write(connection, rows, freed, suffix)


def _adds_nothing(event: Event) -> bool:
    """True for a replay, for what comes after the end, and for the true cost of a lost attempt.

    By the end the key may have been freed, and what is late must not take it again. The entry of a lost attempt was
    written by its `AttemptLost`; events of older releases do not say that they are late.
    """
    is_late = isinstance(event, CostIncurred | AttemptFailed | AttemptLost) and event.is_late
    replaces = isinstance(event, CostIncurred) and event.replaces_assumed_nano_usd > 0
    return is_late or replaces or getattr(event, "replayed", False)


async def remove_expired_keys(pool: Pool, *, max_answers: int, max_bytes: int) -> int:
    """Remove expired entries, and the oldest bodies of projects with more than that. Return how many of both.

    An entry without its body stays until it expires: its retry is told so, and is not paid again.
    """
    removed = await pool.fetchval(
        "SELECT remove_idempotency_entries($1, $2, $3)", MAX_REMOVED_PER_SWEEP, max_answers, max_bytes
    )
    return int(removed)


async def _write(
    connection: Connection,
    rows: dict[str, dict[str, Any]],
    freed: dict[tuple[str, bytes], list[tuple[str, bool]]],
    suffix: str,
) -> None:
    """Store the rows, by request, then remove the freed entries: by key, the requests and whether whatever is kept."""
    if rows:
        newest = {(row["project_id"], row["idempotency_key"]): row for row in sorted(rows.values(), key=_age)}
        in_order = [newest[slot] for slot in sorted(newest)]
        await connection.execute(
            f"INSERT INTO idempotency_entries{suffix} AS e ({_ROW.names}) SELECT * FROM {_ROW.source} "  # noqa: S608 - constants of this module
            f"ON CONFLICT (project_id, idempotency_key) DO UPDATE SET {_MERGE} "
            "WHERE (e.received_at_ms, e.request_id) <= (excluded.received_at_ms, excluded.request_id)",
            [tuple(row[name] for name in _ROW.columns) for row in in_order],
        )
    if freed:
        ended = sorted((*slot, *request) for slot, requests in freed.items() for request in requests)
        await connection.execute(
            f"DELETE FROM idempotency_entries{suffix} e "  # noqa: S608 - the suffix is a constant
            f"USING {_END.source} AS f WHERE e.project_id = f.project_id "
            "AND e.idempotency_key = f.idempotency_key AND e.request_id = f.request_id "
            "AND (NOT e.is_kept OR f.is_freed)",
            ended,
        )


def _row(stored: StoredEvent, known_by: Idempotency) -> dict[str, Any]:
    """What an event makes known of its request."""
    event: Any = stored.event
    blob_id = event.kept_blob_id if isinstance(event, RequestCompleted | RequestServedFromCache) else None
    return {
        "project_id": stored.project_id,
        "idempotency_key": bytes.fromhex(known_by.key),
        "fingerprint": known_by.fingerprint,
        "request_id": event.request_id,
        "received_at_ms": known_by.received_at_ms,
        "is_kept": not isinstance(event, AttemptFailed),
        "blob_id": blob_id,
        "answer_bytes": event.answer_bytes if isinstance(event, RequestCompleted) and blob_id is not None else 0,
        "expires_at": stored.at + timedelta(seconds=known_by.ttl_s),
    }


def _merged(earlier: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    """Add what a later event of the same request makes known."""
    if earlier is None:
        return row
    return row | {
        "is_kept": earlier["is_kept"] or row["is_kept"],
        "blob_id": row["blob_id"] or earlier["blob_id"],
        "answer_bytes": max(earlier["answer_bytes"], row["answer_bytes"]),
    }


def _age(row: dict[str, Any]) -> tuple[int, str]:
    return row["received_at_ms"], row["request_id"]
