"""The windows of a budget: UTC days and months. What is in them is `projections/budgets.py`."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

Period = Literal["day", "month"]
Scope = Literal["key", "project"]

PERIODS: tuple[Period, ...] = ("day", "month")


def day_of(at: datetime) -> date:
    """The UTC day of a moment."""
    return at.astimezone(UTC).date()


def window_start(day: date, period: Period) -> date:
    """The first day of the window of this period that a day lies in."""
    return day if period == "day" else day.replace(day=1)


def resets_at(start: date, period: Period) -> datetime:
    """When the window that starts on a day ends: the first moment of the next one."""
    if period == "day":
        following = start + timedelta(days=1)
    else:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(following.year, following.month, following.day, tzinfo=UTC)
