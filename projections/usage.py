"""Usage by UTC day, key, operation, provider and model: counts, tokens, money. Read by `reports/`.

A response and its tokens count on the day of its event, whether a provider or the cache served it. A cost counts on the
day when it was incurred, which is the response's.
"""

from collections.abc import Sequence

from domain.events import Event, StoredEvent
from infra.database import Connection
from projections.rows import RowType
from projections.sums import EPOCH, SUMS, USAGE_EVENTS, Sums, add_to, day_after_epoch, usage_events

_GROUP = {"project_id": "text", "day": "date"} | dict.fromkeys(("key_id", "operation", "provider", "model"), "text")
_ROW = RowType("usage_daily_row", _GROUP | dict.fromkeys(SUMS, "bigint"))


class Usage:
    """Folds answers, costs, failures and refusals into daily sums."""

    name = "usage"
    tables = ("usage_daily",)
    reads: frozenset[type[Event]] = USAGE_EVENTS

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Add the figures up by day and dimension."""
        sums = Sums()
        for stored, event in usage_events(events):
            days = (stored.at - EPOCH).days
            sums.add((stored.project_id, days, event.key_id, event.operation, event.provider, event.model), event)
        rows = (
            (project_id, day_after_epoch(days), *group, *added) for (project_id, days, *group), added in sums.items()
        )
        await add_to(connection, f"usage_daily{suffix}", _ROW, _GROUP, rows)
