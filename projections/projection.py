"""The protocol of a projection. `fold` gets its events once each, in log order; only `fold` writes its tables."""

from collections.abc import Sequence
from typing import Protocol

from domain.events import StoredEvent
from infra.database import Connection


class Projection(Protocol):
    """Tables folded from the log. `name` is its checkpoint's and never changes."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        ...

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are folded."""
        ...

    async def fold(self, connection: Connection, events: Sequence[StoredEvent], suffix: str = "") -> None:
        """Write what the events mean into the tables (their names with `suffix`: a rebuild has shadows).

        Total: history has happened, so nothing is refused. Reads no clock and nothing but its own tables.
        """
        ...
