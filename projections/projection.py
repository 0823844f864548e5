"""The protocol of a projection. `fold` gets each event once, in log order. Only `fold` writes the tables."""

from collections.abc import Sequence
from typing import Protocol

from domain.events import StoredEvent
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

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write the changes that the events make to the tables. A rebuild passes the `suffix` of its shadow tables.

        Accepts every event, because history has happened. Reads no clock, and no tables but its own.
        """
        ...
