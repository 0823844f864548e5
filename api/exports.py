"""Sends the log as JSON lines, to few clients at a time. A page is read when the client has taken the one before."""

import time
from collections.abc import AsyncGenerator, Callable

from domain.errors import Overloaded
from infra.database import Pool
from infra.log_selection import Selection, bounds_of
from infra.raw_events import export_line, selected_raw_events

MAX_EXPORTS = 8
"""Of this process at the same time; of one project, one."""
MAX_EXPORT_S = 3_600.0
"""A client that takes longer has not taken everything, and goes on after the last event that it has."""
START_S = 30.0
"""How long an export that nobody has begun to read is waited for."""
PAGE_EVENTS = 250
"""Encoding them takes two milliseconds, in which nobody else is served."""
RETRY_AFTER_S = 30.0


class _Place:
    """An export's place among those under way, until a time."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s


class Exports:
    """The exports of one API process."""

    def __init__(self, pool: Pool, now_s: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._now_s = now_s
        self._under_way: dict[str | None, _Place] = {}
        """By project; None: of all projects."""

    def lines(self, selection: Selection, *, after: int, head: int) -> AsyncGenerator[bytes, None]:
        """Return the events of a selection after a position, up to the head of the log, as lines of JSON.

        Raises:
            Overloaded: one of the same project is under way, or too many are; while it is read: it takes too long.

        """
        now_s = self._now_s()
        self._under_way = {of: place for of, place in self._under_way.items() if place.until_s > now_s}
        if selection.project_id in self._under_way:
            raise _refused("another export of the same events is under way")
        if len(self._under_way) >= MAX_EXPORTS:
            raise _refused(f"{MAX_EXPORTS} exports are under way")
        place = self._under_way[selection.project_id] = _Place(now_s + START_S)
        return self._lines(selection, after, head, place)

    async def _lines(self, selection: Selection, after: int, head: int, place: _Place) -> AsyncGenerator[bytes, None]:
        place.until_s = self._now_s() + MAX_EXPORT_S
        try:
            bounds = await bounds_of(self._pool, selection)
            while after < head:
                if self._now_s() >= place.until_s:
                    raise _refused(f"this export takes longer than {MAX_EXPORT_S / 60:.0f} minutes")
                page = await selected_raw_events(self._pool, selection, after=after, limit=PAGE_EVENTS, bounds=bounds)
                page = [event for event in page if event.position <= head]
                if not page:
                    return
                yield b"".join(export_line(event) + b"\n" for event in page)
                after = page[-1].position
        finally:
            if self._under_way.get(selection.project_id) is place:
                del self._under_way[selection.project_id]


def _refused(why: str) -> Overloaded:
    return Overloaded(f"{why}: wait for it to end, or run `gateway audit export`", retry_after_s=RETRY_AFTER_S)
