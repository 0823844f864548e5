"""Requests that a budget refused, by day, key and window: how often, and the figures of the last of them.

A refusal for a rate is no event: `gateway_refusals_total` counts those.
"""

from collections.abc import Sequence
from datetime import date
from typing import TypeAlias

from domain.budget import day_of
from domain.events import Event, RequestRejected, StoredEvent
from infra.database import Connection
from projections.rows import RowType

_GROUP = {"project_id": "text", "day": "date", "key_id": "text", "window_name": "text"}
_LAST = {
    "last_position": "bigint",
    "last_at": "timestamptz",
    "last_request_id": "text",
    "limit_nano_usd": "bigint",
    "taken_nano_usd": "bigint",
    "held_nano_usd": "bigint",
    "asked_nano_usd": "bigint",
}
_ROW = RowType("usage_refusals_row", _GROUP | {"requests": "bigint"} | _LAST)
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in _LAST)
_WRITE = (
    f"INSERT INTO {{table}} AS r ({_ROW.names}) SELECT * FROM {_ROW.source} "  # noqa: S608 - constants
    f"ON CONFLICT ({', '.join(_GROUP)}) DO UPDATE SET requests = r.requests + excluded.requests, {_REPLACED}"
)
_Group: TypeAlias = tuple[str, date, str, str]


class Refusals:
    """Folds `RequestRejected`. Events come in the order of the log, so the last of a batch is the last of all."""

    name = "refusals"
    tables = ("usage_refusals",)
    reads: frozenset[type[Event]] = frozenset({RequestRejected})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Count the refusals of each group, and keep the last."""
        last: dict[_Group, tuple[StoredEvent, RequestRejected, int]] = {}
        for stored in events:
            event = stored.event
            if isinstance(event, RequestRejected):
                group = (stored.project_id, day_of(stored.at), event.key_id, event.window)
                count = last[group][2] if group in last else 0
                last[group] = (stored, event, count + 1)
        rows = [
            (
                *group,
                count,
                stored.position,
                stored.at,
                event.request_id,
                event.limit_nano_usd,
                event.taken_nano_usd,
                event.held_nano_usd,
                event.asked_nano_usd,
            )
            for group, (stored, event, count) in sorted(last.items(), key=lambda one: one[0])
        ]
        if rows:
            await connection.execute(_WRITE.format(table=f"usage_refusals{suffix}"), rows)
