"""Which events are wanted, and the condition that finds them: it has only what is asked for, so that every combination
is planned by itself.
"""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from infra.database import Pool, database_errors

CLOCK_TOLERANCE = timedelta(minutes=10)
"""Events are in the order of their commits, and their times are of several clocks. An event whose clock was off by more
may be missing from a selection by time; by its position it is always found."""

UP_TO_HEAD = "position BETWEEN 1 AND (SELECT position FROM log_head)"
"""The log ends at its head. A row beyond it was not appended by the gateway."""

_EQUAL = ("project_id", "stream", "type")
_FIRST_SINCE = """
    WITH RECURSIVE halves (low, high) AS (
        SELECT 1::bigint, position + 1 FROM log_head
        UNION ALL
        SELECT CASE WHEN e.at < $1::timestamptz + $2 THEN h.low + (h.high - h.low) / 2 + 1 ELSE h.low END,
               CASE WHEN e.at < $1::timestamptz + $2 THEN h.high ELSE h.low + (h.high - h.low) / 2 END
        FROM halves h JOIN events e ON e.position = h.low + (h.high - h.low) / 2
        WHERE h.low < h.high
    )
    SELECT max(low), nullif(min(high), max(high)) FROM halves
"""
"""The first position at or after a time and an interval. Positions have no gaps: of a million, halving looks at 20. The
second is NULL if there is none: then events may yet be appended before the time.

Both numbers are the same unless a position is missing: then the events between them may be on either side of the
time."""


class Selection(Struct, frozen=True, kw_only=True):
    """A filter for events. None means any."""

    project_id: str | None = None
    stream: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


class Bounds(Struct, frozen=True):
    """The positions between which a selection's events are, as far as its times tell."""

    after: int = 0
    before: int | None = None


class Condition(Struct, frozen=True):
    """The text after WHERE, and its arguments: $1, $2, …"""

    text: str
    arguments: tuple[Any, ...]


async def bounds_of(pool: Pool, selection: Selection) -> Bounds:
    """Look for the bounds of a selection. They hold for all its pages, and for what is appended meanwhile.

    Raises:
        Unavailable: the database is away.

    """
    after, before = 0, None
    async with database_errors():
        if selection.since is not None:
            earliest, _ = await pool.fetchrow(_FIRST_SINCE, selection.since, -CLOCK_TOLERANCE)
            after = earliest - 1
        if selection.until is not None:
            _, before = await pool.fetchrow(_FIRST_SINCE, selection.until, CLOCK_TOLERANCE)
    return Bounds(after, before)


def condition_of(
    selection: Selection, bounds: Bounds, *, after: int, limit: int, before: int | None = None
) -> Condition:
    """Return the condition of the next events after a position, at most `limit`, in log order.

    `before`: of those before that position, the newest first.
    """
    parts, arguments = [UP_TO_HEAD], list[Any]()

    def add(part: str, argument: Any) -> None:
        arguments.append(argument)
        parts.append(f"{part} ${len(arguments)}")

    for name in _EQUAL:
        if (wanted := getattr(selection, name)) is not None:
            add(f"{name} =", wanted)
    if selection.since is not None:
        add("at >=", selection.since)
    if selection.until is not None:
        add("at <", selection.until)
    if bounds.before is not None:
        add("position <", bounds.before)
    add("position >", max(after, bounds.after))
    if before is not None:
        add("position <", before)
    arguments.append(limit)
    order = "position" if before is None else "position DESC"
    return Condition(f"{' AND '.join(parts)} ORDER BY {order} LIMIT ${len(arguments)}", tuple(arguments))
