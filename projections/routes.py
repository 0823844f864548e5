"""Routes. They are folded in the append of their own events, so the next request can ask for them."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from domain.events import Event, RouteRemoved, RouteSet, StoredEvent
from domain.routes import RouteSettings
from infra.database import Connection, Pool, database_errors
from projections.projection import fold_streams

_decode_settings = msgspec.json.Decoder(RouteSettings).decode


class RouteRecord(Struct, frozen=True, kw_only=True):
    """A route as the database stores it."""

    project_id: str
    """Or `INSTALLATION`."""
    name: str
    settings: RouteSettings
    set_at: datetime


class Routes:
    """Folds `RouteSet` and `RouteRemoved`."""

    name = "routes"
    tables = ("routes",)
    reads: frozenset[type[Event]] = frozenset({RouteSet, RouteRemoved})

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Make the rows what their streams in the log say."""
        await fold_streams(connection, "fold_routes", events, (RouteSet, RouteRemoved), suffix)


async def routes_of(pool: Pool, project_id: str) -> list[RouteRecord]:
    """Return the routes of a project, or of `INSTALLATION`, in the order of their names."""
    async with database_errors():
        rows = await pool.fetch(
            "SELECT project_id, name, settings::text AS settings, set_at FROM routes "
            "WHERE project_id = $1 ORDER BY name",
            project_id,
        )
    return [RouteRecord(**{**row, "settings": _decode_settings(row["settings"])}) for row in rows]
