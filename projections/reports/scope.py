"""Of which days a report is. Whose usage it counts is `projections/scope.py`."""

from datetime import UTC, date, datetime, time, timedelta

from msgspec import Struct


class Window(Struct, frozen=True, kw_only=True):
    """Days in UTC, both ends included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1

    def before(self) -> "Window":
        """The window of the same length that ends where this one begins."""
        length = timedelta(days=self.days)
        return Window(first=self.first - length, last=self.last - length)

    def moments(self) -> tuple[datetime, datetime]:
        """The first moment, and the first one after the window."""
        begins = datetime.combine(self.first, time(), UTC)
        return begins, datetime.combine(self.last, time(), UTC) + timedelta(days=1)


def last_days(days: int, today: date) -> Window:
    """The window of so many days that ends today."""
    return Window(first=today - timedelta(days=days - 1), last=today)
