"""Sends the log as JSON lines, to few clients at a time. A page is read when the client has taken the one before."""

from collections.abc import AsyncGenerator

from domain.errors import Overloaded
from infra.database import Pool
from infra.log_selection import Selection
from infra.raw_events import export_line, selected_raw_events

MAX_EXPORTS = 2
"""Of this process at the same time."""
PAGE_EVENTS = 250
"""Encoding them takes two milliseconds, in which nobody else is served."""
RETRY_AFTER_S = 30.0


class Exports:
    """The exports of one API process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way = 0

    def lines(self, selection: Selection, *, after: int, head: int) -> AsyncGenerator[bytes, None]:
        """Return the events of a selection after a position, up to the head of the log, as lines of JSON.

        Raises:
            Overloaded: too many exports are under way.

        """
        if self._under_way >= MAX_EXPORTS:
            raise Overloaded(
                f"{MAX_EXPORTS} exports are under way: wait for them, or run `gateway audit export`",
                retry_after_s=RETRY_AFTER_S,
            )
        return self._lines(selection, after, head)

    async def _lines(self, selection: Selection, after: int, head: int) -> AsyncGenerator[bytes, None]:
        self._under_way += 1
        try:
            while after < head:
                page = await selected_raw_events(self._pool, selection, after=after, limit=PAGE_EVENTS)
                page = [event for event in page if event.position <= head]
                if not page:
                    return
                yield b"".join(export_line(event) + b"\n" for event in page)
                after = page[-1].position
        finally:
            self._under_way -= 1
