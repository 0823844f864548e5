"""A chart as the templates take it. Its figures are in a table, which the script draws."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

Unit: TypeAlias = Literal["usd", "count", "ms", "share"]
"""Nano-dollars, a number, milliseconds, 0 to 1."""
ChartKind: TypeAlias = Literal["bars", "lines"]
Value: TypeAlias = int | float | None


class ChartPoint(Struct, frozen=True, kw_only=True):
    """The figures of a moment, or of a window that begins then."""

    at: datetime
    label: str
    """The day or the hour as the table shows it."""
    values: tuple[Value, ...]
    """One for each series; None: there is none."""


class Chart(Struct, frozen=True, kw_only=True):
    """Figures over time, in the order of time."""

    name: str
    """Unique on the page: a part of ids."""
    label: str
    """A sentence that says what the chart shows, for screen readers."""
    unit: Unit
    kind: ChartKind
    time: str
    """The heading of the column of the points' times."""
    note: str | None = None
    series: tuple[str, ...]
    points: Sequence[ChartPoint]

    def shown(self, value: Value) -> float | int | None:
        """A value as it is drawn: dollars, numbers, milliseconds, percent."""
        if value is None:
            return None
        match self.unit:
            case "usd":
                return value / 1_000_000_000  # drawn, never summed
            case "share":
                return value * 100
            case "count" | "ms":
                return value
