"""The attempts whose true cost is not known, and whose providers can be asked for it: a row for each.

Workers take them from here (`workers/settlements.py`), whoever has found the attempt lost: another worker, the sweeper,
or one that has died since.
"""

from collections.abc import Sequence
from datetime import datetime

from domain.events import AttemptLost, CostIncurred, CostReconciled, Event, StoredEvent
from infra.database import Connection


class Settlements:
    """Folds the costs of attempts."""

    name = "settlements"
    tables = ("settlements",)
    reads: frozenset[type[Event]] = frozenset({AttemptLost, CostIncurred, CostReconciled})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Insert what can be asked for, and delete what is settled, each once."""
        asked: dict[tuple[str, int], tuple[str, datetime]] = {}
        settled: set[tuple[str, int]] = set()
        for stored in events:
            match stored.event:
                case AttemptLost() | CostIncurred() as event if event.kept is not None:
                    asked[event.request_id, event.attempt] = (stored.project_id, stored.at)
                case CostReconciled() | CostIncurred() as event:
                    if event.replaces_assumed_nano_usd or isinstance(event, CostReconciled):
                        asked.pop((event.request_id, event.attempt), None)
                        settled.add((event.request_id, event.attempt))
                case _:
                    continue
        if settled:
            await connection.execute(
                f"DELETE FROM settlements{suffix} AS s "  # noqa: S608 - a constant
                "USING unnest($1::text[], $2::integer[]) AS e (request_id, attempt) "
                "WHERE s.request_id = e.request_id AND s.attempt = e.attempt",
                *map(list, zip(*sorted(settled), strict=True)),
            )
        if asked:
            rows = [(*attempt, *of) for attempt, of in sorted(asked.items())]
            await connection.execute(
                f"INSERT INTO settlements{suffix} (request_id, attempt, project_id, ended_at) "  # noqa: S608 - as above
                "SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::timestamptz[]) ON CONFLICT DO NOTHING",
                *map(list, zip(*rows, strict=True)),
            )
