"""Months and days that add up to a window."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from projections.reports.months import Parts, parts_of
from projections.reports.scope import Window

TODAY = date(2026, 11, 26)


def days_of(first: date, last: date) -> Iterator[date]:
    """Every day of a span."""
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def counted(parts: Parts) -> Counter[date]:
    """How often each day counts."""
    days: Counter[date] = Counter()
    for month in parts.months:
        days.update(days_of(month, (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)))
    for span in parts.days:
        days.update(days_of(*span))
    for span in parts.without:
        days.subtract(days_of(*span))
    return days


@pytest.mark.parametrize("days", [1, 2, 7, 15, 28, 30, 31, 59, 90, 365])
@pytest.mark.parametrize("ends_before", range(0, 70, 3))
def test_each_day_of_a_window_counts_once_and_no_other(days: int, ends_before: int) -> None:
    last = TODAY - timedelta(days=ends_before)
    window = Window(first=last - timedelta(days=days - 1), last=last)
    found = +counted(parts_of(window, TODAY))
    assert found == Counter(days_of(window.first, window.last))
    assert min(counted(parts_of(window, TODAY)).values()) >= 0


def test_a_window_that_ends_today_reads_the_running_month_as_one_row() -> None:
    parts = parts_of(Window(first=date(2026, 10, 28), last=TODAY), TODAY)
    assert parts.months == [date(2026, 11, 1)]
    assert parts.days == [(date(2026, 10, 28), date(2026, 10, 31))]
    assert parts.without == [(date(2026, 11, 27), date(2026, 11, 30))]  # which are still to come


@pytest.mark.parametrize("ends_before", range(60))
def test_no_window_of_a_month_reads_more_than_half_of_its_days(ends_before: int) -> None:
    last = TODAY - timedelta(days=ends_before)
    parts = parts_of(Window(first=last - timedelta(days=29), last=last), TODAY)
    spans = [(first, min(end, TODAY)) for first, end in parts.days + parts.without if first <= TODAY]
    assert sum((end - first).days + 1 for first, end in spans) <= 2 * 15
