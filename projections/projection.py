"""The protocol of a projection. `fold` gets each event once, in log order. Only `fold` writes the tables.

A projection that is folded in the append of its events (`INLINE`) names their streams, and the database makes the rows
what these say (`migrations/functions/inline.sql`): a process cannot write a row that the log does not prove.
"""

from collections.abc import Sequence
from typing import Protocol

from domain.events import Event, StoredEvent
from infra.database import Connection


class Projection(Protocol):
    """Tables that are folded from the log. `name` is the checkpoint's name, which never changes."""

    @property
    def name(self) -> str:
        """Return the checkpoint's name."""
        ...

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the names of the tables that `fold` writes."""
        ...

    @property
    def reads(self) -> frozenset[type[Event]]:
        """Return the kinds of events that change the tables."""
        ...

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write the changes that the events make to the tables. A rebuild passes the `suffix` of its shadow tables.

        Accepts every event, because history has happened, and those alone that it `reads` have the same effect. Reads
        no clock, and no tables but its own.
        """
        ...


async def fold_streams(
    connection: Connection, function: str, events: Sequence[StoredEvent], kinds: tuple[type[Event], ...], suffix: str
) -> None:
    """Call a function of `migrations/functions/inline.sql` for the streams of the events of these kinds."""
    streams = sorted({stored.stream for stored in events if isinstance(stored.event, kinds)})
    if streams:
        await connection.execute(f"SELECT {function}($1, $2)", streams, suffix)
